"""Datagrams of the tests, and how they are recognized: decoded by scapy, or by hand, never by hopwire's own code."""

import itertools
import socket
import struct
from collections.abc import Callable, Iterable
from typing import Any, Final

from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import ARP
from scapy.packet import Packet, Raw

Wanted = Callable[[bytes], bool]

IPV4: Final = b"\x08\x00"  # EtherType
ARP_TYPE: Final = b"\x08\x06"
HOST_UNREACHABLE: Final = (3, 1)
FRAGMENTATION_NEEDED: Final = (3, 4)
TIME_EXCEEDED: Final = (11, 0)
PARAMETER_PROBLEM: Final = (12, 0)
REDIRECT_HOST: Final = (5, 1)
_ERROR_TYPES: Final = (3, 4, 5, 11, 12)
_IP: Final = slice(14, 34)

_identifications = itertools.cycle(range(1, 0xFFFF))


def next_identification() -> int:
    """Return an IPv4 identification that tells one datagram of the tests from all others."""
    return next(_identifications)


def payload(length: int) -> bytes:
    """Return bytes of which no two neighbouring blocks of eight are the same."""
    return bytes((index // 8 + index * 7) & 0xFF for index in range(length))


def udp(source: str, destination: str, size: int = 64, **fields: Any) -> Packet:
    """Return an IP datagram of `size` payload bytes behind UDP, with an identification of its own."""
    if fields.keys() <= {"ttl", "tos", "flags"}:
        return IP(plain_udp(source, destination, size, **fields))
    header = IP(src=source, dst=destination, **{"id": next_identification(), "ttl": 64, **fields})
    return finished(header / UDP(sport=4000, dport=4001) / Raw(payload(size)))


def plain_udp(
    source: str,
    destination: str,
    size: int = 64,
    *,
    ttl: int = 64,
    tos: int = 0,
    flags: int = 0,
    ports: tuple[int, int] = (4000, 4001),
) -> bytes:
    """Return the same, without options, as bytes: a hundred times faster. UDP checksum 0 is none (RFC 768)."""
    body = struct.pack("!HHHH", *ports, 8 + size, 0) + payload(size)
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    words = struct.pack("!BBHHHBBH", 0x45, tos, 20 + len(body), next_identification(), flags << 13, ttl, 17, 0)
    return with_checksum(words + addresses + body)


def echo(source: str, destination: str, size: int = 56, **fields: Any) -> Packet:
    """Return an echo request whose identifier is its IP identification."""
    number = next_identification()
    header = IP(src=source, dst=destination, **{"id": number, "ttl": 64, **fields})
    return finished(header / ICMP(type=8, id=number, seq=1) / Raw(payload(size)))


def finished(packet: Packet) -> Packet:
    """Return the same datagram with lengths and checksums filled in."""
    return IP(bytes(packet))


def checksum(data: bytes) -> int:
    """Return the Internet checksum as RFC 1071 section 4.1 adds it up."""
    total: int = sum(word for (word,) in struct.iter_unpack("!H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def with_checksum(datagram: bytes) -> bytes:
    """Return a datagram with its header's checksum summed up anew."""
    length = (datagram[0] & 0xF) * 4
    head = datagram[:10] + b"\0\0" + datagram[12:length]
    return head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + datagram[length:]


def after_hop(datagram: Packet | bytes) -> bytes:
    """Return the datagram as it must leave a router: TTL one less, the checksum summed up anew."""
    data = bytes(datagram)
    return with_checksum(data[:8] + bytes((data[8] - 1,)) + data[9:])


def ip_bytes(frame: Packet | bytes) -> bytes:
    """Return the datagram in a frame, which must be all that is in it."""
    return bytes(frame)[14:]


# what to wait for


def carries(datagram: Packet) -> Wanted:
    """Any frame with this datagram or a fragment of it: same addresses, identification and protocol."""
    data = bytes(datagram)
    key = (data[4:6], data[9:10], data[12:20])
    return lambda frame: frame[12:14] == IPV4 and (frame[18:20], frame[23:24], frame[26:34]) == key


def carries_any(datagrams: Iterable[Packet | bytes]) -> Wanted:
    """Any frame with one of these datagrams, by identification and source."""
    keys = {(bytes(one)[4:6], bytes(one)[12:16]) for one in datagrams}
    return lambda frame: frame[12:14] == IPV4 and (frame[18:20], frame[26:30]) in keys


REASSEMBLY_TIME_EXCEEDED = bytes((11, 1))


def icmp_about(datagram: Packet | bytes, kind: tuple[int, int] | None = None) -> Wanted:
    """An ICMP error, of this type and code, that quotes a datagram: same identification, protocol and addresses."""
    data = bytes(datagram)
    key = (data[4:6], data[9:10], data[12:16])

    def wanted(frame: bytes) -> bool:
        quote = frame[42:]
        return (
            frame[12:14] == IPV4
            and frame[23] == 1
            and frame[34] in _ERROR_TYPES
            and kind in (None, tuple(frame[34:36]))
            and (quote[4:6], quote[9:10], quote[12:16]) == key
        )

    return wanted


def icmp_error(frame: bytes) -> bool:
    """Any ICMP error, but for a reassembly that was given up: one that an earlier test began, 30 s ago."""
    return (
        frame[12:14] == IPV4
        and frame[23] == 1
        and frame[34] in _ERROR_TYPES
        and frame[34:36] != REASSEMBLY_TIME_EXCEEDED
    )


def echo_reply(request: Packet) -> Wanted:
    """The answer to an echo request, or its first fragment."""
    data = bytes(request)
    length = (data[0] & 0xF) * 4
    identifier = data[length + 4 : length + 8]
    return lambda frame: (
        frame[12:14] == IPV4
        and frame[23] == 1
        and frame[20:22] in (b"\0\0", b"\x20\0", b"\x40\0")
        and frame[34] == 0
        and frame[38:42] == identifier
    )


def arp(**fields: object) -> Wanted:
    """An ARP message with these fields, named as in scapy."""

    def wanted(frame: bytes) -> bool:
        if frame[12:14] != ARP_TYPE:
            return False
        message = ARP(frame[14:])
        return all(getattr(message, name) == value for name, value in fields.items())

    return wanted


def to_mac(mac: str) -> Wanted:
    """Any IP frame to this MAC."""
    wanted = bytes.fromhex(mac.replace(":", ""))
    return lambda frame: frame[:6] == wanted and frame[12:14] == IPV4


def reassembled(fragments: list[Packet]) -> bytes:
    """Return the payload that fragments carry together; each byte must be there, and none twice."""
    parts = sorted((fragment[IP] for fragment in fragments), key=lambda part: part.frag)
    whole = b""
    for part in parts:
        assert part.frag * 8 == len(whole), "a gap or an overlap"
        whole += bytes(part.payload)
    assert [part.flags.MF for part in parts] == [True] * (len(parts) - 1) + [False]
    return whole


def hand_made_fragments(datagram: Packet, size: int) -> list[Packet]:
    """Return a datagram in fragments of at most `size` payload bytes, a multiple of eight."""
    data = bytes(datagram)
    head, body = data[:20], data[20:]
    parts = []
    for start in range(0, len(body), size):
        piece = body[start : start + size]
        more = 0x2000 if start + size < len(body) else 0
        flags = (more | start // 8).to_bytes(2, "big")
        total = (20 + len(piece)).to_bytes(2, "big")
        parts.append(IP(with_checksum(head[:2] + total + head[4:6] + flags + head[8:] + piece)))
    return parts
