"""The loop over all frame rings: compiled, so that Python is asked only for what it has to decide.

A stretch of the loop looks at each ring, forwards a batch, sends it, gives its memory back, and waits for more as
`coalesce` says. It ends when frames are left for the slow path, when its time is over, or when traffic has paused for
long.
"""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from services.common.coalesce import LINGER_MS, LONGEST_NS, SLEEP_MS
from services.common.counters import COLUMNS, METERS_START, Counter
from services.common.frame_ring import (
    DESCRIPTOR_WORDS,
    HEAD,
    HEADER_WORDS,
    TAIL,
    TIMESTAMP_NS,
    RingConsumer,
    go_to_sleep,
    wake,
)
from services.common.kernels import inlined, kernel, record
from services.common.memory import bytes_at, load_acquire, store_release, words_at
from services.common.meters import Histogram, Meter, histogram_place
from services.common.observation import observe
from services.common.observer import OBSERVER, Observer
from services.common.system_calls import MONOTONIC, REALTIME, clock_ns, drain, happened, wait_readable
from services.forwarder.egress import SENDERS, Senders, send_queue
from services.forwarder.pipeline import BATCH, BATCH_ARRAYS, QUEUES, Batch, Queues, forward_batch
from services.forwarder.rationing import TO_ARP, TO_SLOW_PATH
from services.forwarder.resolution import TABLES, TableArrays

# Columns of the table of rings: addresses in this process, and what belongs to the interface
WORDS: Final = 0
DESCRIPTORS: Final = 1
SLOTS: Final = 2
AREA: Final = 3
AREA_BYTES: Final = 4
POSITION: Final = 5
"""Of the consumer's own position: the one in shared memory is only for the producer to read."""
IN_SLOT: Final = 6
COUNTERS: Final = 7
"""Where the interface's counters begin in the block."""
INTERFACE: Final = 8
"""Its index."""
RING_COLUMNS: Final = 9

_FORWARDED: Final = int(Counter.FORWARDED)
_BATCHES: Final = int(Counter.BATCHES)

# The meters' places in the block
_WAKE_UPS: Final = METERS_START + int(Meter.WAKE_UPS)
_FRAMES: Final = METERS_START + histogram_place(Histogram.FORWARD_FRAMES)
_NANOSECONDS: Final = METERS_START + histogram_place(Histogram.FORWARD_NS)
_LATENCY: Final = METERS_START + histogram_place(Histogram.LATENCY_NS)
_LONGEST_LATENCY_NS: Final = 10_000_000_000
"""What is beyond comes of a clock that was set, and would spoil the sum."""

# Why a stretch ended
TIME_IS_UP: Final = 0
MESSAGES: Final = 1
"""A message may be there, or a new ring: see to the sockets and the folder."""
SLOW_FRAMES: Final = 2
"""A batch was forwarded but for some frames; its memory is not given back yet."""
OUT_OF_BOUNDS: Final = 3
"""A ring's position makes no sense."""


class Stretch(NamedTuple):
    """How a stretch ended, and the batch that it left to Python."""

    reason: int
    ring: int
    """The row of the ring."""
    frames: int
    """Of the batch."""
    slow: int
    """Those of them for the slow path: `Batch.slow`."""
    slept_ns: int


STRETCH: Final = record(Stretch, *["int64"] * len(Stretch._fields))


def ring_row(ring: RingConsumer, in_slot: int, counters: int) -> list[int]:
    """Return a ring's row in the table. The ring must live as long as the row is used."""
    row = [0] * RING_COLUMNS
    row[WORDS] = ring.words.ctypes.data
    row[DESCRIPTORS] = ring.descriptors.ctypes.data
    row[SLOTS] = len(ring.descriptors)
    row[AREA] = ring.area.ctypes.data
    row[AREA_BYTES] = len(ring.area)
    row[POSITION] = ring.position.ctypes.data
    row[IN_SLOT] = in_slot
    row[COUNTERS] = counters
    row[INTERFACE] = ring.interface_index
    return row


@inlined
def _position(ring: Any) -> Any:
    return words_at(ring[POSITION], 1)[0]


@inlined
def _available(ring: Any) -> Any:
    return load_acquire(words_at(ring[WORDS], HEADER_WORDS), HEAD) - _position(ring)


@inlined
def _give_back(ring: Any, count: Any) -> None:
    position = words_at(ring[POSITION], 1)
    position[0] += count
    store_release(words_at(ring[WORDS], HEADER_WORDS), TAIL, position[0])


@inlined
def _arrived(ring: Any) -> Any:
    """Return when the next frame came into the kernel, nanoseconds of Unix time."""
    slots = ring[SLOTS]
    descriptors = words_at(ring[DESCRIPTORS], slots * DESCRIPTOR_WORDS)
    return descriptors[_position(ring) % slots * DESCRIPTOR_WORDS + TIMESTAMP_NS]


