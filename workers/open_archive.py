"""Opens an archive of any kind that MedQ knows."""

from typing import BinaryIO

from workers.unpack import Archive, ArchiveLimits, kind_of
from workers.untar import Tar
from workers.unzip import Zip


def open_archive(file: BinaryIO, limits: ArchiveLimits) -> Archive:
    """Raises: UnsupportedArchive"""
    kind = kind_of(file)
    return Zip(file, limits) if kind == "zip" else Tar(file, kind, limits)
