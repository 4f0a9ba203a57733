"""Results of a batch as a zip that is made while it is sent; nothing of it lies in memory or on disk."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from api.entry import IMAGE
from api.multipart import CHUNK_BYTES
from api.results import PAGE, csv_of, rejected_csv_of
from api.services import Services
from api.zip_stream import ZipStream
from shared.errors import NotFound
from shared.tables import ArtifactRow, JobRow

EXTENSIONS = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp", "image/tiff": "tif", "image/bmp": "bmp",
              "application/dicom": "dcm", "application/json": "json"}  # fmt: skip


def zip_of(
    room: Services, batch_id: str, old_id: str | None = None, *, bom: bool = False, images: bool = False
) -> Iterator[bytes]:
    """results.csv, rejected.csv, and artifacts under names of ours: entry, job id, artifact."""
    tables = {
        "results.csv": csv_of(room, batch_id, old_id, bom=bom),
        "rejected.csv": rejected_csv_of(room, batch_id, bom=bom),
    }
    with ZipStream() as archive:
        for name, content in tables.items():
            yield from archive.entry(name, content, deflate=True)
        for key, name in _artifacts(room, batch_id, images):
            # Pictures are compressed already.
            yield from archive.entry(name, _blob(room, key), deflate=False)
        yield from archive.end()


def _artifacts(room: Services, batch_id: str, images: bool) -> Iterator[tuple[str, str]]:
    """(key, name in the zip) of every artifact, in the archive's order."""
    after = (-1, "")
    while rows := room.db.read(partial(_page, batch_id, images, after)):
        for row in rows:
            suffix = EXTENSIONS.get(row.media_type, "bin")
            yield f"{row.id}/{row.name}", f"artifacts/{row.entry:06d}-{row.id}-{row.name}.{suffix}"
        after = (rows[-1].entry, rows[-1].name)


def _page(batch_id: str, images: bool, after: tuple[int, str], session: Session) -> Sequence[Any]:
    entry, name = after
    statement = (
        select(JobRow.entry, JobRow.id, ArtifactRow.name, ArtifactRow.media_type)
        .join(ArtifactRow, ArtifactRow.job_id == JobRow.id)
        .where(
            JobRow.batch_id == batch_id,
            JobRow.entry >= entry,
            or_(JobRow.entry > entry, ArtifactRow.name > name),
        )
        .order_by(JobRow.entry, ArtifactRow.name)
        .limit(PAGE)
    )
    if not images:
        statement = statement.where(ArtifactRow.name != IMAGE)
    return session.execute(statement).all()


def _blob(room: Services, key: str) -> Iterator[bytes]:
    """Nothing for one that was erased meanwhile."""
    try:
        file = room.storage.open(key)
    except NotFound:
        return
    with file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
