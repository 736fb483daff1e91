"""The kernel's rtnetlink messages (rtnetlink(7)) turned into plain values; pyroute2 takes the attributes apart."""

import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any, Final

from pyroute2.netlink.rtnl.marshal import MarshalRtnl
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from services.common.netlink import NLM_F_CREATE, attributes, error_number
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
_HEADER_BYTES: Final = 16  # struct nlmsghdr

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
_RTM_F_CLONED: Final = 0x200  # an entry of the route cache
_RTNH_FLAGS: Final = 0xFF  # those of rtm_flags that are the next hop's

_ROUTE_TYPES: Final = {int(route_type): route_type for route_type in RouteType}

_NHA_ID: Final = 1  # linux/nexthop.h
_NEXT_HOP_MESSAGE_BYTES: Final = 8  # struct nhmsg
_U32 = struct.Struct("=I")

_RULES_OF_THE_START: Final = {(0, RT_TABLE_LOCAL), (32_766, RT_TABLE_MAIN), (32_767, RT_TABLE_DEFAULT)}
_RULE_SELECTORS: Final = (
    *("FRA_IIFNAME", "FRA_OIFNAME", "FRA_FWMARK", "FRA_L3MDEV", "FRA_UID_RANGE", "FRA_TUN_ID"),
    *("FRA_IP_PROTO", "FRA_SPORT_RANGE", "FRA_DPORT_RANGE"),
)


class _RouteMessage(rtmsg):  # type: ignore[misc]
    """pyroute2's route message with the attributes that it does not know."""

    nla_map = (
        *rtmsg.nla_map,
        ("RTA_PAD", "hex"),
        ("RTA_UID", "uint32"),
        ("RTA_TTL_PROPAGATE", "uint8"),
        ("RTA_IP_PROTO", "uint8"),
        ("RTA_SPORT", "hex"),
        ("RTA_DPORT", "hex"),
        ("RTA_NH_ID", "uint32"),
    )


class _Marshal(MarshalRtnl):  # type: ignore[misc]
    msg_map = MarshalRtnl.msg_map | {RTM_NEWROUTE: _RouteMessage, RTM_DELROUTE: _RouteMessage}


class MessageParser:
    """Reads announcements and dumps."""

    def __init__(self) -> None:
        self._marshal = _Marshal()

    def messages(self, data: bytes) -> Iterator[Any]:
        """Return pyroute2's view of the messages in one datagram."""
        return iter(self._marshal.parse(data))

    def events(self, data: bytes) -> Iterator[KernelEvent]:
        """Return what the announcements in one datagram say; those that are of no interest are left out."""
        for message in self.messages(data):
            event = _event(message, data)
            if event is not None:
                yield event


def _event(message: Any, data: bytes) -> KernelEvent | None:
    kind = message["header"]["type"]
    if kind in (RTM_NEWROUTE, RTM_DELROUTE):
        return route_event(message)
    if kind in (RTM_NEWLINK, RTM_DELLINK):
        return _link_event(message)
    if kind in (RTM_NEWADDR, RTM_DELADDR):
        address = address_from(message)
        return AddressChanged(address) if kind == RTM_NEWADDR else AddressGone(address)
    if kind in (RTM_NEWNEXTHOP, RTM_DELNEXTHOP):
        return _next_hop_event(message, data)
    if kind in (RTM_NEWRULE, RTM_DELRULE):
        return Unsettled("the routing rules changed")
    return None


# --- Links and addresses ----------------------------------------------------------------------------------------------


def _link_event(message: Any) -> KernelEvent | None:
    link = link_from(message)
    if link is None:
        return None
    return LinkChanged(link) if message["header"]["type"] == RTM_NEWLINK else LinkGone(link.index)


def link_from(message: Any) -> Link | None:
    """Return the interface of a link message; None for what bridges say of their ports, and wireless events."""
    name = message.get_attr("IFLA_IFNAME")
    if message["family"] != socket.AF_UNSPEC or name is None:
        return None
    return Link(
        index=message["index"],
        name=name,
        link_type=message["ifi_type"],
        flags=message["flags"],
        mac=_hardware_address(message.get_attr("IFLA_ADDRESS")),
        broadcast=_hardware_address(message.get_attr("IFLA_BROADCAST")),
        mtu=message.get_attr("IFLA_MTU") or 0,
        master=message.get_attr("IFLA_MASTER") or 0,
        operational_state=message.get_attr("IFLA_OPERSTATE") or "UNKNOWN",
        queueing_discipline=message.get_attr("IFLA_QDISC") or "",
        transmit_queue_length=message.get_attr("IFLA_TXQLEN") or 0,
    )


def _hardware_address(text: str | None) -> bytes:
    return bytes.fromhex((text or "").replace(":", ""))


