"""What the forwarder knows: interfaces, routes, neighbours, in flat arrays that compiled code reads.

Control's state and arp's state come in, arrays come out. A change is applied between two batches, a large one in
pieces; a snapshot is built beside the running tables and takes their place (see `updates`).
"""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from services.common.counters import MAX_INTERFACES
from services.common.hash_table import ABSENT, HashTable, find
from services.common.kernels import inlined, kernel, record
from services.common.messages import Interface, MessageError, NeighbourState, Path, RouterState
from services.forwarder import fib
from services.forwarder.fib import FIB, Fib, FibArrays
from services.forwarder.routes import MAX_PATHS, WAYS, PackedRoutes, RouterUpdate, check_paths, places, usable_mtu

NO_SLOT: Final = 0
"""The interface slot that stands for "not known"."""
REWRITE_BYTES: Final = 12
"""Destination and source MAC, as they lie at the front of a frame."""
_BUILT_AT_ONCE: Final = 1 << 16
"""Routes of a snapshot: a bound on the memory for their columns."""

NO_ROUTE, FORWARD, LOCAL, BROADCAST, BLACKHOLE, UNREACHABLE, PROHIBIT = range(7)
_KINDS: Final = {
    "unicast": FORWARD,
    "local": LOCAL,
    "broadcast": BROADCAST,
    "multicast": BROADCAST,
    "blackhole": BLACKHOLE,
    "unreachable": UNREACHABLE,
    "prohibit": PROHIBIT,
}
KIND_NAMES: Final = ("none", "unicast", "local", "broadcast", "blackhole", "unreachable", "prohibit")


class TableArrays(NamedTuple):
    """What compiled code reads. Slots number interfaces, rows number neighbours."""

    fib: FibArrays
    path_kind: npt.NDArray[np.uint8]
    """(paths,)"""
    path_ways: npt.NDArray[np.int32]
    """(paths,) how many of the WAYS places are used."""
    path_mtu: npt.NDArray[np.int32]
    """(paths,) bytes; 0: the interface's."""
    way_slot: npt.NDArray[np.int32]
    """(paths, WAYS) the interface of each next hop."""
    way_gateway: npt.NDArray[np.int64]
    """(paths, WAYS) the next hop's address; 0: the destination itself."""
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


