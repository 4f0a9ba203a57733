"""Everything that can go wrong, drawn as one tree: the class decides status, title and retry.

ServiceError                     status, slug, title; the docstring is the help page at /problems/<slug>
  RequestError      4xx, 503     said to the client at once
  StageError        retry=False  a stage of a job failed, and would fail again
    TransientError  retry=True   a stage of a job failed, and may succeed later
  StaleAttempt                   a lost race: logged at INFO, dropped
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class FieldProblem:
    """One field that was refused; `pointer` is a JSON pointer into the request."""

    detail: str
    pointer: str


class ServiceError(Exception):
    """Something went wrong inside the service. The log has the details; try again later."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    retry: ClassVar[bool] = False
    slug: ClassVar[str] = "service-error"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.slug = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", cls.__name__).lower()

    def __init__(
        self,
        detail: str = "",
        *,
        errors: Sequence[FieldProblem] = (),
        retry_after_s: int | None = None,
    ) -> None:
        self.detail = detail or " ".join((type(self).__doc__ or "").split())
        self.errors = tuple(errors)
        self.retry_after_s = retry_after_s
        super().__init__(self.detail)


class RequestError(ServiceError):
    """The request cannot be served as it is."""

    status = 400
    title = "Request refused"


class InvalidRequest(RequestError):
    """A field is missing, unknown or has a value that is not allowed; `errors` names each one."""

    status = 400
    title = "Invalid request"


class Unauthorized(RequestError):
    """The request needs a key that this server knows."""

    status = 401
    title = "Key required"


class Forbidden(RequestError):
    """The request came from a host or page that this server does not serve, or its key lacks the scope."""

    status = 403
    title = "Not allowed"


class NotFound(RequestError):
    """There is nothing here, or it was erased."""

    status = 404
    title = "Not found"


class MethodNotAllowed(RequestError):
    """The resource exists, but not for this method; the Allow header names those it has."""

    status = 405
    title = "Method not allowed"


class JobFinished(RequestError):
    """The job has already ended, and an ended job never changes. Use rerun to make a new one."""

    status = 409
    title = "Job finished"


class NothingFound(RequestError):
    """The job has no findings: it has not come so far, it failed, or it was erased."""

    status = 409
    title = "Nothing found"


class MessageRefused(RequestError):
    """The job cannot be asked about again, or not now: it has not succeeded, an answer is due, or it was asked enough."""

    status = 409
    title = "Message refused"


class BatchFinished(RequestError):
    """The batch has already ended, and an ended batch never changes. Use rerun to make a new one."""

    status = 409
    title = "Batch finished"


class OffsetConflict(RequestError):
    """The upload goes on at another offset than this request says. HEAD tells where."""

    status = 409
    title = "Wrong offset"


class UploadUnfinished(RequestError):
    """The upload has not received all of its bytes yet."""

    status = 409
    title = "Upload unfinished"


class IdempotencyConflict(RequestError):
    """This Idempotency-Key was used within 24 hours for a request with other content."""

    status = 409
    title = "Idempotency key reused"


class PipelineUnavailable(RequestError):
    """The pipeline is known, but this installation has no trained weights for it."""

    status = 409
    title = "Pipeline unavailable"


class LengthRequired(RequestError):
    """A raw body must say its Content-Length, so that one that breaks off is noticed."""

    status = 411
    title = "Length required"


class UnsupportedTusVersion(RequestError):
    """Uploads in pieces speak version 1.0.0 of the tus protocol; Tus-Resumable must say so."""

    status = 412
    title = "Unsupported tus version"


class UploadTooLarge(RequestError):
    """The body, the picture or the archive is larger than this server accepts."""

    status = 413
    title = "Upload too large"


class UnsupportedImage(RequestError):
    """The bytes are not a picture of a supported kind: JPEG, PNG, WebP, TIFF, BMP or DICOM."""

    status = 415
    title = "Unsupported image"


class UnsupportedArchive(RequestError):
    """The bytes are not an archive of a supported kind: zip, tar, tar.gz or tar.zst."""

    status = 415
    title = "Unsupported archive"


class UnsupportedBody(RequestError):
    """The body has another media type than this resource takes."""

    status = 415
    title = "Unsupported body"


class UnreadableImage(RequestError):
    """The picture says what it is, but cannot be decoded: it is truncated or damaged."""

    status = 422
    title = "Unreadable image"


