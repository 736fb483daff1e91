"""Transport headers where they lie in a batch: what a datagram's key is, and how it is rewritten.

Checksums are mended incrementally (RFC 1624 section 3, equation 3). A sender that left the checksum to the hardware
(NEEDS_CSUM, so also every super-frame) has put only the pseudo-header's sum there: addresses change it, ports do not.
"""

from typing import Any, Final

import numpy as np

from services.common.kernels import inlined
from services.common.wire import ethernet, icmp, ipv4, virtio_net
from services.forwarder.datagram import read16, read32
from services.forwarder.nat.layout import ICMP_REPLY, ICMP_REQUEST

_ETHERNET: Final = ethernet.HEADER_BYTES
_VIRTIO: Final = virtio_net.HEADER_BYTES
_NEEDS_CHECKSUM: Final = virtio_net.FLAG_NEEDS_CHECKSUM
_FLAGS: Final = virtio_net.FLAGS
_CHECKSUM_START: Final = virtio_net.CHECKSUM_START

TCP_HEADER_BYTES: Final = 20  # RFC 9293 section 3.1
TCP_OFFSET: Final = 12
TCP_FLAGS: Final = 13
TCP_CHECKSUM: Final = 16
UDP_HEADER_BYTES: Final = 8  # RFC 768
UDP_LENGTH: Final = 4
UDP_CHECKSUM: Final = 6
ICMP_IDENTIFIER: Final = icmp.REST  # of queries: RFC 792

# What `kind_at` says where there is no key
MALFORMED: Final = -1
"""Cut short, or with port 0."""
LATER_FRAGMENT: Final = -2
"""Its ports are in another datagram."""
ICMP_ERROR: Final = -3
UNTRANSLATABLE: Final = -4
"""A protocol whose checksum covers the addresses where nobody mends it, or an ICMP message of no session."""

# IANA, protocol-numbers: their checksums cover the addresses (RFC 4302, RFC 4340 section 9, RFC 3828)
_AUTHENTICATION: Final = 51
_DCCP: Final = 33
_UDP_LITE: Final = 136


@inlined
def is_query(icmp_type: Any) -> Any:
    """Tell whether an ICMP message asks, and has an identifier: echo, timestamp, information, address mask."""
    return icmp_type in (8, 13, 15, 17)  # RFC 792, RFC 950


@inlined
def is_answer(icmp_type: Any) -> Any:
    """Tell whether an ICMP message answers such a query."""
    return icmp_type in (0, 14, 16, 18)


@inlined
def _icmp_kind(icmp_type: Any, whole: Any) -> Any:
    if is_query(icmp_type):
        return np.int64(ICMP_REQUEST)
    if is_answer(icmp_type):
        return np.int64(ICMP_REPLY)
    is_error = icmp_type in (icmp.DESTINATION_UNREACHABLE, icmp.SOURCE_QUENCH, icmp.TIME_EXCEEDED)
    if is_error or icmp_type == icmp.PARAMETER_PROBLEM:
        return np.int64(ICMP_ERROR if whole else MALFORMED)
    return np.int64(UNTRANSLATABLE)


@inlined
def _transport_kind(area: Any, at: Any, protocol: Any, octets: Any, whole: Any) -> Any:
    """Return the kind of what begins at `at`, or MALFORMED, or UNTRANSLATABLE.

    :param octets: bytes from there to the datagram's end.
    :param whole: whether the datagram is no fragment.
    """
    if protocol == ipv4.PROTOCOL_TCP:
        if octets < TCP_HEADER_BYTES:
            return np.int64(MALFORMED)
        header = np.int64(area[at + TCP_OFFSET] >> 4) * 4
        if header < TCP_HEADER_BYTES or (whole and header > octets):
            return np.int64(MALFORMED)
    elif protocol == ipv4.PROTOCOL_UDP:
        if octets < UDP_HEADER_BYTES:
            return np.int64(MALFORMED)
        length = read16(area, at + UDP_LENGTH)
        if length < UDP_HEADER_BYTES or (whole and length > octets):
            return np.int64(MALFORMED)
    elif protocol == ipv4.PROTOCOL_ICMP:
        return np.int64(MALFORMED) if octets < icmp.HEADER_BYTES else _icmp_kind(area[at], whole)
    else:
        plain = protocol not in (_AUTHENTICATION, _DCCP, _UDP_LITE)
        return np.int64(protocol) if plain else np.int64(UNTRANSLATABLE)
    if read16(area, at) == 0 or read16(area, at + 2) == 0:
        return np.int64(MALFORMED)
    return np.int64(protocol)


@inlined
def kind_at(area: Any, ip: Any) -> Any:
    """Return the kind of a valid datagram, or one of the codes above."""
    header_bytes = np.int64(area[ip] & 0xF) * 4
    word = read16(area, ip + ipv4.FLAGS_FRAGMENT)
    if word & ipv4.OFFSET_MASK:
        return np.int64(LATER_FRAGMENT)
    octets = read16(area, ip + ipv4.TOTAL_LENGTH) - header_bytes
    return _transport_kind(area, ip + header_bytes, area[ip + ipv4.PROTOCOL], octets, word & ipv4.FLAG_MF == 0)


@inlined
def ports_at(area: Any, at: Any, kind: Any) -> Any:
    """Return source port << 16 | destination port of the transport header at `at`."""
    if kind == ipv4.PROTOCOL_TCP or kind == ipv4.PROTOCOL_UDP:  # noqa: PLR1714 - `in` is slower in compiled code
        return read32(area, at)
    if kind == ICMP_REQUEST:
        return read16(area, at + ICMP_IDENTIFIER) << 16
    return read16(area, at + ICMP_IDENTIFIER) if kind == ICMP_REPLY else np.int64(0)


