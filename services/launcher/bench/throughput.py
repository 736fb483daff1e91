"""The highest rate without loss: what RFC 2544 section 26.1 calls throughput. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

RESOLUTION: Final = 0.02
"""The search ends when what is known to be lost is as near to what is known to pass, as a share of where it began."""
FEW: Final = 0.001
"""A trial that loses at most this share is made once more: a pause of a virtual machine loses as much at any rate."""
_GAP: Final = 0.1
"""Between what passed and what was lost, as a share of where the search began: a wider one is the generator's."""


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
    """The lowest higher one of which something was lost; `rate` itself if there was none."""
    is_bound: bool
    """Whether the generator could not offer what lies between the two, so that `rate` is a lower bound."""
    trials: tuple[Trial, ...]
    """In the order in which they were made; a repeated one is there twice."""


def search(attempt: Callable[[float], Outcome], highest: float) -> Throughput:
    """Search by halves between nothing and the highest rate, which is tried first.

    It halves what is intended; what counts is what was really offered.

    :param attempt: offers a load of so many frames a second.
    """
    trials: list[Trial] = []

    def trial(rate: float) -> Trial:
        trials.append(Trial(rate, *attempt(rate)))
        if 0 < trials[-1].lost <= FEW * trials[-1].sent:
            trials.append(Trial(rate, *attempt(rate)))
        return trials[-1]

    decided = [trial(highest)]
    passed, lossy = (0.0, highest) if decided[0].lost else (highest, highest)
    while lossy - passed > RESOLUTION * highest:
        decided.append(trial((passed + lossy) / 2))
        if decided[-1].lost:
            lossy = decided[-1].intended
        else:
            passed = decided[-1].intended
    rate = max((done.offered for done in decided if not done.lost), default=0.0)
    above = min((done.offered for done in decided if done.lost and done.offered > rate), default=rate)
    return Throughput(rate, above, above == rate or above - rate > _GAP * highest, tuple(trials))


def repeats(trials: Sequence[Trial]) -> int:
    """Return how many trials were made once more."""
    return sum(former.intended == latter.intended for former, latter in pairwise(trials))
