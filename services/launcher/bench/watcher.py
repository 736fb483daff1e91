"""Looks at a router as Prometheus and a status page do, until it ends: `python -m services.launcher.bench.watcher`."""

import argparse
import time
from contextlib import closing
from http.client import HTTPConnection
from typing import Final

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
    parser = argparse.ArgumentParser(prog="watcher", description="Fetch a router's metrics and status every second.")
    parser.add_argument("address", help="where control listens")
    parser.add_argument("port", type=int)
    options = parser.parse_args()
    while True:
        look(options.address, options.port)
        time.sleep(_INTERVAL_S)


if __name__ == "__main__":
    main()
