"""The short form once more, with RabbitMQ carrying the queues; Redis holds hints, limits and figures alone."""

from collections.abc import Iterator

import pytest

from tests.faults import test_broker, test_processes
from tests.faults.conftest import opened
from tests.faults.room import Room
from tests.rabbit import Rabbit
from tests.servers import MariaDB


@pytest.fixture(scope="module")
def rabbit_room(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    mariadb_server: MariaDB,
    rabbit_server: Rabbit,
) -> Iterator[Room]:
    rabbit_server.restore()
    folder = tmp_path_factory.mktemp("rabbit")
    with opened(request.config, folder, mariadb_server, False, rabbit_server) as room:
        yield room


@pytest.fixture
def whole_room(rabbit_room: Room) -> Iterator[Room]:
    """Of this file's tests, all of which stand elsewhere."""
    yield rabbit_room
    rabbit_room.broker.restore()


test_broker_killed = test_broker.test_broker_killed
test_broker_frozen = test_broker.test_broker_frozen
test_messages_come_twice_and_out_of_order = test_broker.test_messages_come_twice_and_out_of_order
test_messages_of_unknown_jobs = test_broker.test_messages_of_unknown_jobs
test_sigkill = test_processes.test_sigkill