class DamagedEntry(RequestError):
    """The entry is truncated, packed in a way that is not supported, or not what the archive says of it."""

    status = 422
    title = "Damaged entry"


class EncryptedEntry(RequestError):
    """The entry is encrypted. Archives must be sent without a password."""

    status = 422
    title = "Encrypted entry"


class NoRegularFile(RequestError):
    """The entry is a link, a device or something else that holds no picture of its own."""

    status = 422
    title = "Not a regular file"


class UnsafeName(RequestError):
    """The entry's name is absolute, leads out of the archive, is not UTF-8 or cannot be shown."""

    status = 422
    title = "Unsafe name"


class DuplicateEntry(RequestError):
    """Another entry before this one has the same name."""

    status = 422
    title = "Duplicate entry"


class BrokenArchive(RequestError):
    """The archive cannot be read to its end: it is truncated or damaged. What came before is kept."""

    status = 422
    title = "Broken archive"


class InvalidManifest(RequestError):
    """The archive's manifest cannot be used, so no entry was accepted."""

    status = 422
    title = "Invalid manifest"


class UploadLocked(RequestError):
    """Another request is writing this upload. Retry-After says when to try again."""

    status = 423
    title = "Upload locked"


class ChecksumMismatch(RequestError):
    """The bytes that arrived do not have the checksum that the request gave; none of them were kept."""

    status = 460  # tus's own
    title = "Checksum mismatch"


class TooManyRequests(RequestError):
    """Too many requests at once. Retry-After says when to come back."""

    status = 429
    title = "Too many requests"


class ServiceUnavailable(RequestError):
    """The service cannot do this at the moment. Retry-After says when to come back."""

    status = 503
    title = "Service unavailable"


class StageError(ServiceError):
    """A stage of the job failed, and trying again would fail in the same way."""

    title = "Stage failed"
    fault: ClassVar[bool] = True  # False: the picture's own, and none of the service's


class CardMismatch(StageError):
    """The weights are not the ones that the model card promises, or the card is not the catalog's."""

    title = "Model card mismatch"


class ImageFailed(StageError):
    """The stored picture could not be decoded, or its decoding took more memory or time than allowed."""

    title = "Image failed"
    fault = False


class BlobDamaged(StageError):
    """The stored bytes are not those that were stored: they were changed, cut off or exchanged."""

    title = "Blob damaged"
    fault = False


class AnswerRejected(StageError):
    """The language model's answer did not pass the checks."""

    title = "Answer rejected"
    elsewhere = False  # whether its server refused us and not the question, so that another one may take it


class AttemptsExhausted(StageError):
    """The stage was tried as often as allowed, and was lost or failed each time."""

    title = "Attempts exhausted"


class TransientError(StageError):
    """A stage of the job failed, and will be tried again."""

    title = "Stage failed for now"
    retry = True
    parks: ClassVar[bool] = False  # True: the job is given back, and no attempt is charged to it


class OutOfMemory(TransientError):
    """The device had too little memory, even for one picture."""

    title = "Out of memory"


class LanguageModelUnavailable(TransientError):
    """The language model did not answer, or answered with an error."""

    title = "Language model unavailable"


class ModelsAway(TransientError):
    """No language model can be asked at the moment; the job waits unharmed until one can."""

    title = "Language models away"
    parks = True


class StorageUnavailable(TransientError):
    """The blob store could not be read or written."""

    title = "Storage unavailable"


class UnexpectedFault(TransientError):
    """The stage failed for a reason that the service does not know; its log has the details."""

    title = "Stage failed unexpectedly"


class StaleAttempt(ServiceError):
    """Somebody else holds the job now; what this attempt found is dropped."""

    title = "Stale attempt"


class SettingsError(ServiceError):
    """One or more settings have values that cannot be used; all are named at once."""

    title = "Settings cannot be used"


def error_classes(root: type[ServiceError] = ServiceError) -> Iterator[type[ServiceError]]:
    """The whole tree, parents first."""
    yield root
    for child in root.__subclasses__():
        yield from error_classes(child)


def fault_slugs() -> list[str]:
    """Of errors that fail a job whose picture is fine, so that it may be run again."""
    return [cls.slug for cls in error_classes(StageError) if issubclass(cls, StageError) and cls.fault]


def by_slug(slug: str) -> type[ServiceError] | None:
    return next((cls for cls in error_classes() if cls.slug == slug), None)
