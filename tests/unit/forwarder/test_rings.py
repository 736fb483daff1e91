"""The loop over frame rings: turns, ends of a stretch, sleep. Nothing can be sent here: it counts as DROP_TX_FAILED."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from pipeline_router import ETH0, ETH2, ETHERNET, bench_with, datagram

from services.common.coalesce import LINGER_MS, SLEEP_MS, STRETCH_NS
from services.common.counters import Counter, CounterBlock
from services.common.endpoints import Endpoints
from services.common.frame_ring import TIMESTAMP_NS, RingConsumer, RingProducer
from services.common.insight import Insight
from services.common.meters import Meter
from services.common.observer import Observing
from services.common.system_calls import watch
from services.forwarder.egress import Egress
from services.forwarder.pipeline import BATCH, counter_start, make_batch, make_queues
from services.forwarder.rationing import TO_ARP, TO_SLOW_PATH
from services.forwarder.rings import (
    MESSAGES,
    OUT_OF_BOUNDS,
    SLOW_FRAMES,
    TIME_IS_UP,
    Stretch,
    forward_rings,
    ring_row,
)

HEAD, SLEEPS = 16, 48  # words of a ring's header
LONG_NS = 60_000_000_000
FORWARDED = ETHERNET + datagram()
EXPIRED = ETHERNET + datagram(ttl=1)
UNRESOLVED = ETHERNET + datagram(destination="198.51.100.200")
DROPPED = ETHERNET + datagram(destination="203.0.113.1")  # a blackhole


class Rings:
    """Two interfaces' rings with the forwarder's end of them, a pipe for the bell and one for messages."""

    def __init__(self, folder: Path) -> None:
        self.tables = bench_with().tables
        self.counters = CounterBlock(folder / "counters")
        self.batch = make_batch()
        self.queues = make_queues()
        self.insight = Insight(Endpoints(folder), "forwarder")
        self.observing = Observing(self.insight)
        self.egress = Egress(self.queues, self.counters, self.observing)
        self.producers = [RingProducer(folder / f"{index}.ring", index) for index in (ETH0, ETH2)]
        self.consumers = [RingConsumer(folder / f"{index}.ring") for index in (ETH0, ETH2)]
        self.table: npt.NDArray[np.int64] = np.array(
            [
                ring_row(
                    ring, self.tables.slots[ring.interface_index], counter_start(self.counters, ring.interface_index)
                )
                for ring in self.consumers
            ]
        )
        self.bell, self.rope = os.pipe()
        self.message, self.sender = os.pipe()
        os.set_blocking(self.bell, False)

    def put(self, ring: int, *frames: bytes) -> None:
        producer = self.producers[ring]
        head = int(producer.words[HEAD])
        for number, frame in enumerate(frames, head):
            place = number * 256
            data = np.frombuffer(bytes(10) + frame, np.uint8)
            producer.area[place : place + len(data)] = data
            producer.descriptors[number] = (place, len(frame), 0, 0)
        producer.words[HEAD] = head + len(frames)

    def run(self, first: int = 0, *, sleep: bool = False, stretch_ns: int = STRETCH_NS) -> Stretch:
        done: Stretch = forward_rings(
            self.table,
            first,
            self.tables.arrays,
            self.batch,
            self.queues,
            self.egress.senders,
            self.egress.block,
            self.observing.arrays,
            watch([self.bell, self.message] if sleep else []),
            stretch_ns,
        )
        return done

    def count(self, counter: Counter) -> int:
        return self.counters.total(counter)

    def close(self) -> None:
        for descriptor in (self.bell, self.rope, self.message, self.sender):
            os.close(descriptor)


@pytest.fixture
def rings(tmp_path: Path) -> Iterator[Rings]:
    made = Rings(tmp_path)
    yield made
    made.close()


def test_it_empties_all_rings_and_comes_back(rings: Rings) -> None:
    rings.put(0, *[FORWARDED] * (BATCH + 10))
    rings.put(1, DROPPED)
    assert rings.run(stretch_ns=LONG_NS).reason == TIME_IS_UP
    assert [ring.available() for ring in rings.consumers] == [0, 0]
    assert rings.count(Counter.DROP_TX_FAILED) == BATCH + 10
    assert rings.count(Counter.TAKEN) == BATCH + 11
    assert rings.count(Counter.BATCHES) == 3


def test_frames_for_the_slow_path_stay_until_python_has_seen_them(rings: Rings) -> None:
    rings.put(0, DROPPED, EXPIRED, UNRESOLVED, FORWARDED)
    done = rings.run()
    assert done == Stretch(SLOW_FRAMES, 0, 4, 2, 0)
    assert rings.batch.slow[:2].tolist() == [1, 2]
    assert rings.consumers[0].available() == 4
    assert rings.count(Counter.DROP_TX_FAILED) == 1, "what can be sent has been sent"
    rings.consumers[0].give_back(done.frames)
    assert rings.run().reason == TIME_IS_UP


@pytest.mark.parametrize("first", [0, 1, 2, 3])
def test_each_ring_has_its_turn_though_the_slow_path_ends_every_stretch(rings: Rings, first: int) -> None:
    rings.put(0, EXPIRED)
    rings.put(1, EXPIRED)
    done = rings.run(first)
    assert done.ring == first % 2
    rings.consumers[done.ring].give_back(done.frames)
    rings.put(done.ring, EXPIRED)
    assert rings.run(done.ring + 1).ring == 1 - done.ring


def test_what_is_not_allowed_to_the_slow_path_is_dropped_here(rings: Rings) -> None:
    rings.batch.allowance[TO_SLOW_PATH] = 1
    rings.batch.allowance[TO_ARP] = 2
    rings.put(0, *[EXPIRED, UNRESOLVED] * 5)
    assert rings.run() == Stretch(SLOW_FRAMES, 0, 10, 3, 0)
    assert rings.batch.slow[:3].tolist() == [0, 1, 3]
    assert rings.count(Counter.DROP_SLOW_PATH_FULL) == 4
    assert rings.count(Counter.DROP_ARP_FULL) == 3
    assert rings.count(Counter.TAKEN) == 10


def test_a_position_that_makes_no_sense_is_python_s(rings: Rings) -> None:
    for head in (-1, len(rings.consumers[1].descriptors) + 1, 2**62):
        rings.producers[1].words[HEAD] = head
        assert rings.run() == Stretch(OUT_OF_BOUNDS, 1, 0, 0, 0)


def test_asleep_it_asks_each_ring_for_a_bell_and_wakes_by_it(rings: Rings) -> None:
    def ring() -> None:
        deadline = time.monotonic() + 30
        while not all(producer.words[SLEEPS] for producer in rings.producers) and time.monotonic() < deadline:
            time.sleep(0.001)
        rings.put(1, DROPPED)
        os.write(rings.rope, b"\0")

    for producer in rings.producers:
        producer.words[SLEEPS] = 0
    ringer = threading.Thread(target=ring)
    ringer.start()
    done = rings.run(sleep=True)
    ringer.join()
    while rings.consumers[1].available():
        done = rings.run(sleep=True)
    assert done.reason in (TIME_IS_UP, MESSAGES)
    assert rings.count(Counter.DROP_BLACKHOLE) == 1
    assert rings.counters.meters.get(Meter.WAKE_UPS) >= 1
    assert not any(producer.words[SLEEPS] for producer in rings.producers)


def test_asleep_a_message_brings_it_back(rings: Rings) -> None:
    os.write(rings.sender, b"x")
    assert rings.run(sleep=True).reason == MESSAGES


def test_asleep_it_comes_back_now_and_then(rings: Rings) -> None:
    before = time.monotonic()
    done = rings.run(sleep=True)
    assert done.reason == MESSAGES
    assert SLEEP_MS / 1000 <= done.slept_ns / 1e9 <= time.monotonic() - before


def test_it_lingers_when_it_has_worked(rings: Rings) -> None:
    """It sleeps before it comes back, but not for as long as one that had nothing to do."""

    def slept_s() -> float:
        rings.put(0, DROPPED)
        done = rings.run(sleep=True)
        assert done.reason == MESSAGES
        return done.slept_ns / 1e9

    tries = [slept_s() for _ in range(5)]
    assert LINGER_MS / 1000 <= min(tries) < SLEEP_MS / 1000
    assert rings.count(Counter.DROP_BLACKHOLE) == 5


def test_a_message_brings_it_back_though_it_was_rung_for_frames_as_well(rings: Rings) -> None:
    """Otherwise a steady flow with pauses would keep messages waiting."""
    os.write(rings.rope, b"\0")
    os.write(rings.sender, b"x")
    assert rings.run(sleep=True).reason == MESSAGES


def test_a_used_up_allowance_does_not_outlive_a_sleep(rings: Rings) -> None:
    rings.batch.allowance[TO_SLOW_PATH] = 0
    os.write(rings.rope, b"\0")
    assert rings.run(sleep=True).reason == MESSAGES


def test_a_bell_for_no_ring_that_is_known_brings_it_back(rings: Rings) -> None:
    os.write(rings.rope, b"\0")
    before = time.monotonic()
    assert rings.run(sleep=True, stretch_ns=LONG_NS).reason == MESSAGES
    assert time.monotonic() - before < SLEEP_MS / 1000
    with pytest.raises(BlockingIOError):
        os.read(rings.bell, 1)


def test_frames_that_came_before_it_slept_are_not_overlooked(rings: Rings) -> None:
    rings.put(0, DROPPED)
    assert rings.run(sleep=True, stretch_ns=0).reason == TIME_IS_UP
    assert rings.count(Counter.DROP_BLACKHOLE) == 1


# --- What it measures -------------------------------------------------------------------------------------------------


def test_batches_are_counted_by_size_and_time(rings: Rings) -> None:
    rings.put(0, *[FORWARDED] * (BATCH + 3))
    rings.put(1, DROPPED)
    rings.run(stretch_ns=LONG_NS)
    measured = rings.counters.meters.snapshot().histograms
    assert measured["FORWARD_FRAMES"] == [BATCH + 4, 1, 0, 1, 0, 0, 0, 0, 0, 1], "of 1, 3 and 256 frames"
    total, *buckets = measured["FORWARD_NS"]
    assert sum(buckets) == 3
    assert 0 < total < 30 * 10**9


def test_the_latency_is_that_since_a_frame_came_into_the_kernel(rings: Rings) -> None:
    rings.put(0, FORWARDED, FORWARDED)
    rings.producers[0].descriptors[:2, TIMESTAMP_NS] = time.time_ns() - 50_000_000, time.time_ns()
    rings.run()
    total, *buckets = rings.counters.meters.snapshot().histograms["LATENCY_NS"]
    assert sum(buckets) == 1, "the first frame's"
    assert 50_000_000 <= total < 30 * 10**9


@pytest.mark.parametrize("moment_ns", [0, -5, 2**62])
def test_a_moment_that_makes_no_sense_is_no_latency(rings: Rings, moment_ns: int) -> None:
    rings.put(0, FORWARDED)
    rings.producers[0].descriptors[0, TIMESTAMP_NS] = moment_ns
    rings.run()
    assert "LATENCY_NS" not in rings.counters.meters.snapshot().histograms


def test_a_message_is_no_wake_up_for_work(rings: Rings) -> None:
    os.write(rings.sender, b"x")
    rings.run(sleep=True)
    assert rings.counters.meters.get(Meter.WAKE_UPS) == 0
