"""What the views need, opened once per process and reached through the app, never through globals."""

from dataclasses import dataclass
from typing import cast

from flask import current_app

from api.metrics import Metrics
from api.pace import Pace
from api.presence import Presence
from api.pressure import Pressure
from api.slots import Slots
from api.waiting import Waiters
from shared.audit import Reads
from shared.availability import Availability
from shared.database import Database, connect
from shared.images import Limits
from shared.keys import KeyRing
from shared.queue import Dispatcher, Hints
from shared.settings import Settings
from shared.storage import Storage, storage_of
from shared.traces import Traces

EXTENSION = "medq"


@dataclass(frozen=True)
class Services:
    """The API's rooms; whoever opens them closes them."""

    settings: Settings
    db: Database
    storage: Storage
    dispatcher: Dispatcher
    hints: Hints
    waiters: Waiters
    availability: Availability
    pace: Pace
    metrics: Metrics
    presence: Presence
    transfers: Slots
    keys: KeyRing
    reads: Reads
    streams: Slots
    pressure: Pressure
    traces: Traces | None

    @classmethod
    def open(cls, settings: Settings) -> "Services":
        db = connect(settings.sqlalchemy_url)
        hints, pace = Hints(settings), Pace(db)
        storage = storage_of(settings)
        return cls(
            settings=settings,
            db=db,
            storage=storage,
            dispatcher=Dispatcher(settings),
            hints=hints,
            # The other half of the threads stays free for requests that end at once.
            waiters=Waiters(db, hints, limit=settings.api_threads // 2),
            availability=Availability(settings.models_path),
            pace=pace,
            metrics=Metrics(db, settings),
            presence=Presence(settings),
            transfers=Slots(settings.api_threads // 4),
            keys=KeyRing(db),
            reads=Reads(db),
            # Of the half that may wait, so that a page whose stream is refused can still wait by requests.
            streams=Slots(settings.api_threads // 4, "event streams are open"),
            pressure=Pressure(db, storage, pace, settings),
            traces=Traces.open(settings, "api"),
        )

    @property
    def limits(self) -> Limits:
        return Limits(max_bytes=self.settings.max_upload_bytes, max_pixels=self.settings.max_pixels)

    def close(self) -> None:
        self.waiters.close()
        self.dispatcher.close()
        self.presence.close()
        self.hints.close()
        self.metrics.close()
        if self.traces:
            self.traces.close()
        self.db.close()


def services() -> Services:
    """Those of the app that serves this request."""
    return cast(Services, current_app.extensions[EXTENSION])
