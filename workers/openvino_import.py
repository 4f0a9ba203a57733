"""OpenVINO, kept from telling anybody that it is used."""

import sys
from typing import Any


def import_openvino() -> Any:
    """Not at the top of a module, since not every worker needs it.

    OpenVINO tells Google Analytics that it was imported, and of every conversion, unless the user has run a
    program of theirs that forbids it, or this package is missing. Nothing may go out from here.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino
