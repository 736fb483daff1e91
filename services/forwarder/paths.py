"""What to do with destinations, in flat arrays that compiled code reads: kinds, ways out, and groups of ways.

A way is one integer, the interface's slot and the gateway: `slot << 32 | gateway`, as the key of a neighbour. Gateway 0
stands for the destination itself, slot 0 for an interface that is gone.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from services.common.counters import MAX_INTERFACES
from services.forwarder.groups import BUCKETS, Ways, spread

NO_ROUTE, FORWARD, LOCAL, BROADCAST, BLACKHOLE, UNREACHABLE, PROHIBIT = range(7)
KINDS: Final = {
    "unicast": FORWARD,
    "local": LOCAL,
    "broadcast": BROADCAST,
    "multicast": BROADCAST,
    "blackhole": BLACKHOLE,
    "unreachable": UNREACHABLE,
    "prohibit": PROHIBIT,
}
KIND_NAMES: Final = ("none", "unicast", "local", "broadcast", "blackhole", "unreachable", "prohibit")
NO_GROUP: Final = 0

_ADDRESS_MASK: Final = 0xFFFF_FFFF
_FIRST_PATHS: Final = 64
_FIRST_GROUPS: Final = 4

Sharing = tuple[tuple[int, int], ...]
"""Way and weight of each of a group's members that answer."""
Groups = Mapping[Sharing, Ways]
"""Buckets that were given out beforehand."""
_NO_GROUPS: Final[Groups] = {}


def way_key(slot: int, gateway: int) -> int:
    """Return a way as one integer."""
    return slot << 32 | gateway


@dataclass
class Member:
    """One next hop of a path."""

    way: int
    weight: int

    @property
    def slot(self) -> int:
        """The interface's slot."""
        return self.way >> 32

    @property
    def gateway(self) -> int:
        """The next hop's address; 0: the destination itself."""
        return self.way & _ADDRESS_MASK


