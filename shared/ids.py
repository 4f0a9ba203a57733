"""Ids that sort by the time they were made."""

import hashlib

import uuid_utils


def new_id() -> str:
    """A UUIDv7 in its usual spelling. Source: RFC 9562."""
    return str(uuid_utils.uuid7())


def id_at(us: int) -> str:
    """What no id sorts before that was made at this time, in microseconds since 1970 UTC, or later."""
    stamp = min(max(us // 1000, 0), 2**48 - 1)
    return str(uuid_utils.UUID(int=stamp << 80))


def entry_id(batch_id: str, entry: int) -> str:
    """The id of the job that an archive's entry becomes: always the same, and in the archive's order.

    So whoever reads the archive again after a crash writes the same pictures to the same places. The time is
    the batch's, then comes the entry's number in 26 bits as RFC 9562 allows, then what nobody can guess who
    does not know the batch.
    """
    batch = uuid_utils.UUID(batch_id).int
    salt = int.from_bytes(hashlib.sha256(f"{batch_id} {entry}".encode()).digest()[:6], "big")
    number = (batch >> 80) << 80 | 7 << 76 | (entry >> 14 & 0xFFF) << 64
    return str(uuid_utils.UUID(int=number | 2 << 62 | (entry & 0x3FFF) << 48 | salt))
