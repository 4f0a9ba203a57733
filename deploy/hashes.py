"""Writes the hashes of every pinned package beside its pin: `python -m deploy.hashes`, after each change of a pin.

The images install by them (`pip install --require-hashes`), so that an index that answers with another file is not
believed. Hashed are the files that Python 3.11 and 3.12 can use, of every platform, as the index lists them. What an
image's packages bring along is read from those that are installed here.
"""

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import requires
from pathlib import Path
from urllib.parse import unquote

import httpx
from packaging.requirements import Requirement
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version

from deploy.audit import OWN, pinned
from shared.settings import ROOT

PINS = ROOT / "requirements.txt"
BARE = ROOT / "deploy/without_dependencies.txt"
FOLDER = ROOT / "deploy/images"
INDEX = "https://pypi.org/simple"
VERSIONS = (11, 12)  # of Python 3
# A file's name and hash as an index lists them. Source: PEP 503
LINK = re.compile(r'href="[^"#]*/([^"#/]+)#sha256=([0-9a-f]{64})"')
INTERPRETER = re.compile(r"(?:py|cp)3(\d*)")
AT_ONCE = 8
TORCH = ("torch", "torchvision")
ON_GPU = ("nvidia-", "cuda-", "triton")  # what torch brings along where it is built for CUDA
PLATFORMS = [
    {
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": machine,
        "python_version": f"3.{minor}",
    }
    for machine in ("x86_64", "aarch64")
    for minor in VERSIONS
]
HEADER = """\
# Made by `python -m deploy.hashes` from requirements.txt; not to be changed by hand.
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="deploy.hashes", description=__doc__.splitlines()[0])
    parser.add_argument("--index", default=INDEX, help=f"a package index (PEP 503); default: {INDEX}")
    pins = pinned([PINS, BARE])
    found = looked_up(pins, parser.parse_args().index)
    if missing := [f"{name}=={pins[name]}" for name, known in found.items() if not known]:
        sys.exit(f"The index has no hashes of {', '.join(missing)}.")
    for file, names in files(set(pinned([PINS]))).items():
        (FOLDER / file).write_text(written(names, pins, found), encoding="utf-8")
        print(f"{file}: {len(names)} packages")


def files(pins: set[str]) -> dict[str, set[str]]:
    """Which packages stand in which file: all that are pinned, and what each step of the images installs."""
    api, worker = (along(roots(FOLDER / name)) for name in ("api.txt", "worker.txt"))
    torch = {name for name in worker if name in TORCH or name.startswith(ON_GPU)}
    return {
        "requirements.hashes.txt": pins,
        "api.hashes.txt": api,
        "worker.hashes.txt": worker - api - torch,
        "torch.hashes.txt": torch,
        "bare.hashes.txt": {one.name for one in roots(FOLDER / "bare.txt")},
    }


def roots(path: Path) -> list[Requirement]:
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line]


def along(wanted: Iterable[Requirement]) -> set[str]:
    """Packages and whatever they need on Linux, with their extras."""
    seen: set[tuple[str, str]] = set()
    waiting = [(one.name, extra) for one in wanted for extra in ("", *one.extras)]
    while waiting:
        name, extra = waiting.pop()
        if (known := (canonicalize_name(name), extra)) in seen:
            continue
        seen.add(known)
        for needed in map(Requirement, requires(name) or ()):
            if _applies(needed, extra):
                waiting += [(needed.name, more) for more in ("", *needed.extras)]
    return {name for name, _ in seen} - OWN  # setuptools comes with the base image


def _applies(needed: Requirement, extra: str) -> bool:
    marker = needed.marker
    return marker is None or any(marker.evaluate(platform | {"extra": extra}) for platform in PLATFORMS)


def looked_up(pins: Mapping[str, str], index: str) -> dict[str, list[str]]:
    """Hashes of each package. Raises: httpx.HTTPError"""
    with (
        httpx.Client(base_url=index, follow_redirects=True, timeout=60) as client,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        pages = dict(zip(pins, pool.map(lambda name: page(client, name), pins), strict=True))
    return {name: hashes(pages[name], name, version) for name, version in pins.items()}


def page(client: httpx.Client, name: str) -> str:
    """What the index lists of a package. Raises: httpx.HTTPError"""
    return client.get(f"/{name}/").raise_for_status().text


def hashes(listing: str, name: str, version: str) -> list[str]:
    """Of the files of one version that Python 3.11 or 3.12 can use."""
    return sorted({digest for file, digest in LINK.findall(listing) if usable(unquote(file), name, version)})


def usable(file: str, name: str, version: str) -> bool:
    try:
        if file.endswith(".whl"):
            found, its, _, tags = parse_wheel_filename(file)
            fits = any(_runs(tag.interpreter, tag.abi) for tag in tags)
        else:
            found, its = parse_sdist_filename(file)
            fits = True
    except (InvalidWheelFilename, InvalidSdistFilename):  # eggs and installers of long ago
        return False
    return fits and found == canonicalize_name(name) and its == Version(version)


def _runs(interpreter: str, abi: str) -> bool:
    match = INTERPRETER.fullmatch(interpreter)
    if not match:
        return False
    minor = int(match[1] or 0)
    return minor in VERSIONS or (minor < max(VERSIONS) and abi in ("abi3", "none"))


def written(names: Iterable[str], pins: Mapping[str, str], found: Mapping[str, list[str]]) -> str:
    lines = [
        " \\\n    ".join([f"{name}=={pins[name]}", *(f"--hash=sha256:{digest}" for digest in found[name])])
        for name in sorted(names)
    ]
    return HEADER + "\n".join(lines) + "\n"


def read(path: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Name, version and hashes of each package in a file that `written` made."""
    for entry in re.split(r"(?<!\\)\n", path.read_text(encoding="utf-8")):
        if entry and not entry.startswith("#"):
            pin, *digests = entry.split(" \\\n    ")
            name, _, version = pin.partition("==")
            yield name, version, [one.removeprefix("--hash=sha256:") for one in digests]


if __name__ == "__main__":
    main()
