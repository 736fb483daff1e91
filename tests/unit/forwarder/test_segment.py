"""Super-frames cut into the datagrams that they stand for; headers written by hand, checksums added up by hand."""

import struct

import pytest

from services.common.wire import virtio_net
from services.forwarder.segment import SuperFrameError, segment_count, segments
from tests.oracle.router import checksum

ETHERNET = bytes.fromhex("020000000001 020000000099 0800")
ADDRESSES = bytes.fromhex("c0a80102 c6336407")
FIN, SYN, PSH, ACK, ECE, CWR = 0x01, 0x02, 0x08, 0x10, 0x40, 0x80
TCP, UDP = 6, 17
DATA = bytes(number * 7 % 256 for number in range(2500))


def header(gso_type: int = 1, gso_size: int = 1000) -> virtio_net.VirtioNetHeader:
    return virtio_net.parse(struct.pack("=BBHHHH", 1, gso_type, 54, gso_size, 34, 16))


def ip(payload: bytes, protocol: int, *, word: int = 0, options: bytes = b"", identification: int = 0xFFFF) -> bytes:
    head = struct.pack(
        "!BBHHHBBH",
        0x45 + len(options) // 4,
        0xB9,
        20 + len(options) + len(payload),
        identification,
        word,
        63,
        protocol,
        0,
    )
    head += ADDRESSES + options
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def tcp(flags: int, data: bytes = DATA, *, sequence: int = 0xFFFF_FF00, options: bytes = b"") -> bytes:
    offset = (20 + len(options)) // 4 << 4
    return struct.pack("!HHIIBBHHH", 1000, 80, sequence, 77, offset, flags, 500, 0xDEAD, 9) + options + data


def cut(datagram: bytes, gso_type: int = 1, gso_size: int = 1000) -> list[bytes]:
    return segments(header(gso_type, gso_size), ETHERNET + datagram)


def whole_checksum(datagram: bytes) -> int:
    """0 where the checksum of TCP or UDP is right: RFC 9293 section 3.1."""
    header_bytes = 4 * (datagram[0] & 15)
    payload = datagram[header_bytes:]
    return checksum(datagram[12:20] + struct.pack("!BBH", 0, datagram[9], len(payload)) + payload)


def test_tcp() -> None:
    parts = cut(ip(tcp(FIN | PSH | ACK | CWR | ECE), TCP))
    assert [len(part) for part in parts] == [1040, 1040, 540]
    assert b"".join(part[40:] for part in parts) == DATA
    assert [int.from_bytes(part[2:4], "big") for part in parts] == [1040, 1040, 540]
    assert [int.from_bytes(part[4:6], "big") for part in parts] == [0xFFFF, 0, 1]
    # the sequence number passes 2**32: ffffff00 + 3e8 = 2e8, + 3e8 = 6d0
    assert [part[24:28].hex() for part in parts] == ["ffffff00", "000002e8", "000006d0"]
    assert [part[33] for part in parts] == [ACK | CWR | ECE, ACK | ECE, FIN | PSH | ACK | ECE]
    for part in parts:
        assert part[:2] + part[6:10] + part[12:20] == bytes.fromhex("45b9 0000 3f06") + ADDRESSES
        assert part[20:24] + part[28:33] + part[34:36] + part[38:40] == bytes.fromhex("03e8 0050 0000004d 50 01f4 0009")
        assert checksum(part[:20]) == 0
        assert whole_checksum(part) == 0


def test_options_of_both_headers_are_in_every_part() -> None:
    alert, stamp = bytes.fromhex("94040000"), bytes.fromhex("0101 080a 00000001 00000002")
    parts = cut(ip(tcp(ACK, options=stamp), TCP, options=alert))
    assert [part[20:24] + part[44:56] for part in parts] == [alert + stamp] * 3
    assert b"".join(part[56:] for part in parts) == DATA
    assert [whole_checksum(part) for part in parts] == [0, 0, 0]


@pytest.mark.parametrize(("size", "lengths"), [(2500, [2500]), (2499, [2499, 1]), (1250, [1250, 1250]), (9000, [2500])])
def test_sizes(size: int, lengths: list[int]) -> None:
    assert [len(part) - 40 for part in cut(ip(tcp(PSH | ACK), TCP), gso_size=size)] == lengths


