"""What came of offering a load to a router. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Final

_ALL_FORWARDED: Final = 0.99
"""Of the offered load: where that much is forwarded, more might have been."""


@dataclass(frozen=True)
class Run:
    """Frames and times of a load."""

    sent: int
    received: int
    seconds: float
    machine_s: float
    """CPU of the whole machine while it lasted."""
    router_s: float = 0.0
    """CPU of hopwire's processes; 0 if it was not hopwire that forwarded."""

    @property
    def offered(self) -> float:
        """The offered load, in frames a second (RFC 2285 section 3.5.2)."""
        return self.sent / self.seconds

    @property
    def forwarded(self) -> float:
        """The forwarding rate, in frames a second (RFC 2285 section 3.6.1)."""
        return self.received / self.seconds

    @property
    def lost(self) -> int:
        """Frames that were sent and not received."""
        return max(0, self.sent - self.received)

    @property
    def is_bound(self) -> bool:
        """Whether hardly anything was lost, so that the generator was the bottleneck, not the router."""
        return self.received >= _ALL_FORWARDED * self.sent

    def cpu_us(self, alone: "Run") -> float:
        """Return the µs of CPU that a forwarded frame costs beyond those of sending and receiving it without a router.

        :param alone: the same traffic without a router.
        """
        return (self.machine_s - self.sent * alone.machine_s / alone.sent) / self.received * 1e6


def middle(runs: Sequence[Run]) -> Run:
    """Return the run whose frames cost neither the most nor the least CPU."""
    costs = [run.machine_s / run.sent for run in runs]
    return runs[costs.index(median_low(costs))]
