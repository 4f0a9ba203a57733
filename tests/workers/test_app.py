"""How a worker process starts."""

import subprocess
import sys

from shared.settings import ROOT


def test_a_role_waits_for_nothing_that_it_does_not_need() -> None:
    """Each process imports this module before it knows its role; OpenAI's types alone take longer than the rest."""
    heavy = "('torch', 'timm', 'openai', 'openvino', 'numpy', 'bm25s', 'PIL')"
    code = f"import sys, workers.app; print([name for name in {heavy} if name in sys.modules])"
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert loaded.stdout.strip() == "[]"
