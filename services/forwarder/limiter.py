"""How many ICMP errors go out: token buckets, one for all and one for each destination, pure.

One bucket alone would let a single sender silence the errors to all others. RFC 1812 section 4.3.2.8. Redirects have
limits of their own beside these.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from services.common.parameters import IcmpParameters
from services.common.token_bucket import TokenBucket

MAX_DESTINATIONS: Final = 1024
"""Buckets kept at once; the one unused for longest goes first."""
REDIRECT_NUMBER: Final = 9
"""Redirects to a host that does not heed them, then no more: Linux net.ipv4.route.redirect_number."""
REDIRECT_LOAD_S: Final = 0.02
"""The wait after the first, which doubles with each further one: Linux net.ipv4.route.redirect_load."""
REDIRECT_SILENCE_S: Final = 20.48
"""When it has needed none for so long, all begins anew: Linux net.ipv4.route.redirect_silence."""


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


def _full(per_second: int, burst: int, now: float) -> TokenBucket:
    return TokenBucket(per_second, burst, burst, now)


@dataclass
class _Redirected:
    sent: int = 0
    last_at: float = 0.0


class RedirectLimiter:
    """Says yes or no to each redirect, as Linux does (ip_rt_send_redirect): a host that does not heed it is left alone.

    The limit is the host's, whatever the destinations.
    """

    def __init__(self) -> None:
        """Begin as if nobody had been redirected."""
        self._hosts: OrderedDict[int, _Redirected] = OrderedDict()

    def allow(self, host: int, now: float) -> bool:
        """Tell whether a redirect may go to a host now."""
        entry = self._hosts.setdefault(host, _Redirected())
        self._hosts.move_to_end(host)
        if len(self._hosts) > MAX_DESTINATIONS:
            self._hosts.popitem(last=False)
        if now - entry.last_at > REDIRECT_SILENCE_S:
            entry.sent = 0
        if entry.sent >= REDIRECT_NUMBER:
            entry.last_at = now
            return False
        if entry.sent and now - entry.last_at <= REDIRECT_LOAD_S * 2**entry.sent:
            return False
        entry.last_at = now
        entry.sent += 1
        return True
