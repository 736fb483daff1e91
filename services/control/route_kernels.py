"""The compiled part of the routing information base: routes of a million destinations in flat arrays.

Each table is a hash table from a destination to the first node of a chain, which has its routes in the order in which
the kernel tries them. A node is the number of an info (what many routes share) and the next node.
"""

from typing import Any, Final, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from services.common.hash_table import ABSENT, find, put, remove
from services.common.kernels import inlined, kernel, record

TABLE_COUNT: Final = 3
LENGTHS: Final = 33
STORED: Final = 1 << 40
"""Added to a route's key where it stands in a hash table: no key is 0 there."""
END: Final = -1
"""The end of a chain."""

# What is done with a route
FIRST, LAST, REPLACE, GONE, DUMPED = range(5)

UNJUDGED: Final = -1
UNUSABLE: Final = 0

# Places in the array of sums that `apply` returns
CARRIED_OUT: Final = TABLE_COUNT
"""Behind the growth of each table."""
IDLE: Final = CARRIED_OUT + 1
SUMS: Final = IDLE + 1


class RouteArrays(NamedTuple):
    """What compiled code reads and writes of the kernel's routes. Tables are numbered in the order they are asked."""

    keys: tuple[npt.NDArray[np.int64], ...]
    heads: tuple[npt.NDArray[np.int32], ...]
    """A hash table for each table: destination to first node."""
    counts: npt.NDArray[np.int64]
    """(TABLE_COUNT, LENGTHS) destinations of each prefix length."""
    node_info: npt.NDArray[np.int32]
    node_next: npt.NDArray[np.int32]
    """(nodes,); nodes that are free are a chain as well."""
    free: npt.NDArray[np.int64]
    """(2,) the first free node, and how many there are."""
    rank: npt.NDArray[np.int64]
    """(infos,) lower is tried first: descending type of service, then ascending metric."""
    identity: npt.NDArray[np.int64]
    """(infos,) equal for infos that differ only in the state of their next hops."""
    uses: npt.NDArray[np.int64]
    """(infos,) routes with this info."""
    path: npt.NDArray[np.int32]
    """(infos,) what to do with the destinations: the number of a path, UNUSABLE or UNJUDGED."""


ROUTES: Final = record(
    RouteArrays,
    numba.types.UniTuple(numba.int64[::1], TABLE_COUNT),
    numba.types.UniTuple(numba.int32[::1], TABLE_COUNT),
    "int64[:, ::1]",
    "int32[::1]",
    "int32[::1]",
    "int64[::1]",
    "int64[::1]",
    "int64[::1]",
    "int64[::1]",
    "int32[::1]",
)


@inlined
def _new_node(routes: Any, info: Any, following: Any) -> Any:
    node = routes.free[0]
    routes.free[0] = routes.node_next[node]
    routes.free[1] -= 1
    routes.node_info[node] = info
    routes.node_next[node] = following
    routes.uses[info] += 1
    return node


@inlined
def _release(routes: Any, info: Any, idle: Any, sums: Any) -> None:
    """Count one use less of an info, and note it where that was the last one."""
    routes.uses[info] -= 1
    if routes.uses[info] == 0:
        idle[sums[IDLE]] = info
        sums[IDLE] += 1


@inlined
def _link(routes: Any, heads: Any, place: Any, before: Any, node: Any) -> None:
    """Let a node follow `before`, or be the first where that is END."""
    if before == END:
        heads[place] = node
    else:
        routes.node_next[before] = node


@inlined
def _take_out(routes: Any, heads: Any, place: Any, info: Any, idle: Any, sums: Any) -> bool:
    """Take out the route of an info's identity; False where there is none."""
    before = np.int64(END)
    node = np.int64(heads[place])
    while node != END:
        following = np.int64(routes.node_next[node])
        if routes.identity[routes.node_info[node]] == routes.identity[info]:
            _link(routes, heads, place, before, following)
            _release(routes, routes.node_info[node], idle, sums)
            routes.node_next[node] = routes.free[0]
            routes.free[0] = node
            routes.free[1] += 1
            return True
        before = node
        node = following
    return False


@inlined
def _put_in(routes: Any, heads: Any, place: Any, info: Any, operation: Any, idle: Any, sums: Any) -> None:
    """Put a route among those of its destination, as fib_table_insert of Linux does.

    Among those of equal rank it goes where the operation says. A change that is announced when a dump has told of it
    already finds itself there.
    """
    rank = routes.rank[info]
    before = np.int64(END)  # the last of lower rank; for LAST and DUMPED, of the same too
    first_equal = np.int64(END)
    same = np.int64(END)
    last_of_rank = np.int64(END)
    node = np.int64(heads[place])
    while node != END:
        there = routes.node_info[node]
        if operation == DUMPED or routes.rank[there] < rank:
            before = node
        elif routes.rank[there] == rank:
            if first_equal == END:
                first_equal = node
            last_of_rank = node
            if same == END and routes.identity[there] == routes.identity[info]:
                same = node
        node = np.int64(routes.node_next[node])
    if same == END and operation == REPLACE:
        same = first_equal
    if same != END:
        routes.uses[info] += 1
        _release(routes, routes.node_info[same], idle, sums)
        routes.node_info[same] = info
        return
    if operation == LAST and last_of_rank != END:
        before = last_of_rank
    following = heads[place] if before == END else routes.node_next[before]
    _link(routes, heads, place, before, _new_node(routes, info, following))


