"""The frame ring in one process: its layout, room for frames, entries that lie, files that are no rings."""

import os
import resource
import struct
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import HopwireError
from services.common.frame_ring import (
    FULL,
    INVALID,
    LENGTH,
    PACKET_TYPE,
    POSITION,
    STALE_NS,
    TIMESTAMP_NS,
    PrivateRing,
    RingConsumer,
    RingError,
    RingProducer,
    Words,
    frame_start,
    publish,
    reserve,
)
from services.common.kernels import kernel

SLOTS = 4
AREA = 4096
# byte offsets in the file
MAGIC, VERSION, EPOCH, INTERFACE, SLOT_COUNT, AREA_SIZE = 0, 8, 16, 24, 32, 40
HEAD, TAIL, SLEEPS = 128, 256, 384
FIRST_DESCRIPTOR = 4096
FIRST_BYTE_OF_AREA = FIRST_DESCRIPTOR + SLOTS * 32


@kernel("int64", "int64[::1]", "int64[:, ::1]", "int64", "int64", "int64", "int64")
def room(words: Words, descriptors: Words, area_bytes: int, head: int, free_from: int, length: int) -> int:
    return reserve(words, descriptors, area_bytes, head, free_from, length)


@kernel("boolean", "int64[::1]", "int64")
def hand_over(words: Words, head: int) -> bool:
    return publish(words, head)


@kernel("int64", "int64[:, ::1]", "int64", "int64")
def start_of(descriptors: Words, area_bytes: int, position: int) -> int:
    return frame_start(descriptors, area_bytes, position)


def word(path: Path, place: int) -> int:
    (value,) = struct.unpack_from("=q", path.read_bytes(), place)
    assert isinstance(value, int)
    return value


def overwrite(path: Path, place: int, value: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        file.write(struct.pack("=q", value))


class Writer:
    """What an ingress does with its end of a ring."""

    def __init__(self, ring: Any, head: int = 0, free_from: int = 0) -> None:
        self.ring = ring
        self.head = head
        self.free_from = free_from

    def room(self, length: int) -> int:
        ring = self.ring
        return int(room(ring.words, ring.descriptors, len(ring.area), self.head, self.free_from, length))

    def push(self, frame: bytes, timestamp_ns: int = 0) -> int:
        """Write a frame behind 10 bytes of virtio header, without publishing it; return its position or FULL."""
        ring = self.ring
        position = self.room(10 + len(frame))
        if position != FULL:
            place = position % len(ring.area)
            ring.area[place : place + 10] = 0xA5
            ring.area[place + 10 : place + 10 + len(frame)] = np.frombuffer(frame, np.uint8)
            ring.descriptors[self.head % len(ring.descriptors)] = (position, len(frame), 3, timestamp_ns)
            self.head += 1
            self.free_from = position + 10 + len(frame)
        return position

    def publish(self) -> bool:
        return bool(hand_over(self.ring.words, self.head))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rings" / "eth0.ring"


@pytest.fixture
def producer(path: Path) -> RingProducer:
    return RingProducer(path, 7, SLOTS, AREA)


@pytest.fixture
def writer(producer: RingProducer) -> Writer:
    return Writer(producer)


# --- the file ---------------------------------------------------------------------------------------------------------


def test_layout(path: Path, producer: RingProducer) -> None:
    writer = Writer(producer)
    writer.push(b"frame of 16 byte", timestamp_ns=99)
    writer.publish()
    data = path.read_bytes()
    assert len(data) == 4096 + SLOTS * 32 + AREA
    assert data[:8] == b"hopwring"
    assert [word(path, place) for place in (VERSION, EPOCH, INTERFACE, SLOT_COUNT, AREA_SIZE)] == [
        1,
        producer.epoch,
        7,
        SLOTS,
        AREA,
    ]
    assert (word(path, HEAD), word(path, TAIL)) == (1, 0)
    assert struct.unpack_from("=4q", data, FIRST_DESCRIPTOR) == (0, 16, 3, 99)
    assert data[FIRST_BYTE_OF_AREA:][:26] == b"\xa5" * 10 + b"frame of 16 byte"
    assert (POSITION, LENGTH, PACKET_TYPE, TIMESTAMP_NS) == (0, 1, 2, 3)


def test_only_its_owner_may_read_it(path: Path, producer: RingProducer) -> None:
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_first_frame_of_a_new_ring_rings(writer: Writer) -> None:
    writer.push(bytes(60))
    assert writer.publish()
    writer.push(bytes(60))
    assert not writer.publish()


def test_the_consumer_sees_what_the_producer_made(path: Path, producer: RingProducer) -> None:
    consumer = RingConsumer(path)
    assert (consumer.epoch, consumer.interface_index) == (producer.epoch, 7)
    assert consumer.descriptors.shape == (SLOTS, 4)
    assert consumer.area.shape == (AREA,)
    assert consumer.available() == 0


def test_a_new_run_makes_a_new_ring_and_the_old_consumer_keeps_its_memory(path: Path, producer: RingProducer) -> None:
    consumer = RingConsumer(path)
    assert consumer.is_current()
    first = Writer(producer)
    first.push(b"the last frame of the first run")
    first.publish()
    again = RingProducer(path, 7, SLOTS, AREA)
    assert again.epoch != producer.epoch
    assert not consumer.is_current()
    assert consumer.available() == 1
    assert consumer.area[10:41].tobytes() == b"the last frame of the first run"
    assert RingConsumer(path).is_current()
    assert RingConsumer(path).available() == 0
    assert [entry.name for entry in path.parent.iterdir()] == ["eth0.ring"]


def test_a_ring_that_is_taken_away(path: Path, producer: RingProducer) -> None:
    consumer = RingConsumer(path)
    producer.remove()
    assert not consumer.is_current()
    assert not path.exists()
    producer.remove()
    with pytest.raises(FileNotFoundError):
        RingConsumer(path)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        pytest.param(MAGIC, 0, id="magic"),
        pytest.param(VERSION, 2, id="version"),
        pytest.param(SLOT_COUNT, SLOTS + 1, id="one slot more"),
        pytest.param(SLOT_COUNT, 2**62, id="slots without end"),
        pytest.param(SLOT_COUNT, 0, id="no slots"),
        pytest.param(SLOT_COUNT, -SLOTS, id="negative slots"),
        pytest.param(AREA_SIZE, AREA + 1, id="larger area"),
        pytest.param(AREA_SIZE, -1, id="negative area"),
    ],
)
def test_a_header_that_lies(path: Path, producer: RingProducer, place: int, value: int) -> None:
    overwrite(path, place, value)
    with pytest.raises(RingError, match=r"eth0\.ring"):
        RingConsumer(path)


