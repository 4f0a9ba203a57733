"""A database that dies, that locks, and whose clock jumps."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pymysql
from pymysql.cursors import Cursor

from tests.faults.people import Work
from tests.faults.room import Room, grown
from tests.servers import MariaDB


def test_killed(room: Room) -> None:
    """Requests are refused while it is away; what was accepted before goes on after it."""
    with room.met("MariaDB killed, restarted", times=room.times) as meeting:
        for _ in range(room.times):
            room.mariadb.kill()
            room.pause(0.5)
            room.mariadb.start()
            meeting.recovered()
    assert set(meeting.outcomes) <= {"advance", "finish", "lose", "retry"}


def test_deadlocks(room: Room) -> None:
    """Somebody locks jobs against the order of everybody else: statements are chosen as victims, and run again."""
    over = threading.Event()
    with room.met("deadlocks") as meeting:
        enough = grown(lambda: status(room.mariadb, "Innodb_deadlocks"), 20 if room.long else 2)
        rivals = [
            threading.Thread(target=lock_backwards, args=(room, meeting.work, over, seed))
            for seed in range(3)
        ]
        for rival in rivals:
            rival.start()
        try:
            room.until(enough)
        finally:
            over.set()
            for rival in rivals:
                rival.join()
        meeting.recovered()
    assert set(meeting.outcomes) <= {"advance", "finish", "lose", "retry"}


def test_lock_timeouts(room: Room) -> None:
    """Somebody holds all jobs for longer than a lock may be waited for."""
    with room.met("lock time-outs", times=room.times) as meeting:
        for _ in range(room.times):
            somebody_waits = grown(lambda: status(room.mariadb, "Innodb_row_lock_waits"))
            with session(room) as cursor:
                lock_all(cursor, meeting.work.since)
                room.until(somebody_waits)
                room.pause(1.5)
            meeting.recovered()
    assert set(meeting.outcomes) <= {"advance", "finish", "lose", "retry"}


def test_clock_jumps(room: Room) -> None:
    """An hour forward ends every lease; an hour back would keep jobs waiting for it to pass once more."""
    with room.met("clock jumps by an hour", times=2 * room.times) as meeting:
        for _ in range(room.times):
            room.mariadb.set_clock(3600)
            meeting.recovered()
            noticed = grown(lambda: room.said("sweeper", "clock_set_back"))
            with room.redis.frozen():  # so that somebody surely waits when the hour comes again
                room.people.leave(meeting.work)
                room.mariadb.set_clock(0)
                room.until(noticed)
            meeting.recovered()
    assert set(meeting.outcomes) <= {"advance", "finish", "lose"}


def status(mariadb: MariaDB, name: str) -> int:
    connection = pymysql.connect(
        unix_socket=str(mariadb.socket), user=mariadb.USER, password=mariadb.PASSWORD
    )
    with connection, connection.cursor() as cursor:
        cursor.execute("SHOW GLOBAL STATUS LIKE %s", (name,))
        return int(cursor.fetchone()[1])


@contextmanager
def session(room: Room) -> Iterator[Cursor]:
    """A transaction of somebody who is not of the system; it ends by a rollback."""
    server = room.mariadb
    connection = pymysql.connect(
        unix_socket=str(server.socket), user=server.USER, password=server.PASSWORD, database="medq_faults"
    )
    try:
        with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.rollback()
        connection.close()


def lock_all(cursor: Cursor, since: str) -> None:
    """Every job from there on; once more where it was the victim of a deadlock."""
    cursor.execute("SET SESSION innodb_lock_wait_timeout = 60")
    while True:
        with suppress(pymysql.err.OperationalError):
            cursor.execute("SELECT id FROM jobs WHERE id > %s FOR UPDATE", (since,))
            return


def lock_backwards(room: Room, work: Work, over: threading.Event, seed: int) -> None:
    """The newest job first, then older ones, while the system locks the older ones first."""
    rng = random.Random(seed)
    while not over.is_set():
        ids = sorted(room.ids(work)[-12:], reverse=True)
        with suppress(pymysql.err.OperationalError), session(room) as cursor:  # the victim may be this one
            for job_id in ids:
                cursor.execute("SELECT id FROM jobs WHERE id = %s FOR UPDATE", (job_id,))
                over.wait(rng.uniform(0, 0.03))
