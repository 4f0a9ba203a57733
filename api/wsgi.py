"""What granian starts: `granian --interface wsgi --factory api.wsgi:create`."""

import ctypes
import signal
import socket
import threading

from flask import Flask

from api.app import create_app
from api.bodies import Bodies
from api.courier import Courier
from api.services import EXTENSION, Services
from api.silence import Silence
from shared import logs
from shared.settings import Settings

PR_SET_PDEATHSIG = 1  # Source: prctl(2)


def create() -> Flask:
    """One app per process, from the environment, which is read here and nowhere later."""
    settings = Settings.from_env()
    _end_with_parent()
    logs.configure(settings.log_level, settings.log_format, "api")
    app = create_app(settings)
    rooms: Services = app.extensions[EXTENSION]
    rooms.waiters.start()
    # Waits take up to half of the threads, archives and results a quarter; some stay free for what ends at once.
    most = max(2, settings.api_threads // 4 - 1)
    app.wsgi_app = Bodies(app.wsgi_app, most)  # type: ignore[method-assign]
    Silence(settings.port).start()
    if settings.webhook_secret:
        Courier(rooms).start()
    _end_waits_on_stop(rooms)
    return app


def _end_with_parent() -> None:
    """granian's worker would serve on without its parent, beside the one that is started in its place."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


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
