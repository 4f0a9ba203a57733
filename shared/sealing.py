"""Encryption of a blob in chunks, so that it is read from any place, and grows, in constant memory.

As in STREAM (Hoang, Reyhanitabar, Rogaway, Vizár: Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance, CRYPTO 2015) each chunk is bound to its place and to whether it is the last one; and to the blob's
key, so that blobs that were cut, put together or exchanged are not opened. Place and end stand in the associated data
and not in the nonce: the last chunk of a blob that grows is sealed anew, and AES-GCM forgives no nonce that serves
twice. So nonces are random, and every beginning of a blob has a key of its own (NIST SP 800-38D, 8.2.2 and 8.3).

    header  MAGIC, id of the key (8 bytes), salt (32 bytes)
    chunk   nonce (12 bytes), up to CHUNK_BYTES encrypted by AES-256-GCM, tag (16 bytes); an empty blob has one, no
            other chunk is empty
"""

import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shared.errors import BlobDamaged, StorageUnavailable

MAGIC = b"MEDQSB1\n"
ID_BYTES, SALT_BYTES, KEY_BYTES = 8, 32, 32
HEADER_BYTES = len(MAGIC) + ID_BYTES + SALT_BYTES
NONCE_BYTES, TAG_BYTES = 12, 16
OVERHEAD_BYTES = NONCE_BYTES + TAG_BYTES
CHUNK_BYTES = 2**16


class Keyring:
    """The first key seals; all of them open, by the id that a blob's header names."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = {_derived(key, b"medq key id", ID_BYTES): key for key in keys}
        self._first = next(iter(self._keys))

    def seal(self, name: str) -> "Seal":
        """For a new blob."""
        return self._of(MAGIC + self._first + os.urandom(SALT_BYTES), name)

    def open(self, header: bytes, name: str) -> "Seal":
        """Of a blob that is there.

        Raises: StorageUnavailable if none of our keys sealed it; BlobDamaged
        """
        if len(header) < HEADER_BYTES or not header.startswith(MAGIC):
            raise BlobDamaged("The stored bytes are cut off.")
        if header[len(MAGIC) : len(MAGIC) + ID_BYTES] not in self._keys:
            raise StorageUnavailable("The blob is sealed with a key that MEDQ_BLOB_KEYS does not hold.")
        return self._of(header, name)

    def _of(self, header: bytes, name: str) -> "Seal":
        key = self._keys[header[len(MAGIC) : len(MAGIC) + ID_BYTES]]
        own = _derived(key, b"medq blob", KEY_BYTES, header[-SALT_BYTES:])
        return Seal(header, name, AESGCM(own))


@dataclass(frozen=True)
class Seal:
    """One blob's key, bound to its name."""

    header: bytes
    name: str
    _cipher: AESGCM

    def chunk(self, place: int, data: bytes, *, last: bool) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, data, self._bound(place, last))

    def opened(self, place: int, chunk: bytes, *, last: bool) -> bytes:
        """Raises: BlobDamaged"""
        try:
            return self._cipher.decrypt(chunk[:NONCE_BYTES], chunk[NONCE_BYTES:], self._bound(place, last))
        except (InvalidTag, ValueError) as error:  # ValueError: shorter than a nonce
            raise BlobDamaged() from error

    def chunks(self, place: int, held: bytes, data: Iterable[bytes]) -> Iterator[bytes]:
        """`held` and what follows, as chunks from `place` on; what came before `data` raised is not lost."""
        buffer = bytearray(held)
        try:
            for more in data:
                buffer += more
                while len(buffer) > CHUNK_BYTES:
                    yield self.chunk(place, bytes(buffer[:CHUNK_BYTES]), last=False)
                    del buffer[:CHUNK_BYTES]
                    place += 1
        except GeneratorExit:
            raise
        except BaseException:
            yield self.chunk(place, bytes(buffer), last=True)
            raise
        yield self.chunk(place, bytes(buffer), last=True)

    def sealed(self, data: bytes) -> bytes:
        """A whole blob."""
        return b"".join([self.header, *self.chunks(0, b"", [data])])

    def _bound(self, place: int, last: bool) -> bytes:
        return b"".join([self.header, self.name.encode(), b"\0", struct.pack(">Q?", place, last)])


def starts_sealed(start: bytes) -> bool:
    """Whether a blob begins as sealed ones do; one that is cut off within its header does, too."""
    return start.startswith(MAGIC[: len(start)])


def chunk_start(place: int) -> int:
    """Where in the stored bytes a chunk begins."""
    return HEADER_BYTES + place * (CHUNK_BYTES + OVERHEAD_BYTES)


def chunk_count(stored_bytes: int) -> int:
    """Chunks, the last one perhaps torn, in so many stored bytes."""
    return max(0, -(-(stored_bytes - HEADER_BYTES) // (CHUNK_BYTES + OVERHEAD_BYTES)))


def plain_bytes(stored_bytes: int) -> int:
    """How many bytes of a blob are in so many stored ones."""
    return max(0, stored_bytes - HEADER_BYTES - chunk_count(stored_bytes) * OVERHEAD_BYTES)


def _derived(key: bytes, use: bytes, size: int, salt: bytes | None = None) -> bytes:
    return HKDF(SHA256(), size, salt, use).derive(key)
