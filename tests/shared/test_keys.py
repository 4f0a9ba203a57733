import pytest
from sqlalchemy import func, select, update

from shared import keys
from shared.database import Database, now_us
from shared.errors import NotFound
from shared.tables import KeyRow, SessionRow


class Clock:
    """Stands still until a test moves it."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_key_stands_for_its_owner_and_scopes(database: Database) -> None:
    key_id, token = keys.create(database, "lab-1", ["read", "submit"], per_minute=7)
    assert keys.find(database, token) == keys.Key(key_id, "lab-1", frozenset({"submit", "read"}), 7)


def test_only_the_hash_is_stored(database: Database) -> None:
    _, token = keys.create(database, "lab", ["read"])
    stored = database.read(lambda s: s.execute(select(KeyRow.__table__)).one())
    assert token not in str(stored)
    assert keys.digest(token) in stored


def test_two_keys_are_never_alike(database: Database) -> None:
    made = {keys.create(database, "lab", ["read"])[1] for _ in range(20)}
    assert len(made) == 20
    assert all(keys.TOKEN.fullmatch(token) for token in made)


@pytest.mark.parametrize("owner", ["", "a b", "-a", "a" * 65, "é", "a\n", "a/b"])
def test_an_odd_owner_is_refused(database: Database, owner: str) -> None:
    with pytest.raises(ValueError, match="an owner is"):
        keys.create(database, owner, ["read"])


@pytest.mark.parametrize("scopes", [[], ["write"], ["read", "READ"]])
def test_unknown_scopes_and_none_are_refused(database: Database, scopes: list[str]) -> None:
    with pytest.raises(ValueError, match="scope"):
        keys.create(database, "lab", scopes)


@pytest.mark.parametrize(
    "token", ["", "mq_", "mq_" + "x" * 43, "mqs_" + "x" * 43, "mq_\x00", "mq_é" * 9, "x" * 10**6]
)
def test_what_is_no_key_stands_for_nothing(database: Database, token: str) -> None:
    keys.create(database, "lab", ["read"])
    assert keys.find(database, token) is None


def test_a_key_differs_by_case(database: Database) -> None:
    _, token = keys.create(database, "lab", ["read"])
    assert keys.find(database, "mq_" + token[3:].swapcase()) is None


def test_a_revoked_key_stands_for_nothing_and_its_sessions_are_gone(database: Database) -> None:
    key_id, token = keys.create(database, "lab", ["read"])
    key = keys.find(database, token)
    assert key
    session = keys.open_session(database, key, 60)
    assert keys.revoke(database, key_id)
    assert not keys.revoke(database, key_id)
    assert keys.find(database, token) is None
    assert keys.find(database, session) is None


def test_who_revokes_what_is_not_there_is_told(database: Database) -> None:
    with pytest.raises(NotFound):
        keys.revoke(database, "nothing")


def test_an_expired_key_stands_for_nothing(database: Database) -> None:
    _, token = keys.create(database, "lab", ["read"], expires_in_s=60)
    assert keys.find(database, token)
    database.write(lambda s: s.execute(update(KeyRow).values(expires_at=now_us() - 1)))
    assert keys.find(database, token) is None


def test_a_session_ends_by_time_and_by_signing_out(database: Database) -> None:
    key = keys.find(database, keys.create(database, "lab", ["read"])[1])
    assert key
    kept, left, over = (keys.open_session(database, key, 60) for _ in range(3))
    keys.close_session(database, left)
    ended = SessionRow.sha256 == keys.digest(over)
    database.write(lambda s: s.execute(update(SessionRow).where(ended).values(expires_at=now_us() - 1)))
    found = keys.find(database, kept)
    assert found
    assert (found.owner, found.scopes) == ("lab", frozenset({"read"}))
    assert (keys.find(database, left), keys.find(database, over)) == (None, None)
    keys.forget_sessions(database)
    assert database.read(lambda s: s.scalar(select(func.count()).select_from(SessionRow))) == 1


def test_keys_are_listed_oldest_first_and_by_owner(database: Database) -> None:
    made = [keys.create(database, owner, ["read"])[0] for owner in ("b", "a", "b")]
    assert [row.id for row in keys.every(database)] == made
    assert [row.id for row in keys.every(database, "b")] == [made[0], made[2]]


def test_a_process_hears_of_a_revocation_within_five_seconds(database: Database) -> None:
    key_id, token = keys.create(database, "lab", ["read"])
    clock = Clock()
    ring = keys.KeyRing(database, clock)
    assert ring.find(token)
    keys.revoke(database, key_id)
    clock.now += keys.FRESH_S - 0.01
    assert ring.find(token)  # believed for a moment more, which is why the time is short
    clock.now += 0.01
    assert ring.find(token) is None
    assert keys.FRESH_S == 5


def test_what_was_unknown_is_asked_for_again_too(database: Database) -> None:
    clock = Clock()
    ring = keys.KeyRing(database, clock)
    token = "mq_" + "x" * 43
    assert ring.find(token) is None
    database.write(
        lambda s: s.execute(
            KeyRow.__table__.insert().values(
                id="k", sha256=keys.digest(token), owner="lab", scopes="read", created_at=1
            )
        )
    )
    assert ring.find(token) is None
    clock.now += keys.FRESH_S
    assert ring.find(token)


def test_the_memory_of_tokens_is_bounded(database: Database) -> None:
    ring = keys.KeyRing(database)
    for number in range(keys.REMEMBERED + 50):
        ring.find(f"no token {number}")
    assert len(ring._seen) == keys.REMEMBERED
