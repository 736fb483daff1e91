"""What the forwarder knows: interfaces, routes, neighbours, in flat arrays that compiled code reads.

Control's state and arp's state come in, arrays come out. A change is applied between two batches.
"""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from services.common.counters import MAX_INTERFACES
from services.common.kernels import inlined, kernel, record
from services.common.messages import Interface, MessageError, NeighbourState, Path, RouterState
from services.common.wire import ethernet, ipv4
from services.forwarder import fib
from services.forwarder.fib import FIB, NO_PATH, Fib, FibArrays
from services.forwarder.groups import BUCKETS
from services.forwarder.hash_table import ABSENT, find
from services.forwarder.neighbours import NeighbourRows
from services.forwarder.paths import BROADCAST, FORWARD, KINDS, NO_GROUP, NO_ROUTE, UNREACHABLE, Member, Paths, way_key
from services.forwarder.routes import MAX_PATHS, unpack, usable_mtu

NO_SLOT: Final = 0
"""The interface slot that stands for "not known"."""
OFF, LOOSE, STRICT = range(3)
_REVERSE_PATH: Final = {"off": OFF, "loose": LOOSE, "strict": STRICT}


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
def _resolve(tables: TableArrays, destination: int, flow: int) -> Any:
    return resolve(tables, destination, flow)


