"""Whether the process of this container is well: `python -m deploy.healthcheck api|worker`, status 0 or 1.

Without a broker no worker is called ill: it would be started again for somebody else's fault.
"""

import socket
import sys
from urllib.error import URLError
from urllib.request import Request, urlopen

from shared.errors import ServiceError
from shared.settings import Settings
from shared.totals import Totals

ANSWER_S = 4.0


def main() -> None:
    try:
        settings = Settings.from_env()
        well = {"api": api, "worker": worker}[sys.argv[1]](settings)
    except (ServiceError, KeyError, IndexError) as error:
        sys.exit(f"healthcheck: {error}")
    sys.exit(0 if well else 1)


def api(settings: Settings) -> bool:
    """The process answers; whether it can accept jobs is what /readyz says."""
    name = min(settings.allowed_hosts, default="")  # it answers under the names of MEDQ_HOSTS only
    request = Request(f"http://127.0.0.1:{settings.port}/healthz", headers={"Host": name})
    try:
        with urlopen(request, timeout=ANSWER_S) as response:
            return bool(response.status == 200)
    except (URLError, OSError):
        return False


def worker(settings: Settings) -> bool:
    """It has told its figures in the last ten seconds; Redis holds them by host name, which is the container's."""
    totals = Totals(settings)
    hosts = totals.hosts()
    totals.close()
    return hosts is None or socket.gethostname() in hosts


if __name__ == "__main__":
    main()
