"""The ICMP messages that the probes send and understand (RFC 792). Pure: bytes in, fields out."""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from services.common.wire import icmp, ipv4
from services.common.wire.checksum import internet_checksum

_ECHO = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence number
_VERSION: Final = 4

_UNREACHABLE_NAMES: Final = {
    0: "network unreachable",
    1: "host unreachable",
    2: "protocol unreachable",
    3: "port unreachable",
    4: "fragmentation needed",
    5: "source route failed",
    13: "administratively prohibited",  # RFC 1812 section 5.2.7.1
}
_TYPE_NAMES: Final = {
    icmp.SOURCE_QUENCH: "source quench",
    icmp.REDIRECT: "redirect",
    icmp.TIME_EXCEEDED: "time exceeded",
    icmp.PARAMETER_PROBLEM: "parameter problem",
}


@dataclass(frozen=True)
class EchoReply:
    """An echo reply; `ttl` is what was left of it on arrival."""

    source: IPv4Address
    ttl: int
    identifier: int
    sequence: int
    payload: bytes


@dataclass(frozen=True)
class IcmpError:
    """An ICMP error about an echo request with this identifier and sequence number.

    `mtu` is the next hop's, in bytes, in "fragmentation needed" (RFC 1191 section 4), and otherwise None.
    """

    source: IPv4Address
    type: int
    code: int
    mtu: int | None
    destination: IPv4Address
    identifier: int
    sequence: int


@dataclass(frozen=True)
class Damaged:
    """A message whose checksum or lengths are wrong."""

    source: IPv4Address


def echo_request(identifier: int, sequence: int, payload: bytes) -> bytes:
    """Return an echo request; identifier and sequence number have 16 bits."""
    return icmp.build(icmp.ECHO_REQUEST, 0, identifier << 16 | sequence, payload)


def parse(datagram: bytes) -> EchoReply | IcmpError | Damaged | None:
    """Read what a raw ICMP socket has received, from the IP header on.

    The kernel has checked the IP header. None: a message that no echo request of ours can have caused.
    """
    header_bytes = (datagram[0] & 0xF) * 4
    source = IPv4Address(datagram[ipv4.SOURCE : ipv4.SOURCE + 4])
    message = datagram[header_bytes:]
    if len(message) < icmp.HEADER_BYTES or internet_checksum(message) != 0:
        return Damaged(source)
    icmp_type, code, _checksum, high, low = _ECHO.unpack_from(message)
    if icmp_type == icmp.ECHO_REPLY:
        return EchoReply(source, datagram[ipv4.TTL], high, low, message[icmp.HEADER_BYTES :])
    if not icmp.is_error(icmp_type):
        return None
    quoted = _quoted_echo(message[icmp.HEADER_BYTES :])
    if quoted is None:
        return None
    needs_fragments = (icmp_type, code) == (icmp.DESTINATION_UNREACHABLE, icmp.FRAGMENTATION_NEEDED)
    return IcmpError(source, icmp_type, code, low if needs_fragments else None, *quoted)


def _quoted_echo(quote: bytes) -> tuple[IPv4Address, int, int] | None:
    """Return destination, identifier and sequence number of the echo request that an error quotes, if it is one."""
    if len(quote) < ipv4.HEADER_BYTES or quote[0] >> 4 != _VERSION or quote[ipv4.PROTOCOL] != ipv4.PROTOCOL_ICMP:
        return None
    message = quote[(quote[0] & 0xF) * 4 :]
    if len(message) < icmp.HEADER_BYTES or message[icmp.TYPE] != icmp.ECHO_REQUEST:
        return None
    _type, _code, _checksum, identifier, sequence = _ECHO.unpack_from(message)
    return IPv4Address(quote[ipv4.DESTINATION : ipv4.DESTINATION + 4]), identifier, sequence


def error_name(icmp_type: int, code: int) -> str:
    """Return an ICMP error's name in RFC 792's words, or its numbers if it has none."""
    if icmp_type == icmp.DESTINATION_UNREACHABLE and code in _UNREACHABLE_NAMES:
        return _UNREACHABLE_NAMES[code]
    return _TYPE_NAMES.get(icmp_type, f"ICMP type {icmp_type} code {code}")
