"""How many ICMP errors go out: token buckets, one for all and one for each destination, pure.

One bucket alone would let a single sender silence the errors to all others. RFC 1812 section 4.3.2.8.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from services.common.parameters import IcmpParameters

MAX_DESTINATIONS: Final = 1024
"""Buckets kept at once; the one unused for longest goes first."""


@dataclass
class TokenBucket:
    """A rate with a burst."""

    per_second: float
    burst: float
    tokens: float
    filled_at: float

    def take(self, now: float) -> bool:
        """Take a token if there is one."""
        self.tokens = min(self.burst, self.tokens + (now - self.filled_at) * self.per_second)
        self.filled_at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class IcmpLimiter:
    """Says yes or no to each ICMP error."""

    def __init__(self, parameters: IcmpParameters, now: float) -> None:
        """Begin with full buckets."""
        self._parameters = parameters
        self._all = _full(parameters.errors_per_second, parameters.errors_burst, now)
        self._destinations: OrderedDict[int, TokenBucket] = OrderedDict()

    def allow(self, destination: int, now: float) -> bool:
        """Tell whether an error may go to a destination now. The destination's own limit counts first."""
        bucket = self._destinations.get(destination)
        if bucket is None:
            limits = self._parameters
            bucket = _full(limits.per_destination_per_second, limits.per_destination_burst, now)
            self._destinations[destination] = bucket
            if len(self._destinations) > MAX_DESTINATIONS:
                self._destinations.popitem(last=False)
        self._destinations.move_to_end(destination)
        return bucket.take(now) and self._all.take(now)


def _full(per_second: int, burst: int, now: float) -> TokenBucket:
    return TokenBucket(per_second, burst, burst, now)
