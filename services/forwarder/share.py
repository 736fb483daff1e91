"""The share of the forwarder's time that exceptions may take: pure, on a clock that is handed in."""

from typing import Final

SHARE: Final = 0.08
"""Of the time, while other frames wait: at any flood of exceptions the fast path keeps nine tenths of its rate."""
BURST_S: Final = 0.05
"""Seconds that may be spent at once after a quiet time: a few hundred pings."""
DEBT_S: Final = 0.005
"""Seconds that can be owed."""


class SlowShare:
    """Time in hand for the slow path: it grows by the share, and shrinks by what was spent.

    It owes little at most: what was spent while nobody waited is not held against it for long.
    """

    def __init__(self, now: float) -> None:
        """Begin with a full burst."""
        self._credit = BURST_S
        self._at = now

    def allows(self, now: float, *, others_wait: bool) -> bool:
        """Tell whether exceptions may be seen to now. While nothing else is to be done, they may take all the time."""
        self._credit = min(BURST_S, self._credit + (now - self._at) * SHARE)
        self._at = now
        return self._credit > 0 or not others_wait

    def spend(self, seconds: float) -> None:
        """Take note of time that was spent, wanted or not."""
        self._credit = max(-DEBT_S, self._credit - seconds)
