"""`python -m tests.workers.read_limited FILE…`: unpacks archives under a memory limit, and tells what they hold."""

import json
import resource
import sys
from pathlib import Path

from shared.errors import RequestError
from workers.open_archive import open_archive
from workers.unpack import ArchiveLimits

LIMITS = ArchiveLimits(
    max_entries=100_000, max_unpacked_bytes=2 * 2**30, max_ratio=200, max_entry_bytes=20 * 2**20
)
ROOM_BYTES = 160 * 2**20  # beyond what the interpreter and its libraries have mapped by now


def tell(path: Path) -> dict[str, object]:
    """Entries that can be read, problems by number, and what ended it."""
    told: dict[str, int] = {}
    end = "end"
    with path.open("rb") as file:
        try:
            for entry in open_archive(file, LIMITS).entries():
                try:
                    if entry.refused:
                        raise entry.refused
                    entry.read()
                    outcome = "read"
                except RequestError as error:
                    outcome = error.slug
                told[outcome] = told.get(outcome, 0) + 1
        except RequestError as error:
            end = error.slug
    return {"told": told, "end": end}


def main() -> None:
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + ROOM_BYTES, mapped + ROOM_BYTES))
    for path in map(Path, sys.argv[1:]):
        print(json.dumps({"path": path.name, **tell(path)}), flush=True)


if __name__ == "__main__":
    main()
