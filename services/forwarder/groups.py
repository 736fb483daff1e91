"""Which of several next hops a flow takes: RFC 2991 section 4, highest random weight, drawn once for each bucket.

A flow's hash names a bucket. For each bucket every next hop draws a number, and the one that draws the best has it.
The draws depend on nothing but the next hop and the bucket, so that a next hop that leaves gives its own buckets to the
others, one that comes back takes the same ones again, and no other flow moves (RFC 2992 section 4 on disruption).
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

BUCKETS: Final = 4096
"""A power of two. Shares are random draws: of 4096 buckets, one in five is met within 3 % (a standard deviation)."""

_GOLDEN: Final = np.uint64(0x9E37_79B9_7F4A_7C15)  # 2**64 / golden ratio: Steele, Lea, Flood 2014, SplitMix
_MIX: Final = ((np.uint64(30), np.uint64(0xBF58_476D_1CE4_E5B9)), (np.uint64(27), np.uint64(0x94D0_49BB_1331_11EB)))
_LAST_SHIFT: Final = np.uint64(31)
_FRACTION_SHIFT: Final = np.uint64(11)  # 64 bits to the 53 of a float
_NUMBERS: Final = np.arange(BUCKETS, dtype=np.uint64)

Ways = npt.NDArray[np.int64]


def spread(members: Sequence[tuple[int, int]]) -> Ways:
    """Return who has each bucket: (BUCKETS,) keys of the members.

    :param members: key and weight of each, keys unique. As many as there are buckets, each gets one at least.
    """
    keys = np.array([key for key, _ in members], np.int64)
    weights = np.array([weight for _, weight in members], np.float64)
    # The first of several exponential clocks to ring, each at the rate of its weight, is the one with the odds wanted.
    times = -np.log(_draws(keys)) / weights[:, None]
    owners = np.argmin(times, axis=0)
    counts = np.bincount(owners, minlength=len(keys))
    for poor in np.flatnonzero(counts == 0).tolist():
        can_give = counts[owners] > 1
        if not can_give.any():
            break
        bucket = int(np.argmin(np.where(can_give, times[poor], np.inf)))
        counts[owners[bucket]] -= 1
        counts[poor] = 1
        owners[bucket] = poor
    ways: Ways = keys[owners]
    return ways


def _draws(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return a number between 0 and 1, both exclusive, for each key and bucket: (keys, BUCKETS)."""
    value = _mixed(keys.astype(np.uint64) * _GOLDEN)[:, None] + _NUMBERS * _GOLDEN
    draws: npt.NDArray[np.float64] = ((_mixed(value) >> _FRACTION_SHIFT).astype(np.float64) + 0.5) / 2.0**53
    return draws


def _mixed(value: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return numbers of which each bit depends on every bit of `value`."""
    for shift, factor in _MIX:
        value = (value ^ (value >> shift)) * factor
    return value ^ (value >> _LAST_SHIFT)
