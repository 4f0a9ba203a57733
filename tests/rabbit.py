"""A RabbitMQ server for tests: Debian's, on ports, in a folder and with an epmd of its own."""

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Self

import amqp
import psutil

from tests.servers import START_S, Server, needs

# /usr/sbin has Debian's wrapper, which refuses everybody but root and its own user.
PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
USER, PASSWORD = "medq", "medq-test"


def steady_port() -> int:
    """One that no outgoing connection is given while the server is away, and none tries to reach itself by."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Rabbit(Server):
    """rabbitmq-server on a loopback port; it forgets everything when it is started again."""

    def __init__(self) -> None:
        needs("rabbitmq-server", "rabbitmq-server")
        self._epmd_program = needs("epmd", "rabbitmq-server")
        super().__init__("rabbit")
        self.port, self._epmd_port, self._node_port = steady_port(), steady_port(), steady_port()
        self._epmd: subprocess.Popen[bytes] | None = None
        (self.folder / "enabled_plugins").write_text("[].\n")
        (self.folder / "environment").touch()
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            f"default_user = {USER}\ndefault_pass = {PASSWORD}\n"
            "log.console.level = warning\n"
            "disk_free_limit.absolute = 1MB\n"
        )

    @property
    def url(self) -> str:
        return f"amqp://{USER}:{PASSWORD}@127.0.0.1:{self.port}//"

    def command(self) -> list[str]:
        return [str(PROGRAM)]

    def variables(self) -> dict[str, str]:
        return {
            "HOME": str(self.folder),  # of the Erlang cookie
            "ERL_CRASH_DUMP": str(self.folder / "crash.dump"),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_NODENAME": "medq@localhost",
            "RABBITMQ_DIST_PORT": str(self._node_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "environment"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_PID_FILE": str(self.folder / "server.pid"),
        }

    def start(self) -> Self:
        shutil.rmtree(self.folder / "data", ignore_errors=True)
        self._start_epmd()
        return super().start()

    def _start_epmd(self) -> None:
        """Ours, in the foreground: else Erlang starts one that stays for ever."""
        if self._epmd and self._epmd.poll() is None:
            return
        self._epmd = subprocess.Popen(
            [self._epmd_program, "-port", str(self._epmd_port), "-address", "127.0.0.1"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        until = time.monotonic() + START_S
        while not _listens(self._epmd_port):
            if self._epmd.poll() is not None or time.monotonic() > until:
                raise RuntimeError("epmd did not start")
            time.sleep(0.02)

    def signal(self, number: int) -> None:
        """To the script that started it, and to all that it started."""
        os.killpg(self.pid, number)

    def freeze(self) -> None:
        """Wait until each thread has stopped: on a busy machine some go on until the signalled one has its turn."""
        super().freeze()
        ours = [psutil.Process(self.pid), *psutil.Process(self.pid).children(recursive=True)]
        every = [one for one in ours if os.getpgid(one.pid) == self.pid]  # helpers of Erlang's have their own
        until = time.monotonic() + START_S
        while not all(map(_stopped, every)):
            if time.monotonic() > until:
                raise RuntimeError("RabbitMQ does not stop.")
            time.sleep(0.01)

    def kill(self) -> None:
        """SIGKILL, and wait until the virtual machine has gone, too: the script is gone before it."""
        known = psutil.Process(self.pid).children(recursive=True) if self.running else []
        super().kill()
        psutil.wait_procs(known, timeout=START_S)

    def answers(self) -> bool:
        if not _listens(self.port):
            return False
        try:
            with closing(self.connect()):
                return True
        except (amqp.AMQPError, OSError):
            return False

    def connect(self) -> amqp.Connection:
        made = amqp.Connection(f"127.0.0.1:{self.port}", USER, PASSWORD, connect_timeout=60)
        made.connect()
        return made

    def close(self) -> None:
        self.kill()
        if self._epmd:
            self._epmd.send_signal(signal.SIGKILL)
            self._epmd.wait()
        super().close()


def _stopped(process: psutil.Process) -> bool:
    tasks = Path(f"/proc/{process.pid}/task").glob("*/stat")
    return all(task.read_text().rpartition(")")[2].split()[0] in "TZ" for task in tasks)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
