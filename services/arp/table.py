"""The neighbour table: entries by interface and address, and which of them gives way to a new one."""

import math
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from services.arp.deadlines import Key
from services.arp.states import State

_EVICTION_ORDER: Final = (State.FAILED, State.INCOMPLETE, State.STALE)


@dataclass(slots=True)
class Entry:
    """One neighbour. Times are seconds of the caller's clock."""

    interface: int
    address: int
    heard_at: float
    """When its MAC was last heard from it; for one without MAC, when the entry was made."""
    state: State = State.NONE
    mac: bytes | None = None
    attempts: int = 0
    """Requests sent since it came into this state."""
    asked_at: float = -math.inf
    """When the last request for it was sent."""
    refused_until: float = -math.inf
    locked_until: float = -math.inf
    """Another MAC is not believed before."""

    @property
    def key(self) -> Key:
        """Its place in the table."""
        return self.interface, self.address


class NeighbourTable:
    """Entries whose state is not NONE; those that may be evicted also by state, the longest in it first.

    :ivar by_state: how many there are, by interface and state.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self._entries: dict[Key, Entry] = {}
        self.by_state: Counter[tuple[int, State]] = Counter()
        self._evictable: dict[State, OrderedDict[Key, Entry]] = {state: OrderedDict() for state in _EVICTION_ORDER}

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        """Go through a copy of the entries: they may change meanwhile."""
        return iter(list(self._entries.values()))

    def get(self, key: Key) -> Entry | None:
        """Return the entry of a neighbour."""
        return self._entries.get(key)

    def move(self, entry: Entry, state: State) -> None:
        """Put an entry into another state: into the table, or with NONE out of it."""
        key = entry.key
        if entry.state in self._evictable:
            del self._evictable[entry.state][key]
        if entry.state is not State.NONE:
            self.by_state[entry.interface, entry.state] -= 1
        if state is not State.NONE:
            self.by_state[entry.interface, state] += 1
        entry.state = state
        if state in self._evictable:
            self._evictable[state][key] = entry
        if state is State.NONE:
            del self._entries[key]
        else:
            self._entries[key] = entry

    def victim(self) -> Entry | None:
        """Return the entry to evict: the oldest failed, else incomplete, else stale one; None where all are in use."""
        for state in _EVICTION_ORDER:
            if self._evictable[state]:
                return next(iter(self._evictable[state].values()))
        return None
