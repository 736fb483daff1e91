"""What is too big for the next hop: conformance rows 10 and 11, and super-frames, which are not."""

import struct

import pytest
from pipeline_rig import Bench
from pipeline_router import DF, ETH0, ETH1, ETH1_MAC, ETHERNET, GATEWAY_MAC, TCP, UDP, bench_with, datagram

from tests.oracle.router import Arrival, checksum, with_checksum


@pytest.fixture(scope="module")
def bench() -> Bench:
    return bench_with()


@pytest.mark.parametrize(
    ("length", "word", "expected"),
    [
        (1280, 0, "FORWARDED"),
        (1280, DF, "FORWARDED"),
        (1281, DF, "DROP_MTU_EXCEEDED"),
        (1281, 0, "FRAGMENTED"),
        (1281, 0x2000, "FRAGMENTED"),  # a fragment may be fragmented again
        (1281, 0x20B9, "FRAGMENTED"),
        (1281, DF | 0x2000, "DROP_MTU_EXCEEDED"),
        (1281, 0x8000, "FRAGMENTED"),  # the reserved bit is not DF
    ],
)
def test_the_next_hops_mtu(length: int, word: int, expected: str) -> None:
    """Rows 10 and 11. What is too big and must not be cut is quoted as it came; what will be cut is aged."""
    packet = datagram(payload=bytes(length - 20), word=word)
    answer = bench_with(mtu=1280).one(ETHERNET + packet + bytes(30), ETH0)
    assert (answer.verdict, answer.mtu, answer.interface) == (expected, 1280, ETH1)
    assert len(answer.frame) == 14 + length
    if expected == "FORWARDED":
        return
    assert answer.frame[:14] == ETHERNET
    assert answer.frame[22] == (64 if expected == "DROP_MTU_EXCEEDED" else 63)
    assert checksum(answer.frame[14:34]) == 0


GSO_TCPV4, GSO_UDP, GSO_UDP_L4, GSO_ECN = 1, 3, 5, 0x80
ROUTER_ALERT = bytes.fromhex("94040000")
PLAIN_TCP = bytes(12) + b"\x50" + bytes(7)  # data offset 5: 20 bytes
LONG_TCP = bytes(12) + b"\x80" + bytes(19)  # data offset 8: 32 bytes
SUPER_FRAMES = {
    # 20 bytes of IPv4, 32 of TCP, 1448 of data: 1500 on the wire
    "TCP that fits": (TCP, LONG_TCP, b"", GSO_TCPV4, 1448, DF, "FORWARDED"),
    "TCP with ECN that fits": (TCP, LONG_TCP, b"", GSO_TCPV4 | GSO_ECN, 1448, DF, "FORWARDED"),
    "TCP one too long": (TCP, LONG_TCP, b"", GSO_TCPV4, 1449, DF, "DROP_MTU_EXCEEDED"),
    "TCP with ECN one too long": (TCP, LONG_TCP, b"", GSO_TCPV4 | GSO_ECN, 1449, DF, "DROP_MTU_EXCEEDED"),
    "TCP one too long that may be cut": (TCP, LONG_TCP, b"", GSO_TCPV4, 1449, 0, "FRAGMENTED"),
    "TCP without options": (TCP, PLAIN_TCP, b"", GSO_TCPV4, 1460, DF, "FORWARDED"),
    "TCP without options one too long": (TCP, PLAIN_TCP, b"", GSO_TCPV4, 1461, DF, "DROP_MTU_EXCEEDED"),
    "TCP behind IPv4 options": (TCP, LONG_TCP, ROUTER_ALERT, GSO_TCPV4, 1444, DF, "FORWARDED"),
    "TCP behind IPv4 options one too long": (TCP, LONG_TCP, ROUTER_ALERT, GSO_TCPV4, 1445, DF, "DROP_MTU_EXCEEDED"),
    "UDP that fits": (UDP, bytes(8), b"", GSO_UDP_L4, 1472, DF, "FORWARDED"),
    "UDP one too long": (UDP, bytes(8), b"", GSO_UDP_L4, 1473, DF, "DROP_MTU_EXCEEDED"),
    "no super-frame, only long": (UDP, bytes(8), b"", 0, 0, DF, "DROP_MTU_EXCEEDED"),
    "UDP to be fragmented by the sender's kernel": (UDP, bytes(8), b"", GSO_UDP, 1480, 0, "FRAGMENTED"),
    "a segment size beyond the frame": (TCP, LONG_TCP, b"", GSO_TCPV4, 65_535, DF, "DROP_MTU_EXCEEDED"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("protocol", "transport", "options", "gso_type", "gso_size", "word", "expected"),
    SUPER_FRAMES.values(),
    ids=SUPER_FRAMES,
)
def test_a_super_frame_is_as_long_as_its_longest_part(
    bench: Bench,
    protocol: int,
    transport: bytes,
    options: bytes,
    gso_type: int,
    gso_size: int,
    word: int,
    expected: str,
) -> None:
    packet = datagram(protocol=protocol, payload=transport + bytes(40_000), options=options, word=word)
    virtio = struct.pack("=BBHHHH", 1, gso_type, 66, gso_size, 34, 16)
    answer = bench.one(ETHERNET + packet, ETH0, virtio=virtio)
    assert answer.verdict == expected
    assert len(answer.frame) == 14 + len(packet)


def test_a_super_frame_smaller_than_the_mtu_always_fits(bench: Bench) -> None:
    packet = datagram(protocol=TCP, payload=LONG_TCP + bytes(1000), word=DF)
    virtio = struct.pack("=BBHHHH", 1, GSO_TCPV4, 66, 9000, 34, 16)
    assert bench.one(ETHERNET + packet, ETH0, virtio=virtio).verdict == "FORWARDED"


def test_the_largest_super_frame_passes_whole(bench: Bench) -> None:
    packet = datagram(protocol=TCP, payload=LONG_TCP + bytes(range(256)) * 255 + bytes(203), word=DF)
    assert len(packet) == 65_535
    virtio = struct.pack("=BBHHHH", 1, GSO_TCPV4, 66, 1448, 34, 16)
    fate = bench.forward([Arrival(ETHERNET + packet, virtio=virtio)], ETH0)
    expected = with_checksum(packet[:8] + b"\x3f" + packet[9:])
    assert fate.answers[0].frame == GATEWAY_MAC + ETH1_MAC + b"\x08\x00" + expected
    assert fate.untouched_outside  # the virtio header goes out as it came in


def test_tcp_that_is_cut_off_before_its_header_ends_is_measured_whole(bench: Bench) -> None:
    """The frame says TCP super-frame, but holds no TCP header of 20 bytes."""
    packet = datagram(protocol=TCP, payload=bytes(19))
    virtio = struct.pack("=BBHHHH", 1, GSO_TCPV4, 66, 1448, 34, 16)
    assert bench.one(ETHERNET + packet, ETH0, virtio=virtio).verdict == "FORWARDED"
