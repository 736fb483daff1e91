"""Datagrams of both sides, and a reader that adds up every checksum of what arrives: by scapy, or by hand."""

from collections.abc import Iterable
from typing import Any, Final

from conformance.datagrams import checksum, finished, next_identification, payload
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.packet import Packet, Raw

Endpoint = tuple[str, int]

TCP_NUMBER, UDP_NUMBER, ICMP_NUMBER = 6, 17, 1
ECHO, ECHO_REPLY, TIMESTAMP, TIMESTAMP_REPLY = 8, 0, 13, 14
_ERRORS: Final = (3, 4, 5, 11, 12)
_ETHERNET_BYTES: Final = 14
_IP_BYTES: Final = 20
_ICMP_BYTES: Final = 8


def udp(source: Endpoint, destination: Endpoint, data: bytes = payload(32), **ip: Any) -> Packet:
    """Return a UDP datagram."""
    header = _header(source[0], destination[0], ip)
    return finished(header / UDP(sport=source[1], dport=destination[1]) / Raw(data))


def tcp(source: Endpoint, destination: Endpoint, flags: str = "S", data: bytes = b"", **fields: Any) -> Packet:
    """Return a TCP segment; `seq` and `ack` may be given."""
    segment = TCP(sport=source[1], dport=destination[1], flags=flags, window=8192, **{"seq": 1000, **fields})
    return finished(_header(source[0], destination[0], {}) / segment / Raw(data))


def query(source: Endpoint, destination: str, icmp_type: int = ECHO, **ip: Any) -> Packet:
    """Return an ICMP query, or with its type an answer; the port of `source` is the identifier."""
    message = ICMP(type=icmp_type, id=source[1], seq=1)
    times = message if icmp_type in (TIMESTAMP, TIMESTAMP_REPLY) else message / Raw(payload(40))
    return finished(_header(source[0], destination, ip) / times)


def error(source: str, about: bytes, kind: tuple[int, int] = (3, 3), rest: int = 0, to: str | None = None) -> Packet:
    """Return an ICMP error about a datagram, to its sender unless said.

    :param about: what is quoted, whole or in part.
    :param rest: the 32-bit word behind the checksum.
    """
    destination = to or ".".join(map(str, about[12:16]))
    head = bytes((*kind, 0, 0)) + rest.to_bytes(4, "big")
    body = with_icmp_checksum(head + bytes(about))
    return finished(_header(source, destination, {"proto": ICMP_NUMBER}) / Raw(body))


def with_icmp_checksum(message: bytes) -> bytes:
    """Return an ICMP message with its checksum summed up anew."""
    bare = message[:2] + b"\0\0" + message[4:]
    return bare[:2] + checksum(bare).to_bytes(2, "big") + bare[4:]


def _header(source: str, destination: str, fields: dict[str, Any]) -> Packet:
    return IP(src=source, dst=destination, **{"id": next_identification(), "ttl": 64, **fields})


def ends(datagram: Packet) -> tuple[Endpoint, Endpoint]:
    """Return the source and the destination of a TCP segment or a UDP datagram."""
    layer = datagram[TCP] if TCP in datagram else datagram[UDP]
    return (datagram.src, layer.sport), (datagram.dst, layer.dport)


def data_of(datagram: Packet) -> bytes:
    """Return what is behind the transport header, or behind an ICMP header."""
    body = bytes(datagram)[datagram.ihl * 4 :]
    if datagram.proto == TCP_NUMBER:
        return body[(body[12] >> 4) * 4 :]
    return body[8:]


def transport_sum(datagram: bytes) -> int:
    """Return what a datagram's transport checksum adds up to, pseudo-header included: 0 where it is right."""
    header_bytes = (datagram[0] & 0xF) * 4
    body = datagram[header_bytes : int.from_bytes(datagram[2:4], "big")]
    pseudo = datagram[12:20] + bytes((0, datagram[9])) + len(body).to_bytes(2, "big")
    return checksum(pseudo + body)


# what must be true of everything that arrives


def check(frames: Iterable[bytes]) -> None:
    """Check all checksums of the IP datagrams among frames; fragments are put together first.

    :raises AssertionError: one is wrong; or what is quoted in an ICMP error is.
    """
    parts: dict[bytes, list[bytes]] = {}
    for frame in frames:
        if frame[12:14] != b"\x08\x00":
            continue
        datagram = frame[_ETHERNET_BYTES : _ETHERNET_BYTES + int.from_bytes(frame[16:18], "big")]
        header_bytes = (datagram[0] & 0xF) * 4
        assert checksum(datagram[:header_bytes]) == 0, f"IP header checksum: {datagram.hex()}"
        if int.from_bytes(datagram[6:8], "big") & 0x3FFF:
            parts.setdefault(datagram[4:6] + datagram[9:10] + datagram[12:20], []).append(datagram)
        else:
            _check_transport(datagram)
    for fragments in parts.values():
        whole = joined(fragments)
        if whole is not None:
            _check_transport(whole)


def joined(fragments: list[bytes]) -> bytes | None:
    """Return the datagram that fragments make up together, or None while something is missing or contradicts."""
    ordered = sorted(set(fragments), key=_offset)
    body = b""
    for part in ordered:
        if _offset(part) != len(body):
            return None
        body += part[(part[0] & 0xF) * 4 :]
    if ordered[-1][6] & 0x20:
        return None
    head = ordered[0][:2] + (_IP_BYTES + len(body)).to_bytes(2, "big") + ordered[0][4:6] + b"\0\0" + ordered[0][8:20]
    return head + body


def _offset(part: bytes) -> int:
    return (int.from_bytes(part[6:8], "big") & 0x1FFF) * 8


def _check_transport(datagram: bytes) -> None:
    body = datagram[(datagram[0] & 0xF) * 4 :]
    match datagram[9]:
        case 6:
            assert transport_sum(datagram) == 0, f"TCP checksum: {datagram.hex()}"
        case 17:
            assert body[6:8] == b"\0\0" or transport_sum(datagram) == 0, f"UDP checksum: {datagram.hex()}"
        case 1:
            assert checksum(body) == 0, f"ICMP checksum: {datagram.hex()}"
            if body[0] in _ERRORS and len(body) >= _ICMP_BYTES + _IP_BYTES:
                quote = body[_ICMP_BYTES:]
                assert checksum(quote[: (quote[0] & 0xF) * 4]) == 0, f"checksum of the quoted header: {datagram.hex()}"
