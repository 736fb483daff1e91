"""The names that iproute2 gives to the kernel's numbers."""

from typing import Final

from services.control.kernel_types import (
    RT_SCOPE_HOST,
    RT_SCOPE_LINK,
    RT_SCOPE_NOWHERE,
    RT_SCOPE_UNIVERSE,
    RTPROT_HOPWIRE,
)

RTPROT_CONFIGURATION: Final = 201
"""The protocol number of the routes that the configuration file says. Neither linux/rtnetlink.h and iproute2's
rt_protos, which end at 192, nor FRR, which goes on to 198, give it out."""

# linux/rtnetlink.h, RTPROT_*, and our own
PROTOCOLS: Final = {
    0: "none",
    1: "redirect",
    2: "kernel",
    3: "boot",
    4: "static",
    8: "gated",
    9: "ra",
    10: "mrt",
    11: "zebra",
    12: "bird",
    13: "dnrouted",
    14: "xorp",
    15: "ntk",
    16: "dhcp",
    18: "keepalived",
    42: "babel",
    84: "ovn",
    99: "openr",
    186: "bgp",
    187: "isis",
    188: "ospf",
    189: "rip",
    192: "eigrp",
    RTPROT_HOPWIRE: "hopwire",
    RTPROT_CONFIGURATION: "hopwire-config",
}
PROTOCOL_NUMBERS: Final = {name: number for number, name in PROTOCOLS.items()}

_SCOPES: Final = {
    RT_SCOPE_UNIVERSE: "global",
    200: "site",
    RT_SCOPE_LINK: "link",
    RT_SCOPE_HOST: "host",
    RT_SCOPE_NOWHERE: "nowhere",
}

SCOPE_NUMBERS: Final = {name: number for number, name in _SCOPES.items()}

# linux/if.h, in the order in which ip(8) writes them; it leaves out RUNNING
_LINK_FLAGS: Final = {
    0x8: "LOOPBACK",
    0x2: "BROADCAST",
    0x10: "POINTOPOINT",
    0x1000: "MULTICAST",
    0x80: "NOARP",
    0x200: "ALLMULTI",
    0x100: "PROMISC",
    0x400: "MASTER",
    0x800: "SLAVE",
    0x4: "DEBUG",
    0x8000: "DYNAMIC",
    0x2000: "AUTOMEDIA",
    0x4000: "PORTSEL",
    0x20: "NOTRAILERS",
    0x1: "UP",
    0x1_0000: "LOWER_UP",
    0x2_0000: "DORMANT",
    0x4_0000: "ECHO",
}

# linux/if_arp.h
_LINK_TYPES: Final = {
    1: "ether",
    512: "ppp",
    768: "ipip",
    769: "tunnel6",
    772: "loopback",
    776: "sit",
    778: "gre",
    823: "gre6",
    65_534: "none",
}

# linux/rtnetlink.h, RTNH_F_*
_NEXT_HOP_FLAGS: Final = {
    0x01: "dead",
    0x04: "onlink",
    0x02: "pervasive",
    0x08: "offload",
    0x40: "trap",
    0x10: "linkdown",
    0x20: "unresolved",
}

# linux/if_addr.h, IFA_F_*: those that are a key of their own in `ip -j`
ADDRESS_FLAGS: Final = {0x01: "secondary", 0x20: "deprecated", 0x200: "noprefixroute"}


def protocol_name(number: int) -> str:
    """Return the name of a routing protocol, or its number."""
    return PROTOCOLS.get(number, str(number))


def scope_name(number: int) -> str:
    """Return the name of a scope, or its number."""
    return _SCOPES.get(number, str(number))


def link_type_name(number: int) -> str:
    """Return the name of a link type as ip(8) writes it."""
    return _LINK_TYPES.get(number, f"[{number}]")


def link_flag_names(flags: int) -> list[str]:
    """Return the names of an interface's flags."""
    no_carrier = ["NO-CARRIER"] if flags & 0x1 and not flags & 0x40 else []
    return no_carrier + [name for flag, name in _LINK_FLAGS.items() if flags & flag]


def next_hop_flag_names(flags: int) -> list[str]:
    """Return the names of a next hop's flags."""
    return [name for flag, name in _NEXT_HOP_FLAGS.items() if flags & flag]
