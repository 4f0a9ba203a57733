"""The data beside the repository: a test that needs it skips where it is absent, and fails there in CI."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1].parent / "shared" / "data"


def shared_data(*parts: str) -> Path:
    path = ROOT.joinpath(*parts)
    if not path.exists():
        message = f"needs {path}, which is not part of the repository"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path
