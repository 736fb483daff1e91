"""The benchmark's frames: of its generator, and of its floods of exceptions."""

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from services.common.errors import HopwireError
from services.launcher.bench import exceptions, flood_generator, floods, generator

ROUTER_MAC = bytes.fromhex("020000000001")
HOST_MAC = bytes.fromhex("020000000002")


def test_a_frame_is_a_complete_udp_datagram() -> None:
    frames = generator.build_frames(ROUTER_MAC, HOST_MAC, 0xC0A80102, np.array([0xC6120000, 0xC6120001], np.uint32), 60)

    assert frames.shape == (2, 60)
    # By hand: Ethernet, IPv4 (46 bytes, TTL 64, UDP, 192.168.1.2 -> 198.18.0.0, checksum summed below), UDP 49152 -> 9.
    words = [0x4500, 0x002E, 0, 0, 0x4011, 0xC0A8, 0x0102, 0xC612, 0x0000]
    total = sum(words)
    checksum = 0xFFFF ^ ((total & 0xFFFF) + (total >> 16))
    assert frames[0].tobytes() == (
        bytes.fromhex("0200000000010200000000020800")
        + bytes.fromhex("4500002e000000004011")
        + checksum.to_bytes(2, "big")
        + bytes.fromhex("c0a80102c6120000")
        + bytes.fromhex("c0000009001a0000")
        + bytes(18)
    )
    assert frames[1, 30:34].tobytes() == bytes.fromhex("c6120001")


def test_every_checksum_is_right() -> None:
    chosen = [0, 1, 0xFFFF, 0xFFFF0000, 0xFFFFFFFF, 0x0A00FFFE, *range(0x7FFFFFF0, 0x80000010)]
    frames = generator.build_frames(ROUTER_MAC, HOST_MAC, 0xC0A80102, np.array(chosen, np.uint32), 1514)
    for frame, destination in zip(frames, chosen, strict=True):
        header = frame[14:34].tobytes()
        assert int.from_bytes(header[16:], "big") == destination
        total = sum(int.from_bytes(header[place : place + 2], "big") for place in range(0, 20, 2))
        assert total % 0xFFFF == 0  # RFC 1071: with the checksum the sum is all ones


def test_each_message_points_at_its_frame() -> None:
    frames = generator.build_frames(ROUTER_MAC, HOST_MAC, 1, generator.consecutive(0xC6120000, 3), 60)
    messages, vectors = generator.build_messages(frames)

    assert vectors[:, 0].tolist() == [frames.ctypes.data + 60 * number for number in range(3)]
    assert vectors[:, 1].tolist() == [60, 60, 60]
    # struct msghdr on 64-bit Linux: msg_iov is its third word, msg_iovlen its fourth.
    assert messages[:, 2].tolist() == [vectors.ctypes.data + 16 * number for number in range(3)]
    assert messages[:, 3].tolist() == [1, 1, 1]
    assert not np.delete(messages, [2, 3], axis=1).any()


def test_destinations_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "addresses"
    file.write_bytes(bytes.fromhex("c612000008080808"))
    assert generator.read_addresses(file).tolist() == [0xC6120000, 0x08080808]
    file.write_bytes(b"")
    with pytest.raises(HopwireError, match=r"no addresses in .*/addresses"):
        generator.read_addresses(file)


def test_without_a_rate_as_many_as_go() -> None:
    pacer = generator.Pacer(None, 5.0)
    assert [pacer.due(5.0), pacer.due(5.0), pacer.due(6.0)] == [256, 256, 256]


def due(pacer: generator.Pacer, milliseconds: float) -> int:
    """Ask a pacer that began at 0, a nanosecond later than asked for."""
    return pacer.due(milliseconds / 1000 + 1e-9)


