"""The share of the forwarder's time that frames out of the ordinary may take: pure, on a clock that is handed in."""

from typing import Final

BUSY_SHARE: Final = 0.04
"""Of the time, however much else there is to do. Two such shares, and what exceptions cost at both ends beside, leave
the fast path nine tenths of its rate at any flood (`hopwire bench --floods`)."""
IDLE_SHARE: Final = 0.5
"""Of the time that would else be slept through, on top of it."""
_WEIGHT: Final = 0.1
"""Of the latest costs in what a frame is taken to cost."""
_LEAST_S: Final = 1e-6
"""No frame costs less: a clock that stands still must not make them free."""
_MOST_S: Final = 250e-6
"""No frame is taken to cost more: after super-frames in fifty parts each, a burst of small ones must not be turned
away. What they really cost is spent all the same."""


class TimeShare:
    """Time in hand: it grows by the shares, and shrinks by what was spent."""

    def __init__(self, cost_s: float, burst_s: float, now: float) -> None:
        """Begin with a full burst.

        :param cost_s: what a frame costs, as long as nothing else is known.
        :param burst_s: what may be spent at once after a quiet time, and owed at most.
        """
        self._cost = cost_s
        self._burst = burst_s
        self._credit = burst_s
        self._at = now

    def frames(self, now: float, slept_s: float = 0.0) -> int:
        """Return how many frames there is time for now.

        :param slept_s: how long the forwarder has slept since it was asked last.
        """
        earned = (now - self._at) * BUSY_SHARE + slept_s * IDLE_SHARE
        self._credit = min(self._burst, self._credit + earned)
        self._at = now
        return max(0, int(self._credit / self._cost))

    def spend(self, frames: int, seconds: float | None = None) -> None:
        """Take note of frames that were seen to, wanted or not.

        :param seconds: what they have cost; without it, what such frames are taken to cost.
        """
        if frames == 0:
            return
        if seconds is not None:
            self._cost += (min(max(seconds / frames, _LEAST_S), _MOST_S) - self._cost) * _WEIGHT
        self._credit = max(-self._burst, self._credit - (frames * self._cost if seconds is None else seconds))
