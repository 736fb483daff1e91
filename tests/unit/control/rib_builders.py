"""Short ways to write what a kernel might say."""

import ipaddress
from collections.abc import Iterable
from typing import Any

from services.common.messages import RouterState, unpack_routes
from services.control.kernel_types import (
    RT_TABLE_MAIN,
    KernelNextHop,
    Link,
    LinkAddress,
    Placement,
    RouteChanged,
    RouteGone,
    RouteInfo,
    RouteType,
    route_key,
)
from services.control.rib import KernelDump
from services.control.route_table import RouteTables

UP = 0x1_1043  # IFF_UP, BROADCAST, RUNNING, MULTICAST, LOWER_UP
DOWN = 0x1002
NO_CARRIER = 0x1003


def link(index: int, *, name: str = "", flags: int = UP, link_type: int = 1, master: int = 0) -> Link:
    return Link(
        index=index,
        name=name or f"eth{index}",
        link_type=link_type,
        flags=flags,
        mac=bytes((2, 0, 0, 0, 0, index)),
        broadcast=b"\xff" * 6,
        mtu=1500,
        master=master,
        operational_state="UP" if flags & 0x40 else "DOWN",
        queueing_discipline="noqueue",
        transmit_queue_length=1000,
    )


def number(text: str) -> int:
    return int(ipaddress.IPv4Address(text))


def key(text: str) -> int:
    network = ipaddress.IPv4Network(text)
    return route_key(int(network.network_address), network.prefixlen)


def address(interface: int, text: str, *, flags: int = 0x80) -> LinkAddress:
    own = ipaddress.IPv4Interface(text)
    return LinkAddress(interface, int(own.ip), own.network.prefixlen, None, 0, flags, "", 0xFFFF_FFFF, 0xFFFF_FFFF)


def hop(interface: int, gateway: str = "0.0.0.0", *, weight: int = 1, flags: int = 0) -> KernelNextHop:
    return KernelNextHop(interface, number(gateway), weight, flags)


def info(*hops: KernelNextHop, **changes: Any) -> RouteInfo:
    return RouteInfo(RouteType.UNICAST, 3, 0, 0, 0, 0, 0, 0, hops)._replace(**changes)


def came(
    text: str, what: RouteInfo, *, table: int = RT_TABLE_MAIN, placement: Placement = Placement.FIRST
) -> RouteChanged:
    return RouteChanged(table, key(text), what, placement)


def went(text: str, what: RouteInfo, *, table: int = RT_TABLE_MAIN) -> RouteGone:
    return RouteGone(table, key(text), what)


def dump(
    links: Iterable[Link],
    routes: Iterable[RouteChanged] = (),
    *,
    addresses: Iterable[LinkAddress] = (),
    foreign_rules: int = 0,
) -> KernelDump:
    tables = RouteTables()
    for route in routes:
        tables.append(route)
    return KernelDump(list(links), list(addresses), foreign_rules, tables)


Way = tuple[int, int, int]
Treatment = tuple[str, tuple[Way, ...], int]
"""Kind, next hops as interface, gateway, weight, and MTU."""


class Subscriber:
    """Applies published states as docs/bus.md says, and holds control to what it promises there."""

    def __init__(self) -> None:
        self.paths: dict[int, Treatment] = {}
        self.routes: dict[tuple[int, int], int] = {}
        self.interfaces: dict[int, Any] = {}

    def apply(self, state: RouterState | None) -> None:
        if state is None:
            return
        if state.full:
            self.__init__()  # type: ignore[misc]
        for interface in state.interfaces:
            self.interfaces[interface.index] = interface
        for path in state.paths:
            assert path.id not in self.paths, "a number of a path that is still in use"
            hops = tuple((one.interface, one.gateway, one.weight) for one in path.next_hops)
            self.paths[path.id] = (path.kind, hops, path.mtu)
        for prefix, length, path_id in unpack_routes(state.routes):
            if path_id:
                assert path_id in self.paths
                self.routes[prefix, length] = path_id
            else:
                del self.routes[prefix, length]
        for path_id in state.paths_gone:
            del self.paths[path_id]
        for index in state.interfaces_gone:
            del self.interfaces[index]
        assert set(self.routes.values()) == set(self.paths), "a path without a route, or a route without a path"
        assert len(set(self.paths.values())) == len(self.paths), "two numbers for one path"

    def table(self) -> dict[str, Treatment]:
        return {
            str(ipaddress.IPv4Network((prefix, length))): self.paths[path_id]
            for (prefix, length), path_id in self.routes.items()
        }

    def lookup(self, destination: int) -> Treatment | None:
        for length in range(32, -1, -1):
            prefix = destination & ~(0xFFFF_FFFF >> length)
            if (prefix, length) in self.routes:
                return self.paths[self.routes[prefix, length]]
        return None