@inlined
def _measure(counters: Any, count: Any, duration_ns: Any, latency_ns: Any) -> None:
    """Count a batch in the histograms."""
    observe(counters, _FRAMES, count)
    observe(counters, _NANOSECONDS, duration_ns)
    if 0 <= latency_ns < _LONGEST_LATENCY_NS:
        observe(counters, _LATENCY, latency_ns)


@inlined
def _forward(
    ring: Any, count: Any, tables: Any, batch: Any, queues: Any, senders: Any, counters: Any, observer: Any
) -> Any:
    """Forward a ring's next frames; return how many are for the slow path."""
    slots = ring[SLOTS]
    descriptors = words_at(ring[DESCRIPTORS], slots * DESCRIPTOR_WORDS).reshape((slots, DESCRIPTOR_WORDS))
    row = counters[ring[COUNTERS] : ring[COUNTERS] + COLUMNS]
    outcome = forward_batch(
        bytes_at(ring[AREA], ring[AREA_BYTES]),
        ring[AREA],
        descriptors,
        _position(ring),
        count,
        ring[IN_SLOT],
        ring[INTERFACE],
        tables,
        batch,
        queues,
        row,
        observer,
    )
    for number in range(outcome.touched):
        send_queue(queues, senders, counters, queues.touched[number], _FORWARDED, observer)
    row[_BATCHES] += 1
    return outcome.slow


@inlined
def _sleep(rings: Any, watched: Any, limit_ms: Any) -> Any:
    """Sleep until an ingress rings, which all are asked to do; false where something else woke, or nothing did."""
    nothing = True
    for number in range(rings.shape[0]):
        ring = rings[number]
        nothing = nothing and go_to_sleep(words_at(ring[WORDS], HEADER_WORDS), _position(ring))
    ready = np.int64(1)
    rung = True
    if nothing:
        ready = wait_readable(watched, limit_ms)
        rung = happened(watched, 0) != 0
        if rung:
            drain(watched[0] & 0x7FFF_FFFF)
    for number in range(rings.shape[0]):
        wake(words_at(rings[number, WORDS], HEADER_WORDS))
    return ready == 1 and rung


@kernel(
    STRETCH,
    "int64[:, ::1]",
    "int64",
    TABLES,
    BATCH_ARRAYS,
    QUEUES,
    SENDERS,
    "int64[::1]",
    OBSERVER,
    "int64[::1]",
    "int64",
)
def forward_rings(
    rings: npt.NDArray[np.int64],
    first: int,
    tables: TableArrays,
    batch: Batch,
    queues: Queues,
    senders: Senders,
    counters: npt.NDArray[np.int64],
    observer: Observer,
    watched: npt.NDArray[np.int64],
    stretch_ns: int,
) -> Stretch:
    """Forward what the rings hold, for `stretch_ns` without a pause or `LONGEST_NS` with pauses; see `Stretch`.

    :param rings: (rings, RING_COLUMNS)
    :param first: the ring to begin with: the one behind that which ended the last stretch, so that all have their turn.
    :param counters: the whole block, flat.
    :param watched: the bell, and behind it the descriptors of the sockets for messages; empty: do not sleep.
    """
    now = clock_ns(MONOTONIC)
    until = latest = now + stretch_ns
    unix_ns = clock_ns(REALTIME) - now
    slept = 0
    woken = has_worked = has_slept = False
    while True:
        most = np.int64(0)
        for turn in range(rings.shape[0]):
            number = (first + turn) % rings.shape[0]
            ring = rings[number]
            count = _available(ring)
            if count == 0:
                continue
            if not 0 < count <= ring[SLOTS]:
                return Stretch(OUT_OF_BOUNDS, number, 0, 0, slept)
            count = min(count, BATCH)
            arrived = _arrived(ring)
            slow = _forward(ring, count, tables, batch, queues, senders, counters, observer)
            began = now
            now = clock_ns(MONOTONIC)
            _measure(counters, count, now - began, now + unix_ns - arrived)
            if slow:
                return Stretch(SLOW_FRAMES, number, count, slow, slept)
            _give_back(ring, count)
            most = max(most, count)
        if most == 0:
            now = clock_ns(MONOTONIC)
        is_due = (most > 0 and now >= until) or (has_slept and now >= latest)
        if is_due or (most == 0 and watched.shape[0] == 0):
            return Stretch(TIME_IS_UP, 0, 0, 0, slept)
        if most == 0:
            # Who rang, but not for a ring that is known? A new one: Python finds it.
            woken = not woken and _sleep(rings, watched, LINGER_MS if has_worked else SLEEP_MS)
            slept -= now
            now = clock_ns(MONOTONIC)
            slept += now
            counters[_WAKE_UPS] += woken
            until = now + stretch_ns
            if not has_slept:
                latest = now + LONGEST_NS
            has_slept = True
            if not woken or batch.allowance[TO_SLOW_PATH] < BATCH or batch.allowance[TO_ARP] < BATCH:
                return Stretch(MESSAGES, 0, 0, 0, slept)  # also for a new allowance: nobody waits any more
        else:
            woken = False
            has_worked = True
