"""The error tree: every class decides status, title and retry, and explains itself."""

import pytest

from shared.errors import (
    FieldProblem,
    InvalidRequest,
    RequestError,
    ServiceError,
    SettingsError,
    StageError,
    StaleAttempt,
    TransientError,
    by_slug,
    error_classes,
)

STATUSES = {
    "InvalidRequest": 400,
    "Unauthorized": 401,
    "Forbidden": 403,
    "NotFound": 404,
    "MethodNotAllowed": 405,
    "JobFinished": 409,
    "NothingFound": 409,
    "MessageRefused": 409,
    "BatchFinished": 409,
    "OffsetConflict": 409,
    "UploadUnfinished": 409,
    "LengthRequired": 411,
    "UnsupportedTusVersion": 412,
    "IdempotencyConflict": 409,
    "PipelineUnavailable": 409,
    "UploadTooLarge": 413,
    "UnsupportedImage": 415,
    "UnsupportedArchive": 415,
    "UnsupportedBody": 415,
    "UnreadableImage": 422,
    "UploadLocked": 423,
    "TooManyRequests": 429,
    "ChecksumMismatch": 460,
    "ServiceUnavailable": 503,
}
CLASSES = list(error_classes())


def test_what_a_client_is_told_has_the_status_of_the_contract() -> None:
    told = {cls.__name__: cls.status for cls in error_classes(RequestError) if cls is not RequestError}
    assert told.items() >= STATUSES.items()
    assert all(400 <= status < 500 or status == 503 for status in told.values())


def test_slugs_are_unique_and_lead_back_to_their_class() -> None:
    slugs = [cls.slug for cls in CLASSES]
    assert len(set(slugs)) == len(slugs)
    assert [by_slug(slug) for slug in slugs] == CLASSES
    assert by_slug("no-such-error") is None


def test_a_slug_is_the_class_in_words() -> None:
    assert InvalidRequest.slug == "invalid-request"


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.slug)
def test_every_class_has_a_help_page_of_its_own_and_a_title(cls: type[ServiceError]) -> None:
    assert cls.__doc__
    assert "title" in vars(cls)
    assert len({other.__doc__ for other in CLASSES}) == len(CLASSES)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.slug)
def test_only_transient_errors_are_tried_again(cls: type[ServiceError]) -> None:
    assert cls.retry is issubclass(cls, TransientError)


def test_the_branches_stand_where_the_drawing_has_them() -> None:
    assert set(ServiceError.__subclasses__()) >= {RequestError, StageError, StaleAttempt, SettingsError}
    assert issubclass(TransientError, StageError)


def test_an_error_without_words_says_its_docstring_in_one_line() -> None:
    assert InvalidRequest().detail == " ".join(InvalidRequest.__doc__.split())  # type: ignore[union-attr]


def test_an_error_carries_what_it_was_given() -> None:
    problem = FieldProblem("is missing", "/image")
    error = InvalidRequest("Two fields are wrong.", errors=[problem], retry_after_s=3)
    assert (error.detail, error.errors, error.retry_after_s) == ("Two fields are wrong.", (problem,), 3)
    assert str(error) == "Two fields are wrong."
