"""The kernel's rtnetlink messages (rtnetlink(7)) turned into plain values. Pure.

Routes come by the hundred thousand: `route_scan` sees to it that of many alike, only one is read here.
"""

import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from services.common.netlink import NLM_F_CREATE, attributes
from services.control.kernel_types import (
    RT_TABLE_DEFAULT,
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    AddressChanged,
    AddressGone,
    KernelEvent,
    KernelNextHop,
    Link,
    LinkAddress,
    LinkChanged,
    LinkGone,
    NextHopObject,
    NextHopObjectChanged,
    NextHopObjectGone,
    Placement,
    RouteChanged,
    RouteGone,
    RouteInfo,
    RouteType,
    Unsettled,
    route_key,
)

# linux/netlink.h, besides those of services.common.netlink
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_APPEND: Final = 0x800

# linux/rtnetlink.h
RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18
RTM_NEWADDR: Final = 20
RTM_DELADDR: Final = 21
RTM_GETADDR: Final = 22
RTM_NEWROUTE: Final = 24
RTM_DELROUTE: Final = 25
RTM_GETROUTE: Final = 26
RTM_NEWRULE: Final = 32
RTM_DELRULE: Final = 33
RTM_GETRULE: Final = 34
RTM_NEWNEXTHOP: Final = 104
RTM_DELNEXTHOP: Final = 105
RTM_GETNEXTHOP: Final = 106

LINK_HEADER: Final = struct.Struct("=BxHiII")
"""ifinfomsg: family, type, index, flags, which flags to change."""
ADDRESS_HEADER: Final = struct.Struct("=BBBBI")
"""ifaddrmsg: family, prefix length, flags, scope, index."""
ROUTE_HEADER: Final = struct.Struct("=8BI")
"""rtmsg: family, destination length, source length, tos, table, protocol, scope, type, flags. fib_rule_hdr: family,
destination length, source length, tos, table, 2 reserved, action, flags."""
HOP_HEADER: Final = struct.Struct("=HBBi")
"""rtnexthop: length, flags, weight - 1, interface."""

IFLA_ADDRESS: Final = 1  # linux/if_link.h
_IFLA_BROADCAST: Final = 2
_IFLA_IFNAME: Final = 3
IFLA_MTU: Final = 4
_IFLA_QDISC: Final = 6
_IFLA_MASTER: Final = 10
_IFLA_TXQLEN: Final = 13
_IFLA_OPERSTATE: Final = 16
_OPERATIONAL_STATES: Final = (
    "UNKNOWN",
    "NOTPRESENT",
    "DOWN",
    "LOWERLAYERDOWN",
    "TESTING",
    "DORMANT",
    "UP",
)  # linux/if.h

IFA_ADDRESS: Final = 1  # linux/if_addr.h
IFA_LOCAL: Final = 2
_IFA_LABEL: Final = 3
_IFA_BROADCAST: Final = 4
_IFA_CACHEINFO: Final = 6
_IFA_FLAGS: Final = 8
_LIFETIMES = struct.Struct("=II")  # the front of ifa_cacheinfo: preferred, valid
_FOREVER_S: Final = 0xFFFF_FFFF  # INFINITY_LIFE_TIME of Linux

RTA_DST: Final = 1  # linux/rtnetlink.h from here on
RTA_OIF: Final = 4
RTA_GATEWAY: Final = 5
RTA_PRIORITY: Final = 6
RTA_PREFSRC: Final = 7
RTA_METRICS: Final = 8
RTA_MULTIPATH: Final = 9
RTA_TABLE: Final = 15
_RTA_VIA: Final = 18
_RTA_ENCAP_TYPE: Final = 21
_RTA_NH_ID: Final = 30
RTAX_MTU: Final = 2
RTM_F_CLONED: Final = 0x200  # an entry of the route cache
_RTNH_FLAGS: Final = 0xFF  # those of rtm_flags that are the next hop's
_ROUTE_TYPES: Final = {int(route_type): route_type for route_type in RouteType}

_FR_ACT_TO_TBL: Final = 1  # linux/fib_rules.h from here on
_FRA_PRIORITY: Final = 6
_FRA_SUPPRESS_PREFIXLEN: Final = 14
_FRA_TABLE: Final = 15
_FRA_PROTOCOL: Final = 21
_RULES_OF_THE_START: Final = {(0, RT_TABLE_LOCAL), (32_766, RT_TABLE_MAIN), (32_767, RT_TABLE_DEFAULT)}

NEXT_HOP_HEADER: Final = struct.Struct("=B3xI")
"""nhmsg: family, then scope, protocol and a reserved byte, flags."""
_NHA_ID: Final = 1  # linux/nexthop.h
_NHA_GROUP: Final = 2
_NHA_BLACKHOLE: Final = 4
_NHA_OIF: Final = 5
_NHA_GATEWAY: Final = 6
_NHA_ENCAP_TYPE: Final = 7
_GROUP_ENTRY = struct.Struct("=IBB2x")
"""nexthop_grp: id, the low and the high byte of weight - 1 (the high one since Linux 6.12, 0 before)."""

