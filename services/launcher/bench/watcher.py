"""Looks at a router as Prometheus and a status page do, until it ends: `python -m services.launcher.bench.watcher`."""

import sys
import time
from contextlib import closing
from http.client import HTTPConnection
from typing import Final

from services.common.errors import HopwireError
from services.launcher.probes import command

_PATHS: Final = ("/metrics", "/status.json")
_INTERVAL_S: Final = 1.0
"""That of the status page; Prometheus scrapes every 15 s unless it is told to."""
_LIMIT_S: Final = 10.0


def look(address: str, port: int) -> int:
    """Fetch all once; return how many bytes came."""
    octets = 0
    for path in _PATHS:
        with closing(HTTPConnection(address, port, timeout=_LIMIT_S)) as connection:
            connection.request("GET", path)
            octets += len(connection.getresponse().read())
    return octets


def main() -> None:
    """Look again and again."""
    parser = command.parser("watcher", "Fetch a router's metrics and status every second.")
    parser.add_argument("address", help="where control listens")
    parser.add_argument("port", type=command.integer(1, 65_535))
    options = parser.parse_args()

    def run() -> int:
        while True:
            try:
                look(options.address, options.port)
            except OSError as error:
                where = f"{options.address}:{options.port}"
                raise HopwireError(
                    f"nobody answers at {where}: {error.strerror or error}; see metrics_listen"
                ) from error
            time.sleep(_INTERVAL_S)

    sys.exit(command.run("watcher", options.netns, run))


if __name__ == "__main__":
    main()
