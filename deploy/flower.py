"""Starts Flower as the settings say: `python -m deploy.flower`, with further options of its own if need be.

Its own command line would show the passwords of Flower and of the broker to `ps`.
"""

import sys

from celery import Celery
from flower.options import default_options
from flower.views.monitor import Metrics
from tornado.web import authenticated

from shared.errors import SettingsError
from shared.settings import Settings

USER = "medq"
TASKS = 2_000  # the newest, which it keeps in memory; by its own default of 100,000 it grew by two thirds in ten minutes


def main() -> None:
    try:
        settings = Settings.from_env()
    except SettingsError as error:
        sys.exit(f"flower: {error.title}: {error.detail}")
    protect(settings)
    celery = Celery("medq", broker=settings.celery_broker_url, set_as_current=False)
    listens = [f"--address={settings.flower_host}", f"--port={settings.flower_port}"]
    celery.start(["flower", *listens, f"--max_tasks={TASKS}", "--logging=warning", *sys.argv[1:]])


def protect(settings: Settings) -> None:
    """A password where one is set, also for /metrics, which Flower shows to everybody; and no levers."""
    Metrics.get = authenticated(Metrics.get)
    default_options.read_only = settings.flower_only_shows
    if settings.flower_password:
        default_options.basic_auth = [f"{USER}:{settings.flower_password}"]


if __name__ == "__main__":
    main()