def test_a_rate_is_kept() -> None:
    pacer = generator.Pacer(100_000, 0.0)
    assert due(pacer, 0) == 0
    assert due(pacer, 0.1) == 0  # ten: not worth a call yet
    assert due(pacer, 0.5) == 50
    pacer.sent(50)
    assert due(pacer, 0.5) == 0
    assert due(pacer, 1.5) == 100


def test_a_low_rate_is_kept() -> None:
    pacer = generator.Pacer(10, 0.0)
    sent = 0
    for millisecond in range(1001):
        number = due(pacer, millisecond)
        assert number in (0, 1)
        pacer.sent(number)
        sent += number
    assert sent == 10


def test_what_a_long_pause_left_is_not_made_up_for() -> None:
    pacer = generator.Pacer(100_000, 0.0)
    pacer.sent(due(pacer, 1))
    assert due(pacer, 2) == 100
    assert pacer.due(1.0) in (199, 200)  # two milliseconds of it
    pacer.sent(200)
    assert pacer.due(1.0) == 0
    assert pacer.due(1.001) in (99, 100)


def test_no_call_sends_more_than_it_can() -> None:
    assert generator.Pacer(1_000_000, 5.0).due(5.002) == 256


PLACE = exceptions.Place(source=0xC0A80102, router=0xC0A80101, beyond=0xC6120000, absent=0xC0A80014)


@pytest.mark.parametrize(
    ("kind", "header"),
    [  # by hand: version and length, total length, flags, TTL and protocol, destination
        ("blackhole", ("45", "0026", "0000", "4011", "c6336402")),
        ("no route", ("45", "0026", "0000", "4011", "cb007102")),
        ("TTL 1", ("45", "0026", "0000", "0111", "c6120000")),
        ("record route", ("47", "002e", "0000", "4011", "c6120000")),
        ("ping", ("45", "002c", "0000", "4001", "c0a80101")),
        ("first fragments", ("45", "002c", "2000", "4001", "c0a80101")),
        ("absent hosts", ("45", "0026", "0000", "4011", "c0a80016")),
    ],
)
def test_each_kind_of_exception(kind: str, header: tuple[str, ...]) -> None:
    datagram = exceptions.KINDS[kind](PLACE, 2)
    assert (datagram[:1], datagram[2:4], datagram[6:8], datagram[8:10], datagram[16:20]) == tuple(
        bytes.fromhex(part) for part in header
    )
    assert datagram[12:16] == bytes.fromhex("c0a80102")


def test_every_kind_of_exception_is_tried() -> None:
    assert set(exceptions.KINDS) == {
        "blackhole",
        "no route",
        "TTL 1",
        "record route",
        "ping",
        "first fragments",
        "absent hosts",
    }


def test_an_exception_goes_after_each_plain_frame() -> None:
    beyond = generator.consecutive(PLACE.beyond, 3)
    plain = generator.build_frames(ROUTER_MAC, HOST_MAC, PLACE.source, beyond, 60)
    for kind in exceptions.KINDS:
        frames = flood_generator.build_frames(plain, kind, PLACE, ROUTER_MAC, HOST_MAC)
        assert frames.shape == (6, 60)
        assert (frames[::2] == plain).all()
        assert {frame[:14].tobytes() for frame in frames} == {bytes.fromhex("0200000000010200000000020800")}
        whole = exceptions.KINDS[kind](PLACE, 2)
        assert frames[5, 14 : 14 + len(whole)].tobytes() == whole


def test_what_a_flood_leaves_is_a_share_of_the_control_group() -> None:
    rates = {"blackhole": [100e3, 90e3, 130e3], "TTL 1": [95e3, 80e3, 96e3]}
    assert floods.kept(rates) == {"blackhole": 1.0, "TTL 1": pytest.approx(0.95)}
    out = io.StringIO()
    Console(file=out, width=100).print(floods.table(rates))
    line = next(line for line in out.getvalue().splitlines() if "TTL 1" in line)
    assert "95 (80-96)" in line
    assert "0.95" in line
