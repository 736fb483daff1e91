"""The routes of the kernel's tables as it has them, stored for a million of them.

A table is one dict from a route's key to what stands there: an interned `SharedInfo`, or a tuple of them where a
prefix has several routes. Tables of the Internet's size consist of some hundred different infos.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from services.control.judgement import Verdict
from services.control.kernel_types import (
    RT_TABLE_DEFAULT,
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    Placement,
    RouteChanged,
    RouteGone,
    RouteInfo,
)

TABLES: Final = (RT_TABLE_LOCAL, RT_TABLE_MAIN, RT_TABLE_DEFAULT)
"""The tables that the kernel's three rules of the start ask, in their order (ip-rule(8))."""


class SharedInfo:
    """What some routes share, how many they are, and what to do with their destinations, once that is judged."""

    __slots__ = ("identity", "info", "uses", "verdict")

    def __init__(self, info: RouteInfo) -> None:
        self.info = info
        self.identity = info.identity
        self.uses = 0
        self.verdict: Verdict | None = None


Entry = SharedInfo | tuple[SharedInfo, ...]


class RouteTables:
    """The tables local, main and default."""

    def __init__(self) -> None:
        self.tables: dict[int, dict[int, Entry]] = {table: {} for table in TABLES}
        self.lengths: dict[int, Counter[int]] = {table: Counter() for table in TABLES}
        """How many destinations of each prefix length a table has."""
        self.infos: dict[RouteInfo, SharedInfo] = {}

    def candidates(self, table: int, key: int) -> tuple[SharedInfo, ...]:
        """Return the routes of a destination in the order in which the kernel tries them."""
        entry = self.tables[table].get(key)
        if entry is None:
            return ()
        return (entry,) if isinstance(entry, SharedInfo) else entry

    def insert(self, change: RouteChanged) -> None:
        """Put in a route, or bring one up to date that is there already with other states of its next hops."""
        shared = self._acquire(change.info)
        before = self.candidates(change.table, change.key)
        after, released = _placed(before, shared, change.placement)
        self._store(change.table, change.key, after)
        if released is not None:
            self._release(released)

    def append(self, change: RouteChanged) -> None:
        """Put in a route of a dump, behind those of its destination that came before."""
        shared = self._acquire(change.info)
        self._store(change.table, change.key, (*self.candidates(change.table, change.key), shared))

    def remove(self, change: RouteGone) -> bool:
        """Take out a route; False when it is not there."""
        before = self.candidates(change.table, change.key)
        identity = change.info.identity
        for position, shared in enumerate(before):
            if shared.identity == identity:
                self._store(change.table, change.key, before[:position] + before[position + 1 :])
                self._release(shared)
                return True
        return False

    def __len__(self) -> int:
        """Return how many destinations have a route, each table by itself."""
        return sum(len(table) for table in self.tables.values())

    def uses_by_protocol(self) -> Counter[int]:
        """Return how many routes each routing protocol has put into the tables."""
        counts: Counter[int] = Counter()
        for info, shared in self.infos.items():
            counts[info.protocol] += shared.uses
        return counts

    def routes(self, table: int) -> Iterator[tuple[int, RouteInfo]]:
        """Return key and info of all routes of a table, by prefix and length, in the kernel's order."""
        for key in sorted(self.tables[table]):
            for shared in self.candidates(table, key):
                yield key, shared.info

    def _store(self, table: int, key: int, candidates: tuple[SharedInfo, ...]) -> None:
        entries = self.tables[table]
        if not candidates:
            del entries[key]
            self.lengths[table][key & 0xFF] -= 1
            return
        if key not in entries:
            self.lengths[table][key & 0xFF] += 1
        entries[key] = candidates[0] if len(candidates) == 1 else candidates

    def _acquire(self, info: RouteInfo) -> SharedInfo:
        shared = self.infos.get(info)
        if shared is None:
            shared = self.infos[info] = SharedInfo(info)
        shared.uses += 1
        return shared

    def _release(self, shared: SharedInfo) -> None:
        shared.uses -= 1
        if not shared.uses:
            del self.infos[shared.info]


def _placed(
    before: tuple[SharedInfo, ...], shared: SharedInfo, placement: Placement
) -> tuple[tuple[SharedInfo, ...], SharedInfo | None]:
    """Return a destination's routes with a new one among them, and the one that it displaces.

    As fib_table_insert of Linux does: by descending type of service, then ascending metric; among equals, where
    `placement` says. A change that is announced when a dump has told of it already finds itself there.
    """
    rank = (-shared.info.tos, shared.info.metric)
    ranks = [(-other.info.tos, other.info.metric) for other in before]
    equals = [position for position, other in enumerate(ranks) if other == rank]
    same = [position for position in equals if before[position].identity == shared.identity]
    if same or (equals and placement is Placement.REPLACE):
        position = (same or equals)[0]
        return (*before[:position], shared, *before[position + 1 :]), before[position]
    if equals:
        position = equals[0] if placement is Placement.FIRST else equals[-1] + 1
    else:
        position = sum(other < rank for other in ranks)
    return (*before[:position], shared, *before[position:]), None
