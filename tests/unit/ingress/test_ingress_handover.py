"""Both ways to the forwarder: frames in shared memory and a bell, or frames inside messages."""

import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import zmq
from receive_ring import NOW_NS, Received, ReceiveRing, frame

from services.common.bus import bound, hold_instance
from services.common.counters import Counter, CounterBlock
from services.common.endpoints import Endpoints
from services.common.frame_ring import RingConsumer
from services.common.messages import FrameBatch, decode
from services.common.observer import unobserved
from services.ingress.handover import INLINE_AREA_BYTES, Handover, InlineHandover, SharedMemoryHandover
from services.ingress.ring import ARP_FRAMES, ARP_STRIDE, Target, Walk, walk

INDEX: Final = 7
LIMIT_S: Final = 30.0
SLEEPS: Final = 48
GSO: Final = bytes.fromhex("01 01 4200 a805 2200 1000")


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    context: zmq.Context[Any] = zmq.Context()
    yield context
    context.destroy(linger=0)


@pytest.fixture
def endpoints(tmp_path: Path) -> Endpoints:
    return Endpoints(tmp_path)


@pytest.fixture
def counters(endpoints: Endpoints) -> CounterBlock:
    return CounterBlock(endpoints.counters("ingress-eth0"))


def wait_for(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not look():
        assert time.monotonic() < deadline, "not within the limit"
        time.sleep(0.002)


class Wire:
    """A receive ring whose frames are walked into a handover."""

    def __init__(self, handover: Handover, counters: CounterBlock) -> None:
        self.handover = handover
        self._first = counters.row(INDEX) * counters.row_values + 1
        self._row = np.frombuffer(counters.values, np.int64)[self._first : self._first + counters.row_values - 1]
        self._ends = np.zeros(2, np.int64)
        self._arp = np.zeros(ARP_FRAMES * ARP_STRIDE, np.uint8), np.zeros((ARP_FRAMES, 2), np.int64)
        self.receive_from(ReceiveRing())

    def receive_from(self, receive: ReceiveRing) -> None:
        """Go on with another receive ring."""
        self.receive = receive
        self._slot = self._put = 0

    def put(self, *received: Received) -> None:
        for one in received:
            self.receive.put(self._put % self.receive.geometry.slots, one)
            self._put += 1

    def walk(self) -> Walk:
        ring, receive = self.handover.ring, self.receive
        head = int(self._ends[0])
        done: Walk = walk(
            receive.memory,
            receive.statuses,
            receive.geometry,
            self._slot,
            256,
            NOW_NS,
            Target(ring.words, ring.descriptors, ring.area, self._ends, *self._arp, self._row, INDEX, unobserved()),
        )
        self._slot = done.slot
        self.handover.hand_over(int(self._ends[0]) - head)
        return done


# --- shared memory ----------------------------------------------------------------------------------------------------


def test_frames_lie_in_the_ring_and_the_walk_says_whether_to_ring(endpoints: Endpoints, counters: CounterBlock) -> None:
    handover = SharedMemoryHandover(endpoints, "eth0", INDEX, counters)
    wire = Wire(handover, counters)
    consumer = RingConsumer(endpoints.ring("eth0"))
    wire.put(Received(frame(b"1")))
    assert wire.walk().must_wake, "nobody has looked into a new ring yet"
    wire.put(Received(frame(b"2")))
    assert not wire.walk().must_wake
    consumer.give_back(consumer.available())
    assert consumer.go_to_sleep()
    wire.put(Received(frame(b"3")))
    assert wire.walk().must_wake
    assert consumer.available() == 1
    assert counters.get(Counter.HANDED, INDEX) == 3
    handover.close()


def test_the_ring_goes_with_its_interface(endpoints: Endpoints, counters: CounterBlock) -> None:
    handover = SharedMemoryHandover(endpoints, "eth0", INDEX, counters)
    assert RingConsumer(endpoints.ring("eth0")).interface_index == INDEX
    handover.close()
    assert list(endpoints.rings.iterdir()) == []


@pytest.mark.parametrize("end", ["close", "kill"])
def test_frames_that_no_forwarder_will_take_are_dropped_and_counted(
    endpoints: Endpoints, counters: CounterBlock, end: str
) -> None:
    wire = Wire(SharedMemoryHandover(endpoints, "eth0", INDEX, counters), counters)
    wire.put(Received(frame(b"1")), Received(frame(b"2")))
    wire.walk()
    if end == "close":
        wire.handover.close()
    else:
        SharedMemoryHandover(endpoints, "eth0", INDEX, counters)
    assert counters.get(Counter.HANDED, INDEX) == 0
    assert counters.get(Counter.DROP_RESTARTED, INDEX) == 2


def test_frames_that_a_forwarder_still_takes_are_its_own(endpoints: Endpoints, counters: CounterBlock) -> None:
    wire = Wire(SharedMemoryHandover(endpoints, "eth0", INDEX, counters), counters)
    wire.put(Received(frame(b"1")))
    wire.walk()
    with hold_instance(endpoints, "forwarder"):
        wire.handover.close()
    assert counters.get(Counter.HANDED, INDEX) == 1
    assert counters.get(Counter.DROP_RESTARTED, INDEX) == 0


# --- inside messages --------------------------------------------------------------------------------------------------


def received_batch(parts: list[bytes]) -> list[tuple[int, bytes]]:
    """Return packet type and bytes of each frame of a batch, by the layout of its descriptors."""
    header = decode(parts[0])
    assert header == FrameBatch(purpose="ip", count=header.count, handed=header.handed)
    records = list(struct.iter_unpack("=IIIHHI", parts[1]))
    assert len(records) == header.count
    frames = []
    start = 0
    for in_interface, out_interface, next_hop, packet_type, generated, length in records:
        assert (in_interface, out_interface, next_hop, generated) == (INDEX, 0, 0, 0)
        frames.append((packet_type, parts[2][start : start + length]))
        start += length
    assert start == len(parts[2])
    return frames


class Inline(Wire):
    """A wire into an inline handover whose forwarder is there and reads."""

    def __init__(self, context: zmq.Context[Any], endpoints: Endpoints, counters: CounterBlock) -> None:
        self._pull = bound(context, zmq.PULL, endpoints.forwarder_frames)
        self._counters = counters
        super().__init__(InlineHandover(context, endpoints, INDEX, counters), counters)
        wait_for(self._arrives)
        self.before = self._counters.snapshot()[INDEX]
        for _ in range(self.before["HANDED"]):  # one was enough, but the first may have taken its time
            self.read()

    def _arrives(self) -> bool:
        self.put(Received(frame(b"hello")))
        self.walk()
        return bool(self._pull.poll(5))

    def read(self) -> list[bytes]:
        assert self._pull.poll(int(LIMIT_S * 1000))
        return self._pull.recv_multipart()

    def has_more(self) -> bool:
        return bool(self._pull.poll(0))

    def counted(self, name: str) -> int:
        """Return what was counted since it is connected."""
        return self._counters.snapshot()[INDEX].get(name, 0) - self.before.get(name, 0)


@pytest.fixture
def inline(context: zmq.Context[Any], endpoints: Endpoints, counters: CounterBlock) -> Inline:
    return Inline(context, endpoints, counters)


def test_the_frames_of_a_walk_are_one_message(inline: Inline) -> None:
    first, second = frame(b"1" * 46), frame(b"2" * 1500)
    inline.put(Received(first), Received(second, virtio=GSO, packet_type=3))
    inline.walk()
    assert received_batch(inline.read()) == [(0, bytes(10) + first), (3, GSO + second)]
    assert inline.counted("HANDED") == 2
    assert not inline.has_more()


def test_a_walk_without_frames_sends_nothing(inline: Inline) -> None:
    assert inline.walk().taken == 0
    inline.put(Received(frame()))
    inline.walk()
    assert len(received_batch(inline.read())) == 1


def test_many_walks_round_the_private_ring(inline: Inline) -> None:
    """More frames than its slots, and more bytes than its area."""
    inline.receive_from(ReceiveRing(blocks=1, slots_per_block=200, slot_bytes=1664, rest=0))
    total = 0
    for turn in range(20):
        sent = [frame(bytes((turn, number)) + bytes(1400)) for number in range(200)]
        inline.put(*(Received(one) for one in sent))
        assert inline.walk().taken == 200
        assert [data[10:] for _, data in received_batch(inline.read())] == sent
        total += sum(map(len, sent))
    assert total > 2 * INLINE_AREA_BYTES
    assert inline.counted("HANDED") == 4000
    assert inline.counted("DROP_FORWARDER_FULL") == 0


def test_super_frames_beyond_its_area_take_several_messages(inline: Inline) -> None:
    inline.receive_from(ReceiveRing(blocks=1, slots_per_block=64, slot_bytes=69_632, rest=0))
    sent = [frame(bytes((number,)) * 65_000) for number in range(64)]
    inline.put(*(Received(one, virtio=GSO) for one in sent))
    arrived: list[bytes] = []
    while len(arrived) < 64:
        inline.walk()
        arrived += [data for _, data in received_batch(inline.read())]
    assert arrived == [GSO + one for one in sent]


def test_without_a_forwarder_frames_are_dropped_and_counted(
    context: zmq.Context[Any], endpoints: Endpoints, counters: CounterBlock
) -> None:
    wire = Wire(InlineHandover(context, endpoints, INDEX, counters), counters)
    for _ in range(3):
        wire.put(Received(frame()), Received(frame()))
        wire.walk()
    assert counters.snapshot()[INDEX] == {"RX_FRAMES": 6, "RX_BYTES": 126, "DROP_FORWARDER_FULL": 6}
