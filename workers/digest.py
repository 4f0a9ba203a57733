"""The sha256 of a stored archive, taken in a thread beside the reading of its entries."""

import hashlib
import threading

from shared.errors import BlobDamaged, NotFound, StorageUnavailable
from shared.storage import Storage

CHUNK_BYTES = 2**20


class Digest:
    """Hashing leaves the interpreter to other threads, and finds in memory what the reader has just fetched.

    An archive that came in pieces has no hash yet: no request saw all of it, and hashlib's state cannot be
    kept between two of them.
    """

    def __init__(self, storage: Storage, key: str) -> None:
        self._storage, self._key = storage, key
        self._stopped = threading.Event()
        self._found: str | None = None
        self._thread = threading.Thread(target=self._hash, name="digest", daemon=True)
        self._thread.start()

    def result(self) -> str | None:
        """Wait for the end; None when it was stopped, or the archive cannot be read."""
        self._thread.join()
        return self._found

    def close(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _hash(self) -> None:
        digest = hashlib.sha256()
        try:
            with self._storage.open(self._key) as file:
                while chunk := file.read(CHUNK_BYTES):
                    if self._stopped.is_set():
                        return
                    digest.update(chunk)
        except (NotFound, StorageUnavailable, BlobDamaged, OSError):
            return
        self._found = digest.hexdigest()
