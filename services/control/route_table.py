"""The routes of the kernel's tables as it has them, stored for a million of them.

What many routes share is a `RouteInfo`, interned under a number; tables of the Internet's size consist of some hundred
different ones. The rest is flat arrays, which compiled code reads and writes (`route_kernels`).
"""

from collections import Counter
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from services.common.hash_table import ABSENT, HashTable
from services.control.kernel_types import (
    RT_TABLE_DEFAULT,
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    Placement,
    RouteBatch,
    RouteChanged,
    RouteGone,
    RouteInfo,
    split_key,
)
from services.control.route_kernels import (
    CARRIED_OUT,
    DUMPED,
    END,
    FIRST,
    GONE,
    IDLE,
    LAST,
    LENGTHS,
    REPLACE,
    STORED,
    SUMS,
    UNJUDGED,
    UNUSABLE,
    RouteArrays,
    apply,
)

TABLES: Final = (RT_TABLE_LOCAL, RT_TABLE_MAIN, RT_TABLE_DEFAULT)
"""The tables that the kernel's three rules of the start ask, in their order (ip-rule(8))."""
_OPERATIONS: Final = {Placement.FIRST: FIRST, Placement.LAST: LAST, Placement.REPLACE: REPLACE}

Keys = npt.NDArray[np.int64]


