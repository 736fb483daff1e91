"""What the kernel tells of its links, addresses and routes (rtnetlink(7)), as plain values.

IPv4 addresses are integers in host order. A route's key is its prefix and length in one integer, `prefix << 8 |
length`: a table of a million routes is then one array of integers.
"""

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

# linux/if.h
IFF_UP: Final = 0x1
IFF_RUNNING: Final = 0x40
IFF_LOWER_UP: Final = 0x1_0000

ARPHRD_ETHER: Final = 1  # linux/if_arp.h
IFA_F_SECONDARY: Final = 0x01  # linux/if_addr.h

# linux/rtnetlink.h
RT_TABLE_DEFAULT: Final = 253
RT_TABLE_MAIN: Final = 254
RT_TABLE_LOCAL: Final = 255
RTNH_F_DEAD: Final = 0x01
RTNH_F_ONLINK: Final = 0x04
RTNH_F_LINKDOWN: Final = 0x10
RT_SCOPE_UNIVERSE: Final = 0
RT_SCOPE_LINK: Final = 253
RT_SCOPE_HOST: Final = 254
RT_SCOPE_NOWHERE: Final = 255
RTPROT_UNSPEC: Final = 0
RTPROT_BOOT: Final = 3

RTPROT_HOPWIRE: Final = 200
"""The protocol number of the routes that come through hopwire; linux/rtnetlink.h gives out none above 192."""


class RouteType(IntEnum):
    """The `rtm_type` of linux/rtnetlink.h."""

    UNSPEC = 0
    UNICAST = 1
    LOCAL = 2
    BROADCAST = 3
    ANYCAST = 4
    MULTICAST = 5
    BLACKHOLE = 6
    UNREACHABLE = 7
    PROHIBIT = 8
    THROW = 9
    NAT = 10
    XRESOLVE = 11


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface."""

    index: int
    name: str
    link_type: int
    """ARPHRD_* of linux/if_arp.h."""
    flags: int
    """IFF_* of linux/if.h."""
    mac: bytes
    broadcast: bytes
    mtu: int
    """Bytes of IP."""
    master: int
    """The index of the bridge, bond or VRF that it is a port of; 0 for none."""
    operational_state: str
    queueing_discipline: str
    transmit_queue_length: int

    @property
    def is_routed(self) -> bool:
        """Whether it is an Ethernet interface of the router: none that is a port of another interface."""
        return self.link_type == ARPHRD_ETHER and not self.master and len(self.mac) == 6

    @property
    def is_up(self) -> bool:
        """Administratively up, and with carrier."""
        return self.flags & (IFF_UP | IFF_LOWER_UP) == IFF_UP | IFF_LOWER_UP

    @property
    def fate(self) -> tuple[int, int, int, str]:
        """What decides about the routes through it: the kernel changes those without a word when this changes."""
        return self.flags & (IFF_UP | IFF_RUNNING | IFF_LOWER_UP), self.master, self.link_type, self.operational_state


class LinkAddress(NamedTuple):
    """An IPv4 address of an interface."""

    interface: int
    address: int
    prefix_length: int
    broadcast: int | None
    scope: int
    flags: int
    """IFA_F_* of linux/if_addr.h."""
    label: str
    valid_s: int
    preferred_s: int


class KernelNextHop(NamedTuple):
    """One way out of a route, as the kernel has it."""

    interface: int
    gateway: int
    """0: the destination itself is on the link."""
    weight: int
    flags: int
    """RTNH_F_* of linux/rtnetlink.h."""
    obstacle: str = ""
    """Why hopwire cannot go this way, where the next hop is of a kind that it does not know."""

    @property
    def is_dead(self) -> bool:
        """Whether the kernel itself does not use it, or its link has no carrier."""
        return bool(self.flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN))


class RouteInfo(NamedTuple):
    """All of a route but its destination and table: what many routes share, like `struct fib_info` of Linux."""

    type: RouteType
    protocol: int
    scope: int
    tos: int
    metric: int
    source: int
    """The preferred source address; 0 for none."""
    mtu: int
    """RTAX_MTU in bytes; 0: the interface's."""
    next_hop_object: int
    """The id of the nexthop object (ip-nexthop(8)) that it uses; 0 for none."""
    next_hops: tuple[KernelNextHop, ...]

    @property
    def identity(self) -> tuple[object, ...]:
        """What tells it from other routes of its prefix: everything but the state of its next hops."""
        if self.next_hop_object:
            return self[:-1]  # what the object says may have changed meanwhile
        hops = tuple((hop.interface, hop.gateway, hop.weight, hop.flags & RTNH_F_ONLINK) for hop in self.next_hops)
        return (*self[:-1], hops)


