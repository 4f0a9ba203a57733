"""What blobs are called: every key is `job id/name`, in a store of PARTS parts."""

import hashlib
import re

# No separator, no leading dot: neither `..`, a hidden file nor a store's own temporary files can be named.
PART = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}"
KEY = re.compile(f"({PART})/({PART})")
JOB_ID = re.compile(PART)
PARTS = 256  # between a store's root and its jobs, so that no listing holds all of them


def job_and_name(key: str) -> tuple[str, str]:
    """Raises: ValueError"""
    match = KEY.fullmatch(key)
    if not match:
        raise ValueError(f"a key is 'job id/name', not {key!r}")
    return match[1], match[2]


def job_and_start(prefix: str) -> tuple[str, str]:
    """Raises: ValueError for a job id without its slash, which would be the beginning of other jobs' ids too"""
    job_id, slash, start = prefix.partition("/")
    if not slash:
        raise ValueError(f"a prefix is 'job id/' and the beginning of a name, not {prefix!r}")
    return checked(job_id), start


def checked(job_id: str) -> str:
    """Raises: ValueError"""
    if not JOB_ID.fullmatch(job_id):
        raise ValueError(f"not a job id: {job_id!r}")
    return job_id


def part_of(job_id: str) -> str:
    """Ids begin with the time, so their own letters would put a day's jobs into one part."""
    return hashlib.sha256(job_id.encode()).hexdigest()[:2]


def part_name(part: int) -> str:
    return f"{part:02x}"
