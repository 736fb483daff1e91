"""What the forwarder's transmit sockets do with a queue: on a veth pair, listened to at the other end."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from forwarder_links import LIMIT_S, PLAIN, Host, Namespaces, kernel_interface, namespaces, set_link

from services.common import netns
from services.common.counters import Counter, CounterBlock
from services.common.endpoints import Endpoints
from services.common.insight import Insight
from services.common.observer import Observing
from services.common.runtime import clock
from services.forwarder.egress import Egress
from services.forwarder.pipeline import BATCH, make_queues

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

SLOT = 7
HEAD = bytes.fromhex("020000000102 020000000101 0800")


class Station:
    """An Egress with one interface, its queue filled by hand, and a host at the other end."""

    def __init__(self, spaces: Namespaces, directory: Path) -> None:
        self.spaces = spaces
        self.counters = CounterBlock(directory / "egress.bin")
        self.index = kernel_interface(spaces.router, "r1", 0).index
        self.queues = make_queues()
        self.observing = Observing(Insight(Endpoints(directory), "forwarder"))
        self.egress = Egress(self.queues, self.counters, self.observing)
        self.host = Host(spaces.host, "h1")
        self.open("r1")

    def open(self, name: str) -> None:
        with netns.inside(self.spaces.router):
            self.egress.open(SLOT, self.index, name)

    def flush(self, *frames: bytes) -> None:
        """Queue frames, virtio headers in front, and send them."""
        area = np.frombuffer(b"".join(frames), np.uint8)
        address = area.ctypes.data
        for place, frame in enumerate(frames):
            self.queues.vectors[SLOT, place] = (address, len(frame))
            address += len(frame)
        self.queues.queued[SLOT] = len(frames)
        self.egress.flush(SLOT)
        assert self.queues.queued[SLOT] == 0

    def hears(self, count: int) -> list[bytes]:
        """Return what the host hears once it has heard `count` frames; more would show at the end of the test."""
        deadline = clock() + LIMIT_S
        while len(self.host.heard) < count:
            assert clock() < deadline, f"heard {len(self.host.heard)} of {count}; counted {self.counted()}"
            self.host.listen()
        return self.host.heard

    def counted(self) -> dict[str, int]:
        return {each.name: self.counters.total(each) for each in Counter if self.counters.total(each)}

    def close(self) -> None:
        self.host.close()
        self.egress.close(SLOT)


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    with namespaces() as spaces:
        station = Station(spaces, tmp_path)
        try:
            yield station
            # a last frame, behind which nothing else may have come
            station.host.listen()
            heard = len(station.host.heard)
            set_link(spaces.router, "r1", state="up")
            station.open("r1")
            deadline = clock() + LIMIT_S
            while len(station.host.heard) == heard:
                assert clock() < deadline
                station.flush(frame(0xFFFF))
                station.host.listen()
            assert number(station.host.heard[heard]) == 0xFFFF
        finally:
            station.close()


def frame(serial: int, length: int = 60, virtio: bytes = PLAIN) -> bytes:
    """A frame of `length` bytes with a number, behind its virtio header."""
    return virtio + HEAD + struct.pack("!H", serial) + bytes(place % 256 for place in range(length - 16))


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def number(heard: bytes) -> int:
    return int.from_bytes(heard[24:26], "big")


def test_a_full_queue_leaves_whole_and_in_order(station: Station) -> None:
    frames = [frame(serial, 14 + 2 + serial * 5) for serial in range(BATCH)]
    station.flush(*frames)
    assert station.hears(BATCH) == frames
    assert station.counted() == {"FORWARDED": BATCH, "TX_BYTES": sum(len(each) - 10 for each in frames)}
    assert station.counters.get(Counter.FORWARDED, station.index) == BATCH


def test_a_super_frame_and_an_unfinished_checksum_go_out_with_their_headers(station: Station) -> None:
    ip = bytes.fromhex("4500 0bb8 0000 4000 4006 0000 0a000002 0a000102")
    tcp = bytes.fromhex("1234 5678 00000000 00000000 5010 ffff 0000 0000")
    gso = struct.pack("=BBHHHH", 1, 1, 54, 1448, 34, 16)
    unfinished = struct.pack("=BBHHHH", 1, 0, 0, 0, 34, 16)
    frames = [gso + HEAD + ip + tcp + bytes(2960), unfinished + HEAD + ip[:2] + b"\0\x64" + ip[4:] + tcp + bytes(60)]
    station.flush(*frames)
    heard = station.hears(2)
    assert [each[10:] for each in heard] == [each[10:] for each in frames]
    assert [each[:2] for each in heard] == [b"\1\1", b"\1\0"]
    assert heard[0][4:10] == gso[4:]


def test_a_frame_that_is_too_long_does_not_stop_the_others(station: Station) -> None:
    lengths = [60, 1515, 1514, 9000, 60, 1600]  # the MTU is 1500
    station.flush(*(frame(serial, length) for serial, length in enumerate(lengths)))
    assert [number(each) for each in station.hears(3)] == [0, 2, 4]
    assert station.counted() == {"FORWARDED": 3, "TX_BYTES": 60 + 1514 + 60, "DROP_TX_FAILED": 3}


def test_a_virtio_header_that_the_kernel_refuses_does_not_stop_the_others(station: Station) -> None:
    beyond = struct.pack("=BBHHHH", 1, 0, 0, 0, 5000, 16)  # a checksum behind the end
    unknown = struct.pack("=BBHHHH", 0, 0x3F, 0, 100, 0, 0)  # a kind of super-frame that there is not
    station.flush(frame(0), frame(1, virtio=beyond), frame(2), frame(3, virtio=unknown), frame(4))
    assert [number(each) for each in station.hears(3)] == [0, 2, 4]
    assert station.counted()["DROP_TX_FAILED"] == 2


def test_only_frames_that_are_too_long(station: Station) -> None:
    station.flush(*(frame(serial, 2000) for serial in range(20)))
    assert station.counted() == {"DROP_TX_FAILED": 20}


def test_an_interface_that_is_down_loses_its_frames_and_sends_again_when_it_is_up(station: Station) -> None:
    set_link(station.spaces.router, "r1", state="down")
    station.flush(*(frame(serial) for serial in range(10)))
    assert station.counted() == {"DROP_TX_FAILED": 10}
    assert station.counters.get(Counter.DROP_TX_FAILED, station.index) == 10
    set_link(station.spaces.router, "r1", state="up")
    deadline = clock() + LIMIT_S
    while not station.host.heard:  # until the link has its carrier back, by the same socket as before
        assert clock() < deadline
        station.flush(frame(10))
        station.host.listen()
    assert number(station.host.heard[0]) == 10


def test_a_link_without_carrier_loses_its_frames_and_counts_them(station: Station) -> None:
    set_link(station.spaces.host, "h1", state="down")
    station.flush(*(frame(serial) for serial in range(10)))
    counted = station.counted()
    assert counted.get("DROP_TX_FULL", 0) + counted.get("DROP_TX_FAILED", 0) == 10
    assert "FORWARDED" not in counted
    set_link(station.spaces.host, "h1", state="up")


def test_an_interface_that_vanished_loses_its_frames(station: Station) -> None:
    set_link(station.spaces.router, "r1", net_ns_fd=station.spaces.host)
    station.flush(*(frame(serial) for serial in range(10)))
    assert station.counted() == {"DROP_TX_FAILED": 10}
    set_link(station.spaces.host, "r1", net_ns_fd=station.spaces.router)


def test_a_slot_without_a_socket_loses_its_frames(station: Station) -> None:
    station.egress.close(SLOT)
    station.egress.close(SLOT)
    assert station.egress.open_slots() == {}
    station.flush(frame(1), frame(2))
    station.egress.send(SLOT, frame(3)[10:])
    assert station.counted() == {"DROP_TX_FAILED": 3}


def test_frames_of_the_slow_path_are_counted_as_generated(station: Station) -> None:
    station.egress.send(SLOT, frame(1, 600)[10:])
    station.egress.send(SLOT, frame(2, 1600)[10:])
    assert station.hears(1) == [frame(1, 600)]
    assert station.counted() == {"GENERATED_SENT": 1, "TX_BYTES": 600, "DROP_TX_FAILED": 1}


def test_opening_a_slot_again_takes_the_place_of_the_older_socket(station: Station) -> None:
    before = open_files()
    station.open("r1")
    assert open_files() == before
    assert station.egress.open_slots() == {SLOT: station.index}


def test_an_interface_that_does_not_exist_cannot_be_opened(station: Station) -> None:
    before = open_files()
    with pytest.raises(OSError, match="No such device"):
        station.open("nowhere")
    assert station.egress.open_slots() == {}
    assert open_files() == before - 1
