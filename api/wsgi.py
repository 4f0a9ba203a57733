"""What granian starts: `granian --interface wsgi --factory api.wsgi:create`."""

import signal
import socket
import threading

from flask import Flask

from api.app import create_app
from api.courier import Courier
from api.services import EXTENSION, Services
from shared import logs
from shared.settings import Settings


def create() -> Flask:
    """One app per process, from the environment, which is read here and nowhere later."""
    settings = Settings.from_env()
    logs.configure(settings.log_level, settings.log_format, "api")
    app = create_app(settings)
    rooms: Services = app.extensions[EXTENSION]
    rooms.waiters.start()
    if settings.webhook_secret:
        Courier(rooms).start()
    _end_waits_on_stop(rooms)
    return app


def _end_waits_on_stop(rooms: Services) -> None:
    """Send waiting clients home when the process is told to stop; granian would wait for them.

    A wake-up descriptor hears of a signal whoever handles it: granian sets its handlers after this.
    """
    if threading.current_thread() is not threading.main_thread():
        return  # whoever made the app elsewhere than a server does closes its rooms
    heard, told = socket.socketpair()
    told.setblocking(False)
    signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)

    def listen() -> None:
        with heard, told:
            while number := heard.recv(1):
                if number[0] in (signal.SIGTERM, signal.SIGINT):
                    rooms.waiters.close()
                    return

    threading.Thread(target=listen, name="stop", daemon=True).start()
