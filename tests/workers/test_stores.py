"""Archive workers with their blobs on S3, encrypted and not: archives are read where they lie."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.images import Limits, decode
from tests.api.driving import ONE_DATABASE
from tests.packing import KINDS, packed, pictures
from tests.s3 import Bucket
from tests.workers.conftest import Desk

PICTURES = pictures(3)


@ONE_DATABASE
@pytest.mark.parametrize("keys", ["", "A" * 43 + "="], ids=["plain", "sealed"])
def test_archives_of_every_kind_are_read_piece_by_piece(
    desk: Callable[..., Desk], bucket: Bucket, keys: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.s3_pieces.PIECE_BYTES", 20_000)
    monkeypatch.setattr("shared.s3_storage.PIECE_BYTES", 20_000)
    room = desk(storage_url=bucket.url, blob_keys=keys)
    for kind in KINDS:
        archive = packed(kind, dict(zip(["a.jpg", "b.jpg", "c.jpg"], PICTURES, strict=True)))
        batch_id = room.hand_in(archive)
        assert len(bucket.listed()) > 1
        assert room.archives.message([batch_id]) == 1
        row, jobs = room.batch(batch_id), room.jobs(batch_id)
        assert (row.accepted, row.rejected, row.error_slug) == (3, 0, None), kind
        assert row.sha256 == hashlib.sha256(archive).hexdigest()
        for job, data in zip(jobs, PICTURES, strict=True):
            assert (decode(room.storage.get(f"{job.id}/image"), Limits()) == decode(data, Limits())).all()
            room.storage.erase(job.id)
        assert bucket.listed() == []


@ONE_DATABASE
def test_an_encrypted_archive_that_was_changed_ends_its_batch(desk: Callable[..., Desk]) -> None:
    room = desk(blob_keys="A" * 43 + "=")
    archive = packed("tar", dict(zip(["a.jpg", "b.jpg", "c.jpg"], PICTURES, strict=True)))
    batch_id = room.hand_in(archive)
    (stored,) = Path(room.settings.storage_location).rglob("archive")
    stored.write_bytes(stored.read_bytes()[:-40])
    assert room.archives.message([batch_id]) == 1
    row = room.batch(batch_id)
    assert (row.error_slug, row.accepted) == ("broken-archive", len(room.jobs(batch_id)))
    assert not stored.exists()
