"""Faults that no signal can cause, inside the real processes; Python imports this file by its name at the start.

A test puts this folder on PYTHONPATH, and turns a fault on by writing a file into the folder that
SABOTAGE names: `crash` (bytes in a picture that kill its decoder, in hex), `memory` (the largest microbatch that fits),
`slow` (seconds that each microbatch takes more), `dispatch` (the API dies instead of dispatching).
"""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import wrapt

FOLDER = Path(os.environ.get("SABOTAGE", "/nowhere"))


def ordered(name: str) -> str:
    """What the file of a fault says; empty while it is off."""
    with contextlib.suppress(FileNotFoundError):
        return (FOLDER / name).read_text()
    return ""


@wrapt.when_imported("shared.images")
def crash_in_decoders(module: Any) -> None:
    decode = module.decode

    def fragile(data: bytes, *arguments: Any, **named: Any) -> Any:
        marker = ordered("crash")
        if marker and bytes.fromhex(marker) in data:
            os.kill(os.getpid(), signal.SIGSEGV)
        return decode(data, *arguments, **named)

    module.decode = fragile


@wrapt.when_imported("workers.serving")
def limit_the_device(module: Any) -> None:
    read_out = module.read_out

    def limited(logits: Any, *arguments: Any) -> Any:
        """Where a microbatch comes from the device, and what goes wrong there is told apart."""
        time.sleep(float(ordered("slow") or 0))
        most = ordered("memory")
        if most and len(logits) > int(most):
            raise module.torch.OutOfMemoryError("sabotage")
        return read_out(logits, *arguments)

    module.read_out = limited


@wrapt.when_imported("shared.queue")
def die_before_dispatch(module: Any) -> None:
    dispatch = module.Dispatcher.dispatch

    def last(self: Any, *arguments: Any) -> Any:
        if "api.services" in sys.modules and ordered("dispatch"):
            (FOLDER / "dispatch").unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return dispatch(self, *arguments)

    module.Dispatcher.dispatch = last


@wrapt.when_imported("shared.uploads")
def shorten_locks(module: Any) -> None:
    """No fault, but what the suite waits for when a process dies that was writing an upload."""
    module.LOCK_S = 3.0