_NLMSGERR_ATTR_MSG: Final = 1  # linux/netlink.h
_ERROR_HEADER_BYTES: Final = 20  # struct nlmsgerr: the errno, and the header of what failed
_U32 = struct.Struct("=I")
_ADDRESS = struct.Struct(">I")

Attributes = Mapping[int, bytes]


def event(kind: int, flags: int, payload: bytes) -> KernelEvent | None:
    """Return what an announcement says, or None where it is of no interest."""
    read = _EVENTS.get(kind)
    if read is None:
        return None
    try:
        return read(kind, flags, payload)
    except (struct.error, ValueError):
        return Unsettled("an announcement of the kernel could not be read")


# --- Links and addresses ----------------------------------------------------------------------------------------------


def link_from(payload: bytes) -> Link | None:
    """Return the interface of a link message; None for what bridges say of their ports, and for wireless events."""
    family, link_type, index, flags, _ = LINK_HEADER.unpack_from(payload)
    found = attributes(payload[LINK_HEADER.size :])
    if family != socket.AF_UNSPEC or _IFLA_IFNAME not in found:
        return None
    (state,) = found.get(_IFLA_OPERSTATE, b"\0")
    return Link(
        index=index,
        name=_text(found[_IFLA_IFNAME]),
        link_type=link_type,
        flags=flags,
        mac=found.get(IFLA_ADDRESS, b""),
        broadcast=found.get(_IFLA_BROADCAST, b""),
        mtu=_number(found, IFLA_MTU),
        master=_number(found, _IFLA_MASTER),
        operational_state=_OPERATIONAL_STATES[state] if state < len(_OPERATIONAL_STATES) else str(state),
        queueing_discipline=_text(found.get(_IFLA_QDISC, b"")),
        transmit_queue_length=_number(found, _IFLA_TXQLEN),
    )


def _link_event(kind: int, _flags: int, payload: bytes) -> KernelEvent | None:
    link = link_from(payload)
    if link is None:
        return None
    return LinkChanged(link) if kind == RTM_NEWLINK else LinkGone(link.index)


def address_from(payload: bytes) -> LinkAddress:
    """Return the address of an IPv4 address message."""
    _, prefix_length, flags, scope, interface = ADDRESS_HEADER.unpack_from(payload)
    found = attributes(payload[ADDRESS_HEADER.size :])
    preferred_s, valid_s = (
        _LIFETIMES.unpack_from(found[_IFA_CACHEINFO]) if _IFA_CACHEINFO in found else (_FOREVER_S, _FOREVER_S)
    )
    return LinkAddress(
        interface=interface,
        # on a point-to-point link IFA_ADDRESS is the peer's; IFA_LOCAL is always our own
        address=_address(found, IFA_LOCAL if IFA_LOCAL in found else IFA_ADDRESS),
        prefix_length=prefix_length,
        broadcast=_address(found, _IFA_BROADCAST) if _IFA_BROADCAST in found else None,
        scope=scope,
        flags=_number(found, _IFA_FLAGS) if _IFA_FLAGS in found else flags,
        label=_text(found.get(_IFA_LABEL, b"")),
        valid_s=valid_s,
        preferred_s=preferred_s,
    )


def _address_event(kind: int, _flags: int, payload: bytes) -> KernelEvent:
    address = address_from(payload)
    return AddressChanged(address) if kind == RTM_NEWADDR else AddressGone(address)


# --- Routes -----------------------------------------------------------------------------------------------------------


def route_event(kind: int, message_flags: int, payload: bytes) -> RouteChanged | RouteGone | None:
    """Return what a route message of an announcement or a dump says; None for an entry of the route cache."""
    family, length, _, tos, table, protocol, scope, route_type, flags = ROUTE_HEADER.unpack_from(payload)
    if family != socket.AF_INET or flags & RTM_F_CLONED:
        return None
    if length > 32:
        raise ValueError("a prefix longer than 32")
    found = attributes(payload[ROUTE_HEADER.size :])
    info = RouteInfo(
        _ROUTE_TYPES.get(route_type, RouteType.UNSPEC),
        protocol,
        scope,
        tos,
        _number(found, RTA_PRIORITY),
        _address(found, RTA_PREFSRC),
        _number(attributes(found[RTA_METRICS]), RTAX_MTU) if RTA_METRICS in found else 0,
        _number(found, _RTA_NH_ID),
        _next_hops(found, flags & _RTNH_FLAGS),
    )
    key = route_key(_address(found, RTA_DST), length)
    table = _number(found, RTA_TABLE) or table
    if kind == RTM_DELROUTE:
        return RouteGone(table, key, info)
    return RouteChanged(table, key, info, _placement(message_flags))


def _placement(message_flags: int) -> Placement:
    if message_flags & NLM_F_REPLACE:
        return Placement.REPLACE
    return Placement.LAST if message_flags & NLM_F_APPEND else Placement.FIRST


def _next_hops(found: Attributes, flags: int) -> tuple[KernelNextHop, ...]:
    if RTA_MULTIPATH in found:
        return tuple(_multipath(found[RTA_MULTIPATH]))
    if RTA_OIF in found:
        return (_next_hop(found, _number(found, RTA_OIF), 1, flags),)
    return ()


