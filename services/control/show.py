"""The mirrored links, addresses and routes in the keys and words of `ip -j` (iproute2)."""

from collections.abc import Callable, Iterator
from ipaddress import IPv4Network
from typing import Any, Final

from services.common.wire.ethernet import mac_text
from services.common.wire.ipv4 import address_text, prefix_text
from services.control.kernel_types import (
    RT_SCOPE_UNIVERSE,
    RT_TABLE_DEFAULT,
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    RTPROT_BOOT,
    KernelNextHop,
    Link,
    LinkAddress,
    RouteInfo,
    RouteType,
    covering_key,
    route_key,
    split_key,
)
from services.control.names import (
    ADDRESS_FLAGS,
    link_flag_names,
    link_type_name,
    next_hop_flag_names,
    protocol_name,
    scope_name,
)
from services.control.rib import Rib
from services.control.rpc_params import RouteFilter

_TABLES: Final = {
    "main": (RT_TABLE_MAIN,),
    "local": (RT_TABLE_LOCAL,),
    "all": (RT_TABLE_MAIN, RT_TABLE_LOCAL, RT_TABLE_DEFAULT),
}
_TABLE_NAMES: Final = {RT_TABLE_MAIN: "main", RT_TABLE_LOCAL: "local", RT_TABLE_DEFAULT: "default"}

NameOf = Callable[[int], str]


def routes(rib: Rib, wanted: RouteFilter) -> Iterator[dict[str, Any]]:
    """Yield the routes that a filter lets through, as `ip -j route show` does; with `table` where all are asked for."""
    for table, key, info in selected(rib, wanted):
        where = {"table": _TABLE_NAMES[table]} if wanted.table == "all" else {}
        yield _route(key, info, rib.interface_name) | where


def selected(rib: Rib, wanted: RouteFilter) -> Iterator[tuple[int, int, RouteInfo]]:
    """Yield table, key and info of the routes that a filter lets through, those of a prefix in the kernel's order."""
    interface = _index_of(rib, wanted.dev)
    for table in _TABLES[wanted.table]:
        for key, route in _candidates(rib, table, wanted):
            info = route._replace(next_hops=rib.next_hops(route))
            if _passes(info, wanted, interface):
                yield table, key, info


def _index_of(rib: Rib, name: str | None) -> int | None:
    if name is None:
        return None
    return next((link.index for link in rib.links.values() if link.name == name), 0)


def _candidates(rib: Rib, table: int, wanted: RouteFilter) -> Iterator[tuple[int, RouteInfo]]:
    exactly = _exact_keys(wanted)
    if exactly is None:
        yield from rib.tables.routes(table, None if wanted.root is None else _key(wanted.root))
        return
    for key in exactly:
        if wanted.root is None or _holds(wanted.root, key):
            for info in rib.tables.candidates(table, key):
                yield key, info


def _exact_keys(wanted: RouteFilter) -> list[int] | None:
    """Return the only keys that `dst` and `match` let through, so that a large table need not be read; None: any."""
    if wanted.match is None:
        return None if wanted.dst is None else [_key(wanted.dst)]
    shorter = [_key(wanted.match.supernet(new_prefix=length)) for length in range(wanted.match.prefixlen + 1)]
    return shorter if wanted.dst is None else [key for key in shorter if key == _key(wanted.dst)]


def _key(prefix: IPv4Network) -> int:
    return route_key(int(prefix.network_address), prefix.prefixlen)


def _holds(prefix: IPv4Network, key: int) -> bool:
    return key & 0xFF >= prefix.prefixlen and covering_key(key, prefix.prefixlen) == _key(prefix)


def _passes(info: RouteInfo, wanted: RouteFilter, interface: int | None) -> bool:
    return (
        (wanted.proto is None or info.protocol == wanted.proto)
        and (wanted.scope is None or info.scope == wanted.scope)
        and (wanted.type is None or info.type is wanted.type)
        and (interface is None or any(hop.interface == interface for hop in info.next_hops))
        and (wanted.via is None or any(hop.gateway == int(wanted.via) for hop in info.next_hops))
    )


def _route(key: int, info: RouteInfo, name_of: NameOf) -> dict[str, Any]:
    prefix, length = split_key(key)
    shown: dict[str, Any] = {"type": info.type.name.lower()} if info.type is not RouteType.UNICAST else {}
    shown["dst"] = destination_text(prefix, length)
    if info.tos:
        shown["tos"] = f"{info.tos:#04x}"
    if len(info.next_hops) == 1:
        shown |= _way(info.next_hops[0], name_of)
    if info.protocol != RTPROT_BOOT:
        shown["protocol"] = protocol_name(info.protocol)
    if info.scope != RT_SCOPE_UNIVERSE:
        shown["scope"] = scope_name(info.scope)
    if info.source:
        shown["prefsrc"] = address_text(info.source)
    if info.metric:
        shown["metric"] = info.metric
    if info.mtu:
        shown["metrics"] = [{"mtu": info.mtu}]
    if len(info.next_hops) > 1:
        shown["nexthops"] = [
            _way(hop, name_of) | {"weight": hop.weight, "flags": next_hop_flag_names(hop.flags)}
            for hop in info.next_hops
        ]
    shown["flags"] = next_hop_flag_names(info.next_hops[0].flags) if len(info.next_hops) == 1 else []
    return shown


def _way(hop: KernelNextHop, name_of: NameOf) -> dict[str, Any]:
    gateway = {"gateway": address_text(hop.gateway)} if hop.gateway else {}
    return gateway | {"dev": name_of(hop.interface)}


def destination_text(prefix: int, length: int) -> str:
    """Return a destination as ip(8) writes it: a host without its length, everything as `default`."""
    if not length:
        return "default"
    return address_text(prefix) if length == 32 else prefix_text(prefix, length)


def link(shown: Link, name_of: NameOf) -> dict[str, Any]:
    """Return an interface as `ip -j link show` does."""
    return _common(shown, name_of) | {
        "txqlen": shown.transmit_queue_length,
        "link_type": link_type_name(shown.link_type),
        "address": mac_text(shown.mac),
        "broadcast": mac_text(shown.broadcast),
    }


def addresses(shown: Link, own: list[LinkAddress], name_of: NameOf) -> dict[str, Any]:
    """Return an interface and its IPv4 addresses as `ip -j addr show` does."""
    return link(shown, name_of) | {"addr_info": [_address(address) for address in own]}


def _common(shown: Link, name_of: NameOf) -> dict[str, Any]:
    master = {"master": name_of(shown.master)} if shown.master else {}
    return {
        "ifindex": shown.index,
        "ifname": shown.name,
        "flags": link_flag_names(shown.flags),
        "mtu": shown.mtu,
        "qdisc": shown.queueing_discipline,
        **master,
        "operstate": shown.operational_state,
    }


def _address(address: LinkAddress) -> dict[str, Any]:
    broadcast = {"broadcast": address_text(address.broadcast)} if address.broadcast is not None else {}
    flags = {name: True for flag, name in ADDRESS_FLAGS.items() if address.flags & flag}
    return {
        "family": "inet",
        "local": address_text(address.address),
        "prefixlen": address.prefix_length,
        **broadcast,
        "scope": scope_name(address.scope),
        **flags,
        "label": address.label,
        "valid_life_time": address.valid_s,
        "preferred_life_time": address.preferred_s,
    }
