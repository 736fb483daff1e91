"""Requests that change the kernel's routes, addresses and links, and its refusals in words."""

import errno
import os
import socket
import sys
from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Final

from services.common.bus import RpcRefusedError
from services.common.messages import RpcError
from services.common.netlink import NLM_F_CREATE, attribute, nested
from services.control.kernel_types import (
    IFF_UP,
    RT_SCOPE_LINK,
    RT_SCOPE_NOWHERE,
    RT_SCOPE_UNIVERSE,
    RT_TABLE_MAIN,
    RTNH_F_ONLINK,
    RTPROT_HOPWIRE,
    RTPROT_UNSPEC,
    KernelNextHop,
    Link,
    LinkAddress,
    RouteInfo,
    RouteType,
    split_key,
)
from services.control.netlink import KernelNetlink, KernelRefusedError
from services.control.netlink_messages import (
    ADDRESS_HEADER,
    HOP_HEADER,
    IFA_ADDRESS,
    IFA_LOCAL,
    IFLA_ADDRESS,
    IFLA_MTU,
    LINK_HEADER,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    ROUTE_HEADER,
    RTA_DST,
    RTA_GATEWAY,
    RTA_METRICS,
    RTA_MULTIPATH,
    RTA_OIF,
    RTA_PREFSRC,
    RTA_PRIORITY,
    RTAX_MTU,
    RTM_DELADDR,
    RTM_DELROUTE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWROUTE,
)
from services.control.rpc_params import ANYWHERE, AddressParams, LinkParams, NextHopSpec, RouteSpec

_ROUTE_VERBS: Final = {
    "add": (RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL),
    "replace": (RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE),
    "del": (RTM_DELROUTE, 0),
}
_ADDRESS_VERBS: Final = {
    "add": (RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL),
    "change": (RTM_NEWADDR, NLM_F_REPLACE),
    "replace": (RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE),
    "del": (RTM_DELADDR, 0),
}


class KernelChanges:
    """Carries out what a user asks for. Each method raises `RpcRefusedError` with the kernel's phrase first."""

    def __init__(self, netlink: KernelNetlink) -> None:
        self._netlink = netlink

    def change_route(self, verb: str, spec: RouteSpec, links: Mapping[int, Link]) -> None:
        """Add, replace or delete a route of table main. `verb` is `add`, `replace` or `del`."""
        kind, flags = _ROUTE_VERBS[verb]
        destination = "default" if spec.dst == ANYWHERE else str(spec.dst)
        self._request(kind, flags, _route_message(verb, spec, links), _route_advice(verb, destination, spec))

    def remove_route(self, table: int, key: int, info: RouteInfo) -> bool:
        """Remove a route that the kernel was seen to have; False where it has gone meanwhile."""
        try:
            self._netlink.request(RTM_DELROUTE, 0, _removal(table, key, info))
        except KernelRefusedError as error:
            if error.number == errno.ESRCH:
                return False
            raise _refusal(error, {}) from error
        return True

    def remove_address(self, address: LinkAddress) -> bool:
        """Remove an address that the kernel was seen to have; False where it has gone meanwhile, with its primary."""
        own = address.address.to_bytes(4, "big")
        header = ADDRESS_HEADER.pack(socket.AF_INET, address.prefix_length, 0, 0, address.interface)
        try:
            self._netlink.request(RTM_DELADDR, 0, header + attribute(IFA_LOCAL, own))
        except KernelRefusedError as error:
            if error.number == errno.EADDRNOTAVAIL:
                return False
            raise _refusal(error, {}) from error
        return True

    def change_address(self, verb: str, params: AddressParams, links: Mapping[int, Link]) -> None:
        """Add, change, replace or delete an address. `verb` is one of these, with `del` for the last."""
        header = ADDRESS_HEADER.pack(
            socket.AF_INET, params.address.network.prefixlen, 0, RT_SCOPE_UNIVERSE, _index(params.dev, links)
        )
        own = params.address.ip.packed
        message = header + attribute(IFA_LOCAL, own) + attribute(IFA_ADDRESS, own)
        kind, flags = _ADDRESS_VERBS[verb]
        advice = {
            errno.EEXIST: f"{params.dev} has {params.address} already",
            errno.EADDRNOTAVAIL: f"{params.dev} has no address {params.address}; see `addr show`",
        }
        self._request(kind, flags, message, advice)

    def change_link(self, params: LinkParams, links: Mapping[int, Link]) -> None:
        """Set an interface up or down, its MTU, its MAC."""
        flags, changed_flags = (IFF_UP if params.up else 0, IFF_UP) if params.up is not None else (0, 0)
        message = LINK_HEADER.pack(socket.AF_UNSPEC, 0, _index(params.dev, links), flags, changed_flags)
        if params.mtu is not None:
            message += _number(IFLA_MTU, params.mtu)
        if params.address is not None:
            message += attribute(IFLA_ADDRESS, params.address)
        advice = {
            errno.EADDRNOTAVAIL: "a MAC address must be of one station: neither broadcast nor multicast nor zero",
            errno.EBUSY: f"set {params.dev} down first",
        }
        self._request(RTM_NEWLINK, 0, message, advice)

    def _request(self, kind: int, flags: int, message: bytes, advice: Mapping[int, str]) -> None:
        try:
            self._netlink.request(kind, flags, message)
        except KernelRefusedError as error:
            raise _refusal(error, advice) from error


