"""Waits until a router's kernel has the routes that its daemons learn."""

import socket
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network
from typing import Final

from pyroute2 import IPRoute

from services.common.errors import HopwireError

_LIMIT_S: Final = 60.0
_POLL_S: Final = 0.1
_RT_TABLE_MAIN: Final = 254  # linux/rtnetlink.h


def wait_for_routes(namespace: str, networks: Sequence[IPv4Network], check: Callable[[], None]) -> None:
    """Wait until the main table of a namespace has a route to each of these networks.

    :param check: is called in between; what it raises ends the waiting.
    :raises HopwireError: they are not there in time.
    """
    deadline = time.monotonic() + _LIMIT_S
    with IPRoute(netns=namespace, flags=0) as kernel:
        while missing := _missing(kernel, networks):
            check()
            if time.monotonic() > deadline:
                text = ", ".join(str(network) for network in missing)
                raise HopwireError(f"no route to {text} came into {namespace} within {_LIMIT_S:.0f} s")
            time.sleep(_POLL_S)


def _missing(kernel: IPRoute, networks: Sequence[IPv4Network]) -> list[IPv4Network]:
    routes = kernel.get_routes(family=socket.AF_INET, table=_RT_TABLE_MAIN)
    existing = {f"{route.get('dst')}/{route['dst_len']}" for route in routes}
    return [network for network in networks if str(network) not in existing]
