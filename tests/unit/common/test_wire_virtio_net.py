"""The virtio network header, and checksums left to the hardware, on frames captured with PACKET_VNET_HDR on a veth."""

import pytest

from services.common.wire import virtio_net
from services.common.wire.virtio_net import VirtioNetHeader

ADDRESSES = "02000000000b 02000000000a 0800"
TCP_SYN = (
    ADDRESSES + "4500003c568b4000400654dd c0a80701 c0a80702"
    "a1960050 b862267e 00000000 a002faf0 {checksum} 0000 020405b40402080ab92363df000000000103030a"
)
TCP_ODD = (
    ADDRESSES + "45000039568d4000400654de c0a80701 c0a80702"
    "a1960050 b862267f 18d34898 8018003f {checksum} 0000 0101080ab92363dfb48d7ba8 68656c6c6f"
)
UDP = ADDRESSES + "4500002351784000401159fe c0a80701 c0a80702 b25e0035 000f {checksum} 686f7077697265"
UDP_ZERO = ADDRESSES + "4500001e000040004011ab7b c0a80701 c0a80702 b25e0035 000a {checksum} bdf2"

PARTIAL_TCP = bytes.fromhex("01 00 0000 0000 2200 1000")
PARTIAL_UDP = bytes.fromhex("01 00 0000 0000 2200 0600")
SUPER_FRAME = bytes.fromhex("01 01 4200 a805 2200 1000")


def frame(text: str, checksum: str) -> bytes:
    return bytes.fromhex(text.format(checksum=checksum))


def test_parse_of_a_super_frame() -> None:
    header = virtio_net.parse(SUPER_FRAME + b"frame")
    assert header == VirtioNetHeader(
        flags=1, gso_type=1, header_length=66, gso_size=1448, checksum_start=34, checksum_offset=16
    )
    assert header.needs_checksum
    assert header.is_gso


@pytest.mark.parametrize(
    ("data", "needs_checksum", "is_gso"),
    [
        (bytes(10), False, False),
        (PARTIAL_TCP, True, False),
        (bytes.fromhex("02 00 0000 0000 0000 0000"), False, False),  # DATA_VALID
        (bytes.fromhex("00 80 0000 0000 0000 0000"), False, False),  # the ECN bit alone is no super-frame
        (bytes.fromhex("00 81 0000 0000 0000 0000"), False, True),
        (bytes.fromhex("00 05 0000 0000 0000 0000"), False, True),
    ],
)
def test_flags(data: bytes, needs_checksum: bool, is_gso: bool) -> None:
    header = virtio_net.parse(data)
    assert (header.needs_checksum, header.is_gso) == (needs_checksum, is_gso)


@pytest.mark.parametrize(
    ("header", "text", "partial", "finished"),
    [
        (PARTIAL_TCP, TCP_SYN, "8f82", "1fee"),
        (PARTIAL_TCP, TCP_ODD, "8f7f", "73de"),
        (PARTIAL_UDP, UDP, "8f74", "168f"),
        (PARTIAL_UDP, UDP_ZERO, "8f6f", "ffff"),  # 0 would say that there is none: RFC 768
    ],
)
def test_finish_checksum(header: bytes, text: str, partial: str, finished: str) -> None:
    done = virtio_net.finish_checksum(virtio_net.parse(header), frame(text, partial))
    assert done == frame(text, finished)


def test_a_complete_frame_stays_as_it_is() -> None:
    complete = frame(TCP_SYN, "1fee")
    assert virtio_net.finish_checksum(virtio_net.parse(bytes(10)), complete) == complete


@pytest.mark.parametrize(("start", "offset"), [(34, 39), (72, 2), (0xFFFF, 0xFFFF)])
def test_offsets_outside_the_frame_change_nothing(start: int, offset: int) -> None:
    partial = frame(TCP_SYN, "8f82")
    assert len(partial) == 74
    header = VirtioNetHeader(1, 0, 0, 0, start, offset)
    assert virtio_net.finish_checksum(header, partial) == partial


def test_the_last_place_inside_the_frame() -> None:
    done = virtio_net.finish_checksum(VirtioNetHeader(1, 0, 0, 0, 72, 0), bytes(72) + b"\x12\x34")
    assert done == bytes(72) + b"\xed\xcb"
