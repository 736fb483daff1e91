"""ICMP errors about translated datagrams: RFC 5508 sections 4 and 7. The header that they quote is translated too."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from services.common.kernels import inlined, kernel
from services.common.wire import ethernet, icmp, ipv4
from services.forwarder.datagram import read16, read32
from services.forwarder.nat.headers import (
    TCP_CHECKSUM,
    UDP_CHECKSUM,
    change16,
    change32,
    fold,
    is_partial,
    is_query,
    mend,
    ports_at,
    sum_of,
    write16,
    write32,
    write_addresses,
)
from services.forwarder.nat.keys import (
    addresses_word,
    destination_of,
    destination_port_of,
    key_hash,
    key_place,
    kind_of,
    reverse_addresses,
    reverse_ports,
    source_of,
    source_port_of,
)
from services.forwarder.nat.layout import (
    ABSENT,
    ICMP_REPLY,
    ICMP_REQUEST,
    KIND_SHIFT,
    NAT,
    ORIGINAL,
    REPLY,
    SESSION_WORDS,
    NatArrays,
)
from services.forwarder.nat.sessions import find_live

_ETHERNET: Final = ethernet.HEADER_BYTES
_QUOTED_BYTES: Final = 8  # of what is behind the quoted header: RFC 792

UNSOUND: Final = -2
"""Beside ABSENT: what `find_error` says where the checksum is wrong, or the quote is short, damaged, or a lie."""


@inlined
def _quoted_kind(area: Any, quote: Any, octets: Any) -> Any:
    """Return the kind of a quoted datagram, or ABSENT where it is too short, damaged, or has no ports."""
    if octets < ipv4.HEADER_BYTES + _QUOTED_BYTES or area[quote] >> 4 != 4:
        return np.int64(ABSENT)
    header_bytes = np.int64(area[quote] & 0xF) * 4
    if header_bytes < ipv4.HEADER_BYTES or octets < header_bytes + _QUOTED_BYTES:
        return np.int64(ABSENT)
    if sum_of(area, quote, header_bytes) != 0xFFFF:  # RFC 5508 REQ-3
        return np.int64(ABSENT)
    if read16(area, quote + ipv4.FLAGS_FRAGMENT) & ipv4.OFFSET_MASK:
        return np.int64(ABSENT)
    protocol = np.int64(area[quote + ipv4.PROTOCOL])
    if protocol == ipv4.PROTOCOL_ICMP:
        if is_query(area[quote + header_bytes]):
            return np.int64(ICMP_REQUEST)
        return np.int64(ICMP_REPLY) if area[quote + header_bytes] in (0, 14, 16, 18) else np.int64(ABSENT)
    return protocol


@kernel("int64", NAT, "uint8[::1]", "int64")
def find_error(nat: NatArrays, area: npt.NDArray[np.uint8], start: int) -> Any:
    """Return session << 1 | direction of the session that an ICMP error is about, or ABSENT, or UNSOUND.

    The direction is that of the session's datagrams that go the way of the error.
    """
    ip = start + _ETHERNET
    at = ip + np.int64(area[ip] & 0xF) * 4
    octets = read16(area, ip + ipv4.TOTAL_LENGTH) - (at - ip)
    if not is_partial(area, start, at) and sum_of(area, at, octets) != 0xFFFF:  # RFC 5508 REQ-3
        return np.int64(UNSOUND)
    quote = at + icmp.HEADER_BYTES
    kind = _quoted_kind(area, quote, octets - icmp.HEADER_BYTES)
    # an error goes to the source of what it quotes; one that does not, lies
    if kind == ABSENT or read32(area, quote + ipv4.SOURCE) != read32(area, ip + ipv4.DESTINATION):
        return np.int64(UNSOUND)
    quoted = addresses_word(read32(area, quote + ipv4.SOURCE), read32(area, quote + ipv4.DESTINATION))
    transport = quote + np.int64(area[quote] & 0xF) * 4
    addresses = reverse_addresses(quoted)
    ports = reverse_ports(kind << KIND_SHIFT | ports_at(area, transport, kind))
    return find_live(nat, key_hash(nat, addresses, ports), addresses, ports)


@inlined
def quoted_source_port(area: Any, start: Any) -> Any:
    """Return the source port in the quote of a sound ICMP error, or ABSENT where it quotes neither TCP nor UDP."""
    ip = start + _ETHERNET
    quote = ip + np.int64(area[ip] & 0xF) * 4 + icmp.HEADER_BYTES
    if area[quote + ipv4.PROTOCOL] not in (ipv4.PROTOCOL_TCP, ipv4.PROTOCOL_UDP):
        return np.int64(ABSENT)
    return read16(area, quote + np.int64(area[quote] & 0xF) * 4)


@inlined
def error_destination(nat: Any, found: Any) -> Any:
    """Return where an error about a session goes."""
    return source_of(nat.sessions[(found >> 1) * SESSION_WORDS + (ORIGINAL if found & 1 else REPLY)])


@inlined
def error_source(nat: Any, area: Any, start: Any, found: Any) -> Any:
    """Return the source that an error about a session leaves with.

    It stays unless it is of the side that the session hides: then it is the address that this side has outside.
    """
    outside = destination_of(nat.sessions[key_place(found >> 1, 1 - (found & 1))])
    if source_of(nat.sessions[key_place(found >> 1, found & 1)]) != outside:
        return outside
    return read32(area, start + _ETHERNET + ipv4.SOURCE)


@inlined
def _rewrite_quote(area: Any, quote: Any, octets: Any, addresses: Any, ports: Any) -> None:
    """Make a quoted datagram the one that its sender has sent, as far as it is quoted."""
    header_bytes = np.int64(area[quote] & 0xF) * 4
    at = quote + header_bytes
    change = write_addresses(area, quote, source_of(addresses), destination_of(addresses))
    kind = kind_of(ports)
    if kind in (ICMP_REQUEST, ICMP_REPLY):
        identifier = source_port_of(ports) if kind == ICMP_REQUEST else destination_port_of(ports)
        mend(area, at + icmp.CHECKSUM, change16(read16(area, at + icmp.REST), identifier))
        write16(area, at + icmp.REST, identifier)
        return
    if kind not in (ipv4.PROTOCOL_TCP, ipv4.PROTOCOL_UDP):
        return
    change += change32(read32(area, at), ports & 0xFFFF_FFFF)
    write32(area, at, ports & 0xFFFF_FFFF)
    place = at + (UDP_CHECKSUM if kind == ipv4.PROTOCOL_UDP else TCP_CHECKSUM)
    if place + 2 > quote + octets or (kind == ipv4.PROTOCOL_UDP and read16(area, place) == 0):
        return
    mended = fold((read16(area, place) ^ 0xFFFF) + change) ^ 0xFFFF
    write16(area, place, 0xFFFF if kind == ipv4.PROTOCOL_UDP and mended == 0 else mended)


@kernel("void", NAT, "uint8[::1]", "int64", "int64")
def rewrite_error(nat: NatArrays, area: npt.NDArray[np.uint8], start: int, found: int) -> None:
    """Translate an ICMP error about a session: RFC 5508 REQ-4, REQ-5."""
    ip = start + _ETHERNET
    at = ip + np.int64(area[ip] & 0xF) * 4
    octets = read16(area, ip + ipv4.TOTAL_LENGTH) - (at - ip)
    other = key_place(found >> 1, 1 - (found & 1))
    addresses = nat.sessions[other]
    _rewrite_quote(area, at + icmp.HEADER_BYTES, octets - icmp.HEADER_BYTES, addresses, nat.sessions[other + 1])
    write_addresses(area, ip, error_source(nat, area, start, found), source_of(addresses))
    if not is_partial(area, start, at):
        write16(area, at + icmp.CHECKSUM, 0)
        write16(area, at + icmp.CHECKSUM, sum_of(area, at, octets) ^ 0xFFFF)
