"""When to look for frames again: at once while little comes, in fuller batches under load.

As NAPI does, from what the last batch looked like. A wake-up costs more than the handling of many frames, so
nobody asks for one while frames keep coming: under load the reader sleeps for a short while and finds a batch; with
fewer frames it lets others run, and looks again.
"""

import os
import time
from dataclasses import dataclass
from enum import Enum
from typing import Final

BUSY_FRAMES: Final = 32
"""A batch of so many says: load. Super-frames of 64 KiB come in smaller ones, and must not wait."""
PAUSE_S: Final = 100e-6
"""How long frames gather under load: at 500,000 frames a second, 50 of them."""
EMPTY_LOOKS: Final = 20
"""After so many empty looks the traffic has paused, and the reader asks to be woken."""


class Wait(Enum):
    """What to do before the next look."""

    NOT = "look again"
    YIELD = "let others run"
    PAUSE = "sleep for PAUSE_S"
    SLEEP = "sleep until woken"


@dataclass
class Coalescer:
    """Decides after each look how to wait for the next."""

    _empty: int = EMPTY_LOOKS

    def after(self, frames: int, budget: int) -> Wait:
        """Return how to wait.

        :param frames: how many the last look found.
        :param budget: how many it would have taken.
        """
        if frames == 0:
            self._empty += 1
            return Wait.YIELD if self._empty < EMPTY_LOOKS else Wait.SLEEP
        self._empty = 0
        if frames >= budget:
            return Wait.NOT
        return Wait.PAUSE if frames >= BUSY_FRAMES else Wait.YIELD


def wait_briefly(wait: Wait) -> None:
    """Carry out all but SLEEP, which is the caller's."""
    if wait is Wait.YIELD:
        os.sched_yield()
    elif wait is Wait.PAUSE:
        time.sleep(PAUSE_S)