class Paths:
    """The paths by number, and their upkeep.

    :ivar kind: (paths,) NO_ROUTE, FORWARD, …
    :ivar mtu: (paths,) bytes; 0: the interface's.
    :ivar way: (paths,) the only way of a path without a group.
    :ivar group: (paths,) NO_GROUP for one way only.
    :ivar group_ways: (groups, BUCKETS) the way of each bucket.
    :ivar group_slots: (groups, MAX_INTERFACES) 1 where a member leads, whether it answers or not.
    """

    def __init__(self) -> None:
        """Make a table without paths."""
        self.kind = np.zeros(_FIRST_PATHS, np.uint8)
        self.mtu = np.zeros(_FIRST_PATHS, np.int32)
        self.way = np.zeros(_FIRST_PATHS, np.int64)
        self.group = np.zeros(_FIRST_PATHS, np.int32)
        self.group_ways = np.zeros((_FIRST_GROUPS, BUCKETS), np.int64)
        self.group_slots = np.zeros((_FIRST_GROUPS, MAX_INTERFACES), np.uint8)
        self._members: dict[int, list[Member]] = {}
        self._free_groups = list(range(_FIRST_GROUPS - 1, NO_GROUP, -1))
        self._silent: set[int] = set()

    def __len__(self) -> int:
        """Return how many there is room for."""
        return len(self.kind)

    def clear(self) -> None:
        """Forget all paths; who does not answer is still known."""
        self.kind[:] = NO_ROUTE
        for number in list(self._members):
            self._dissolve(number)

    def forget(self, number: int) -> None:
        """Forget a path that no route leads to."""
        if number < len(self.kind):
            self.kind[number] = NO_ROUTE
            self._dissolve(number)

    def prepare(self, paths: Iterable[Sequence[Member]]) -> Groups:
        """Give out the buckets of paths to come, by their members, for `put`: another thread may do it."""
        silent = frozenset(self._silent)
        wanted = {_sharing(members, silent) for members in map(_merged, paths) if len(members) > 1}
        return {sharing: spread(sharing) for sharing in wanted}

    def put(self, number: int, kind: int, members: Sequence[Member], mtu: int, prepared: Groups = _NO_GROUPS) -> None:
        """Set a path; several members with the same way are one of their common weight."""
        self._grow(number)
        self._dissolve(number)
        merged = _merged(members)
        self.kind[number] = kind
        self.mtu[number] = mtu
        self.way[number] = merged[0].way if merged else 0
        if len(merged) > 1:
            self._members[number] = merged
            self.group[number] = self._take_group()
            self._fill(number, prepared)

    def members(self, number: int) -> list[Member]:
        """Return the next hops of a path."""
        return self._members.get(number) or [Member(int(self.way[number]), 1)]

    def forget_slot(self, slot: int) -> None:
        """Lead nowhere by an interface that is gone: its slot may be another's next."""
        self.way[self.way >> 32 == slot] = 0
        self._silent = {way for way in self._silent if way >> 32 != slot}
        for number, members in self._members.items():
            left = [member for member in members if member.slot != slot]
            if len(left) < len(members):
                self._members[number] = left
                self._fill(number)

    # --- Next hops that do not answer ---------------------------------------------------------------------------------

    def lose(self, way: int) -> None:
        """Leave a next hop that does not answer out of the groups that have another one."""
        touched = [number for number, members in self._members.items() if any(one.way == way for one in members)]
        if touched and way not in self._silent:
            self._silent.add(way)
            for number in touched:
                self._fill(number)

    def regain(self, way: int) -> None:
        """Take a next hop in again: it answers."""
        if way in self._silent:
            self._silent.remove(way)
            for number, members in self._members.items():
                if any(one.way == way for one in members):
                    self._fill(number)

    def silent(self) -> list[int]:
        """Return the ways that groups would take if somebody answered there."""
        self._silent &= {member.way for members in self._members.values() for member in members}
        return sorted(self._silent)

    def is_silent(self, way: int) -> bool:
        """Tell whether a next hop is left out because it does not answer."""
        return way in self._silent

    def _fill(self, number: int, prepared: Groups = _NO_GROUPS) -> None:
        """Give a group's buckets to its members that answer; to all of them where none does."""
        members, group = self._members[number], self.group[number]
        sharing = _sharing(members, self._silent)
        ways = prepared.get(sharing)
        if ways is not None:
            self.group_ways[group] = ways
        else:
            self.group_ways[group] = spread(sharing) if sharing else 0
        self.group_slots[group] = 0
        self.group_slots[group, [member.slot for member in members]] = 1

    # --- Room ---------------------------------------------------------------------------------------------------------

    def _grow(self, number: int) -> None:
        if number >= len(self.kind):
            size = 1 << number.bit_length()
            self.kind, self.mtu, self.way, self.group = (
                _larger(self.kind, size),
                _larger(self.mtu, size),
                _larger(self.way, size),
                _larger(self.group, size),
            )

    def _take_group(self) -> int:
        if not self._free_groups:
            before = len(self.group_ways)
            self.group_ways, self.group_slots = (
                _larger(self.group_ways, 2 * before),
                _larger(self.group_slots, 2 * before),
            )
            self._free_groups = list(range(2 * before - 1, before - 1, -1))
        return self._free_groups.pop()

    def _dissolve(self, number: int) -> None:
        if self._members.pop(number, None) is not None:
            self._free_groups.append(int(self.group[number]))
            self.group[number] = NO_GROUP


def _merged(members: Sequence[Member]) -> list[Member]:
    weights: dict[int, int] = {}
    for member in members:
        weights[member.way] = weights.get(member.way, 0) + member.weight
    return [Member(way, weight) for way, weight in weights.items()]


def _sharing(members: Sequence[Member], silent: Set[int]) -> Sharing:
    answering = [member for member in members if member.way not in silent] or members
    return tuple((member.way, member.weight) for member in answering)


def _larger(array: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    larger = np.zeros((size, *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger
