"""The set-up's own words: what it says before and after something is missing."""

import subprocess
import sys
from pathlib import Path

import pytest

from deploy import install


def test_too_little_disk_is_told_with_both_figures(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(install.InstallError, match=r"3\.0 GB free in .*it needs 9 GB"):
        install.check_disk(3.0)
    install.check_disk(50.0)
    assert "Free disk: 50.0 GB" in capsys.readouterr().err


def test_a_missing_venv_module_is_named_as_the_debian_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install.importlib.util, "find_spec", lambda name: None)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    with pytest.raises(install.InstallError, match=rf"sudo apt install python{version}-venv"):
        install.make_venv()


@pytest.mark.parametrize(
    ("log", "hint"),
    [
        ("OSError: [Errno 28] No space left on device", "The disk is full"),
        ("ERROR: No matching distribution found for torch", "package index"),
        ("something else", "goes on where it stopped"),
    ],
)
def test_a_failed_pip_is_explained(log: str, hint: str) -> None:
    explained = install.explain(f"Collecting torch\n{log}\n")
    assert log in explained
    assert hint in explained


def test_an_environment_is_usable_only_if_its_python_runs(tmp_path: Path) -> None:
    assert install.usable(Path(sys.executable))
    assert not install.usable(tmp_path / "python")
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    assert not install.usable(broken)


def test_the_set_up_needs_nothing_but_the_standard_library() -> None:
    script = (
        "import sys; from deploy import install; "
        "print([n for n in ('pydantic', 'httpx', 'rich', 'torch') if n in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-S", "-c", script], cwd=install.ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