_GENERAL_ADVICE: Final = {
    errno.EPERM: "control needs CAP_NET_ADMIN; start it as root, or give the container --cap-add NET_ADMIN",
    errno.ENETDOWN: "the interface is down; `link set NAME up` first",
}


def _refusal(error: KernelRefusedError, advice: Mapping[int, str]) -> RpcRefusedError:
    parts = [error.explanation, advice.get(error.number) or _GENERAL_ADVICE.get(error.number, "")]
    details = "; ".join(part for part in parts if part)
    phrase = os.strerror(error.number)
    return _refused(f"{phrase}: {details}" if details else phrase)


def _route_advice(verb: str, destination: str, spec: RouteSpec) -> Mapping[int, str]:
    gateways = ", ".join(str(via) for via in (spec.via, *(hop.via for hop in spec.nexthops)) if via is not None)
    return {
        errno.EEXIST: f"{destination} is there already; use `route replace`",
        errno.ESRCH: f"there is no such route to {destination}; see `route show`",
        errno.ENETUNREACH: f"{gateways or destination} is on the network of no interface that is up; "
        "add an address of that network first, or give dev and onlink",
        errno.EINVAL: f"see what {gateways} leads to with `route get`" if gateways and verb != "del" else "",
    }


def _route_message(verb: str, spec: RouteSpec, links: Mapping[int, Link]) -> bytes:
    deleting = verb == "del"
    unnamed = RTPROT_UNSPEC if deleting else RTPROT_HOPWIRE
    message = ROUTE_HEADER.pack(
        socket.AF_INET,
        spec.dst.prefixlen,
        0,
        0,
        RT_TABLE_MAIN,
        unnamed if spec.proto is None else spec.proto,
        _scope(spec, deleting=deleting),
        _route_type(spec, deleting=deleting),
        RTNH_F_ONLINK if spec.onlink else 0,
    )
    if spec.dst.prefixlen:
        message += attribute(RTA_DST, spec.dst.network_address.packed)
    if spec.metric is not None:
        message += _number(RTA_PRIORITY, spec.metric)
    if spec.src is not None:
        message += attribute(RTA_PREFSRC, spec.src.packed)
    if spec.mtu is not None:
        message += nested(RTA_METRICS, _number(RTAX_MTU, spec.mtu))
    if spec.nexthops:
        ways = [_hop(hop, links, onlink=spec.onlink) for hop in spec.nexthops]
        message += attribute(RTA_MULTIPATH, b"".join(ways))
    if spec.dev is not None:
        message += _number(RTA_OIF, _index(spec.dev, links))
    return message + _gateway(spec.via)


def _removal(table: int, key: int, info: RouteInfo) -> bytes:
    """Return the request to remove just this route, as fib_nh_match of Linux tells it from others of its prefix."""
    prefix, length = split_key(key)
    message = ROUTE_HEADER.pack(socket.AF_INET, length, 0, info.tos, table, info.protocol, info.scope, info.type, 0)
    if length:
        message += attribute(RTA_DST, prefix.to_bytes(4, "big"))
    if info.metric:
        message += _number(RTA_PRIORITY, info.metric)
    if info.source:
        message += attribute(RTA_PREFSRC, info.source.to_bytes(4, "big"))
    if info.next_hop_object:  # its next hops are the object's; the kernel refuses to compare them
        return message
    if len(info.next_hops) > 1:
        ways = [_way(hop.interface, _packed_gateway(hop), hop.weight, 0) for hop in info.next_hops]
        return message + attribute(RTA_MULTIPATH, b"".join(ways))
    for hop in info.next_hops:
        message += (_number(RTA_OIF, hop.interface) if hop.interface else b"") + _packed_gateway(hop)
    return message


def _packed_gateway(hop: KernelNextHop) -> bytes:
    return attribute(RTA_GATEWAY, hop.gateway.to_bytes(4, "big")) if hop.gateway else b""


def _way(interface: int, gateway: bytes, weight: int, flags: int) -> bytes:
    return HOP_HEADER.pack(HOP_HEADER.size + len(gateway), flags, weight - 1, interface) + gateway


def _route_type(spec: RouteSpec, *, deleting: bool) -> RouteType:
    if spec.type is not None:
        return RouteType[spec.type.upper()]
    return RouteType.UNSPEC if deleting else RouteType.UNICAST


def _scope(spec: RouteSpec, *, deleting: bool) -> int:
    """Return the scope that ip-route(8) chooses."""
    if deleting:
        return RT_SCOPE_NOWHERE  # any
    on_link = spec.type in (None, "unicast") and spec.via is None and not spec.nexthops
    return RT_SCOPE_LINK if on_link else RT_SCOPE_UNIVERSE


def _hop(hop: NextHopSpec, links: Mapping[int, Link], *, onlink: bool) -> bytes:
    interface = _index(hop.dev, links) if hop.dev is not None else 0
    return _way(interface, _gateway(hop.via), hop.weight, RTNH_F_ONLINK if onlink else 0)


def _gateway(via: IPv4Address | None) -> bytes:
    return attribute(RTA_GATEWAY, via.packed) if via is not None else b""


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, value.to_bytes(4, sys.byteorder))


def _index(name: str, links: Mapping[int, Link]) -> int:
    for link in links.values():
        if link.name == name:
            return link.index
    existing = ", ".join(link.name for link in links.values()) or "none"
    raise _refused(f"{os.strerror(errno.ENODEV)}: {name}; there are: {existing}")


def _refused(message: str) -> RpcRefusedError:
    return RpcRefusedError(RpcError(code="refused", message=message))