class RouteTables:
    """The tables local, main and default.

    :ivar infos: the number of each info that a route has.
    """

    def __init__(self) -> None:
        self.infos: dict[RouteInfo, int] = {}
        self._by_number: list[RouteInfo | None] = []
        self._free_numbers: list[int] = []
        self._identities: dict[tuple[object, ...], list[int]] = {}
        """A number for each identity, and how many infos have it."""
        self._next_identity = 0
        self._hashes = [HashTable() for _ in TABLES]
        self._counts = np.zeros((len(TABLES), LENGTHS), np.int64)
        self._node_info = np.zeros(0, np.int32)
        self._node_next = np.zeros(0, np.int32)
        self._free_nodes = np.array([END, 0], np.int64)
        self._rank = np.zeros(64, np.int64)
        self._identity = np.zeros(64, np.int64)
        self._uses = np.zeros(64, np.int64)
        self._path = np.zeros(64, np.int32)

    @property
    def arrays(self) -> RouteArrays:
        """What compiled code works on; void after the next change."""
        return RouteArrays(
            tuple(table.keys for table in self._hashes),
            tuple(table.values for table in self._hashes),
            self._counts,
            self._node_info,
            self._node_next,
            self._free_nodes,
            self._rank,
            self._identity,
            self._uses,
            self._path,
        )

    def __len__(self) -> int:
        """Return how many destinations have a route, each table by itself."""
        return sum(table.used for table in self._hashes)

    def uses_by_protocol(self) -> Counter[int]:
        """Return how many routes each routing protocol has put into the tables."""
        counts: Counter[int] = Counter()
        for info, number in self.infos.items():
            counts[info.protocol] += self.uses(number)
        return counts

    # --- Changes ------------------------------------------------------------------------------------------------------

    def insert(self, change: RouteChanged) -> None:
        """Put in a route, or bring one up to date that is there already with other states of its next hops."""
        self.apply(_batch_of(change, _OPERATIONS[change.placement]))

    def append(self, change: RouteChanged) -> None:
        """Put in a route of a dump, behind those of its destination that came before."""
        self.apply(_batch_of(change, DUMPED))

    def remove(self, change: RouteGone) -> bool:
        """Take out a route; False when it is not there."""
        return bool(self.apply(_batch_of(change, GONE)))

    def apply(self, batch: RouteBatch) -> int:
        """Carry out changes in order; return how many found something to change."""
        count = len(batch.keys)
        numbers = np.array([self._intern(info) for info in batch.infos], np.int32)
        tables = np.searchsorted(_BY_NUMBER, batch.tables)
        for position, added in enumerate(np.bincount(tables, minlength=len(TABLES)).tolist()):
            self._hashes[_ORDER[position]].make_room(added)
        self._make_nodes(count)
        idle, sums = np.empty(count, np.int32), np.zeros(SUMS, np.int64)
        places = _ORDER[tables]
        apply(self.arrays, places, batch.keys, numbers[batch.which], batch.operations, idle, sums)
        for table, growth in zip(self._hashes, sums.tolist(), strict=False):
            table.used += growth
        for number in {*idle[: sums[IDLE]].tolist(), *numbers.tolist()}:
            if not self._uses[number]:
                self._forget(number)
        return int(sums[CARRIED_OUT])

    def _make_nodes(self, needed: int) -> None:
        if self._free_nodes[1] >= needed:
            return
        old = len(self._node_info)
        new = max(2 * old, old + needed, 1024)
        info, following = np.zeros(new, np.int32), np.empty(new, np.int32)
        info[:old], following[:old] = self._node_info, self._node_next
        following[old:] = np.arange(old + 1, new + 1)
        following[-1] = self._free_nodes[0]
        self._node_info, self._node_next = info, following
        self._free_nodes[:] = old, self._free_nodes[1] + new - old

    def _intern(self, info: RouteInfo) -> int:
        number = self.infos.get(info)
        if number is not None:
            return number
        if self._free_numbers:
            number = self._free_numbers.pop()
        else:
            number = len(self._by_number)
            self._by_number.append(None)
            if number == len(self._rank):
                self._grow_infos()
        self.infos[info] = number
        self._by_number[number] = info
        identity = self._identities.get(info.identity)
        if identity is None:
            identity = self._identities[info.identity] = [self._next_identity, 0]
            self._next_identity += 1
        identity[1] += 1
        self._identity[number] = identity[0]
        self._rank[number] = (0xFF - info.tos) << 32 | info.metric
        self._path[number] = UNJUDGED
        return number

    def _grow_infos(self) -> None:
        self._rank, self._identity, self._uses, self._path = (
            np.concatenate([column, np.zeros_like(column)])
            for column in (self._rank, self._identity, self._uses, self._path)
        )

    def _forget(self, number: int) -> None:
        info = self._by_number[number]
        if info is None:
            return
        self._by_number[number] = None
        del self.infos[info]
        identity = self._identities[info.identity]
        identity[1] -= 1
        if not identity[1]:
            del self._identities[info.identity]
        self._path[number] = UNUSABLE
        self._free_numbers.append(number)

    # --- What the routes' infos were judged to be ---------------------------------------------------------------------

    def unjudged(self) -> Iterator[tuple[int, RouteInfo]]:
        """Yield number and info of those that `judge` has not been called for."""
        for number in np.flatnonzero(self._path == UNJUDGED).tolist():
            info = self._by_number[number]
            if info is not None:
                yield number, info

    def judge(self, number: int, path: int) -> None:
        """Set the path of an info; UNUSABLE for none."""
        self._path[number] = path

    def unjudge(self, paths: list[int] | None = None) -> None:
        """Forget what was judged: of all infos, or of those that have one of these paths."""
        if paths is None:
            self._path[list(self.infos.values())] = UNJUDGED
        else:
            self._path[np.isin(self._path, paths)] = UNJUDGED

    def uses(self, number: int) -> int:
        """Return how many routes have an info."""
        return int(self._uses[number])

    # --- Questions ----------------------------------------------------------------------------------------------------

    def candidates(self, table: int, key: int) -> tuple[RouteInfo, ...]:
        """Return the routes of a destination in the order in which the kernel tries them."""
        node = self._hashes[TABLES.index(table)].get(key | STORED)
        found = []
        while node not in (END, ABSENT):
            info = self._by_number[self._node_info[node]]
            assert info is not None
            found.append(info)
            node = int(self._node_next[node])
        return tuple(found)

    def routes(self, table: int, within: int | None = None) -> Iterator[tuple[int, RouteInfo]]:
        """Yield key and info of all routes of a table, by prefix and length, in the kernel's order.

        :param within: the key of a prefix: only of destinations that lie in it.
        """
        keys = np.sort(self.keys(TABLES.index(table)))
        if within is not None:
            prefix, length = split_key(within)
            keys = keys[(keys & 0xFF >= length) & (keys >> 8 & ~(0xFFFF_FFFF >> length) == prefix)]
        for key in keys.tolist():
            for info in self.candidates(table, key):
                yield key, info

    def keys(self, position: int) -> Keys:
        """Return the destinations of the table at a position of TABLES."""
        stored = self._hashes[position].keys
        keys: Keys = stored[stored != 0] & ~STORED
        return keys

    def within(self, tables: npt.NDArray[np.uint8], keys: Keys) -> Keys:
        """Return the destinations of later tables that lie within destinations of earlier ones.

        :param tables: the number of each destination's table.
        """
        found = []
        for later in range(1, len(TABLES)):
            if not self._hashes[later].used:
                continue
            earlier = keys[np.isin(tables, TABLES[:later])]
            inner = self.keys(later) if (earlier & 0xFF < LENGTHS - 1).any() else np.zeros(0, np.int64)
            for length in np.unique(earlier & 0xFF).tolist() if len(inner) else ():
                covers = (inner >> 8 & ~(0xFFFF_FFFF >> length)) << 8 | length
                found.append(inner[(inner & 0xFF > length) & np.isin(covers, earlier)])
        return np.concatenate(found) if found else np.zeros(0, np.int64)

    def lengths(self, table: int) -> Counter[int]:
        """Return how many destinations of each prefix length a table has."""
        return Counter(dict(enumerate(self._counts[TABLES.index(table)].tolist())))


_ORDER: Final = np.argsort(TABLES).astype(np.uint8)
_BY_NUMBER: Final = np.sort(TABLES)
"""Table numbers in ascending order, and the position in TABLES of each."""


def _batch_of(change: RouteChanged | RouteGone, operation: int) -> RouteBatch:
    return RouteBatch(
        np.array([change.table], np.uint8),
        np.array([change.key], np.int64),
        np.array([operation], np.uint8),
        (change.info,),
        np.zeros(1, np.int32),
    )