@kernel("void", ROUTES, "uint8[::1]", "int64[::1]", "int32[::1]", "uint8[::1]", "int32[::1]", "int64[::1]")
def apply(routes: Any, tables: Any, keys: Any, infos: Any, operations: Any, idle: Any, sums: Any) -> None:
    """Carry out changes of routes in order.

    :param idle: gets the infos whose last route went, with room for one each change.
    :param sums: (SUMS,) zeros; gets the growth of each table in destinations, what was carried out, and the count of
        `idle`.
    """
    for number in range(keys.shape[0]):
        table, key, info, operation = tables[number], keys[number], infos[number], operations[number]
        places, heads = routes.keys[table], routes.heads[table]
        stored = key | STORED
        place = find(places, stored)
        if operation == GONE:
            if place == ABSENT or not _take_out(routes, heads, place, info, idle, sums):
                continue
            if heads[place] == END:
                remove(places, heads, stored)
                sums[table] -= 1
                routes.counts[table, key & 0xFF] -= 1
        elif place == ABSENT:
            put(places, heads, stored, np.int32(_new_node(routes, info, END)))
            sums[table] += 1
            routes.counts[table, key & 0xFF] += 1
        else:
            _put_in(routes, heads, place, info, operation, idle, sums)
        sums[CARRIED_OUT] += 1


@inlined
def _first_usable(routes: Any, table: Any, place: Any) -> Any:
    """Return the path of the first route in a chain that can be used, or UNUSABLE."""
    node = routes.heads[table][place]
    while node != END:
        path = routes.path[routes.node_info[node]]
        if path != UNUSABLE:
            return np.int64(path)
        node = routes.node_next[node]
    return np.int64(UNUSABLE)


@inlined
def _is_covered(routes: Any, table: Any, key: Any) -> bool:
    """Tell whether a usable route of an earlier table to a shorter prefix catches a destination."""
    for earlier in range(table):
        for length in range(key & 0xFF):
            if routes.counts[earlier, length] == 0:
                continue
            prefix = (key >> 8) & ~(np.int64(0xFFFF_FFFF) >> length)
            place = find(routes.keys[earlier], prefix << 8 | length | STORED)
            if place != ABSENT and _first_usable(routes, earlier, place) != UNUSABLE:
                return True
    return False


@inlined
def _best(routes: Any, key: Any) -> Any:
    """Return the path of a destination; UNUSABLE where it has no route of its own that can be used."""
    for table in range(TABLE_COUNT):
        place = find(routes.keys[table], key | STORED)
        if place == ABSENT:
            continue
        if _is_covered(routes, table, key):
            return np.int64(UNUSABLE)
        path = _first_usable(routes, table, place)
        if path != UNUSABLE:
            return path
    return np.int64(UNUSABLE)


@kernel("int64", ROUTES, "int64[::1]", "int64[::1]", "int32[::1]", "int64[::1]", "int64[::1]", "int64[:, ::1]")
def compare(routes: Any, keys: Any, published: Any, paths: Any, path_uses: Any, sums: Any, changes: Any) -> int:
    """Bring what is published for some destinations up to date; return the number of changes.

    :param published: with `paths`, a hash table from a destination to its path; with room for all of `keys`.
    :param path_uses: (paths,) how many destinations each has.
    :param sums: (1,) gets the growth of `published`.
    :param changes: (keys, 3) gets key, path and former path, UNUSABLE for none, of each change.
    """
    count = 0
    for number in range(keys.shape[0]):
        key = keys[number]
        after = _best(routes, key)
        place = find(published, key | STORED)
        before = np.int64(UNUSABLE) if place == ABSENT else np.int64(paths[place])
        if before == after:
            continue
        if after == UNUSABLE:
            sums[0] -= remove(published, paths, key | STORED)
        else:
            sums[0] += put(published, paths, key | STORED, np.int32(after))
            path_uses[after] += 1
        if before != UNUSABLE:
            path_uses[before] -= 1
        changes[count, 0] = key
        changes[count, 1] = after
        changes[count, 2] = before
        count += 1
    return count


@kernel("int64", ROUTES, "int64[::1]", "int64[::1]")
def vanished(routes: Any, published: Any, keys: Any) -> int:
    """Write the published destinations that no table has any more to `keys`; return how many there are."""
    count = 0
    for place in range(published.shape[0]):
        stored = published[place]
        if stored == 0:
            continue
        known = False
        for table in range(TABLE_COUNT):
            known = known or find(routes.keys[table], stored) != ABSENT
        if not known:
            keys[count] = stored & ~STORED
            count += 1
    return count
