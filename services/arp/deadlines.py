"""Deadlines by key: the earliest at once, without a look at the others."""

import heapq
import math
from typing import Final

Key = tuple[int, int]
"""Interface index and IPv4 address."""

_SLACK: Final = 64


class Deadlines:
    """At most one deadline a key. Superseded ones stay in the heap, which is rebuilt when they are the most."""

    def __init__(self) -> None:
        """Begin with none."""
        self._when: dict[Key, float] = {}
        self._heap: list[tuple[float, Key]] = []

    def set(self, key: Key, when: float) -> None:
        """Set the key's one deadline, in seconds of the caller's clock."""
        self._when[key] = when
        heapq.heappush(self._heap, (when, key))
        if len(self._heap) > 2 * len(self._when) + _SLACK:
            self._heap = [(when, key) for key, when in self._when.items()]
            heapq.heapify(self._heap)

    def cancel(self, key: Key) -> None:
        """Forget the key's deadline, if it has one."""
        self._when.pop(key, None)

    def earliest(self) -> float:
        """Return the earliest deadline, infinity where there is none."""
        while self._heap:
            when, key = self._heap[0]
            if self._when.get(key) == when:
                return when
            heapq.heappop(self._heap)
        return math.inf

    def take_due(self, now: float) -> list[Key]:
        """Remove the deadlines that are not after `now`, and return their keys, the earliest first."""
        due = []
        while self.earliest() <= now:
            key = heapq.heappop(self._heap)[1]
            del self._when[key]
            due.append(key)
        return due
