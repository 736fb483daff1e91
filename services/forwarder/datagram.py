"""One datagram where it lies in a batch: compiled functions that read it, judge it by itself, and age it.

What a route or a neighbour has to do with it stands in `pipeline`. Places are offsets in the batch's area: `start` of
the Ethernet frame, `ip` of the IPv4 header.
"""

from typing import Any, Final

import numpy as np

from services.common.counters import Counter
from services.common.kernels import inlined
from services.common.wire import ethernet, icmp, ipv4, virtio_net

UNDECIDED: Final = -1
"""No verdict yet; a verdict is a column of `Counter`."""

_ETHERNET: Final = ethernet.HEADER_BYTES
_VIRTIO: Final = virtio_net.HEADER_BYTES
_HOST: Final = ethernet.PACKET_HOST
_OTHERHOST: Final = ethernet.PACKET_OTHERHOST
_NOT_IPV4: Final = int(Counter.NOT_IPV4)
_FOREIGN_MAC: Final = int(Counter.DROP_FOREIGN_MAC)
_SHORT: Final = int(Counter.DROP_IP_SHORT)
_VERSION: Final = int(Counter.DROP_IP_VERSION)
_HEADER_LENGTH: Final = int(Counter.DROP_IP_HEADER_LENGTH)
_CHECKSUM: Final = int(Counter.DROP_IP_CHECKSUM)
_TOTAL_LENGTH: Final = int(Counter.DROP_IP_TOTAL_LENGTH)
_TRUNCATED: Final = int(Counter.DROP_IP_TRUNCATED)
_MARTIAN_SOURCE: Final = int(Counter.DROP_MARTIAN_SOURCE)
_MARTIAN_DESTINATION: Final = int(Counter.DROP_MARTIAN_DESTINATION)
_OPTIONS: Final = int(Counter.OPTIONS_FILLED)
_SOURCE_ROUTED: Final = int(Counter.DROP_SOURCE_ROUTED)
_GSO_TCPV4: Final = virtio_net.GSO_TCPV4
_GSO_UDP_L4: Final = virtio_net.GSO_UDP_L4
_GSO_ECN: Final = virtio_net.GSO_ECN
_GSO_TYPE: Final = virtio_net.GSO_TYPE
_GSO_SIZE: Final = virtio_net.GSO_SIZE
_UDP_HEADER_BYTES: Final = 8  # RFC 768
_MIX_SHIFT: Final = np.uint64(33)
_MIX_1: Final = np.uint64(0xFF51_AFD7_ED55_8CCD)
_MIX_2: Final = np.uint64(0xC4CE_B9FE_1A85_EC53)
_HALF: Final = np.uint64(33)  # 31 bits are left: a positive number


@inlined
def read16(area: Any, place: Any) -> Any:
    """Return 16 bits in network order."""
    return np.int64(area[place]) << 8 | np.int64(area[place + 1])


@inlined
def read32(area: Any, place: Any) -> Any:
    """Return 32 bits in network order."""
    return read16(area, place) << 16 | read16(area, place + 2)


@inlined
def _header_sum(area: Any, ip: Any, header_bytes: Any) -> Any:
    """Return the ones' complement sum of a header: 0xFFFF where its checksum is right (RFC 1071)."""
    total = np.int64(0)
    for place in range(ip, ip + header_bytes, 2):
        total += read16(area, place)
    total = (total & 0xFFFF) + (total >> 16)
    return (total & 0xFFFF) + (total >> 16)


@inlined
def validate(area: Any, start: Any, length: Any, packet_type: Any) -> Any:
    """Return a drop's reason, or that the frame is the kernel's, or UNDECIDED: RFC 1812 section 5.2.2."""
    if packet_type == _OTHERHOST:
        return _FOREIGN_MAC
    if read16(area, start + ethernet.ETHERTYPE) != ethernet.ETHERTYPE_IPV4:
        return _NOT_IPV4
    ip = start + _ETHERNET
    payload = length - _ETHERNET
    if payload < ipv4.HEADER_BYTES:
        return _SHORT
    header_bytes = np.int64(area[ip] & 0xF) * 4
    if area[ip] >> 4 != 4:
        return _VERSION
    if header_bytes < ipv4.HEADER_BYTES or header_bytes > payload:
        return _HEADER_LENGTH
    if _header_sum(area, ip, header_bytes) != 0xFFFF:
        return _CHECKSUM
    total_length = read16(area, ip + ipv4.TOTAL_LENGTH)
    if total_length < header_bytes:
        return _TOTAL_LENGTH
    return _TRUNCATED if total_length > payload else UNDECIDED


@inlined
def martian(source: Any, destination: Any, as_linux: Any) -> Any:
    """Return a drop's reason for addresses that no datagram may carry (RFC 1812 section 5.3.7), or UNDECIDED.

    :param as_linux: whether 0/8 and class E are networks like others, as they are to Linux (ip_route_input_slow).
    """
    first = source >> 24
    # 0.0.0.0 is how a host without an address speaks (RFC 1122 3.2.1.3): to a broadcast it is the kernel's, for DHCP.
    nobody = source == 0 if as_linux else first == 0
    above = first >> 4 == 0xE or source == ipv4.LIMITED_BROADCAST if as_linux else first >= 224
    if above or first == 127 or (nobody and destination != ipv4.LIMITED_BROADCAST):
        return _MARTIAN_SOURCE
    first = destination >> 24
    nobody = destination == 0 if as_linux else first == 0
    above = first >= 240 and not as_linux
    if first == 127 or nobody or (above and destination != ipv4.LIMITED_BROADCAST):
        return _MARTIAN_DESTINATION
    return UNDECIDED


