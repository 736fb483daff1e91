"""What a lab consists of: hosts, routers, links, addresses and static routes. Pure data that checks itself."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Final

from services.common.errors import HopwireError
from services.common.wire.ipv4 import MAX_BYTES, MINIMUM_MTU

DEFAULT_MTU_BYTES: Final = 1500  # RFC 894

_NAME = re.compile(r"[a-z][a-z0-9-]*")


@dataclass(frozen=True)
class Route:
    """A static route through a gateway."""

    destination: IPv4Network
    gateway: IPv4Address


@dataclass(frozen=True)
class Host:
    """A node that sends and receives; with one gateway, its route is the default route."""

    name: str
    routes: tuple[Route, ...] = ()


@dataclass(frozen=True)
class Daemon:
    """A routing daemon: a program of FRR, or BIRD, and its configuration in its own language."""

    program: str
    configuration: str


@dataclass(frozen=True)
class Router:
    """A node that forwards; what its daemons learn joins its static routes."""

    name: str
    routes: tuple[Route, ...] = ()
    daemons: tuple[Daemon, ...] = ()
    configuration: str = ""
    """Of hopwire, in YAML; none if empty."""


@dataclass(frozen=True)
class LinkEnd:
    """Where a link meets a node."""

    node: str
    address: IPv4Interface


@dataclass(frozen=True)
class Link:
    """A veth pair between two nodes."""

    ends: tuple[LinkEnd, LinkEnd]
    mtu: int = DEFAULT_MTU_BYTES

    def joins(self, first: str, second: str) -> bool:
        """Tell whether the link is the one between these two nodes, in either order."""
        return {end.node for end in self.ends} == {first, second}


@dataclass(frozen=True)
class Bridge:
    """A bridge of the kernel's in a router, and the hosts that are plugged in: each by a veth pair to a port of it."""

    router: str
    address: IPv4Interface
    hosts: tuple[LinkEnd, ...]
    name: str = "br0"

    @property
    def ends(self) -> tuple[LinkEnd, ...]:
        """All that have an address there."""
        return (LinkEnd(self.router, self.address), *self.hosts)


@dataclass(frozen=True)
class Interface:
    """One end of a link as its node sees it."""

    name: str
    address: IPv4Interface
    mtu: int


@dataclass(frozen=True)
class Topology:
    """A lab's nodes and links, and a picture of it in ASCII for people.

    :raises HopwireError: the parts do not fit together.
    """

    name: str
    hosts: tuple[Host, ...]
    routers: tuple[Router, ...]
    links: tuple[Link, ...]
    picture: str
    bridges: tuple[Bridge, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what no lab could be built from."""
        for problem in self._problems():
            raise HopwireError(f"topology {self.name}: {problem}")

    @property
    def nodes(self) -> tuple[Host | Router, ...]:
        """All hosts, then all routers."""
        return self.hosts + self.routers

    def interfaces(self, node: str) -> tuple[Interface, ...]:
        """Return a node's interfaces, eth0, eth1 and so on in the order of the links, then of the bridges' hosts."""
        mine = [(end.address, link.mtu) for link in self.links for end in link.ends if end.node == node]
        mine += [(end.address, DEFAULT_MTU_BYTES) for each in self.bridges for end in each.hosts if end.node == node]
        own = [Interface(each.name, each.address, DEFAULT_MTU_BYTES) for each in self.bridges if each.router == node]
        return (*(Interface(f"eth{number}", address, mtu) for number, (address, mtu) in enumerate(mine)), *own)

    def interface(self, end: LinkEnd) -> Interface:
        """Return the interface that this end of a link is."""
        return next(interface for interface in self.interfaces(end.node) if interface.address == end.address)

    def address(self, node: str) -> IPv4Address:
        """Return the address of a node's first interface."""
        return self.interfaces(node)[0].address.ip

    @property
    def host_networks(self) -> tuple[IPv4Network, ...]:
        """The networks that the hosts are on."""
        return tuple(interface.address.network for host in self.hosts for interface in self.interfaces(host.name))

    def with_mtu(self, first: str, second: str, mtu: int) -> "Topology":
        """Return the same topology with another MTU, in bytes, on the link between two nodes.

        :raises HopwireError: there is no such link, or IPv4 does not run over such an MTU.
        """
        if not any(link.joins(first, second) for link in self.links):
            raise HopwireError(f"topology {self.name}: no link between {first} and {second}")
        links = tuple(replace(link, mtu=mtu) if link.joins(first, second) else link for link in self.links)
        return replace(self, links=links)

    def _problems(self) -> Iterator[str]:
        names = [node.name for node in self.nodes]
        yield from (f"{name!r} is no name for a node" for name in names if not _NAME.fullmatch(name))
        yield from (f"two nodes are called {name}" for name in _repeated(names))
        for link in self.links:
            yield from _link_problems(link, names)
        for bridge in self.bridges:
            yield from _bridge_problems(bridge, names)
        ends = [end for link in self.links for end in link.ends] + [end for each in self.bridges for end in each.ends]
        addresses = [str(end.address.ip) for end in ends]
        yield from (f"{address} is there twice" for address in _repeated(addresses))
        for node in self.nodes:
            on_link = [interface.address.network for interface in self.interfaces(node.name)]
            if not on_link:
                yield f"{node.name} has no link"
            for route in node.routes:
                if not any(route.gateway in network for network in on_link):
                    yield f"{node.name} cannot reach the gateway {route.gateway} of its route {route.destination}"


def _link_problems(link: Link, names: list[str]) -> Iterator[str]:
    left, right = link.ends
    for end in link.ends:
        if end.node not in names:
            yield f"a link ends at {end.node}, which is no node"
    if left.address.network != right.address.network:
        yield f"{left.address} and {right.address} share a link, but no subnet"
    if not MINIMUM_MTU <= link.mtu <= MAX_BYTES:
        yield f"MTU {link.mtu} between {left.node} and {right.node} is not from {MINIMUM_MTU} to {MAX_BYTES}"


def _bridge_problems(bridge: Bridge, names: list[str]) -> Iterator[str]:
    for end in bridge.ends:
        if end.node not in names:
            yield f"a bridge joins {end.node}, which is no node"
        if end.address.network != bridge.address.network:
            yield f"{end.address} and {bridge.address} share a bridge, but no subnet"


def _repeated(values: list[str]) -> list[str]:
    return [value for value, count in Counter(values).items() if count > 1]
