"""Datagrams that the fast path cannot decide by itself, a kind for each flood of them. Pure."""

from collections.abc import Callable, Mapping
from ipaddress import IPv4Network
from typing import Final, NamedTuple

from services.common.wire import icmp, ipv4

BLACKHOLED: Final = IPv4Network("198.51.100.0/24")
"""A documentation network (RFC 5737) that the rig routes to nowhere."""
UNROUTED: Final = IPv4Network("203.0.113.0/24")
"""Another one, which nothing routes."""
BLACKHOLE: Final = "blackhole"
"""The control group: what the fast path drops by itself."""

_UDP: Final = b"\xc0\x00\x00\x09\x00\x12\x00\x00" + bytes(10)
"""From port 49152 to discard (RFC 863), 18 bytes, no checksum (RFC 768)."""
_RECORD_ROUTE: Final = bytes((ipv4.OPTION_RECORD_ROUTE, 7, 4, 0, 0, 0, 0, ipv4.OPTION_END))
"""RFC 791 section 3.1, with one free slot."""
_ABSENT_HOSTS: Final = 200


class Place(NamedTuple):
    """The addresses around the router."""

    source: int
    router: int
    """The router's own on the sender's link."""
    beyond: int
    """One that the router forwards to."""
    absent: int
    """The first of 200 on a link of the router's that no host has."""


def _to_beyond(place: Place, *, ttl: int = ipv4.DEFAULT_TTL, options: bytes = b"") -> bytes:
    header = ipv4.build_header(place.source, place.beyond, ipv4.PROTOCOL_UDP, len(_UDP), ttl=ttl, options=options)
    return header + _UDP


def _to(place: Place, destination: int) -> bytes:
    return ipv4.build_header(place.source, destination, ipv4.PROTOCOL_UDP, len(_UDP)) + _UDP


def _echo(place: Place, *, number: int = 0, flags: int = 0) -> bytes:
    message = icmp.build(icmp.ECHO_REQUEST, 0, number, bytes(16))
    header = ipv4.build_header(
        place.source,
        place.router,
        ipv4.PROTOCOL_ICMP,
        len(message),
        identification=number & 0xFFFF,
        flags_fragment=flags,
    )
    return header + message


KINDS: Final[Mapping[str, Callable[[Place, int], bytes]]] = {
    BLACKHOLE: lambda place, number: _to(place, int(BLACKHOLED[number % 256])),
    "no route": lambda place, number: _to(place, int(UNROUTED[number % 256])),
    "TTL 1": lambda place, _: _to_beyond(place, ttl=1),
    "record route": lambda place, _: _to_beyond(place, options=_RECORD_ROUTE),
    "ping": lambda place, number: _echo(place, number=number),
    "first fragments": lambda place, number: _echo(place, number=number, flags=ipv4.FLAG_MF),
    "absent hosts": lambda place, number: _to(place, place.absent + number % _ABSENT_HOSTS),
}
"""By what a datagram is: from the place and a running number to the datagram."""