def test_no_area_although_the_size_fits(path: Path, producer: RingProducer) -> None:
    overwrite(path, SLOT_COUNT, SLOTS + AREA // 32)
    overwrite(path, AREA_SIZE, 0)
    with pytest.raises(RingError, match="lies about its size"):
        RingConsumer(path)


@pytest.mark.parametrize("length", [0, 7, 40, 4096, 4096 + SLOTS * 32 + AREA - 1])
def test_a_cut_file(path: Path, producer: RingProducer, length: int) -> None:
    os.truncate(path, length)
    with pytest.raises(RingError):
        RingConsumer(path)


def test_where_no_ring_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "rings").write_text("a file where a folder should be")
    with pytest.raises(HopwireError, match=r"cannot make the frame ring .*check the run directory"):
        RingProducer(tmp_path / "rings" / "eth0.ring", 7, SLOTS, AREA)


@pytest.fixture
def small_files() -> Iterator[None]:
    """As on a full tmpfs, files end at 64 KiB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_files")
def test_no_room_for_a_ring(path: Path) -> None:
    with pytest.raises(HopwireError, match=r"no room for the frame ring .*\(8 MiB\)"):
        RingProducer(path, 7)
    assert list(path.parent.iterdir()) == []


# --- room for frames --------------------------------------------------------------------------------------------------


def test_frames_begin_on_cache_lines(writer: Writer) -> None:
    assert [writer.push(bytes(length)) for length in (14, 54, 55, 100)] == [0, 64, 128, 256]


def test_all_slots_taken(path: Path, writer: Writer) -> None:
    for _ in range(SLOTS):
        assert writer.push(bytes(60)) != FULL
    writer.publish()
    assert writer.push(bytes(60)) == FULL
    RingConsumer(path).give_back(1)
    assert writer.push(bytes(60)) == SLOTS * 128
    assert writer.push(bytes(60)) == FULL


def test_the_whole_area_is_used(path: Path, writer: Writer) -> None:
    assert writer.push(bytes(AREA - 64 - 10)) == 0
    assert writer.push(bytes(65 - 10)) == FULL
    assert writer.push(bytes(64 - 10)) == AREA - 64
    writer.publish()
    assert writer.push(bytes(14)) == FULL
    RingConsumer(path).give_back(1)
    assert writer.push(bytes(14)) == AREA


def test_a_frame_that_does_not_fit_at_the_end_goes_to_the_start(path: Path, writer: Writer) -> None:
    assert [writer.push(bytes(1014)), writer.push(bytes(2550))] == [0, 1024]
    writer.publish()
    # 512 bytes are left at the end, and at the start none before the first frame is given back
    assert writer.push(bytes(600)) == FULL
    consumer = RingConsumer(path)
    consumer.give_back(1)
    assert writer.push(bytes(1015)) == FULL
    assert writer.push(bytes(1014)) == AREA
    writer.publish()
    consumer.give_back(1)
    assert writer.push(bytes(3072 - 10)) == AREA + 1024


def test_an_empty_ring_takes_a_frame_as_long_as_its_area_wherever_it_stands(path: Path, writer: Writer) -> None:
    assert writer.room(AREA + 1) == FULL
    writer.push(bytes(100))
    writer.publish()
    RingConsumer(path).give_back(1)
    assert writer.push(bytes(AREA - 10)) == AREA
    assert writer.room(15) == FULL


class RingModel:
    """Frames that lie in the ring, oldest first, and a walk that gives them back."""

    def __init__(self, start: int) -> None:
        self.ring = PrivateRing(SLOTS, AREA)
        self.ring.words[16] = self.ring.words[32] = start  # HEAD, TAIL
        self.writer = Writer(self.ring, head=start, free_from=start)
        self.live: deque[tuple[int, bytes]] = deque()

    def push(self, length: int, fill: int) -> None:
        frame = bytes((fill + number) % 256 for number in range(length))
        position = self.writer.push(frame)
        if position == FULL:
            assert self.live, "an empty ring takes any frame that its area holds"
            assert len(self.live) == SLOTS or self._reaches_oldest(10 + length)
            return
        assert position % 64 == 0
        assert position % AREA + 10 + length <= AREA, "no frame wraps"
        self.live.append((position, frame))
        assert self.live[-1][0] + 10 + length - self.live[0][0] <= AREA, "no frame lies on another"
        self.writer.publish()

    def _reaches_oldest(self, length: int) -> bool:
        last, frame = self.live[-1]
        position = -(-(last + 10 + len(frame)) // 64) * 64
        if position % AREA + length > AREA:
            position += AREA - position % AREA
        return position + length - self.live[0][0] > AREA

    def pop(self) -> None:
        if not self.live:
            return
        _, frame = self.live.popleft()
        tail = int(self.ring.words[32])
        start = start_of(self.ring.descriptors, AREA, tail)
        assert self.ring.area[start : start + len(frame)].tobytes() == frame
        self.ring.words[32] = tail + 1


@given(
    st.sampled_from([0, 64 * 5, AREA * 3 + 192, 2**40 * 64]),
    st.lists(
        st.tuples(st.integers(14, AREA - 10) | st.integers(14, 200), st.integers(0, 255)) | st.none(), max_size=40
    ),
)
def test_whatever_comes_and_goes_frames_stay_whole(start: int, steps: list[tuple[int, int] | None]) -> None:
    model = RingModel(start)
    for step in steps:
        if step is None:
            model.pop()
        else:
            model.push(*step)
    while model.live:
        model.pop()


# --- entries that lie -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("position", "length", "start"),
    [
        (0, 14, 10),
        (AREA - 24, 14, AREA - 14),
        (5 * AREA + 64, 60, 74),
        (0, AREA - 10, 10),
        (0, 13, INVALID),  # no room for an Ethernet header
        (0, 0, INVALID),
        (0, -1, INVALID),
        (0, AREA - 9, INVALID),
        (AREA - 23, 14, INVALID),
        (AREA - 1, 60, INVALID),
        (-64, 60, INVALID),
        (-(2**63), 60, INVALID),
        (0, 2**63 - 1, INVALID),
        (2**63 - 1, 60, INVALID),
    ],
)
def test_where_a_frame_begins(position: int, length: int, start: int) -> None:
    descriptors = np.zeros((SLOTS, 4), np.int64)
    descriptors[1] = (position, length, 0, 0)
    assert start_of(descriptors, AREA, 1) == start
    assert start_of(descriptors, AREA, 1 + 3 * SLOTS) == start


def test_a_frame_longer_than_any_super_frame() -> None:
    descriptors = np.zeros((1, 4), np.int64)
    descriptors[0, LENGTH] = 65_550
    assert start_of(descriptors, 1 << 20, 0) == 10
    descriptors[0, LENGTH] = 65_551
    assert start_of(descriptors, 1 << 20, 0) == INVALID


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1))
def test_no_entry_points_outside(position: int, length: int) -> None:
    descriptors = np.zeros((1, 4), np.int64)
    descriptors[0] = (position, length, 0, 0)
    start = start_of(descriptors, AREA, 0)
    assert start == INVALID or (start >= 10 and length >= 14 and start + length <= AREA)


# --- sleeping, skipping -----------------------------------------------------------------------------------------------


def test_a_consumer_that_sleeps_is_woken_once(path: Path, writer: Writer) -> None:
    consumer = RingConsumer(path)
    consumer.wake()
    writer.push(bytes(60))
    assert not writer.publish()
    consumer.give_back(1)
    assert consumer.go_to_sleep()
    writer.push(bytes(60))
    writer.push(bytes(60))
    assert writer.publish()
    writer.push(bytes(60))
    assert not writer.publish()


def test_no_sleep_while_a_frame_waits(path: Path, writer: Writer) -> None:
    consumer = RingConsumer(path)
    writer.push(bytes(60))
    writer.publish()
    assert not consumer.go_to_sleep()
    writer.push(bytes(60))
    assert not writer.publish()


def test_a_bell_that_could_not_be_sent_is_tried_again(producer: RingProducer) -> None:
    writer = Writer(producer)
    writer.push(bytes(60))
    assert writer.publish()
    producer.wake_later()
    writer.push(bytes(60))
    assert writer.publish()


def test_a_restarted_consumer_goes_on_where_the_last_one_stopped(path: Path, writer: Writer) -> None:
    for _ in range(3):
        writer.push(bytes(60))
    writer.publish()
    RingConsumer(path).give_back(2)
    again = RingConsumer(path)
    assert (again.tail, again.available()) == (2, 1)


def test_stale_frames_are_skipped_up_to_the_first_fresh_one(path: Path, writer: Writer) -> None:
    now = 1_700_000_000_000_000_000
    for age in (5 * STALE_NS, STALE_NS + 1, STALE_NS, 0):
        writer.push(bytes(60), timestamp_ns=now - age)
    writer.publish()
    consumer = RingConsumer(path)
    assert consumer.skip_stale(now) == 2
    assert (consumer.tail, consumer.available()) == (2, 2)
    assert word(path, TAIL) == 2
    assert consumer.skip_stale(now) == 0
    assert consumer.skip_stale(now + 2 * STALE_NS) == 2
    assert consumer.skip_stale(now + 2 * STALE_NS) == 0


@pytest.mark.parametrize("head", [SLOTS + 1, 2**62, -1, -(2**62)])
def test_positions_that_make_no_sense(path: Path, writer: Writer, head: int) -> None:
    overwrite(path, HEAD, head)
    consumer = RingConsumer(path)
    assert not 0 <= consumer.available() <= SLOTS
    assert consumer.skip_stale(2**62) <= SLOTS
    consumer.skip_all()
    assert consumer.available() == 0
    assert consumer.go_to_sleep()


def test_a_private_ring_is_given_back_as_a_whole() -> None:
    ring = PrivateRing(SLOTS, AREA)
    writer = Writer(ring)
    for _ in range(3):
        for _ in range(SLOTS):
            assert writer.push(bytes(60)) != FULL
        assert writer.push(bytes(60)) == FULL
        assert not writer.publish()
        ring.give_back_all()
