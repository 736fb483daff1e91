"""When to look for frames again: at once while little comes, in fuller batches under load.

As NAPI does, from what the last batch looked like. A wake-up costs more than the handling of many frames, so
under load nobody asks for one: the reader sleeps for a fixed, short while and finds a batch.
"""

from dataclasses import dataclass
from typing import Final

BUSY_FRAMES: Final = 8
"""A batch of so many says: load. One frame at a time is a ping, or a TCP connection's start."""
PAUSE_S: Final = 200e-6
"""How long frames gather under load: at 500,000 frames a second, 100 of them. A look costs as much as ten frames."""
EMPTY_PAUSES: Final = 4
"""After so many empty looks the load is over, and the reader asks to be woken."""


@dataclass
class Coalescer:
    """Decides after each look how to wait for the next."""

    _empty_left: int = 0

    def pause_s(self, frames: int, budget: int) -> float | None:
        """Return how long to pause before the next look, or None to sleep until woken.

        :param frames: how many the last look found.
        :param budget: how many it would have taken.
        """
        if frames >= budget:
            self._empty_left = EMPTY_PAUSES
            return 0.0
        if frames >= BUSY_FRAMES:
            self._empty_left = EMPTY_PAUSES
            return PAUSE_S
        if self._empty_left > 0:
            self._empty_left -= 1
            return PAUSE_S
        return 0.0 if frames else None