@inlined
def is_echo_request(area: Any, ip: Any, packet_type: Any) -> Any:
    """Tell whether a datagram to the router is an unfragmented echo request, sent to it alone."""
    header_bytes = np.int64(area[ip] & 0xF) * 4
    return (
        packet_type == _HOST
        and area[ip + ipv4.PROTOCOL] == ipv4.PROTOCOL_ICMP
        and read16(area, ip + ipv4.FLAGS_FRAGMENT) & (ipv4.FLAG_MF | ipv4.OFFSET_MASK) == 0
        and read16(area, ip + ipv4.TOTAL_LENGTH) >= header_bytes + icmp.HEADER_BYTES
        and area[ip + header_bytes] == icmp.ECHO_REQUEST
    )


@inlined
def is_icmp_fragment(area: Any, ip: Any, packet_type: Any) -> Any:
    """Tell whether a datagram to the router may be part of an echo request, sent to it alone."""
    return (
        packet_type == _HOST
        and area[ip + ipv4.PROTOCOL] == ipv4.PROTOCOL_ICMP
        and read16(area, ip + ipv4.FLAGS_FRAGMENT) & (ipv4.FLAG_MF | ipv4.OFFSET_MASK) != 0
    )


@inlined
def judge_options(area: Any, ip: Any) -> Any:
    """Return a drop's reason, or that there is something to fill in, or UNDECIDED: RFC 791 section 3.1.

    A malformed option ends the search; it is the slow path's, which names the byte that is wrong.
    """
    verdict = UNDECIDED
    place = ip + ipv4.HEADER_BYTES
    end = ip + np.int64(area[ip] & 0xF) * 4
    while place < end and area[place] != ipv4.OPTION_END:
        if area[place] in (ipv4.OPTION_LSRR, ipv4.OPTION_SSRR):
            return _SOURCE_ROUTED
        if area[place] == ipv4.OPTION_NOP:
            place += 1
            continue
        if area[place] in (ipv4.OPTION_RECORD_ROUTE, ipv4.OPTION_TIMESTAMP):
            verdict = _OPTIONS
        length = np.int64(area[place + 1]) if place + 1 < end else 0
        if length < 2 or place + length > end:
            return _OPTIONS
        place += length
    return verdict


@inlined
def flow_hash(area: Any, ip: Any, seed: Any) -> Any:
    """Return a hash of addresses, protocol and ports (RFC 2992 section 2); of fragments without the ports.

    :param seed: another one gives other hashes.
    """
    header_bytes = np.int64(area[ip] & 0xF) * 4
    protocol = np.int64(area[ip + ipv4.PROTOCOL])
    ports = np.int64(0)
    whole = read16(area, ip + ipv4.FLAGS_FRAGMENT) & (ipv4.FLAG_MF | ipv4.OFFSET_MASK) == 0
    if (
        whole
        and (protocol in (ipv4.PROTOCOL_TCP, ipv4.PROTOCOL_UDP))
        and read16(area, ip + ipv4.TOTAL_LENGTH) >= header_bytes + 4
    ):
        ports = read32(area, ip + header_bytes)
    addresses = read32(area, ip + ipv4.SOURCE) << 32 | read32(area, ip + ipv4.DESTINATION)
    value = mix(np.uint64(addresses) ^ np.uint64(seed))
    return np.int64(mix(value ^ np.uint64(protocol << 32 | ports)) >> _HALF)


@inlined
def mix(value: Any) -> Any:
    """Return a number of which each bit depends on every bit of `value`: the finaliser of MurmurHash3, 64 bits."""
    value = (value ^ (value >> _MIX_SHIFT)) * _MIX_1
    value = (value ^ (value >> _MIX_SHIFT)) * _MIX_2
    return value ^ (value >> _MIX_SHIFT)


@inlined
def longest_part(area: Any, start: Any) -> Any:
    """Return the bytes of IP of the longest datagram on the wire that a frame stands for.

    A super-frame (GSO) is larger than any MTU without being too big: what counts is each part it will be cut into.
    """
    ip = start + _ETHERNET
    total_length = read16(area, ip + ipv4.TOTAL_LENGTH)
    gso_type = area[start - _VIRTIO + _GSO_TYPE] & ~np.uint8(_GSO_ECN)
    header_bytes = np.int64(area[ip] & 0xF) * 4
    if gso_type == _GSO_TCPV4 and total_length >= header_bytes + 20:
        header_bytes += np.int64(area[ip + header_bytes + 12] >> 4) * 4  # the data offset of TCP, RFC 9293 3.1
    elif gso_type == _GSO_UDP_L4:
        header_bytes += _UDP_HEADER_BYTES
    else:
        return total_length
    place = start - _VIRTIO + _GSO_SIZE
    gso_size = np.int64(area[place]) | np.int64(area[place + 1]) << 8
    return min(total_length, header_bytes + gso_size)


@inlined
def decrement_ttl(area: Any, ip: Any) -> None:
    """Take one off the TTL and mend the checksum: RFC 1624 section 3, equation 3, HC' = ~(~HC + ~m + m')."""
    old = read16(area, ip + ipv4.TTL)
    area[ip + ipv4.TTL] -= 1
    total = (read16(area, ip + ipv4.CHECKSUM) ^ 0xFFFF) + (old ^ 0xFFFF) + old - 0x100
    total = (total & 0xFFFF) + (total >> 16)
    total = ((total & 0xFFFF) + (total >> 16)) ^ 0xFFFF
    area[ip + ipv4.CHECKSUM] = total >> 8
    area[ip + ipv4.CHECKSUM + 1] = total & 0xFF
