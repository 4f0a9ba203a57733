"""Ids that sort by the time they were made."""

import uuid_utils


def new_id() -> str:
    """A UUIDv7 in its usual spelling. Source: RFC 9562."""
    return str(uuid_utils.uuid7())
