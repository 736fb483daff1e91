"""How many ICMP errors go out: token buckets, one for all and one for each destination, pure.

One bucket alone would let a single sender silence the errors to all others. RFC 1812 section 4.3.2.8.
"""

from collections import OrderedDict
from typing import Final

from services.common.parameters import IcmpParameters
from services.common.token_bucket import TokenBucket

MAX_DESTINATIONS: Final = 1024
"""Buckets kept at once; the one unused for longest goes first."""


class IcmpLimiter:
    """Says yes or no to each ICMP error."""

    def __init__(self, parameters: IcmpParameters, now: float) -> None:
        """Begin with full buckets."""
        self._parameters = parameters
        self._all = TokenBucket.full(parameters.errors_per_second, parameters.errors_burst, now)
        self._destinations: OrderedDict[int, TokenBucket] = OrderedDict()

    def allow(self, destination: int, now: float) -> bool:
        """Tell whether an error may go to a destination now. The destination's own limit counts first."""
        bucket = self._destinations.get(destination)
        if bucket is None:
            limits = self._parameters
            bucket = TokenBucket.full(limits.per_destination_per_second, limits.per_destination_burst, now)
            self._destinations[destination] = bucket
            if len(self._destinations) > MAX_DESTINATIONS:
                self._destinations.popitem(last=False)
        self._destinations.move_to_end(destination)
        return bucket.take(now) and self._all.take(now)
