"""An archive's entries to jobs: what the manifest asks of each, and the picture checked and stripped as in a submit."""

import hashlib
from collections.abc import Iterator
from functools import partial
from typing import BinaryIO

from shared import images
from shared.asked import clean_filename
from shared.availability import Availability
from shared.batches import NewRejected
from shared.catalog import PIPELINES
from shared.errors import (
    BrokenArchive,
    DuplicateEntry,
    ImageFailed,
    InvalidManifest,
    NotFound,
    PipelineUnavailable,
    RequestError,
    UnreadableImage,
)
from shared.ids import entry_id
from shared.images import Limits
from shared.job_types import NewArtifact, NewJob
from shared.language import detect
from shared.lifecycle import first_stage
from shared.storage import Storage
from shared.tables import BatchRow
from workers.decode_alone import decode_alone
from workers.intake import IMAGE, Made, Taken
from workers.manifest import NAMES, Manifest, Row, digest, row_of
from workers.open_archive import open_archive
from workers.unpack import ArchiveLimits, Entry

ARCHIVE = "archive"  # the blob's name, below the batch's id
CAREFUL_ENTRIES = 256
DECODED = ("image/tiff", "image/bmp")  # of which a submit makes another file, by Pillow's decoders


class Unpacking:
    """One archive from its checkpoint on.

    The first pass looks for the manifest, wherever it stands, and counts; the second one makes jobs.
    """

    def __init__(
        self,
        file: BinaryIO,
        storage: Storage,
        row: BatchRow,
        archive_limits: ArchiveLimits,
        limits: Limits,
        available: Availability,
    ) -> None:
        self._archive = open_archive(file, archive_limits)
        self._limits, self._row, self._available = limits, row, available
        self._max_rows = archive_limits.max_entries
        self._manifest = Manifest()
        self._reasons: dict[str, str | None] = {}
        self._inside = not self._load_outside(storage)
        self._defaults = row_of(row.defaults)
        # Somebody died over one of the next entries: what a decoder may die of is tried apart first.
        self._careful_until = row.entry + CAREFUL_ENTRIES if row.failures else 0

    def _load_outside(self, storage: Storage) -> bool:
        """The manifest that was sent beside the archive; it takes the place of one inside."""
        for name in NAMES:
            try:
                self._manifest.load(name, storage.get(f"{self._row.id}/{name}"), self._max_rows)
            except NotFound:
                continue
            return True
        return False

    def count(self) -> int | None:
        """The first pass. What is too large fails here, before anything is accepted; what is broken later.

        Raises: UploadTooLarge, InvalidManifest
        """
        found = 0
        try:
            for entry in self._archive.entries():
                if _is_manifest(entry):
                    self._load(entry)
                else:
                    found += 1
        except BrokenArchive:
            return None
        return found

    def _load(self, entry: Entry) -> None:
        if not self._inside:
            return
        try:
            data = entry.read()
        except RequestError as error:
            raise InvalidManifest(f"{entry.name}: {error.detail}") from None
        self._manifest.load(entry.name, data, self._max_rows)

    def entries(self) -> Iterator[Taken]:
        """The second pass, and behind the last entry the rows of the manifest that led to nothing."""
        seen: set[bytes] = set()
        number = 0
        for entry in self._archive.entries():
            if _is_manifest(entry):
                continue
            name = digest(entry.name)
            if number >= self._row.entry:
                yield self._take(number, entry, again=name in seen)
            seen.add(name)
            number += 1
        for rejected in self._manifest.rejected(seen, number):
            if rejected.entry >= self._row.entry:
                yield Taken(rejected.entry, 0, partial(Made, rejected))

    def _take(self, number: int, entry: Entry, *, again: bool) -> Taken:
        """The entry's bytes, before the next one is looked for."""
        try:
            if entry.refused:
                raise entry.refused
            if again:
                raise DuplicateEntry()
            asked = self._asked(entry.name)
            data = entry.read()
        except RequestError as error:
            return Taken(number, 0, partial(Made, _rejected(number, entry.name, error)))
        return Taken(number, len(data), partial(self._made, number, entry.name, data, asked))

    def _made(self, number: int, name: str, data: bytes, asked: Row) -> Made:
        try:
            return self._job(number, name, data, asked)
        except RequestError as error:
            return Made(_rejected(number, name, error))

    def _asked(self, name: str) -> Row:
        """Raises: InvalidRequest, PipelineUnavailable"""
        fields = self._manifest.fields(name)
        asked = self._defaults if fields is None else row_of(self._row.defaults | fields)
        if (reason := self._missing(asked.pipeline)) is not None:
            raise PipelineUnavailable(reason)
        return asked

    def _missing(self, pipeline: str) -> str | None:
        """Why a pipeline cannot run here; looked up once an archive, since it looks at files."""
        if pipeline not in self._reasons:
            standing = self._available.standing(PIPELINES[pipeline])
            self._reasons[pipeline] = None if standing.available else standing.reason or ""
        return self._reasons[pipeline]

    def _job(self, number: int, name: str, data: bytes, asked: Row) -> Made:
        """Raises: RequestError for what a submit would refuse"""
        info = images.inspect(data, self._limits)
        info.check_frame(asked.frame)
        if number < self._careful_until and info.media_type in DECODED:
            _prove(data, self._limits)
        picture = images.sanitise(data, self._limits)
        clean = info.sha256 if picture == data else hashlib.sha256(picture).hexdigest()
        stored = NewArtifact(IMAGE, images.media_type(picture), clean, len(picture))
        new = NewJob(
            id=entry_id(self._row.id, number),
            owner=self._row.owner,
            pipeline=asked.pipeline,
            question=asked.question,
            lang=asked.lang or detect(asked.question),
            stage=first_stage(),
            lane="bulk",
            explain=None if asked.explain == "none" else asked.explain,
            answered=asked.answer == "always" or (asked.answer == "auto" and bool(asked.question)),
            external=asked.external,
            frame=asked.frame,
            age=asked.age,
            sex=asked.sex,
            site=asked.site,
            client_metadata=asked.metadata,
            filename=clean_filename(name),
            media_type=info.media_type,
            sha256=info.sha256,
            size_bytes=info.size_bytes,
            width=info.width,
            height=info.height,
            artifacts=(stored,),
            expires_in_s=asked.expires_in_s,
            batch_id=self._row.id,
            entry=number,
            entry_name=name,
            custom_id=asked.custom_id,
            true_label=asked.label,
        )
        return Made(new, picture)


def _rejected(number: int, name: str, error: RequestError) -> NewRejected:
    errors = [vars(problem) for problem in error.errors] or None
    return NewRejected(number, name, error.slug, error.detail, errors)


def _prove(data: bytes, limits: Limits) -> None:
    """Raises: UnreadableImage if the picture kills the process that decodes it"""
    try:
        decode_alone(data, limits, 1)
    except ImageFailed as error:
        raise UnreadableImage(error.detail) from error


def _is_manifest(entry: Entry) -> bool:
    return entry.refused is None and entry.name.rpartition("/")[2] in NAMES