def _multipath(data: bytes) -> Iterator[KernelNextHop]:
    start = 0
    while start + HOP_HEADER.size <= len(data):
        length, flags, weight_less_one, interface = HOP_HEADER.unpack_from(data, start)
        found = attributes(data[start + HOP_HEADER.size : start + length])
        yield _next_hop(found, interface, weight_less_one + 1, flags)
        start += max(HOP_HEADER.size, length + 3 & ~3)


def _next_hop(found: Attributes, interface: int, weight: int, flags: int) -> KernelNextHop:
    obstacle = ""
    if _RTA_ENCAP_TYPE in found:
        obstacle = "it encapsulates"
    elif _RTA_VIA in found:
        obstacle = "its gateway is not an IPv4 one"
    return KernelNextHop(interface, _address(found, RTA_GATEWAY), weight, flags, obstacle)


# --- Rules, nexthop objects, errors -----------------------------------------------------------------------------------


def is_foreign_rule(payload: bytes) -> bool:
    """Tell whether a rule message is none of the three rules that every namespace starts with."""
    _, destination_length, source_length, tos, table, _, _, action, _ = ROUTE_HEADER.unpack_from(payload)
    found = attributes(payload[ROUTE_HEADER.size :])
    selective = destination_length or source_length or tos or action != _FR_ACT_TO_TBL
    suppresses = _FRA_SUPPRESS_PREFIXLEN in found and _number(found, _FRA_SUPPRESS_PREFIXLEN) != 0xFFFF_FFFF
    plain = {_FRA_TABLE, _FRA_PRIORITY, _FRA_PROTOCOL, _FRA_SUPPRESS_PREFIXLEN}
    place = (_number(found, _FRA_PRIORITY), _number(found, _FRA_TABLE) or table)
    return bool(selective) or suppresses or not found.keys() <= plain or place not in _RULES_OF_THE_START


def _rule_event(_kind: int, _flags: int, _payload: bytes) -> KernelEvent:
    return Unsettled("the routing rules changed")


def next_hop_object_from(payload: bytes) -> NextHopObject:
    """Return the nexthop object of a nexthop message."""
    family, flags = NEXT_HOP_HEADER.unpack_from(payload)
    found = attributes(payload[NEXT_HOP_HEADER.size :])
    number = _number(found, _NHA_ID)
    if _NHA_GROUP in found:
        entries = _GROUP_ENTRY.iter_unpack(found[_NHA_GROUP])
        return NextHopObject(number, None, tuple((member, (high << 8 | low) + 1) for member, low, high in entries))
    if _NHA_BLACKHOLE in found:
        return NextHopObject(number, None, ())
    obstacle = "it encapsulates" if _NHA_ENCAP_TYPE in found else ""
    if _NHA_GATEWAY in found and family != socket.AF_INET:
        obstacle = obstacle or "its gateway is not an IPv4 one"
    gateway = 0 if obstacle else _address(found, _NHA_GATEWAY)
    return NextHopObject(number, KernelNextHop(_number(found, _NHA_OIF), gateway, 1, flags & _RTNH_FLAGS, obstacle), ())


def _next_hop_event(kind: int, flags: int, payload: bytes) -> KernelEvent:
    """Return what became of a nexthop object (nexthop.c of Linux).

    A removed one takes its routes with it in silence. So does a group that lost a member, which is announced without
    NLM_F_CREATE.
    """
    changed = next_hop_object_from(payload)
    if kind == RTM_DELNEXTHOP:
        return NextHopObjectGone(changed.id)
    return NextHopObjectChanged(changed, in_silence=not flags & NLM_F_CREATE)


def explanation(payload: bytes) -> str:
    """Return the kernel's own words in an NLMSG_ERROR (extended acknowledgement), or nothing."""
    return _text(attributes(payload[_ERROR_HEADER_BYTES:]).get(_NLMSGERR_ATTR_MSG, b""))


def _number(found: Attributes, kind: int) -> int:
    """Return a 32-bit number; 0 where there is none."""
    value = found.get(kind)
    return 0 if value is None else int(_U32.unpack(value)[0])


def _address(found: Attributes, kind: int) -> int:
    """Return an IPv4 address in host order; 0 where there is none."""
    value = found.get(kind)
    return 0 if value is None else int(_ADDRESS.unpack(value)[0])


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="backslashreplace")


_EVENTS: Final[dict[int, Callable[[int, int, bytes], KernelEvent | None]]] = {
    RTM_NEWLINK: _link_event,
    RTM_DELLINK: _link_event,
    RTM_NEWADDR: _address_event,
    RTM_DELADDR: _address_event,
    RTM_NEWROUTE: route_event,
    RTM_DELROUTE: route_event,
    RTM_NEWRULE: _rule_event,
    RTM_DELRULE: _rule_event,
    RTM_NEWNEXTHOP: _next_hop_event,
    RTM_DELNEXTHOP: _next_hop_event,
}
