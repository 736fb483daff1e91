"""How often ARP requests go out: for each next hop, and on each interface (RFC 1122 section 2.3.2.1). Pure."""

from collections import OrderedDict

from services.arp.deadlines import Key
from services.common.parameters import ArpParameters
from services.common.token_bucket import TokenBucket


class RequestLimits:
    """Says whether another resolution may begin, and takes note of every request.

    New resolutions wait for their turn. Repetitions and probes, which are bounded by the table, always go out and count
    against later ones, so that a sweep takes no neighbour away that is in use.
    """

    def __init__(self) -> None:
        """Begin with all that is allowed."""
        self._allowed: dict[int, TokenBucket] = {}
        self._per_second = 0
        self._evicted: OrderedDict[Key, float] = OrderedDict()
        """When next hops that had to leave the table were asked last."""

    def may_begin(self, key: Key, now: float, parameters: ArpParameters) -> bool:
        """Tell whether a next hop may be asked that is not being asked yet."""
        while self._evicted and next(iter(self._evicted.values())) + parameters.retransmit_time_s <= now:
            self._evicted.popitem(last=False)
        if key in self._evicted and self._evicted[key] + parameters.retransmit_time_s > now:
            return False
        return self._of(key[0], now, parameters).has_token(now)

    def sent(self, interface: int, now: float, parameters: ArpParameters) -> None:
        """Take note of a request."""
        self._of(interface, now, parameters).owe(now)

    def evicted(self, key: Key, asked_at: float, parameters: ArpParameters) -> None:
        """Remember when a next hop was asked that leaves the table; of more than the table holds, the first goes."""
        self._evicted[key] = asked_at
        while len(self._evicted) > parameters.max_neighbours:
            self._evicted.popitem(last=False)

    def forget(self, interface: int) -> None:
        """Forget an interface that is gone or down."""
        self._allowed.pop(interface, None)
        for key in [one for one in self._evicted if one[0] == interface]:
            del self._evicted[key]

    def _of(self, interface: int, now: float, parameters: ArpParameters) -> TokenBucket:
        most = parameters.requests_per_second
        if most != self._per_second:
            self._per_second = most
            self._allowed.clear()
        if interface not in self._allowed:
            self._allowed[interface] = TokenBucket.full(most, most, now)
        return self._allowed[interface]
