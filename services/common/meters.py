"""What services measure of themselves: wake-ups and CPU time, sizes of batches and how long they took, what they hold.

Meters and histograms are cumulative like `counters`, and lie behind them in the same mapped file; gauges say what is
now, and travel only in reports. A histogram's buckets are powers of two, so that compiled code finds the bucket of a
value with one instruction (`observation`).
"""

import os
from enum import Enum, IntEnum
from pathlib import Path
from typing import Final, NamedTuple

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class Meter(IntEnum):
    """Cumulative figures of one service instance; the value is the place in its block."""

    text: str

    def __new__(cls, text: str) -> "Meter":
        """Give each member the next place, and its explanation."""
        member = int.__new__(cls, len(cls.__members__))
        member._value_ = len(cls.__members__)
        member.text = text
        return member

    STARTS = "starts of the process"
    CPU_NS = "CPU time of the process in all its runs, nanoseconds"
    WAKE_UPS = "how often it woke from sleep because there was work"
    RESYNCS = "dumps of the kernel's tables because announcements did not suffice"
    NAT_SESSIONS_OPENED = "sessions of address translation that were opened"


class Histogram(IntEnum):
    """Distributions that one service instance keeps; the value is the number in its block."""

    text: str

    def __new__(cls, text: str) -> "Histogram":
        """Give each member the next number, and its explanation."""
        member = int.__new__(cls, len(cls.__members__))
        member._value_ = len(cls.__members__)
        member.text = text
        return member

    RECEIVE_FRAMES = "frames of each walk over the receive ring that found any"
    RECEIVE_NS = "nanoseconds it took"
    FORWARD_FRAMES = "frames of each batch of the fast path"
    FORWARD_NS = "nanoseconds it took, sending included"
    SLOW_PATH_FRAMES = "frames of each batch that the fast path left to the slow path"
    SLOW_PATH_NS = "nanoseconds they took"
    RESOLVE_FRAMES = "frames of each message that arp took"
    RESOLVE_NS = "nanoseconds it took"
    LATENCY_NS = "nanoseconds from a frame's arrival in the kernel until it was sent; of each batch the first frame's"
    FIB_UPDATE_NS = "nanoseconds that the forwarder took to apply a change of routes or interfaces"


class Gauge(Enum):
    """What is now, in reports: by interface, those of the process as a whole under 0."""

    RESIDENT_BYTES = "memory in use"
    FRAME_RING_SLOTS = "frames that the ring to the forwarder can hold"
    FRAME_RING_PEAK = "the most frames that were in it since the last report"
    WAITING_BYTES = "bytes of the frames that wait for their next hop's MAC"
    NEIGHBOURS_INCOMPLETE = "asked for, no answer yet"
    NEIGHBOURS_REACHABLE = "answered a short while ago"
    NEIGHBOURS_STALE = "known, not in use"
    NEIGHBOURS_DELAY = "known, in use again, about to be probed"
    NEIGHBOURS_PROBE = "known, asked whether it is still there"
    NEIGHBOURS_FAILED = "did not answer"
    NEIGHBOURS_PERMANENT = "configured"


NEIGHBOUR_GAUGES: Final = {
    gauge.name.removeprefix("NEIGHBOURS_"): gauge for gauge in Gauge if gauge.name.startswith("NEIGHBOURS_")
}
"""By the name of the state (RFC 4861 section 7.3.2, and Linux's PERMANENT)."""

BUCKETS: Final = 36
"""Bucket b counts values above 2**(b - 1) and up to 2**b; the first also all below, the last also all above."""
HISTOGRAM_VALUES: Final = 1 + BUCKETS
"""The sum of all values, then the buckets."""
METER_VALUES: Final = len(Meter) + len(Histogram) * HISTOGRAM_VALUES
NAMES: Final = (*Meter.__members__, *Histogram.__members__)


def histogram_place(histogram: Histogram) -> int:
    """Return where in the meters a histogram begins."""
    return len(Meter) + histogram * HISTOGRAM_VALUES


class MetersSnapshot(NamedTuple):
    """The meters of one instance."""

    meters: dict[str, int] = {}  # noqa: RUF012 - a default, never changed
    """By `Meter` name; those that are not zero."""
    histograms: dict[str, list[int]] = {}  # noqa: RUF012
    """By `Histogram` name: the sum, then the buckets, without those at the end that are zero."""
    gauges: dict[int, dict[str, int]] = {}  # noqa: RUF012
    """By interface index and `Gauge` name."""


class Meters:
    """The meters of one block of counters.

    :ivar values: METER_VALUES writable 64-bit integers. Compiled code wraps them as an array.
    """

    def __init__(self, values: memoryview) -> None:
        self.values = values

    def add(self, meter: Meter, amount: int = 1) -> None:
        """Add to a meter."""
        self.values[meter] += amount

    def set(self, meter: Meter, value: int) -> None:
        """Set a meter that is counted elsewhere."""
        self.values[meter] = value

    def get(self, meter: Meter) -> int:
        """Return a meter."""
        return self.values[meter]

    def observe(self, histogram: Histogram, value: int) -> None:
        """Count a value. Compiled code does so by `observation.observe`."""
        place = histogram_place(histogram)
        self.values[place] += value
        self.values[place + 1 + min(max(value - 1, 0).bit_length(), BUCKETS - 1)] += 1

    def observe_batch(self, frames: Histogram, nanoseconds: Histogram, count: int, seconds: float) -> None:
        """Count a batch: its frames, and how long they took."""
        self.observe(frames, count)
        self.observe(nanoseconds, int(seconds * 1e9))

    def snapshot(self) -> MetersSnapshot:
        """Return what is not zero."""
        meters = {meter.name: value for meter in Meter if (value := self.values[meter])}
        histograms = {}
        for histogram in Histogram:
            place = histogram_place(histogram)
            values = self.values[place : place + HISTOGRAM_VALUES].tolist()
            while values and not values[-1]:
                values.pop()
            if values:
                histograms[histogram.name] = values
        return MetersSnapshot(meters, histograms)


def resident_bytes() -> int:
    """Return the memory that this process has in use (proc(5), statm)."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE_BYTES
