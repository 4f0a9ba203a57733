"""Archives for tests: zips and tars of small pictures, honest ones and hostile ones."""

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Mapping

import zstandard

from tests.bench.vision import drawn_pictures

KINDS = ("zip", "tar", "tar.gz", "tar.zst")


def pictures(count: int) -> list[bytes]:
    return drawn_pictures(count)


def packed(kind: str, files: Mapping[str, bytes]) -> bytes:
    """An archive with these files, in this order; a name that ends with a slash is a folder."""
    if kind == "zip":
        return zipped(files)
    tar = tarred(files)
    if kind == "tar.gz":
        return gzip.compress(tar, 1)
    return zstandard.compress(tar) if kind == "tar.zst" else tar


def zipped(files: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def tarred(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name.rstrip("/"))
            info.size = len(data)
            info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def overlapping_zip(copies: int, data: bytes) -> bytes:
    """Every record of the directory names the same stored bytes: the plainest of overlapping bombs."""
    plain = zipped({"a.jpg": data}, zipfile.ZIP_STORED)
    directory = plain.index(b"PK\x01\x02")
    end = plain.index(b"PK\x05\x06")
    record = plain[directory:end]
    return plain[:directory] + record * copies + _end_of(plain[end:], copies, len(record) * copies, directory)


def quoting_zip(count: int, kernel_bytes: int) -> bytes:
    """Overlapping as in David Fifield's zip bomb: each file's data holds the headers of those behind it."""
    import zlib

    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    kernel = packer.compress(b"\0" * kernel_bytes) + packer.flush()
    files: list[tuple[bytes, bytes, int, int]] = []  # header, data, crc, size
    body, content = kernel, b"\0" * kernel_bytes
    for number in reversed(range(count)):
        name = f"{number:04}.jpg".encode()
        crc, size = zlib.crc32(content), len(content)
        header = struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 0, 8, 0, 0, crc, len(body), size, len(name), 0)
        files.append((name, header + name, crc, size))
        quoted = header + name
        content = quoted + content
        body = struct.pack("<BHH", 0, len(quoted), len(quoted) ^ 0xFFFF) + quoted + body
    out = body[5:]
    return _with_directory(out, list(reversed(files)), kernel)


def _with_directory(body: bytes, files: list[tuple[bytes, bytes, int, int]], kernel: bytes) -> bytes:
    directory, at, left = b"", 0, len(body)
    for name, header, crc, size in files:
        data = left - len(header)
        directory += (
            struct.pack(
                "<4s4B4H3L5H2L",
                b"PK\x01\x02",
                20,
                0,
                20,
                0,
                0,
                8,
                0,
                0,
                crc,
                data,
                size,
                len(name),
                0,
                0,
                0,
                0,
                0,
                at,
            )
            + name
        )
        at += len(header) + 5
        left -= len(header) + 5
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, len(files), len(files), len(directory), len(body), 0)
    return body + directory + end


def _end_of(end: bytes, count: int, size: int, offset: int) -> bytes:
    return struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count & 0xFFFF, count & 0xFFFF, size, offset, 0)
