"""The loop of ingress: walk after walk over the receive ring, compiled, so that Python is seldom asked."""

import select
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from services.common.coalesce import FULL_NS, LINGER_MS, LONGEST_FULL_NS, LONGEST_NS, SLEEP_MS
from services.common.frame_ring import TAIL
from services.common.kernels import kernel, record
from services.common.memory import load_acquire
from services.common.meters import Histogram, Meter, histogram_place
from services.common.observation import observe
from services.common.system_calls import MONOTONIC, REALTIME, clock_ns, happened, sleep_ns, wait_readable, write_byte
from services.ingress.ring import GEOMETRY, TARGET, Bytes, Geometry, Target, walk

BUDGET: Final = 256
"""Frames of one walk."""
NO_BELL: Final = -1
_POLLERR: Final = int(select.POLLERR)
_WAKE_UPS: Final = int(Meter.WAKE_UPS)
_FRAMES: Final = histogram_place(Histogram.RECEIVE_FRAMES)
_NANOSECONDS: Final = histogram_place(Histogram.RECEIVE_NS)


class Stretch(NamedTuple):
    """How a stretch of the loop ended."""

    slot: int
    """The slot to go on with."""
    arp: int
    """ARP frames sorted out, to be sent on."""
    handed: int
    """Frames put into the frame ring."""
    bells: int
    """How often the forwarder was woken."""
    fill: int
    """The most frames that were in the frame ring behind a walk."""
    failed: bool
    """The packet socket is in error: the interface went down."""


_STRETCH: Final = record(Stretch, "int64", "int64", "int64", "int64", "int64", "boolean")


@kernel(_STRETCH, "uint8[::1]", "uint32[::1]", GEOMETRY, "int64[::1]", "int64", TARGET, "int64", "int64", "int64[::1]")
def receive(
    memory: Bytes,
    statuses: npt.NDArray[np.uint32],
    geometry: Geometry,
    watched: npt.NDArray[np.int64],
    slot: int,
    target: Target,
    bell: int,
    stretch_ns: int,
    meters: npt.NDArray[np.int64],
) -> Any:
    """Move frames from the receive ring to `target`; sleep, once at least, while there are none.

    It ends when it has worked for `stretch_ns` without a pause or `LONGEST_NS` with pauses, after a pause that is long,
    and when there is something for Python to do.

    :param memory: with `statuses` and `geometry` the receive ring; `slot` is where to go on.
    :param watched: the packet socket.
    :param bell: the descriptor that wakes the forwarder, or NO_BELL.
    :param meters: this service's (`meters`).
    """
    began = clock_ns(MONOTONIC)
    until = began + stretch_ns
    latest = until
    has_slept = has_worked = False
    handed = bells = 0
    fill = 0
    full_ns = FULL_NS
    while True:
        head = target.ends[0]
        done = walk(memory, statuses, geometry, slot, BUDGET, clock_ns(REALTIME), target)
        slot = done.slot
        handed += target.ends[0] - head
        if done.must_wake and bell != NO_BELL:
            write_byte(bell)  # a full pipe rings already
            bells += 1
        ended = clock_ns(MONOTONIC)
        if done.taken:
            observe(meters, _FRAMES, done.taken)
            observe(meters, _NANOSECONDS, ended - began)
            fill = max(fill, target.ends[0] - load_acquire(target.words, TAIL))
            has_worked = True
        began = ended
        is_due = (ended >= until and (done.taken or done.blocked)) or (ended >= latest and has_slept)
        if done.arp or is_due:
            return Stretch(slot, done.arp, handed, bells, fill, False)
        if done.blocked:
            sleep_ns(full_ns)
            full_ns = min(2 * full_ns, LONGEST_FULL_NS)
            began = clock_ns(MONOTONIC)
        elif not done.taken:
            ready = wait_readable(watched, LINGER_MS if has_worked else SLEEP_MS)
            if ready <= 0 or happened(watched, 0) & _POLLERR:
                return Stretch(slot, 0, handed, bells, fill, ready > 0)
            meters[_WAKE_UPS] += 1
            began = clock_ns(MONOTONIC)
            until = began + stretch_ns
            if not has_slept:
                latest = began + LONGEST_NS
            has_slept = True
