"""`python -m tests.workers.read_batch BATCH`: an archive worker that reads one batch and ends; its settings are the environment's."""

import sys
import time

import structlog

from shared import batches
from shared.batch_life import BatchStatus
from shared.database import connect
from shared.queue import Dispatcher, Hints
from shared.settings import Settings
from shared.storage import storage_of
from shared.tables import BatchRow
from workers.archive import Archives
from workers.refill import Refiller


def main() -> None:
    settings, batch_id = Settings.from_env(), sys.argv[1]
    db, hints = connect(settings.sqlalchemy_url), Hints(settings)
    refiller = Refiller(db, Dispatcher(settings), hints, settings)
    archives = Archives(db, storage_of(settings), hints, refiller, settings)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    print("ready", flush=True)
    while db.read(lambda s: s.get_one(BatchRow, batch_id).status) == BatchStatus.RECEIVING:
        archives.message([batch_id])
        time.sleep(0.02)
    refiller.close()
    batches.settle(db, [batch_id])


if __name__ == "__main__":
    main()
