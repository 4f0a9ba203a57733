"""Keys: who may do what, and whose jobs he sees. Only hashes are stored, so that a stolen database opens nothing.

A key holds 256 random bits: one round of SHA-256 is enough, since there is nothing to guess by dictionary.
"""

import hashlib
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import ColumnElement, Select, delete, insert, or_, select, update
from sqlalchemy.orm import Session

from shared.database import SECOND, Database, now_us
from shared.errors import NotFound
from shared.ids import new_id
from shared.tables import KeyRow, SessionRow

SCOPES = ("submit", "read", "review", "admin")
KEY_PREFIX, SESSION_PREFIX = "mq_", "mqs_"
TOKEN = re.compile(r"mqs?_[A-Za-z0-9_-]{43}")
OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
FRESH_S = 5.0  # how long a process may go on believing in a key: the longest time that a revocation takes
REMEMBERED = 4096  # tokens per process, unknown ones included


@dataclass(frozen=True)
class Key:
    """What whoever shows it may do."""

    id: str
    owner: str
    scopes: frozenset[str]
    per_minute: int | None  # requests; None: the setting's
    expires_at: int | None = None  # microseconds since 1970; of a session, its own end


def create(
    db: Database,
    owner: str,
    scopes: Sequence[str],
    *,
    note: str | None = None,
    per_minute: int | None = None,
    expires_in_s: float | None = None,
) -> tuple[str, str]:
    """Make a key; its id, and the key itself, which is shown here and never again.

    Raises: ValueError for an owner or scope that cannot be
    """
    if not OWNER.fullmatch(owner):
        raise ValueError("an owner is 1 to 64 letters, digits and . _ @ -, beginning with a letter or digit")
    if unknown := sorted(set(scopes) - set(SCOPES)):
        raise ValueError(f"no such scope: {', '.join(unknown)}; there are {', '.join(SCOPES)}")
    if not scopes:
        raise ValueError("a key needs a scope")
    key_id, token = new_id(), KEY_PREFIX + secrets.token_urlsafe(32)
    kept = " ".join(scope for scope in SCOPES if scope in scopes)
    row = {"id": key_id, "sha256": digest(token), "owner": owner, "scopes": kept, "note": note}
    ends = None if expires_in_s is None else _after(expires_in_s)
    times = {"per_minute": per_minute, "created_at": now_us(), "expires_at": ends}
    db.write(lambda session: session.execute(insert(KeyRow).values(**row, **times)))
    return key_id, token


def every(db: Database, owner: str | None = None) -> Sequence[KeyRow]:
    """All keys, or those of one owner, the oldest first."""
    statement = select(KeyRow).order_by(KeyRow.id)
    if owner is not None:
        statement = statement.where(KeyRow.owner == owner)
    return db.read(lambda session: session.scalars(statement).all())


def revoke(db: Database, key_id: str) -> bool:
    """End a key and every session made with it; False when it was revoked before.

    Processes that saw it lately let it pass for up to FRESH_S more.

    Raises: NotFound
    """

    def work(session: Session) -> bool:
        if session.get(KeyRow, key_id) is None:
            raise NotFound("There is no such key.")
        session.execute(delete(SessionRow).where(SessionRow.key_id == key_id))
        unrevoked = (KeyRow.id == key_id, KeyRow.revoked_at.is_(None))
        done = session.execute(update(KeyRow).where(*unrevoked).values(revoked_at=now_us()))
        return bool(cast(Any, done).rowcount)

    return db.write(work)


def open_session(db: Database, key: Key, lasts_s: float) -> str:
    """Sign a browser in; the cookie's value."""
    token = SESSION_PREFIX + secrets.token_urlsafe(32)
    row = {"sha256": digest(token), "key_id": key.id, "created_at": now_us(), "expires_at": _after(lasts_s)}
    db.write(lambda session: session.execute(insert(SessionRow).values(**row)))
    return token


def close_session(db: Database, token: str) -> None:
    """Sign a browser out; one that is not signed in is so already."""
    db.write(lambda session: session.execute(delete(SessionRow).where(SessionRow.sha256 == digest(token))))


def forget_sessions(db: Database) -> None:
    """Drop sessions that are over."""
    db.write(lambda session: session.execute(delete(SessionRow).where(SessionRow.expires_at <= now_us())))


def find(db: Database, token: str) -> Key | None:
    """The key that a token, of a key or of a session, stands for; None when it stands for nothing any more."""
    if not TOKEN.fullmatch(token):
        return None
    good = (KeyRow.revoked_at.is_(None), or_(KeyRow.expires_at.is_(None), KeyRow.expires_at > now_us()))
    statement: Select[KeyRow, int | None]
    if token.startswith(SESSION_PREFIX):
        statement = (
            select(KeyRow, SessionRow.expires_at)
            .join(SessionRow, SessionRow.key_id == KeyRow.id)
            .where(SessionRow.sha256 == digest(token), SessionRow.expires_at > now_us(), *good)
        )
    else:
        statement = select(KeyRow, KeyRow.expires_at).where(KeyRow.sha256 == digest(token), *good)
    found = db.read(lambda session: session.execute(statement).first())
    if found is None:
        return None
    row, expires_at = found
    return Key(row.id, row.owner, frozenset(row.scopes.split()), row.per_minute, expires_at)


class KeyRing:
    """Keys that this process saw within FRESH_S, so that not every request asks the database.

    What is unknown is remembered too: whoever tries the same wrong key again and again costs nothing.
    """

    def __init__(self, db: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._db, self._clock = db, clock
        self._lock = threading.Lock()
        self._seen: OrderedDict[str, tuple[float, Key | None]] = OrderedDict()

    def find(self, token: str) -> Key | None:
        sha256 = digest(token)
        with self._lock:
            at, key = self._seen.get(sha256, (-FRESH_S, None))
        if self._clock() - at < FRESH_S:
            return key
        at, key = self._clock(), find(self._db, token)
        with self._lock:
            self._seen[sha256] = (at, key)
            self._seen.move_to_end(sha256)
            while len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
        return key

    def forget(self, token: str) -> None:
        """At once in this process, for a browser that signs out."""
        with self._lock:
            self._seen.pop(digest(token), None)


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _after(seconds: float) -> ColumnElement[int]:
    return now_us() + int(seconds * SECOND)