class ForwardingTables:
    """The tables and their upkeep."""

    def __init__(self, flow_seed: int = 0) -> None:
        """Make tables that know of nothing.

        :param flow_seed: 0 to 2**63 - 1, another one for each run, so that nobody can aim flows at one next hop.
        """
        self._flow_seed = flow_seed
        self._fib = Fib()
        self._neighbours = NeighbourRows()
        self._pending: dict[tuple[int, int], bytes] = {}
        self.interfaces: dict[int, Interface] = {}
        self.slots: dict[int, int] = {}
        self.index_of_slot = [0] * MAX_INTERFACES
        self._paths = Paths()
        self._up = np.zeros(MAX_INTERFACES, np.uint8)
        self._mtu = np.zeros(MAX_INTERFACES, np.int32)
        self._redirects = np.zeros(MAX_INTERFACES, np.uint8)
        self._reverse_path = np.zeros(MAX_INTERFACES, np.uint8)
        self._linux_martians = np.zeros(MAX_INTERFACES, np.uint8)
        self._directed_broadcast = np.zeros(MAX_INTERFACES, np.uint8)
        self._collect()

    def __len__(self) -> int:
        """Return the number of routes."""
        return len(self._fib)

    def _collect(self) -> None:
        self.arrays = TableArrays(
            self._fib.arrays,
            self._paths.kind,
            self._paths.mtu,
            self._paths.way,
            self._paths.group,
            self._paths.group_ways,
            self._paths.group_slots,
            self._flow_seed,
            self._neighbours.table.keys,
            self._neighbours.table.values,
            self._neighbours.rewrites,
            self._neighbours.used,
            self._up,
            self._mtu,
            self._redirects,
            self._reverse_path,
            self._linux_martians,
            self._directed_broadcast,
        )

    # --- control's state ---------------------------------------------------------------------------------------------

    def apply_router_state(self, state: RouterState) -> None:
        """Apply a change, or a whole snapshot in place of what was there.

        :raises MessageError: routes or paths that contradict themselves; nothing was changed.
        """
        routes = unpack(state.routes)
        if any(path.id >= MAX_PATHS for path in state.paths):
            raise MessageError(f"path ids go up to {MAX_PATHS - 1}")
        self._check_paths(routes[2], state)
        if state.full:
            self._forget_interfaces(set(self.interfaces) - {interface.index for interface in state.interfaces})
            self._fib = Fib()
            self._paths.clear()
        for interface in state.interfaces:
            self._set_interface(interface)
        for path in state.paths:
            self._set_path(path)
        if len(routes[0]):
            self._fib.apply(*routes)
        for number in state.paths_gone:
            self._paths.forget(number)
        self._forget_interfaces(set(state.interfaces_gone))
        self._collect()

    def _check_paths(self, used: npt.NDArray[np.int64], state: RouterState) -> None:
        """Check that each path that routes use is in the message, or known already."""
        known = np.zeros(MAX_PATHS, np.bool_)
        if not state.full:
            known[: len(self._paths)] = self._paths.kind != NO_ROUTE
        known[[NO_PATH, *(path.id for path in state.paths)]] = True
        if not known[used].all():
            raise MessageError("routes: a path that nobody has described")

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
        self._reverse_path[slot] = _REVERSE_PATH[interface.policy.reverse_path]
        self._linux_martians[slot] = interface.policy.martians == "linux"
        self._directed_broadcast[slot] = interface.policy.directed_broadcast
        self._neighbours.put(slot, ipv4.LIMITED_BROADCAST, ethernet.BROADCAST + interface.mac, None)
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
            self._forget_neighbour(index, ipv4.LIMITED_BROADCAST)
            slot = self.slots.pop(index)
            del self.interfaces[index]
            self.index_of_slot[slot] = 0
            self._up[slot] = 0
            self._paths.forget_slot(slot)

    def _set_path(self, path: Path) -> None:
        members = [
            Member(way_key(self.slots[hop.interface], hop.gateway), hop.weight)
            for hop in path.next_hops
            if hop.interface in self.slots
        ]
        kind = KINDS[path.kind]
        if kind == FORWARD and not members:
            kind = UNREACHABLE
        self._paths.put(path.id, kind, members, usable_mtu(path.mtu) if path.mtu else 0)

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
            self.next_hop_failed(index, address)
        self._collect()

    def neighbours(self) -> list[tuple[tuple[int, int], bytes]]:
        """Return the interface index, address and MAC of each known neighbour."""
        return self._neighbours.owned()

    def _set_neighbour(self, index: int, address: int, mac: bytes) -> None:
        slot = self.slots.get(index)
        if slot is None:
            self._pending[index, address] = mac  # arp was told of the interface before this service was
            return
        self._pending.pop((index, address), None)
        self._neighbours.put(slot, address, mac + self.interfaces[index].mac, (index, address))
        self._paths.regain(way_key(slot, address))

    def next_hop_failed(self, index: int, address: int) -> None:
        """Take note that a next hop does not answer: groups do without it until it has a MAC again."""
        slot = self.slots.get(index)
        if slot is not None:
            self._paths.lose(way_key(slot, address))

    def _forget_neighbour(self, index: int, address: int) -> None:
        slot = self.slots.get(index)
        if slot is not None:
            self._neighbours.remove(slot, address)

    def take_used(self) -> list[tuple[int, int]]:
        """Return the neighbours (interface index, address) that frames went to since the last call.

        And those that frames would go to if they answered: arp asks for them again.
        """
        silent = [(self.index_of_slot[way >> 32], way & 0xFFFF_FFFF) for way in self._paths.silent()]
        return self._neighbours.take_used() + silent

    # --- questions ---------------------------------------------------------------------------------------------------

    def resolve(self, destination: int, flow: int = 0) -> Resolution:
        """Return where a datagram to `destination` goes, as the fast path decides it."""
        answer: Resolution = _resolve(self.arrays, destination, flow)
        return answer

    def mac_of(self, resolution: Resolution) -> bytes | None:
        """Return the next hop's MAC, or None while it is not known."""
        return None if resolution.row == ABSENT else self._neighbours.mac(resolution.row)

    def rewrite_for(self, slot: int, next_hop: int) -> bytes | None:
        """Return the 12 bytes of MAC addresses for a frame to a next hop, or None while they are not known.

        The neighbour counts as used.
        """
        return self._neighbours.use(slot, next_hop)

    def matched_prefix(self, destination: int) -> tuple[int, int] | None:
        """Return the prefix (address, length) that decides about a destination."""
        return self._fib.matched_prefix(destination)

    def next_hops(self, path: int) -> list[tuple[int, int, int, bool]]:
        """Return interface index, gateway and weight of each next hop of a path, and whether it fails to answer."""
        return [
            (self.index_of_slot[one.slot], one.gateway, one.weight, self._paths.is_silent(one.way))
            for one in self._paths.members(path)
        ]

    def interface_of_slot(self, slot: int) -> Interface | None:
        """Return the interface of a slot."""
        return self.interfaces.get(self.index_of_slot[slot])
