"""What the mirror of the kernel says, as far as a configuration may concern it. Pure."""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Final, Literal

from services.control import show
from services.control.configuration.state import LinkState, Running
from services.control.kernel_types import (
    IFF_UP,
    RT_TABLE_MAIN,
    RTNH_F_ONLINK,
    RTPROT_HOPWIRE,
    Link,
    RouteInfo,
    RouteType,
    split_key,
)
from services.control.names import PROTOCOL_NUMBERS, RTPROT_CONFIGURATION
from services.control.rib import Rib
from services.control.rpc_params import NextHopSpec, RouteFilter, RouteSpec

_Kind = Literal["unicast", "blackhole", "unreachable", "prohibit"]
_CONFIGURABLE: Final[dict[RouteType, _Kind]] = {
    RouteType.UNICAST: "unicast",
    RouteType.BLACKHOLE: "blackhole",
    RouteType.UNREACHABLE: "unreachable",
    RouteType.PROHIBIT: "prohibit",
}


def running(rib: Rib, destinations: Iterable[IPv4Network]) -> Running:
    """Return what the kernel has; of routes, the configuration's own and all to `destinations`."""
    links = sorted(rib.links.values(), key=lambda link: link.index)
    routes = routes_of(rib, RTPROT_CONFIGURATION)
    for destination in dict.fromkeys(destinations):
        filtered = RouteFilter.model_construct(dst=destination)
        routes += [route for route in _routes(rib, filtered, of_any_kind=True) if route.proto != RTPROT_CONFIGURATION]
    return Running(
        links={link.name: link_state(link) for link in links},
        addresses={link.name: addresses(rib, link) for link in links},
        routes=tuple(routes),
    )


def link_state(link: Link) -> LinkState:
    """Return what of an interface can be configured."""
    return LinkState(up=bool(link.flags & IFF_UP), mtu=link.mtu)


def addresses(rib: Rib, link: Link) -> tuple[IPv4Interface, ...]:
    """Return an interface's addresses in the kernel's order."""
    return tuple(IPv4Interface((one.address, one.prefix_length)) for one in rib.addresses.get(link.index, []))


def routes_of(rib: Rib, proto: int = RTPROT_HOPWIRE) -> list[RouteSpec]:
    """Return the routes of table main that bear a protocol number."""
    return list(_routes(rib, RouteFilter.model_construct(proto=proto)))


def routes_through(rib: Rib, dev: str) -> list[RouteSpec]:
    """Return the routes of table main out of an interface, less the kernel's own."""
    by_kernel = PROTOCOL_NUMBERS["kernel"]
    return [route for route in _routes(rib, RouteFilter.model_construct(dev=dev)) if route.proto != by_kernel]


def _routes(rib: Rib, wanted: RouteFilter, *, of_any_kind: bool = False) -> Iterator[RouteSpec]:
    """Yield routes in normal form; those that a configuration cannot say only where all kinds are asked for."""
    for table, key, info in show.selected(rib, wanted):
        sayable = info.type in _CONFIGURABLE and not info.tos and not info.next_hop_object
        if table == RT_TABLE_MAIN and not info.tos and (sayable or of_any_kind):
            yield _spec(rib, key, info)


def _spec(rib: Rib, key: int, info: RouteInfo) -> RouteSpec:
    hops = [
        NextHopSpec.model_construct(
            via=IPv4Address(hop.gateway) if hop.gateway else None,
            dev=rib.interface_name(hop.interface),
            weight=hop.weight,
        )
        for hop in info.next_hops
        if hop.interface
    ]
    single = hops[0] if len(hops) == 1 else None
    return RouteSpec.model_construct(
        dst=IPv4Network(split_key(key)),
        type=_CONFIGURABLE.get(info.type),
        via=single.via if single else None,
        dev=single.dev if single else None,
        metric=info.metric,
        mtu=info.mtu or None,
        src=IPv4Address(info.source) if info.source else None,
        onlink=any(hop.flags & RTNH_F_ONLINK for hop in info.next_hops),
        proto=info.protocol,
        nexthops=[] if single else hops,
    )