class NextHopObject(NamedTuple):
    """A nexthop object (ip-nexthop(8)): one next hop, or a group of other objects."""

    id: int
    next_hop: KernelNextHop | None
    """None of a group, or of a blackhole."""
    members: tuple[tuple[int, int], ...]
    """Id and weight of each object of a group; of a resilient group as of any."""


def route_key(prefix: int, prefix_length: int) -> int:
    """Return the key of a destination."""
    return prefix << 8 | prefix_length


def split_key(key: int) -> tuple[int, int]:
    """Return prefix and length of a key."""
    return key >> 8, key & 0xFF


def covering_key(key: int, prefix_length: int) -> int:
    """Return the key of the prefix of that (shorter or same) length which holds the destination of `key`."""
    return (key >> 8 & ~(0xFFFF_FFFF >> prefix_length)) << 8 | prefix_length


class Placement(Enum):
    """Where a new route goes among those of its prefix, type of service and metric."""

    FIRST = "first"
    LAST = "last"
    REPLACE = "replace"


# --- Changes, as the kernel announces them ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """A new interface, or something about one."""

    link: Link


@dataclass(frozen=True, slots=True)
class LinkGone:
    """An interface was deleted, or left the namespace."""

    index: int


@dataclass(frozen=True, slots=True)
class AddressChanged:
    """A new IPv4 address, or something about one."""

    address: LinkAddress


@dataclass(frozen=True, slots=True)
class AddressGone:
    """An IPv4 address was removed."""

    address: LinkAddress


class RouteChanged(NamedTuple):
    """A new route."""

    table: int
    key: int
    info: RouteInfo
    placement: Placement


class RouteGone(NamedTuple):
    """A route was removed."""

    table: int
    key: int
    info: RouteInfo


class RouteBatch(NamedTuple):
    """Changes of routes in their order, in flat arrays: how they come by the ten thousand."""

    tables: npt.NDArray[np.uint8]
    """(changes,) RT_TABLE_LOCAL, RT_TABLE_MAIN or RT_TABLE_DEFAULT."""
    keys: npt.NDArray[np.int64]
    operations: npt.NDArray[np.uint8]
    """(changes,) FIRST, LAST, REPLACE, GONE or DUMPED of `route_kernels`."""
    infos: tuple[RouteInfo, ...]
    which: npt.NDArray[np.int32]
    """(changes,) the place in `infos` of each."""


@dataclass(frozen=True, slots=True)
class NextHopObjectChanged:
    """A new nexthop object, or another one in place of it."""

    object: NextHopObject
    in_silence: bool
    """A group lost a member: routes that use it change without a word."""


@dataclass(frozen=True, slots=True)
class NextHopObjectGone:
    """A nexthop object was removed: routes that use it go without a word."""

    id: int


@dataclass(frozen=True, slots=True)
class Unsettled:
    """What is mirrored is no longer sure: messages were lost or not understood, or the rules changed."""

    reason: str


KernelEvent = (
    LinkChanged
    | LinkGone
    | AddressChanged
    | AddressGone
    | RouteChanged
    | RouteGone
    | RouteBatch
    | NextHopObjectChanged
    | NextHopObjectGone
    | Unsettled
)


class DumpError(Exception):
    """A dump that has to be made again.

    :ivar number: the kernel's errno, or 0.
    """

    def __init__(self, message: str, number: int = 0) -> None:
        super().__init__(message)
        self.number = number
