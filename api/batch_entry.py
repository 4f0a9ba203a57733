"""How a batch enters: its files are in the store, then comes the row, and only then its id to the broker."""

import json

import structlog

from api.archives import Arrived, arrived, forget, pieces
from api.auth import actor, owner
from api.batch_form import MANIFESTS, BatchForm
from api.entry import require
from api.lookup import batch_exists
from api.services import Services
from api.submit import of_owner, sha256_of
from api.uploads import take
from shared import batches, uploads
from shared.asked import clean_filename
from shared.batches import NewBatch
from shared.idempotency import Idempotency
from shared.ids import new_id
from shared.tables import BatchRow

STAGE, GROUP, LANE = "archive", "all", "bulk"

log = structlog.get_logger(__name__)


def enter(room: Services, form: BatchForm, repeat_key: str | None) -> tuple[str, bool]:
    """Make the batch, or find the one that the same request made before; its id, and whether it is new.

    Raises: PipelineUnavailable, IdempotencyConflict, NotFound, UploadUnfinished, UploadLocked, UnsupportedArchive
    """
    made = ""
    try:
        require(room, form.pipeline)
        key = _key(repeat_key, form) if repeat_key else None
        if key and (first := batches.repeated(room.db, key)):
            return first, False
        if form.archive is None:
            return _from_upload(room, form, key)
        made, is_new = _create(room, _new(form, form.id, form.archive, form.filename), key)
        return made, is_new
    finally:
        if made != form.id:  # the first batch has files of its own, and so has an upload
            forget(room.storage, form.id)


def again(room: Services, source: BatchRow, only: str) -> str:
    """Make a batch of another one's pictures; an archive worker copies them."""
    new = NewBatch(
        id=new_id(),
        owner=source.owner,
        rerun_of=source.id,
        rerun_only=only,
        filename=source.filename,
        defaults=source.defaults,
    )
    return _create(room, new, None)[0]


def _from_upload(room: Services, form: BatchForm, key: Idempotency | None) -> tuple[str, bool]:
    """The batch takes the upload's id, so that an upload can become one batch only, and no bytes move."""
    upload_id = form.upload_id or ""
    if batch_exists(room, upload_id):
        return upload_id, False
    uploads.find(room.db, upload_id, owner())
    with uploads.locked(room.db, upload_id) as lock:
        row = take(room, upload_id)
        archive = arrived(room.storage, upload_id)
        _move_manifest(room, form, upload_id)
        made = _create(room, _new(form, upload_id, archive, form.filename or row.filename), key)
        if made[0] == upload_id:
            lock.forget()
    return made


def _move_manifest(room: Services, form: BatchForm, upload_id: str) -> None:
    for name in MANIFESTS.values():  # of a request that failed after this
        room.storage.delete(f"{upload_id}/{name}")
    if form.manifest:
        with room.storage.open(f"{form.id}/{form.manifest.name}") as file:
            room.storage.append(f"{upload_id}/{form.manifest.name}", 0, pieces(file, None))


def _new(form: BatchForm, batch_id: str, archive: Arrived, filename: str | None) -> NewBatch:
    return NewBatch(
        id=batch_id,
        owner=owner(),
        filename=clean_filename(filename or ""),
        media_type=archive.media_type,
        sha256=archive.sha256,
        size_bytes=archive.size_bytes,
        defaults=form.defaults,
    )


def _create(room: Services, new: NewBatch, key: Idempotency | None) -> tuple[str, bool]:
    """Insert and dispatch; the id of another batch, and False, if its request came first."""
    while not batches.create(room.db, new, room.settings.redispatch_s, key, actor()):
        if key and (first := batches.repeated(room.db, key)):
            return first, False
        if batch_exists(room, new.id):
            return new.id, False
        batches.forget_keys(room.db)  # the key is older than a day and its row still in the way
    log.info("batch_accepted", batch_id=new.id, size_bytes=new.size_bytes, rerun_of=new.rerun_of)
    room.dispatcher.dispatch([new.id], STAGE, GROUP, LANE)
    return new.id, True


def _key(text: str, form: BatchForm) -> Idempotency:
    """Hashes of the key, which is another one than the same key of a job, and of all that the request holds."""
    content = [
        form.defaults,
        form.filename,
        form.upload_id,
        form.archive and form.archive.sha256,
        form.manifest and [form.manifest.name, form.manifest.sha256],
    ]
    return Idempotency(
        sha256_of(of_owner(owner(), f"batches {text}")), sha256_of(json.dumps(content, sort_keys=True))
    )
