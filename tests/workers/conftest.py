"""Fixtures of the worker rooms: archives in storage, and a worker that reads them here and now."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shared import batches
from shared.batches import NewBatch
from shared.database import Database
from shared.ids import new_id
from shared.queue import Dispatcher, Hints
from shared.settings import Settings
from shared.storage import Storage, storage_of
from shared.tables import BatchRow, JobRow, RejectedRow
from tests.tiny import tiny_model
from workers.archive import Archives
from workers.encoder import Encoder, find_encoder
from workers.refill import Refiller


@dataclass
class Desk:
    """Where a test hands archives in, and looks at what became of them."""

    db: Database
    storage: Storage
    settings: Settings
    archives: Archives

    def hand_in(self, archive: bytes = b"", **columns: Any) -> str:
        batch_id = new_id()
        if archive:
            self.storage.append(f"{batch_id}/archive", 0, [archive])
        assert batches.create(self.db, NewBatch(batch_id, **columns), 30)
        return batch_id

    def read(self, archive: bytes = b"", **columns: Any) -> str:
        batch_id = self.hand_in(archive, **columns)
        assert self.archives.message([batch_id]) == 1
        return batch_id

    def batch(self, batch_id: str) -> BatchRow:
        return self.db.read(lambda session: session.get_one(BatchRow, batch_id))

    def jobs(self, batch_id: str) -> Sequence[JobRow]:
        return self.db.read(lambda session: batches.rows(session, batch_id, limit=200_000))

    def rejected(self, batch_id: str) -> Sequence[RejectedRow]:
        return self.db.read(lambda session: batches.rejected(session, batch_id, limit=200_000))

    def problems(self, batch_id: str) -> dict[str, str]:
        return {row.name: row.slug for row in self.rejected(batch_id)}


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    """The real one: it loads in half a second."""
    found = find_encoder(True)
    assert found
    return found


@pytest.fixture
def desk(
    database: Database, settings: Callable[..., Settings], tmp_path: Path
) -> Iterator[Callable[..., Desk]]:
    opened: list[Any] = []
    tiny_model(tmp_path / "models")

    def make(**overrides: Any) -> Desk:
        chosen = settings(models_dir=str(tmp_path / "models"), **overrides)
        dispatcher, hints = Dispatcher(chosen), Hints(chosen)
        refiller = Refiller(database, dispatcher, hints, chosen)
        opened.extend((refiller, dispatcher, hints))
        storage = storage_of(chosen)
        return Desk(database, storage, chosen, Archives(database, storage, hints, refiller, chosen))

    yield make
    for one in opened:
        one.close()
