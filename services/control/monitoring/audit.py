"""The frame balance: does every frame that came in have a fate, and only one? Pure.

The services report at different times, so that under load the sums of one moment never agree. What has come in by one
moment must have a fate by a later one, though: sent, delivered, consumed, dropped, or counted as waiting. And what has
a fate must have come in. So the audit compares the sums of two moments, each time to the router's advantage: at rest it
is exact, under load it finds what is missing beyond the frames that came meanwhile.
"""

from collections import deque
from typing import Final

from services.control.reports import Balance

SETTLE_S: Final = 1.0
"""By then a frame has a fate: rings hold it for 100 ms at most, services report four times a second."""


class FrameAudit:
    """Follows the balance.

    :ivar unaccounted: frames that have no fate although they came in `SETTLE_S` ago; negative: that have a fate, but
        never came in.
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, int]] = deque()
        self.unaccounted = 0

    def observe(self, balance: Balance, now: float) -> None:
        """Take the balance of now, and judge."""
        came, went = balance.came, balance.went
        self._seen.append((now, came, went))
        while len(self._seen) > 1 and now - self._seen[1][0] >= SETTLE_S:
            self._seen.popleft()
        at, came_before, went_before = self._seen[0]
        if now - at >= SETTLE_S:
            self.unaccounted = max(0, came_before - went) + min(0, came - went_before)