def test_a_segment_without_data_stays_one() -> None:
    (part,) = cut(ip(tcp(FIN | ACK, b""), TCP))
    assert part[33] == FIN | ACK
    assert whole_checksum(part) == 0


def test_the_ecn_bit_of_the_gso_type_changes_nothing() -> None:
    assert cut(ip(tcp(ACK | CWR), TCP), gso_type=0x81) == cut(ip(tcp(ACK | CWR), TCP))


def test_udp() -> None:
    parts = cut(ip(struct.pack("!HHHH", 53, 4000, 2508, 0xDEAD) + DATA, UDP), gso_type=5)
    assert b"".join(part[28:] for part in parts) == DATA
    assert [part[20:26].hex() for part in parts] == ["00350fa003f0", "00350fa003f0", "00350fa001fc"]
    assert [int.from_bytes(part[4:6], "big") for part in parts] == [0xFFFF, 0, 1]
    assert [whole_checksum(part) for part in parts] == [0, 0, 0]


def test_a_checksum_that_would_be_zero_says_that_there_is_one() -> None:
    """RFC 768: 0 stands for no checksum. c0a8 + 0102 + c633 + 6407 + 11 + a + 35 + fa0 + a = 1fbde -> fbdf; + 0420."""
    (part,) = cut(ip(bytes.fromhex("0035 0fa0 000a dead 0420"), UDP), gso_type=5)
    assert part[26:28] == b"\xff\xff"


def test_a_frame_that_is_none_gets_its_checksum_and_nothing_else() -> None:
    message = bytes.fromhex("8235 829b 0010 aaaa 0000 0000 0000 0000")
    plain = ip(message, UDP)
    # 8235 + 829b + 0010 + aaaa = 1af8a -> af8b, inverted 5074
    unfinished = virtio_net.parse(struct.pack("=BBHHHH", 1, 0, 0, 0, 34, 6))
    assert segments(unfinished, ETHERNET + plain) == [plain[:26] + bytes.fromhex("5074") + plain[28:]]
    finished = virtio_net.parse(bytes(10))
    assert segments(finished, ETHERNET + plain) == [plain]
    # to be fragmented, not cut: linux/virtio_net.h, GSO_UDP
    assert segments(header(3), ETHERNET + ip(tcp(ACK), UDP))[0][:36] == ip(tcp(ACK), UDP)[:36]


BROKEN = {
    "TCP that is said to be UDP": (ip(tcp(ACK), TCP), 5, 1000),
    "UDP that is said to be TCP": (ip(tcp(ACK), UDP), 1, 1000),
    "IPv6": (ip(tcp(ACK), TCP), 4, 1000),
    "a kind that there is not": (ip(tcp(ACK), TCP), 9, 1000),
    "segments of nothing": (ip(tcp(ACK), TCP), 1, 0),
    "a first fragment": (ip(tcp(ACK), TCP, word=0x2000), 1, 1000),
    "a last fragment": (ip(tcp(ACK), TCP, word=1), 1, 1000),
    "half a TCP header": (ip(tcp(ACK)[:19], TCP), 1, 1000),
    "a TCP header of 16 bytes": (ip(tcp(ACK)[:12] + b"\x40" + tcp(ACK)[13:], TCP), 1, 1000),
    "a TCP header beyond the datagram": (ip(tcp(ACK)[:12] + b"\xf0" + bytes(30), TCP), 1, 1000),
    "half a UDP header": (ip(bytes(7), UDP), 5, 1000),
}


@pytest.mark.parametrize(("datagram", "gso_type", "gso_size"), BROKEN.values(), ids=BROKEN)
def test_what_cannot_be_cut(datagram: bytes, gso_type: int, gso_size: int) -> None:
    with pytest.raises(SuperFrameError):
        cut(datagram, gso_type, gso_size)


@pytest.mark.parametrize(
    ("gso_type", "gso_size", "least", "most"), [(0, 0, 1, 1), (3, 10, 1, 1), (1, 1000, 3, 3), (1, 0, 2500, 2600)]
)
def test_the_number_of_parts_is_known_before(gso_type: int, gso_size: int, least: int, most: int) -> None:
    assert least <= segment_count(header(gso_type, gso_size), ETHERNET + ip(tcp(ACK), TCP)) <= most
