"""The loop of ingress over a receive ring: when it goes on, when it comes back, and when it rings."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest
from receive_ring import NOW_NS, Received, ReceiveRing, frame

from services.common.coalesce import LINGER_MS, LONGEST_NS, SLEEP_MS, STRETCH_NS
from services.common.counters import COLUMNS, Counter
from services.common.frame_ring import HEAD, STALE_NS, TAIL, PrivateRing
from services.common.meters import BUCKETS, METER_VALUES, Histogram, Meter, histogram_place
from services.common.observer import unobserved
from services.common.system_calls import watch
from services.ingress.reception import NO_BELL, Stretch, receive
from services.ingress.ring import ARP_FRAMES, ARP_STRIDE, Target

SLEEPS = 48  # word of the ring's header


class Ingress:
    """A receive ring, a frame ring of two frames, and pipes for the packet socket and the bell."""

    def __init__(self) -> None:
        self.receive = ReceiveRing()
        self.ring = PrivateRing(2, 4096)
        self.counters = np.zeros(COLUMNS, np.int64)
        self.meters = np.zeros(METER_VALUES, np.int64)
        self.target = Target(
            self.ring.words,
            self.ring.descriptors,
            self.ring.area,
            np.zeros(2, np.int64),
            np.zeros(ARP_FRAMES * ARP_STRIDE, np.uint8),
            np.zeros((ARP_FRAMES, 2), np.int64),
            self.counters,
            1,
            unobserved(),
        )
        self.socket, self.wire = os.pipe()
        self.heard, self.bell = os.pipe()
        os.set_blocking(self.heard, False)
        self.slot = self._put = 0

    def put(self, *frames: bytes) -> None:
        """Frames that come in now."""
        for one in frames:
            self.receive.put(self._put % self.receive.geometry.slots, Received(one, age_ns=NOW_NS - time.time_ns()))
            self._put += 1

    def run(self, stretch_ns: int = STRETCH_NS, *, rings: bool = True) -> Stretch:
        done: Stretch = receive(
            self.receive.memory,
            self.receive.statuses,
            self.receive.geometry,
            watch([self.socket]),
            self.slot,
            self.target,
            self.bell if rings else NO_BELL,
            stretch_ns,
            self.meters,
        )
        self.slot = done.slot
        return done

    def rung(self) -> int:
        try:
            return len(os.read(self.heard, 1000))
        except BlockingIOError:
            return 0

    def close(self) -> None:
        for descriptor in (self.socket, self.wire, self.heard, self.bell):
            os.close(descriptor)


@pytest.fixture
def ingress() -> Iterator[Ingress]:
    made = Ingress()
    yield made
    made.close()


def test_it_goes_on_until_time_is_up(ingress: Ingress) -> None:
    ingress.put(frame(b"1"), frame(b"2"))
    os.write(ingress.wire, b"x")  # the socket stays readable: it is woken as soon as it sleeps
    before = time.monotonic_ns()
    done = ingress.run(60_000_000_000)
    assert time.monotonic_ns() - before >= LONGEST_NS
    assert (done.slot, done.handed, done.arp, done.failed) == (2, 2, 0, False)


def test_it_lingers_when_it_has_worked() -> None:
    """It sleeps before it comes back, but not for as long as one that had nothing to do."""

    def spent_s() -> float:
        with closing(Ingress()) as ingress:
            ingress.put(frame(b"1"))
            before = time.monotonic()
            assert ingress.run().handed == 1
            return time.monotonic() - before

    tries = [spent_s() for _ in range(5)]
    assert min(tries) >= LINGER_MS / 1000
    assert min(tries) < SLEEP_MS / 1000


def test_it_comes_back_when_nothing_has_come_for_long(ingress: Ingress) -> None:
    before = time.monotonic()
    done = ingress.run()
    assert time.monotonic() - before >= SLEEP_MS / 1000
    assert (done.slot, done.handed, done.failed) == (0, 0, False)


def test_without_time_it_makes_one_walk(ingress: Ingress) -> None:
    ingress.put(frame(b"1"))
    done = ingress.run(0)
    assert (done.slot, done.handed) == (1, 1)


def test_without_time_it_sleeps_once_where_there_is_nothing(ingress: Ingress) -> None:
    before = time.monotonic()
    assert ingress.run(0).handed == 0
    assert time.monotonic() - before >= SLEEP_MS / 1000


def test_without_time_it_comes_back_though_the_socket_stays_readable(ingress: Ingress) -> None:
    os.write(ingress.wire, b"x")
    assert ingress.run(0).handed == 0


def test_arp_ends_the_stretch(ingress: Ingress) -> None:
    ingress.put(frame(b"1"), frame(bytes(28), 0x0806), frame(b"2"))
    done = ingress.run()
    assert (done.handed, done.arp) == (2, 1)


def test_it_rings_once_for_a_sleeper(ingress: Ingress) -> None:
    ingress.ring.words[SLEEPS] = 1
    ingress.put(frame(b"1"))
    assert ingress.run(0).bells == ingress.rung() == 1
    ingress.put(frame(b"2"))
    assert ingress.run(0).bells == ingress.rung() == 0


def test_without_a_bell_it_rings_for_nobody(ingress: Ingress) -> None:
    ingress.ring.words[SLEEPS] = 1
    ingress.put(frame(b"1"))
    assert ingress.run(0, rings=False).bells == ingress.rung() == 0


def test_a_frame_waits_for_a_full_ring_until_it_is_stale(ingress: Ingress) -> None:
    ingress.put(frame(b"1"), frame(b"2"), frame(b"3"))
    before = time.time_ns()
    done = ingress.run(10 * STALE_NS)
    assert time.time_ns() - before >= STALE_NS
    assert (done.slot, done.handed) == (3, 2)
    assert ingress.counters[Counter.DROP_FORWARDER_FULL] == 1


def test_a_full_ring_does_not_hold_python_up(ingress: Ingress) -> None:
    ingress.put(frame(b"1"), frame(b"2"), frame(b"3"))
    done = ingress.run()
    assert (done.slot, done.handed) == (2, 2)


def test_an_error_on_the_socket_brings_it_back(ingress: Ingress) -> None:
    os.dup2(ingress.bell, ingress.socket)  # the writing end of a pipe without a reader is in error
    os.dup2(ingress.wire, ingress.heard)
    ingress.put(frame(b"1"))
    done = ingress.run(10 * STALE_NS)
    assert (done.handed, done.failed) == (1, True)


def histogram(ingress: Ingress, which: Histogram) -> tuple[int, list[int]]:
    """Return the sum of all values, and the buckets up to that of 8."""
    place = histogram_place(which)
    return int(ingress.meters[place]), ingress.meters[place + 1 : place + 5].tolist()


def test_it_counts_walks_that_found_frames(ingress: Ingress) -> None:
    ingress.put(frame(b"1"), frame(bytes(28), 0x0806))
    ingress.run()
    assert histogram(ingress, Histogram.RECEIVE_FRAMES) == (2, [0, 1, 0, 0])
    nanoseconds = ingress.meters[histogram_place(Histogram.RECEIVE_NS) :][: 1 + BUCKETS]
    assert 0 < nanoseconds[0] < 10**9
    assert nanoseconds[1:].sum() == 1
    ingress.run(0)
    assert histogram(ingress, Histogram.RECEIVE_FRAMES) == (2, [0, 1, 0, 0]), "nothing was there"


def spent_when_woken_ns(ingress: Ingress) -> int:
    """Return the time it counts for a frame that wakes it while it sleeps."""
    ingress.meters[:] = 0

    def come() -> None:
        time.sleep(SLEEP_MS / 2 / 1000)
        ingress.put(frame(b"1"))
        os.write(ingress.wire, b"x")

    sender = threading.Thread(target=come)
    sender.start()
    while not ingress.meters[histogram_place(Histogram.RECEIVE_FRAMES)]:
        ingress.run(0)
    sender.join()
    os.read(ingress.socket, 100)
    ingress.target.ends[0] = ingress.ring.words[HEAD] = ingress.ring.words[TAIL] = 0
    return int(ingress.meters[histogram_place(Histogram.RECEIVE_NS)])


def test_the_time_asleep_is_no_work(ingress: Ingress) -> None:
    tries = (spent_when_woken_ns(ingress) for _ in range(100))
    assert any(spent_ns < SLEEP_MS * 10**6 / 8 for spent_ns in tries), "one in which nobody else had the core"
    assert ingress.meters[Meter.WAKE_UPS] >= 1


def test_it_tells_how_full_the_ring_was(ingress: Ingress) -> None:
    ingress.put(frame(b"1"))
    assert ingress.run(0).fill == 1
    ingress.put(frame(b"2"))
    assert ingress.run(0).fill == 2, "nobody has read it"
    os.write(ingress.wire, b"x")
    assert ingress.run(0).fill == 0, "no walk found anything"