TABLES: Final = record(
    TableArrays,
    FIB,
    "uint8[::1]",
    "int32[::1]",
    "int32[::1]",
    "int32[:, ::1]",
    "int64[:, ::1]",
    "int64[::1]",
    "int32[::1]",
    "uint8[:, ::1]",
    "uint8[::1]",
    "uint8[::1]",
    "int32[::1]",
    "uint8[::1]",
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
    """Bytes; only where it is forwarded."""
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
    if kind != FORWARD:
        return Resolution(path, kind, NO_SLOT, 0, 0, ABSENT)
    way = flow % np.int64(tables.path_ways[path])
    slot = np.int64(tables.way_slot[path, way])
    gateway = tables.way_gateway[path, way]
    next_hop = gateway if gateway != 0 else np.int64(destination)
    mtu = np.int64(tables.interface_mtu[slot])
    if tables.path_mtu[path] != 0:
        mtu = min(mtu, np.int64(tables.path_mtu[path]))
    return Resolution(path, kind, slot, next_hop, mtu, find_neighbour(tables, slot, next_hop))


@kernel(RESOLUTION, TABLES, "int64", "int64")
def _resolve(tables: TableArrays, destination: int, flow: int) -> Any:
    return resolve(tables, destination, flow)


class ForwardingTables:
    """The tables and their upkeep."""

    def __init__(self) -> None:
        """Make tables that know of nothing."""
        self._fib = Fib()
        self._neighbours = HashTable()
        self._free_rows: list[int] = []
        self._row_owner: list[tuple[int, int] | None] = []
        self._pending: dict[tuple[int, int], bytes] = {}
        self.interfaces: dict[int, Interface] = {}
        self.slots: dict[int, int] = {}
        self.index_of_slot = [0] * MAX_INTERFACES
        self._path_kind = np.zeros(64, np.uint8)
        self._path_ways = np.zeros(64, np.int32)
        self._path_mtu = np.zeros(64, np.int32)
        self._way_slot = np.zeros((64, WAYS), np.int32)
        self._way_gateway = np.zeros((64, WAYS), np.int64)
        self._rewrites = np.zeros((64, REWRITE_BYTES), np.uint8)
        self._used = np.zeros(64, np.uint8)
        self._up = np.zeros(MAX_INTERFACES, np.uint8)
        self._mtu = np.zeros(MAX_INTERFACES, np.int32)
        self._redirects = np.zeros(MAX_INTERFACES, np.uint8)
        self._collect()

    def __len__(self) -> int:
        """Return the number of routes."""
        return len(self._fib)

    def _grow_paths(self, capacity: int) -> None:
        more = capacity - len(self._path_kind)
        if more > 0:
            self._path_kind, self._path_ways, self._path_mtu, self._way_slot, self._way_gateway = (
                np.concatenate([old, np.zeros((more, *old.shape[1:]), old.dtype)])
                for old in (self._path_kind, self._path_ways, self._path_mtu, self._way_slot, self._way_gateway)
            )

    def _collect(self) -> None:
        self.arrays = TableArrays(
            self._fib.arrays,
            self._path_kind,
            self._path_ways,
            self._path_mtu,
            self._way_slot,
            self._way_gateway,
            self._neighbours.keys,
            self._neighbours.values,
            self._rewrites,
            self._used,
            self._up,
            self._mtu,
            self._redirects,
        )

    # --- control's state ---------------------------------------------------------------------------------------------

    def apply_router_state(self, state: RouterState) -> None:
        """Apply a change, or a whole snapshot in place of what was there.

        :raises MessageError: routes or paths that contradict themselves; nothing was changed.
        """
        update = self.prepare(state)
        self.begin(update)
        for piece in range(update.pieces):
            self.apply_piece(update, piece)
        self.finish(update)

    def prepare(self, state: RouterState) -> RouterUpdate:
        """Make the next state ready, without any effect: another thread may do it, while this one forwards.

        :raises MessageError: routes or paths that contradict themselves.
        """
        routes = PackedRoutes(state.routes)
        if any(path.id >= MAX_PATHS for path in state.paths):
            raise MessageError(f"path ids go up to {MAX_PATHS - 1}")
        check_paths(routes, state, self._path_kind)
        if not state.full:
            return RouterUpdate(state, routes, None, self._fib.room(*routes.columns()))
        built = Fib(len(routes))
        for first in range(0, len(routes), _BUILT_AT_ONCE):
            built.apply(*routes.columns(first, first + _BUILT_AT_ONCE))
        return RouterUpdate(state, routes, built, None)

    def has_room(self, routes: int) -> bool:
        """See `Fib.has_room`."""
        return self._fib.has_room(routes)

    def begin(self, update: RouterUpdate) -> None:
        """Take over all of a state but its routes; of a snapshot, these too."""
        state = update.state
        if update.fib is not None:
            self._forget_interfaces(set(self.interfaces) - {one.index for one in state.interfaces})
            self._fib = update.fib
            self._path_kind[:] = NO_ROUTE
        elif update.room is not None:
            self._fib.take(update.room)
        for interface in state.interfaces:
            self._set_interface(interface)
        for path in state.paths:
            self._set_path(path)
        self._collect()

    def apply_piece(self, update: RouterUpdate, piece: int) -> None:
        """Take over a piece of a change's routes."""
        first, end = update.routes.pieces[piece : piece + 2]
        self._fib.carry_out(*update.routes.columns(first, end))

    def finish(self, update: RouterUpdate) -> None:
        """Forget what a state, whose routes are all taken over, has no use for."""
        for number in update.state.paths_gone:
            if number < len(self._path_kind):
                self._path_kind[number] = NO_ROUTE
        self._forget_interfaces(set(update.state.interfaces_gone))
        self._collect()

    def _set_interface(self, interface: Interface) -> None:
        slot = self.slots.get(interface.index)
        if slot is None:
            taken = set(self.slots.values())
            slot = next((number for number in range(1, MAX_INTERFACES) if number not in taken), NO_SLOT)
            if slot == NO_SLOT:
                return
            self.slots[interface.index] = slot
            self.index_of_slot[slot] = interface.index
        before = self.interfaces.get(interface.index)
        self.interfaces[interface.index] = interface
        self._up[slot] = interface.up
        self._mtu[slot] = usable_mtu(interface.mtu)
        self._redirects[slot] = interface.policy.redirects
        if before is None:
            for (index, address), mac in list(self._pending.items()):
                if index == interface.index:
                    self._set_neighbour(index, address, mac)
        elif before.mac != interface.mac:
            for (index, address), mac in self.neighbours():
                if index == interface.index:
                    self._set_neighbour(index, address, mac)

    def _forget_interfaces(self, indices: set[int]) -> None:
        for index in indices & set(self.interfaces):
            for (owner, address), _ in self.neighbours():
                if owner == index:
                    self._forget_neighbour(index, address)
            slot = self.slots.pop(index)
            del self.interfaces[index]
            self.index_of_slot[slot] = 0
            self._up[slot] = 0
            # Paths that still lead there go nowhere; the slot may be another interface's next.
            self._way_slot[self._way_slot == slot] = NO_SLOT

    def _set_path(self, path: Path) -> None:
        self._grow_paths(1 << path.id.bit_length())
        hops = [hop for hop in path.next_hops if hop.interface in self.slots]
        kind = _KINDS[path.kind]
        if kind == FORWARD and not hops:
            kind = UNREACHABLE
        self._path_kind[path.id] = kind
        self._path_mtu[path.id] = usable_mtu(path.mtu) if path.mtu else 0
        if kind == FORWARD:
            ways = places([hop.weight for hop in hops])
            self._path_ways[path.id] = len(ways)
            self._way_slot[path.id, : len(ways)] = [self.slots[hops[number].interface] for number in ways]
            self._way_gateway[path.id, : len(ways)] = [hops[number].gateway for number in ways]

    # --- arp's state -------------------------------------------------------------------------------------------------

    def apply_neighbour_state(self, state: NeighbourState) -> None:
        """Apply a change of neighbours, or a whole snapshot in place of what was there."""
        if state.full:
            kept = {(neighbour.interface, neighbour.address) for neighbour in state.neighbours}
            for owner, _ in self.neighbours():
                if owner not in kept:
                    self._forget_neighbour(*owner)
            self._pending.clear()
        for neighbour in state.neighbours:
            self._set_neighbour(neighbour.interface, neighbour.address, neighbour.mac)
        for index, address in state.gone:
            self._pending.pop((index, address), None)
            self._forget_neighbour(index, address)
        self._collect()

    def neighbours(self) -> list[tuple[tuple[int, int], bytes]]:
        """Return the interface index, address and MAC of each known neighbour."""
        return [
            (owner, self._rewrites[row, :6].tobytes()) for row, owner in enumerate(self._row_owner) if owner is not None
        ]

    def _set_neighbour(self, index: int, address: int, mac: bytes) -> None:
        slot = self.slots.get(index)
        if slot is None:
            self._pending[index, address] = mac  # arp was told of the interface before this service was
            return
        self._pending.pop((index, address), None)
        key = slot << 32 | address
        row = self._neighbours.get(key)
        if row == ABSENT:
            row = self._free_rows.pop() if self._free_rows else len(self._row_owner)
            if row == len(self._row_owner):
                self._row_owner.append(None)
            if row >= len(self._used):
                self._rewrites = np.concatenate([self._rewrites, np.zeros_like(self._rewrites)])
                self._used = np.concatenate([self._used, np.zeros_like(self._used)])
            self._row_owner[row] = (index, address)
            self._neighbours.put(key, row)
        self._rewrites[row] = np.frombuffer(mac + self.interfaces[index].mac, np.uint8)

    def _forget_neighbour(self, index: int, address: int) -> None:
        slot = self.slots.get(index)
        if slot is None:
            return
        key = slot << 32 | address
        row = self._neighbours.get(key)
        if row != ABSENT:
            self._neighbours.remove(key)
            self._row_owner[row] = None
            self._used[row] = 0
            self._free_rows.append(row)

    def take_used(self) -> list[tuple[int, int]]:
        """Return the neighbours (interface index, address) that frames went to since the last call."""
        rows = np.flatnonzero(self._used).tolist()
        self._used[:] = 0
        return [owner for row in rows if row < len(self._row_owner) and (owner := self._row_owner[row]) is not None]

    # --- questions ---------------------------------------------------------------------------------------------------

    def resolve(self, destination: int, flow: int = 0) -> Resolution:
        """Return where a datagram to `destination` goes, as the fast path decides it."""
        answer: Resolution = _resolve(self.arrays, destination, flow)
        return answer

    def mac_of(self, resolution: Resolution) -> bytes | None:
        """Return the next hop's MAC, or None while it is not known."""
        return None if resolution.row == ABSENT else self._rewrites[resolution.row, :6].tobytes()

    def rewrite_for(self, slot: int, next_hop: int) -> bytes | None:
        """Return the 12 bytes of MAC addresses for a frame to a next hop, or None while they are not known.

        The neighbour counts as used.
        """
        row = self._neighbours.get(slot << 32 | next_hop)
        if row == ABSENT:
            return None
        self._used[row] = 1
        rewrite: bytes = self._rewrites[row].tobytes()
        return rewrite

    def matched_prefix(self, destination: int) -> tuple[int, int] | None:
        """Return the prefix (address, length) that decides about a destination."""
        return self._fib.matched_prefix(destination)

    def next_hops(self, path: int) -> list[tuple[int, int]]:
        """Return the interface index and gateway at each place of a path's table."""
        ways = int(self._path_ways[path])
        slots, gateways = self._way_slot[path, :ways].tolist(), self._way_gateway[path, :ways].tolist()
        return [(self.index_of_slot[slot], gateway) for slot, gateway in zip(slots, gateways, strict=True)]

    def interface_of_slot(self, slot: int) -> Interface | None:
        """Return the interface of a slot."""
        return self.interfaces.get(self.index_of_slot[slot])
