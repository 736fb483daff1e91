"""The forwarder's tables as compiled code reads them, and the one lookup that answers where a datagram goes."""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from services.common.hash_table import ABSENT, find
from services.common.kernels import inlined, kernel, record
from services.common.wire import ipv4
from services.forwarder import fib
from services.forwarder.fib import FIB, FibArrays
from services.forwarder.groups import BUCKETS
from services.forwarder.nat.layout import NAT, UNUSED, NatArrays
from services.forwarder.paths import BROADCAST, FORWARD, NO_GROUP

NO_SLOT: Final = 0
"""The interface slot that stands for "not known"."""
OFF, LOOSE, STRICT = range(3)


class TableArrays(NamedTuple):
    """What compiled code reads. Slots number interfaces, rows number neighbours."""

    fib: FibArrays
    path_kind: npt.NDArray[np.uint8]
    path_mtu: npt.NDArray[np.int32]
    path_way: npt.NDArray[np.int64]
    path_group: npt.NDArray[np.int32]
    group_ways: npt.NDArray[np.int64]
    group_slots: npt.NDArray[np.uint8]
    """See `Paths`."""
    flow_seed: int
    """Of the flows' hashes: nobody outside shall know which flows share a way."""
    neighbour_keys: npt.NDArray[np.int64]
    neighbour_rows: npt.NDArray[np.int32]
    """A hash table from slot and address to a row."""
    rewrites: npt.NDArray[np.uint8]
    """(rows, REWRITE_BYTES)"""
    used: npt.NDArray[np.uint8]
    """(rows,) set by each frame that is sent to the neighbour."""
    interface_up: npt.NDArray[np.uint8]
    """(slots,)"""
    interface_mtu: npt.NDArray[np.int32]
    """(slots,) bytes of IP."""
    redirects: npt.NDArray[np.uint8]
    """(slots,) whether its senders are told of better ways."""
    reverse_path: npt.NDArray[np.uint8]
    """(slots,) OFF, LOOSE, STRICT, for what comes in there."""
    linux_martians: npt.NDArray[np.uint8]
    """(slots,) 1 where what comes in may bear the addresses that Linux forwards."""
    directed_broadcast: npt.NDArray[np.uint8]
    """(slots,) 1 where broadcasts to the network may leave."""
    nat: NatArrays = UNUSED
    """The address translator's own."""


TABLES: Final = record(
    TableArrays,
    FIB,
    "uint8[::1]",
    "int32[::1]",
    "int64[::1]",
    "int32[::1]",
    "int64[:, ::1]",
    "uint8[:, ::1]",
    "int64",
    "int64[::1]",
    "int32[::1]",
    "uint8[:, ::1]",
    "uint8[::1]",
    "uint8[::1]",
    "int32[::1]",
    "uint8[::1]",
    "uint8[::1]",
    "uint8[::1]",
    "uint8[::1]",
    NAT,
)


@inlined
def neighbour_key(slot: Any, address: Any) -> Any:
    """Return the key of a neighbour; never 0, since no interface has slot 0."""
    return np.int64(slot) << 32 | address


@inlined
def find_neighbour(tables: Any, slot: Any, address: Any) -> Any:
    """Return the row of a neighbour whose MAC is known, or ABSENT."""
    place = find(tables.neighbour_keys, neighbour_key(slot, address))
    return ABSENT if place == ABSENT else np.int64(tables.neighbour_rows[place])


class Resolution(NamedTuple):
    """Where a datagram goes: the answer to one lookup. All fields are integers."""

    path: Any
    kind: Any
    """NO_ROUTE, FORWARD, …"""
    slot: Any
    next_hop: Any
    mtu: Any
    """Bytes; only where it is forwarded, or a broadcast."""
    row: Any
    """Of the neighbour, or ABSENT."""


RESOLUTION: Final = record(Resolution, "int64", "int64", "int64", "int64", "int64", "int64")


@inlined
def resolve(tables: Any, destination: Any, flow: Any) -> Any:
    """Look up a destination: the fast path, the slow path and `route get` all go through here.

    :param flow: a hash of the datagram's flow, which chooses among several next hops (RFC 2992).
    """
    path = fib.lookup(tables.fib, destination)
    kind = np.int64(tables.path_kind[path])
    if kind not in (FORWARD, BROADCAST):
        return Resolution(path, kind, NO_SLOT, 0, 0, ABSENT)
    way = _way(tables, path, flow)
    slot = way >> 32
    gateway = way & 0xFFFF_FFFF
    next_hop = gateway if gateway != 0 else np.int64(destination)
    if kind == BROADCAST:
        next_hop = np.int64(ipv4.LIMITED_BROADCAST)  # the neighbour that is all stations of the link
    mtu = np.int64(tables.interface_mtu[slot])
    if tables.path_mtu[path] != 0:
        mtu = min(mtu, np.int64(tables.path_mtu[path]))
    return Resolution(path, kind, slot, next_hop, mtu, find_neighbour(tables, slot, next_hop))


@inlined
def _way(tables: Any, path: Any, flow: Any) -> Any:
    group = tables.path_group[path]
    return tables.path_way[path] if group == NO_GROUP else tables.group_ways[group, flow & (BUCKETS - 1)]


@inlined
def has_way_back(tables: Any, path: Any, in_slot: Any) -> Any:
    """Tell whether a source's path passes the reverse-path check of the interface that it came in by (RFC 3704)."""
    check = tables.reverse_path[in_slot]
    if check == OFF:
        return True
    if tables.path_kind[path] != FORWARD:
        return False
    if check == LOOSE:  # section 2.4; the default route counts, as in Linux
        return True
    group = tables.path_group[path]
    if group == NO_GROUP:
        return tables.path_way[path] >> 32 == in_slot
    return tables.group_slots[group, in_slot] != 0  # section 2.3: feasible, any of the equal ways


@kernel(RESOLUTION, TABLES, "int64", "int64")
def resolve_one(tables: TableArrays, destination: int, flow: int) -> Any:
    """Do what `resolve` does, called from Python."""
    return resolve(tables, destination, flow)
