"""What lies in an archive: its kind, its entries in order, and the limits that hold while it is read."""

import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from shared.errors import RequestError, UnsafeName, UnsupportedArchive, UploadTooLarge
from shared.tables import ENTRY_NAME_LIMIT

ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")
GZIP_START = b"\x1f\x8b"
ZSTD_START = b"\x28\xb5\x2f\xfd"
BLOCK_BYTES = 512  # of a tar
# Below these sizes a ratio says nothing: a black picture packs a thousand times.
ENTRY_RATIO_FLOOR_BYTES = 4 * 2**20
ARCHIVE_RATIO_FLOOR_BYTES = 16 * 2**30
# macOS adds them; nobody meant to send them.
SKIPPED_FOLDER, SKIPPED_NAME, SKIPPED_START = "__MACOSX", ".DS_Store", "._"


@dataclass(frozen=True)
class ArchiveLimits:
    """What one archive may cost; the settings fill it."""

    max_entries: int
    max_unpacked_bytes: int
    max_ratio: int
    max_entry_bytes: int

    @property
    def max_headers(self) -> int:
        """Folders and what macOS adds come on top of the entries, but not without end."""
        return 8 * self.max_entries + 1000

    def check_entries(self, entries: int, headers: int) -> None:
        """Raises: UploadTooLarge"""
        if entries > self.max_entries or headers > self.max_headers:
            raise UploadTooLarge(
                f"The archive has more than {self.max_entries:,} entries. Split it into several."
            )

    def check_unpacked(self, packed: int, unpacked: int) -> None:
        """Raises: UploadTooLarge"""
        if unpacked > self.max_unpacked_bytes:
            raise UploadTooLarge(f"The archive unpacks to more than {self.max_unpacked_bytes:,} bytes.")
        if unpacked > ARCHIVE_RATIO_FLOOR_BYTES and unpacked > self.max_ratio * packed:
            raise UploadTooLarge(f"The archive unpacks to more than {self.max_ratio} times its size.")

    def check_entry(self, size: int) -> None:
        """Raises: UploadTooLarge"""
        if size > self.max_entry_bytes:
            raise UploadTooLarge(f"The entry has {size:,} bytes; {self.max_entry_bytes:,} are allowed.")


@dataclass(frozen=True)
class Entry:
    """One file of an archive, as its header tells of it; `read` is good until the next entry is asked for."""

    name: str  # its path; what cannot be shown is escaped
    refused: RequestError | None  # why it is no picture of ours, as far as the header tells
    read: Callable[[], bytes]  # raises RequestError when what follows is not what the header says


class Archive(Protocol):
    """A container that can be walked from its beginning, more than once."""

    def entries(self) -> Iterator[Entry]:
        """Its files in order; folders, and what macOS adds, are left out.

        Raises: BrokenArchive where it cannot go on, UploadTooLarge past a limit
        """


def kind_of(file: BinaryIO) -> str:
    """zip, tar, tar.gz or tar.zst, from the bytes alone.

    Raises: UnsupportedArchive
    """
    file.seek(0)
    start = file.read(BLOCK_BYTES)
    if start.startswith(ZIP_STARTS):
        return "zip"
    if start.startswith(GZIP_START):
        return "tar.gz"
    if start.startswith(ZSTD_START):
        return "tar.zst"
    if len(start) == BLOCK_BYTES and _is_tar_header(start):
        return "tar"
    raise UnsupportedArchive()


def _is_tar_header(block: bytes) -> bool:
    """By its checksum: the oldest tars have no magic word. An empty tar is zeros."""
    if not any(block):
        return True
    digits = block[148:156].strip(b" \0")
    stated = int(digits, 8) if digits and all(48 <= digit < 56 for digit in digits) else -1
    return stated == sum(block) - sum(block[148:156]) + 8 * 32


def clean_name(raw: bytes) -> tuple[str, RequestError | None]:
    """An entry's path with `/` between its parts, and what is wrong with it."""
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        return shown(raw.decode(errors="backslashreplace")), UnsafeName("The name is not UTF-8.")
    parts = name.replace("\\", "/").split("/")
    if not _visible(name):
        return shown(name), UnsafeName("The name holds control characters.")
    if not parts[0] or parts[0].endswith(":"):
        return shown(name), UnsafeName("The name is an absolute path.")
    if ".." in parts:
        return shown(name), UnsafeName("The name leads out of the archive.")
    kept = "/".join(part for part in parts if part not in ("", "."))
    if not kept or len(kept) > ENTRY_NAME_LIMIT:
        return shown(name), UnsafeName(f"The name is empty or longer than {ENTRY_NAME_LIMIT:,} characters.")
    return kept, None


def _visible(name: str) -> bool:
    """Without control characters; most names need no second look."""
    return name.isprintable() or not any(unicodedata.category(char) in ("Cc", "Cs") for char in name)


def shown(name: str) -> str:
    """For people's eyes: control characters escaped, cut to what a row holds."""
    visible = (
        char if unicodedata.category(char) not in ("Cc", "Cs") else char.encode("unicode_escape").decode()
        for char in name[:ENTRY_NAME_LIMIT]
    )
    return "".join(visible)[:ENTRY_NAME_LIMIT]


def is_skipped(name: str) -> bool:
    parts = name.split("/")
    return parts[0] == SKIPPED_FOLDER or parts[-1] == SKIPPED_NAME or parts[-1].startswith(SKIPPED_START)
