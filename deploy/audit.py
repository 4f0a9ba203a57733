"""Audits what is installed: `make audit`. Is it what is pinned, as it was packed, and without a known weakness?

The third question needs an advisory database. Where none can be reached, the audit says so and counts the other two.
"""

import base64
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import Distribution, PackagePath, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from shared.settings import ROOT

PINS = (ROOT / "requirements.txt", ROOT / "deploy/without_dependencies.txt")
OWN = frozenset(
    {"medq", "pip", "setuptools", "wheel"}
)  # ours, and what every virtual environment begins with
AUDITOR = "pip-audit==2.10.1"  # in an environment of its own: MedQ does not need what it needs
AUDITOR_VENV = ROOT / ".venv" / "audit"
CHUNK = 2**20


@dataclass
class Audit:
    """What was found; `unknown` is what could not be looked at."""

    wrong: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def main() -> None:
    there = list(distributions())
    audit = Audit()
    audit.wrong += differences(pinned(PINS), {name_of(one): one.version for one in there})
    audit.wrong += unpinned(there, pinned(PINS[:1]))
    audit.wrong += [path for one in there for path in changed(one)]
    try:
        audit.wrong += advisories(auditor())
    except Unreachable as error:
        audit.unknown.append(str(error))
    print(report(audit, len(there)))
    sys.exit(1 if audit.wrong else 0)


def report(audit: Audit, count: int) -> str:
    lines = [f"wrong: {one}" for one in audit.wrong] + [f"not known: {one}" for one in audit.unknown]
    verdict = f"{len(audit.wrong)} findings" if audit.wrong else "nothing wrong"
    return "\n".join([*lines, f"{count} packages: {verdict}."])


def name_of(distribution: Distribution) -> str:
    return canonicalize_name(distribution.metadata["Name"])


def pinned(files: Iterable[Path]) -> dict[str, str]:
    """Name to version. Raises: ValueError for a line that pins none"""
    found: dict[str, str] = {}
    for path in files:
        for line in path.read_text(encoding="utf-8").splitlines():
            if not (text := line.partition("#")[0].strip()):
                continue
            wanted = Requirement(text)
            (version,) = wanted.specifier
            if version.operator != "==":
                raise ValueError(f"{text} is not pinned")
            if wanted.marker is None or wanted.marker.evaluate():
                found[canonicalize_name(wanted.name)] = version.version
    return found


def differences(pins: dict[str, str], installed: dict[str, str]) -> list[str]:
    found = []
    for name in sorted(pins.keys() | installed.keys() - OWN):
        pin, there = pins.get(name, "none"), installed.get(name, "none")
        if pin != there:
            found.append(f"{name}: pinned {pin}, installed {there}")
    return found


def unpinned(there: Iterable[Distribution], pins: dict[str, str]) -> list[str]:
    """What pinned packages need and no line pins, so that two machines may get two versions of it."""
    found = set()
    for one in there:
        for text in (one.requires or ()) if name_of(one) in pins else ():
            needed = Requirement(text)
            name = canonicalize_name(needed.name)
            wanted = needed.marker is None or needed.marker.evaluate({"extra": ""})
            if wanted and name not in pins and name not in OWN:
                found.add(f"{name}: not pinned, and {name_of(one)} needs it")
    return sorted(found)


def changed(distribution: Distribution) -> Iterator[str]:
    """Files that are no longer what the package's RECORD says; what has no hash there is made at run time."""
    for path in distribution.files or ():
        if path.hash and path.hash.mode == "sha256" and digest(path) != path.hash.value:
            yield f"{name_of(distribution)}: {path} is not as it was packed"


def digest(path: PackagePath) -> str:
    """As RECORD spells it; empty where the file is gone."""
    taken = hashlib.sha256()
    try:
        with Path(path.locate()).open("rb") as file:
            while chunk := file.read(CHUNK):
                taken.update(chunk)
    except FileNotFoundError:
        return ""
    return base64.urlsafe_b64encode(taken.digest()).rstrip(b"=").decode()


class Unreachable(Exception):
    """No advisory database, or nothing that could ask one."""


def auditor() -> list[str]:
    """pip-audit's command, in an environment of its own, which is made once. Raises: Unreachable"""
    python = AUDITOR_VENV / "bin/python"
    steps = [
        [sys.executable, "-m", "venv", str(AUDITOR_VENV)],
        [str(python), "-m", "pip", "install", "--quiet", AUDITOR],
    ]
    if not (AUDITOR_VENV / "bin/pip-audit").exists():
        for step in steps:
            if subprocess.run(step, capture_output=True, check=False).returncode:
                raise Unreachable(f"{AUDITOR} could not be installed, so no advisories were looked up")
    return [str(python), "-m", "pip_audit"]


def advisories(command: Sequence[str]) -> list[str]:
    """Known weaknesses of the pinned versions, from the OSV database. Raises: Unreachable"""
    options = ["--no-deps", "--disable-pip", "-s", "osv", "-f", "json", "--progress-spinner", "off"]
    files = [word for path in PINS for word in ("-r", str(path))]
    asked = subprocess.run([*command, *options, *files], capture_output=True, text=True, check=False)
    try:
        packages = json.loads(asked.stdout)["dependencies"]
    except ValueError:
        last = asked.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise Unreachable(f"advisories were not looked up: {last[0][:300]}") from None
    return [
        f"{package['name']} {package['version']}: {weakness['id']}, mended in "
        f"{', '.join(weakness['fix_versions']) or 'no version yet'}"
        for package in packages
        for weakness in package.get("vulns", ())
    ]


if __name__ == "__main__":
    main()
