"""The highest rate without loss: what RFC 2544 section 26.1 calls throughput. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

RESOLUTION: Final = 0.02
"""The search ends when what is known to be lost is as near to what is known to pass, as a share of where it began."""
FEW: Final = 0.001
"""A trial that loses at most this share is made once more: a pause of a virtual machine loses as much at any rate.

So is one that loses nothing, but in which the generator fell short of its rate.
"""


class Outcome(NamedTuple):
    """What came of a trial: a load, offered for a time."""

    sent: int
    lost: int
    offered: float
    """Frames a second that were really sent."""


class Trial(NamedTuple):
    """One step of the search."""

    intended: float
    """Frames a second that were to be sent (the intended load of RFC 2285 section 3.5.1)."""
    sent: int
    lost: int
    offered: float


@dataclass(frozen=True)
class Throughput:
    """What the search found. Rates are frames a second."""

    rate: float
    """The highest offered load of which nothing was lost; 0 if there was none."""
    lossy: float
    """The lowest load of which something was lost, and none less passed; `rate` itself if no more can be offered."""
    trials: tuple[Trial, ...]
    """In the order in which they were made; a repeated one is there twice."""


def search(attempt: Callable[[float], Outcome], highest: float) -> Throughput:
    """Search by halves between nothing and the highest rate, which is tried first.

    :param attempt: offers a load of so many frames a second.
    """
    trials: list[Trial] = []

    def trial(rate: float) -> Trial:
        trials.append(Trial(rate, *attempt(rate)))
        if 0 < trials[-1].lost <= FEW * trials[-1].sent or _fell_short(trials[-1]):
            trials.append(Trial(rate, *attempt(rate)))
        return trials[-1]

    passed, lossy, rate = 0.0, highest, highest
    while True:
        done = trial(rate)
        if done.lost:
            lossy = done.offered if passed < done.offered < rate else rate
        else:
            passed = max(passed, done.offered)
            if rate == highest or _fell_short(done):  # no more can be offered
                return Throughput(passed, passed, tuple(trials))
        if lossy - passed <= RESOLUTION * highest:
            return Throughput(passed, lossy, tuple(trials))
        rate = (passed + lossy) / 2


def _fell_short(trial: Trial) -> bool:
    """Tell whether the generator could not offer what it was to, though nothing was lost."""
    return trial.lost == 0 and trial.offered < trial.intended * (1 - RESOLUTION)


def repeats(trials: Sequence[Trial]) -> int:
    """Return how many trials were made once more."""
    return sum(former.intended == latter.intended for former, latter in pairwise(trials))
