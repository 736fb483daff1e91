"""Waits until a router's kernel has the routes that its daemons learn."""

import sys
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final

from services.common import netns
from services.common.errors import HopwireError

_LIMIT_S: Final = 60.0
_POLL_S: Final = 0.1
_MAIN_TABLE: Final = Path("/proc/thread-self/net/route")


def wait_for_routes(namespace: str, networks: Sequence[IPv4Network], check: Callable[[], None]) -> None:
    """Wait until the main table of a namespace has a route to each of these networks.

    :param check: is called in between; what it raises ends the waiting.
    :raises HopwireError: they are not there in time.
    """
    deadline = time.monotonic() + _LIMIT_S
    while missing := [network for network in networks if network not in _destinations(namespace)]:
        check()
        if time.monotonic() > deadline:
            text = ", ".join(str(network) for network in missing)
            raise HopwireError(f"no route to {text} came into {namespace} within {_LIMIT_S:.0f} s")
        time.sleep(_POLL_S)


def _destinations(namespace: str) -> set[IPv4Network]:
    # not by pyroute2, which forks for another namespace: `Stopped` would take the lab down in the child as well
    with netns.inside(namespace):
        rows = [line.split() for line in _MAIN_TABLE.read_text(encoding="ascii").splitlines()[1:]]
    return {IPv4Network((_address(row[1]), str(_address(row[7])))) for row in rows}


def _address(column: str) -> IPv4Address:
    """Return an address or mask, which stands there as a number in the machine's byte order."""
    return IPv4Address(int(column, 16).to_bytes(4, sys.byteorder))
