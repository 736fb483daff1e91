"""The topologies that come with hopwire."""

from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Final

from services.common.errors import HopwireError
from services.launcher.lab.routing_topologies import BGP_ECMP, OSPF_RING
from services.launcher.lab.topology import Bridge, Host, Link, LinkEnd, Route, Router, Topology

_PAIR_PICTURE = """\
     host1 ------------ router ------------- host2
  192.168.1.2  192.168.1.1   192.168.0.1  192.168.0.2
"""

_THREE_ROUTERS_PICTURE = """\
     host1 ------------ router1 ------------------ router2 ----------- host2
  192.168.1.2  192.168.1.1 | 192.168.0.1  192.168.0.2  192.168.2.1  192.168.2.2
                           |
                           +---------------------- router3 ----------- host3
                             192.168.3.1  192.168.3.2  192.168.4.1  192.168.4.2
"""


_NAT_PICTURE = """\
    host0 -------+---- router1 ------------------ router2 ----------- host2
 192.168.1.3     | 192.168.1.1 192.168.0.1  192.168.0.2 192.168.2.1  192.168.2.2
    host1 -------+
 192.168.1.2
"""


def _route(destination: str, gateway: str) -> Route:
    return Route(IPv4Network(destination), IPv4Address(gateway))


def _default(gateway: str) -> tuple[Route, ...]:
    return (_route("0.0.0.0/0", gateway),)


def _link(left: str, left_address: str, right: str, right_address: str) -> Link:
    return Link((LinkEnd(left, IPv4Interface(left_address)), LinkEnd(right, IPv4Interface(right_address))))


PAIR: Final = Topology(
    name="pair",
    hosts=(Host("host1", _default("192.168.1.1")), Host("host2", _default("192.168.0.1"))),
    routers=(Router("router"),),
    links=(
        _link("host1", "192.168.1.2/24", "router", "192.168.1.1/24"),
        _link("router", "192.168.0.1/24", "host2", "192.168.0.2/24"),
    ),
    picture=_PAIR_PICTURE,
)

THREE_ROUTERS: Final = Topology(
    name="three-routers",
    hosts=(
        Host("host1", _default("192.168.1.1")),
        Host("host2", _default("192.168.2.1")),
        Host("host3", _default("192.168.4.1")),
    ),
    routers=(
        Router("router1", (_route("192.168.2.0/24", "192.168.0.2"), _route("192.168.4.0/24", "192.168.3.2"))),
        Router(
            "router2",
            (
                _route("192.168.1.0/24", "192.168.0.1"),
                _route("192.168.3.0/24", "192.168.0.1"),
                _route("192.168.4.0/24", "192.168.0.1"),
            ),
        ),
        Router(
            "router3",
            (
                _route("192.168.0.0/24", "192.168.3.1"),
                _route("192.168.1.0/24", "192.168.3.1"),
                _route("192.168.2.0/24", "192.168.3.1"),
            ),
        ),
    ),
    links=(
        _link("host1", "192.168.1.2/24", "router1", "192.168.1.1/24"),
        _link("router1", "192.168.0.1/24", "router2", "192.168.0.2/24"),
        _link("router2", "192.168.2.1/24", "host2", "192.168.2.2/24"),
        _link("router1", "192.168.3.1/24", "router3", "192.168.3.2/24"),
        _link("router3", "192.168.4.1/24", "host3", "192.168.4.2/24"),
    ),
    picture=_THREE_ROUTERS_PICTURE,
)

NAT: Final = Topology(
    name="nat",
    hosts=(
        Host("host0", _default("192.168.1.1")),
        Host("host1", _default("192.168.1.1")),
        Host("host2", _default("192.168.2.1")),
    ),
    routers=(
        Router("router1", _default("192.168.0.2"), configuration="nat: {masquerade: [{interface: eth0}]}\n"),
        Router("router2"),
    ),
    links=(
        _link("router1", "192.168.0.1/24", "router2", "192.168.0.2/24"),
        _link("router2", "192.168.2.1/24", "host2", "192.168.2.2/24"),
    ),
    bridges=(
        Bridge(
            "router1",
            IPv4Interface("192.168.1.1/24"),
            (
                LinkEnd("host0", IPv4Interface("192.168.1.3/24")),
                LinkEnd("host1", IPv4Interface("192.168.1.2/24")),
            ),
        ),
    ),
    picture=_NAT_PICTURE,
)

TOPOLOGIES: Final = {topology.name: topology for topology in (PAIR, THREE_ROUTERS, NAT, OSPF_RING, BGP_ECMP)}


def named_topology(name: str) -> Topology:
    """Return the topology of that name.

    :raises HopwireError: there is none.
    """
    if name not in TOPOLOGIES:
        raise HopwireError(f"topology {name!r} does not exist; choose one of: {', '.join(TOPOLOGIES)}")
    return TOPOLOGIES[name]
