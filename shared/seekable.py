"""A file that is read from a store at any place of it."""

from io import SEEK_CUR, SEEK_END, SEEK_SET, RawIOBase


class SeekableReader(RawIOBase):
    """Knows where it is and how long it is; `readinto` is for those who know where the bytes come from."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._at, self._end = 0, size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        """Raises: ValueError before the beginning; behind the end there is nothing to read"""
        base = {SEEK_SET: 0, SEEK_CUR: self._at, SEEK_END: self._end}[whence]
        if base + offset < 0:
            raise ValueError(f"there is nothing at {base + offset}")
        self._at = base + offset
        return self._at