@inlined
def tcp_flags(area: Any, ip: Any, kind: Any) -> Any:
    """Return the flags of a TCP segment, else 0."""
    if kind != ipv4.PROTOCOL_TCP:
        return np.int64(0)
    return np.int64(area[ip + np.int64(area[ip] & 0xF) * 4 + TCP_FLAGS])


@inlined
def write16(area: Any, place: Any, value: Any) -> None:
    """Write 16 bits in network order."""
    area[place] = value >> 8 & 0xFF
    area[place + 1] = value & 0xFF


@inlined
def write32(area: Any, place: Any, value: Any) -> None:
    """Write 32 bits in network order."""
    write16(area, place, value >> 16)
    write16(area, place + 2, value)


@inlined
def fold(total: Any) -> Any:
    """Return a ones' complement sum in 16 bits (RFC 1071 section 1)."""
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return (total & 0xFFFF) + (total >> 16)


@inlined
def change32(old: Any, new: Any) -> Any:
    """Return ~m + m' of RFC 1624 for 32 bits that change, not folded."""
    return ((old >> 16 & 0xFFFF) ^ 0xFFFF) + ((old & 0xFFFF) ^ 0xFFFF) + (new >> 16 & 0xFFFF) + (new & 0xFFFF)


@inlined
def change16(old: Any, new: Any) -> Any:
    """Return ~m + m' of RFC 1624 for 16 bits that change."""
    return (old ^ 0xFFFF) + new


@inlined
def mend(area: Any, place: Any, change: Any) -> None:
    """Mend a checksum: HC' = ~(~HC + ~m + m')."""
    write16(area, place, fold((read16(area, place) ^ 0xFFFF) + change) ^ 0xFFFF)


@inlined
def sum_of(area: Any, first: Any, octets: Any) -> Any:
    """Return the ones' complement sum of bytes, as if a zero followed an odd last one (RFC 1071)."""
    total = np.int64(0)
    for place in range(first, first + octets - 1, 2):
        total += read16(area, place)
    if octets & 1:
        total += np.int64(area[first + octets - 1]) << 8
    return fold(total)


@inlined
def is_partial(area: Any, start: Any, at: Any) -> Any:
    """Tell whether the sender left the checksum of the transport header at `at` to the hardware."""
    header = start - _VIRTIO
    if not area[header + _FLAGS] & _NEEDS_CHECKSUM:
        return False
    place = header + _CHECKSUM_START
    return np.int64(area[place]) | np.int64(area[place + 1]) << 8 == at - start


@inlined
def write_addresses(area: Any, ip: Any, source: Any, destination: Any) -> Any:
    """Write the addresses of an IPv4 header and mend its checksum; return by how much other sums change."""
    change = change32(read32(area, ip + ipv4.SOURCE), source)
    change += change32(read32(area, ip + ipv4.DESTINATION), destination)
    write32(area, ip + ipv4.SOURCE, source)
    write32(area, ip + ipv4.DESTINATION, destination)
    mend(area, ip + ipv4.CHECKSUM, change)
    return change


@inlined
def _mend_transport(area: Any, place: Any, partial: Any, addresses: Any, ports: Any, is_udp: Any) -> None:
    """Mend a checksum that covers the pseudo-header."""
    held = read16(area, place)
    if partial:
        write16(area, place, fold(held + addresses))
        return
    if is_udp and held == 0:
        return  # the sender made none (RFC 768)
    mended = fold((held ^ 0xFFFF) + addresses + ports) ^ 0xFFFF
    write16(area, place, 0xFFFF if is_udp and mended == 0 else mended)


@inlined
def write_transport(
    area: Any, at: Any, kind: Any, source_port: Any, destination_port: Any, partial: Any, addresses: Any
) -> None:
    """Write the ports of a transport header and mend its checksum.

    :param addresses: by how much the addresses change the sum.
    """
    if kind == ipv4.PROTOCOL_TCP or kind == ipv4.PROTOCOL_UDP:  # noqa: PLR1714 - as above
        is_udp = kind == ipv4.PROTOCOL_UDP
        change = change16(read16(area, at), source_port) + change16(read16(area, at + 2), destination_port)
        write16(area, at, source_port)
        write16(area, at + 2, destination_port)
        _mend_transport(area, at + (UDP_CHECKSUM if is_udp else TCP_CHECKSUM), partial, addresses, change, is_udp)
    elif kind in (ICMP_REQUEST, ICMP_REPLY):
        identifier = source_port if kind == ICMP_REQUEST else destination_port
        change = change16(read16(area, at + ICMP_IDENTIFIER), identifier)
        write16(area, at + ICMP_IDENTIFIER, identifier)
        if not partial:
            mend(area, at + icmp.CHECKSUM, change)


@inlined
def rewrite(area: Any, start: Any, kind: Any, source: Any, destination: Any, ports: Any) -> None:
    """Rewrite a datagram that is no later fragment.

    :param ports: source port << 16 | destination port.
    """
    ip = start + _ETHERNET
    at = ip + np.int64(area[ip] & 0xF) * 4
    change = write_addresses(area, ip, source, destination)
    write_transport(area, at, kind, ports >> 16 & 0xFFFF, ports & 0xFFFF, is_partial(area, start, at), change)
