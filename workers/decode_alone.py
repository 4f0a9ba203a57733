"""Decodes one picture in a process of its own, with limits: one that kills its decoder fails by itself."""

import io
import resource
import subprocess
import sys

import numpy as np
from numpy.typing import NDArray

from shared.errors import ImageFailed, RequestError
from shared.images import Limits, decode

CPU_S = 30
MEMORY_BYTES = 2 * 2**30


def decode_alone(data: bytes, limits: Limits, at_least_px: int, frame: int = 1) -> NDArray[np.uint8]:
    """As shared.images.decode, but nothing that the picture does can hurt this process.

    A fresh interpreter and not a fork, since the worker has threads and perhaps CUDA.

    Raises: ImageFailed if it is unreadable, killed its decoder or took more than the limits
    """
    command = [sys.executable, "-m", __name__]
    command += [str(number) for number in (limits.max_bytes, limits.max_pixels, at_least_px, frame)]
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=2 * CPU_S, check=False)
    except subprocess.TimeoutExpired:
        raise ImageFailed("Decoding the picture took too long.") from None
    if done.returncode == 3:
        raise ImageFailed(done.stderr.decode(errors="replace").strip())
    if done.returncode:
        raise ImageFailed("The picture killed the process that decoded it.")
    pixels: NDArray[np.uint8] = np.load(io.BytesIO(done.stdout), allow_pickle=False)
    return pixels


def main() -> None:
    """Picture on standard input, numpy array on standard output; exit code 3 for an unreadable one."""
    max_bytes, max_pixels, at_least_px, frame = map(int, sys.argv[1:])
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    data = sys.stdin.buffer.read()
    try:
        limits = Limits(max_bytes=max_bytes, max_pixels=max_pixels)
        pixels = decode(data, limits, at_least_px=at_least_px, frame=frame)
    except (RequestError, MemoryError) as error:
        print(getattr(error, "detail", "The picture needs more memory than allowed."), file=sys.stderr)
        sys.exit(3)
    np.save(sys.stdout.buffer, pixels, allow_pickle=False)


if __name__ == "__main__":
    main()