def address_from(message: Any) -> LinkAddress:
    """Return the address of an IPv4 address message."""
    # On a point-to-point link IFA_ADDRESS is the peer's; IFA_LOCAL is always our own.
    own = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    broadcast = message.get_attr("IFA_BROADCAST")
    lifetimes = message.get_attr("IFA_CACHEINFO") or {}
    flags = message.get_attr("IFA_FLAGS")
    return LinkAddress(
        interface=message["index"],
        address=int(IPv4Address(own)),
        prefix_length=message["prefixlen"],
        broadcast=None if broadcast is None else int(IPv4Address(broadcast)),
        scope=message["scope"],
        flags=message["flags"] if flags is None else flags,
        label=message.get_attr("IFA_LABEL") or "",
        valid_s=lifetimes.get("ifa_valid", 0xFFFF_FFFF),
        preferred_s=lifetimes.get("ifa_preferred", 0xFFFF_FFFF),
    )


# --- Routes -----------------------------------------------------------------------------------------------------------


def route_event(message: Any) -> RouteChanged | RouteGone | None:
    """Return the change that a route message of an announcement or a dump says; None for an entry of the cache."""
    if message["family"] != socket.AF_INET or message["flags"] & _RTM_F_CLONED:
        return None
    table = message.get_attr("RTA_TABLE") or message["table"]
    key = route_key(_address(message.get_attr("RTA_DST")), message["dst_len"])
    header = message["header"]
    if header["type"] == RTM_DELROUTE:
        return RouteGone(table, key, _route_info(message))
    return RouteChanged(table, key, _route_info(message), _placement(header["flags"]))


def _placement(header_flags: int) -> Placement:
    if header_flags & NLM_F_REPLACE:
        return Placement.REPLACE
    return Placement.LAST if header_flags & NLM_F_APPEND else Placement.FIRST


def _route_info(message: Any) -> RouteInfo:
    metrics = message.get_attr("RTA_METRICS")
    return RouteInfo(
        type=_ROUTE_TYPES.get(message["type"], RouteType.UNSPEC),
        protocol=message["proto"],
        scope=message["scope"],
        tos=message["tos"],
        metric=message.get_attr("RTA_PRIORITY") or 0,
        source=_address(message.get_attr("RTA_PREFSRC")),
        mtu=(metrics.get_attr("RTAX_MTU") or 0) if metrics is not None else 0,
        next_hop_object=message.get_attr("RTA_NH_ID") or 0,
        next_hops=tuple(_next_hops(message)),
    )


def _next_hops(message: Any) -> Iterator[KernelNextHop]:
    paths = message.get_attr("RTA_MULTIPATH")
    if paths is not None:
        for path in paths:
            yield _next_hop(path, path["oif"], path["hops"] + 1, path["flags"])
    elif message.get_attr("RTA_OIF") is not None:
        yield _next_hop(message, message.get_attr("RTA_OIF"), 1, message["flags"] & _RTNH_FLAGS)


def _next_hop(attributes: Any, interface: int, weight: int, flags: int) -> KernelNextHop:
    obstacle = ""
    if attributes.get_attr("RTA_ENCAP_TYPE"):
        obstacle = "it encapsulates"
    elif attributes.get_attr("RTA_VIA") is not None:
        obstacle = "its gateway is not an IPv4 one"
    return KernelNextHop(interface, _address(attributes.get_attr("RTA_GATEWAY")), weight, flags, obstacle)


def _address(text: str | None) -> int:
    return int.from_bytes(socket.inet_aton(text), "big") if text else 0


# --- The rest ---------------------------------------------------------------------------------------------------------


def error_of(message: Any, data: bytes) -> int:
    """Return the errno in a message that ends a dump or answers a request; 0 for success."""
    payload = _payload(message, data)
    return error_number(payload) if len(payload) >= _U32.size else 0


def _payload(message: Any, data: bytes) -> bytes:
    start = message.offset + _HEADER_BYTES
    return data[start : message.offset + message["header"]["length"]]


def is_foreign_rule(message: Any) -> bool:
    """Tell whether a rule message is none of the three rules that every namespace starts with."""
    table = message.get_attr("FRA_TABLE") or message["table"]
    priority = message.get_attr("FRA_PRIORITY") or 0
    selective = message["src_len"] or message["dst_len"] or message["tos"]
    selective = selective or any(message.get_attr(selector) is not None for selector in _RULE_SELECTORS)
    return bool(selective) or (priority, table) not in _RULES_OF_THE_START


def _next_hop_event(message: Any, data: bytes) -> NextHopObjectGone | None:
    """Return the nexthop object after whose change no route is announced (nexthop.c of Linux).

    A removed one takes its routes with it in silence; so does a group that lost a member, which is announced
    without NLM_F_CREATE. After a replacement the kernel announces every route that uses the object.
    """
    header = message["header"]
    if header["type"] == RTM_NEWNEXTHOP and header["flags"] & NLM_F_CREATE:
        return None
    number = attributes(_payload(message, data)[_NEXT_HOP_MESSAGE_BYTES:]).get(_NHA_ID)
    return NextHopObjectGone(_U32.unpack(number)[0]) if number is not None and len(number) == _U32.size else None
