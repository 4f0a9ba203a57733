"""Makes .venv with everything in requirements.txt; the system's Python runs it, so standard library only.

The Makefile calls it when requirements.txt is newer than the stamp that it leaves.
"""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

from shared.settings import environment_with  # needs nothing but the standard library

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOG = VENV / "install.log"
STAMP = VENV / ".installed"

GB = 1e9
INSTALLED_GB = 6.2  # torch brings CUDA's libraries, with or without a GPU
DOWNLOADED_GB = 2.8  # wheels that lie beside it until they are unpacked
VERSIONS = ((3, 11), (3, 12))


class InstallError(Exception):
    """The set-up cannot go on; the message says what to do."""


def main() -> None:
    try:
        install()
    except InstallError as error:
        sys.exit(f"MedQ's set-up stopped: {error}")
    except KeyboardInterrupt:
        sys.exit("MedQ's set-up was interrupted. The same command goes on where it stopped.")


def install() -> None:
    if sys.version_info[:2] not in VERSIONS:
        raise InstallError(f"it needs Python 3.11 or 3.12, and this is {sys.version.split()[0]}.")
    free_gb = shutil.disk_usage(ROOT).free / GB
    if not any(VENV.glob("lib/python*/site-packages/torch")):  # else most of it is there already
        check_disk(free_gb)
    if not usable(PYTHON):
        make_venv()
    # Unpacked beside .venv, whose disk was checked: /tmp may be small, or memory.
    scratch = VENV / "tmp"
    scratch.mkdir(exist_ok=True)
    environment = environment_with({"TMPDIR": str(scratch), "PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    keep = [] if free_gb > INSTALLED_GB + 2 * DOWNLOADED_GB else ["--no-cache-dir"]
    say("Installing what requirements.txt names (only the first time takes minutes) ...")
    try:
        pip([*keep, "-r", "requirements.txt"], environment)
        pip([*keep, "--no-deps", "-r", "deploy/without_dependencies.txt"], environment)
        pip(["--no-deps", "--editable", "."], environment)  # the `medq` command
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    STAMP.touch()
    say(f"Installed in {VENV.name} with Python {sys.version.split()[0]}.")


def check_disk(free_gb: float) -> None:
    needed_gb = INSTALLED_GB + DOWNLOADED_GB
    say(
        f"Free disk: {free_gb:.1f} GB; the set-up needs {needed_gb:.0f} GB, of which {INSTALLED_GB:.0f} stay."
    )
    if free_gb < needed_gb:
        raise InstallError(
            f"there are {free_gb:.1f} GB free in {ROOT}, and it needs {needed_gb:.0f} GB. "
            "Free some space, or clone MedQ to a larger disk."
        )


def usable(python: Path) -> bool:
    """Whether a virtual environment is there, complete and of the right version; it may have been moved."""
    test = f"import sys, pip; sys.exit(sys.version_info[:2] not in {VERSIONS})"
    try:
        return subprocess.run([python, "-c", test], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def make_venv() -> None:
    if not all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")):
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise InstallError(
            f"Python {version} came without venv. On Debian and Ubuntu: sudo apt install python{version}-venv"
        )
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", VENV], capture_output=True, text=True, check=False
    )
    if made.returncode:
        raise InstallError(f"the virtual environment could not be made:\n{made.stdout}{made.stderr}")


def pip(arguments: list[str], environment: dict[str, str]) -> None:
    """Run `pip install`, with a line of progress here and everything in install.log."""
    command = [str(PYTHON), "-m", "pip", "install", "--progress-bar", "off", "--no-input", *arguments]
    with (
        LOG.open("w", encoding="utf-8") as log,
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        assert process.stdout
        for line in process.stdout:
            log.write(line)
            progress(line.strip())
    progress("")
    if process.returncode:
        raise InstallError(explain(LOG.read_text(encoding="utf-8", errors="replace")))


def progress(line: str) -> None:
    """One line that is overwritten; outside a terminal only the large downloads, a line each."""
    if sys.stderr.isatty():
        columns = shutil.get_terminal_size().columns - 3
        print(f"\r\x1b[K  {line[:columns]}", end="" if line else "\r", file=sys.stderr, flush=True)
    elif line.startswith(("Downloading", "Installing collected")) and ("GB" in line or "MB" in line):
        say(f"  {line[:100]}")


def explain(log: str) -> str:
    """Pip's last words, and what to do about the usual causes."""
    tail = "\n".join(f"  {line}" for line in log.strip().splitlines()[-12:])
    if "No space left" in log:
        hint = "The disk is full: free some space and run the same command again."
    elif "No matching distribution" in log or "Connection" in log or "resolve" in log:
        hint = "The package index could not be reached, or has no build for this machine (x86-64 Linux)."
    else:
        hint = "Run the same command again; it goes on where it stopped."
    return f"pip failed.\n{tail}\n{hint} The whole log: {LOG}"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
