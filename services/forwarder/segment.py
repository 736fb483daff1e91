"""Cutting a super-frame (GSO) into the datagrams that it stands for, pure.

It is what the kernel does where it hands a super-frame to a link without offloads: Linux tcp_gso_segment() and
__udp_gso_segment(), virtio 1.2 section 5.1.6.
"""

from collections.abc import Iterator
from typing import Final

from services.common.wire import ethernet, ipv4, virtio_net
from services.common.wire.checksum import internet_checksum, ones_complement_sum

_TCP_SEQUENCE: Final = 4  # byte offsets in a TCP header: RFC 9293 section 3.1
_TCP_DATA_OFFSET: Final = 12
_TCP_FLAGS: Final = 13
_TCP_CHECKSUM: Final = 16
_TCP_HEADER_BYTES: Final = 20
_FIN_PSH: Final = 0x01 | 0x08
_CWR: Final = 0x80
_UDP_LENGTH: Final = 4  # byte offsets in a UDP header: RFC 768
_UDP_CHECKSUM: Final = 6
_UDP_HEADER_BYTES: Final = 8


class SuperFrameError(ValueError):
    """The headers of a super-frame contradict each other, or are of a kind that no IPv4 datagram is."""


def segment_count(header: virtio_net.VirtioNetHeader, frame: bytes) -> int:
    """Return into how many datagrams an Ethernet frame will be cut at most."""
    return -(-len(frame) // max(header.gso_size, 1)) if _is_cut(header) else 1


def segments(header: virtio_net.VirtioNetHeader, frame: bytes) -> list[bytes]:
    """Return the datagrams that an Ethernet frame stands for, with all their checksums.

    :raises SuperFrameError: it cannot be cut.
    """
    if not _is_cut(header):
        return [virtio_net.finish_checksum(header, frame)[ethernet.HEADER_BYTES :]]
    datagram = frame[ethernet.HEADER_BYTES :]
    ip = ipv4.parse(datagram)
    protocol, cut = _CUTS.get(header.gso_type & ~virtio_net.GSO_ECN, (None, _tcp_segments))
    if ip.protocol != protocol or ip.more_fragments or ip.fragment_offset or not header.gso_size:
        raise SuperFrameError
    head = datagram[: ip.header_length]
    message = datagram[ip.header_length : ip.total_length]
    pseudo_header = datagram[ipv4.SOURCE : ipv4.HEADER_BYTES] + bytes((0, ip.protocol))
    return [
        _ip_header(head, number, len(segment)) + segment
        for number, segment in enumerate(cut(message, header.gso_size, pseudo_header))
    ]


def _is_cut(header: virtio_net.VirtioNetHeader) -> bool:
    # GSO_UDP is one long datagram that is to leave in fragments: nothing but IP has to cut it.
    return header.is_gso and header.gso_type & ~virtio_net.GSO_ECN != virtio_net.GSO_UDP


def _ip_header(head: bytes, number: int, payload_length: int) -> bytes:
    """Return the header of one part; each has an identification of its own, one up from the last (Linux)."""
    identification = int.from_bytes(head[ipv4.IDENTIFICATION : ipv4.IDENTIFICATION + 2], "big") + number
    return ipv4.with_checksum(
        head[: ipv4.TOTAL_LENGTH]
        + (len(head) + payload_length).to_bytes(2, "big")
        + (identification & 0xFFFF).to_bytes(2, "big")
        + head[ipv4.FLAGS_FRAGMENT :]
    )


def _pieces(payload: bytes, size: int) -> Iterator[tuple[int, bytes]]:
    """Return the pieces of a payload with their places; one empty piece of an empty payload."""
    return ((place, payload[place : place + size]) for place in range(0, max(len(payload), 1), size))


def _tcp_segments(message: bytes, size: int, pseudo_header: bytes) -> Iterator[bytes]:
    header_bytes = (message[_TCP_DATA_OFFSET] >> 4) * 4 if len(message) >= _TCP_HEADER_BYTES else 0
    if not _TCP_HEADER_BYTES <= header_bytes <= len(message):
        raise SuperFrameError
    payload = message[header_bytes:]
    first = int.from_bytes(message[_TCP_SEQUENCE : _TCP_SEQUENCE + 4], "big")
    for place, piece in _pieces(payload, size):
        head = bytearray(message[:header_bytes])
        head[_TCP_SEQUENCE : _TCP_SEQUENCE + 4] = ((first + place) & 0xFFFF_FFFF).to_bytes(4, "big")
        if place + len(piece) < len(payload):
            head[_TCP_FLAGS] &= ~_FIN_PSH & 0xFF
        if place:
            head[_TCP_FLAGS] &= ~_CWR & 0xFF  # said once: RFC 3168 section 6.1.2
        yield _with_checksum(bytes(head), piece, _TCP_CHECKSUM, pseudo_header)


def _udp_segments(message: bytes, size: int, pseudo_header: bytes) -> Iterator[bytes]:
    if len(message) < _UDP_HEADER_BYTES:
        raise SuperFrameError
    for _, piece in _pieces(message[_UDP_HEADER_BYTES:], size):
        length = (_UDP_HEADER_BYTES + len(piece)).to_bytes(2, "big")
        head = message[:_UDP_LENGTH] + length + message[_UDP_CHECKSUM:_UDP_HEADER_BYTES]
        yield _with_checksum(head, piece, _UDP_CHECKSUM, pseudo_header)


def _with_checksum(head: bytes, piece: bytes, place: int, pseudo_header: bytes) -> bytes:
    """Return a TCP segment or UDP datagram with its checksum (RFC 9293 section 3.1, RFC 768)."""
    blank = head[:place] + bytes(2) + head[place + 2 :] + piece
    pseudo_sum = ones_complement_sum(pseudo_header + len(blank).to_bytes(2, "big"))
    checksum = internet_checksum(blank, pseudo_sum) or 0xFFFF  # 0 says "no checksum" in UDP
    return blank[:place] + checksum.to_bytes(2, "big") + blank[place + 2 :]


_CUTS: Final = {
    virtio_net.GSO_TCPV4: (ipv4.PROTOCOL_TCP, _tcp_segments),
    virtio_net.GSO_UDP_L4: (ipv4.PROTOCOL_UDP, _udp_segments),
}
