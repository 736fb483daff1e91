"""What the forwarder knows: interfaces, routes, neighbours, in flat arrays that compiled code reads.

Control's state and arp's state come in, arrays come out. A change is applied between two batches. What of it takes long
can be made ready beside the running tables (`prepare`), and taken over a piece at a time.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from services.common.counters import MAX_INTERFACES
from services.common.hash_table import ABSENT
from services.common.messages import Interface, MessageError, NeighbourState, Path, RouterState
from services.common.wire import ethernet, ipv4
from services.forwarder.fib import Fib
from services.forwarder.nat.layout import UNUSED, NatArrays
from services.forwarder.neighbours import NeighbourRows
from services.forwarder.paths import FORWARD, KINDS, UNREACHABLE, Groups, Member, Paths, way_key
from services.forwarder.resolution import LOOSE, NO_SLOT, OFF, STRICT, Resolution, TableArrays, resolve_one
from services.forwarder.routes import MAX_PATHS, PackedRoutes, RouterUpdate, check_paths, usable_mtu

_REVERSE_PATH: Final = {"off": OFF, "loose": LOOSE, "strict": STRICT}
_BUILT_AT_ONCE: Final = 1 << 16
"""Routes of a snapshot: a bound on the memory for their columns."""


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
        self.nat = UNUSED
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
            self.nat,
        )

    def set_nat(self, nat: NatArrays) -> None:
        """Use another translator's arrays."""
        self.nat = nat
        self._collect()

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
        check_paths(routes, state, self._paths.kind)
        slots = self._slots_with(state)
        groups = self._paths.prepare([_members(path, slots) for path in state.paths])
        if not state.full:
            return RouterUpdate(state, routes, slots, groups, None, self._fib.room(*routes.columns()))
        built = Fib(len(routes))
        for first in range(0, len(routes), _BUILT_AT_ONCE):
            built.apply(*routes.columns(first, first + _BUILT_AT_ONCE))
        return RouterUpdate(state, routes, slots, groups, built, None)

    def has_room(self, routes: int) -> bool:
        """See `Fib.has_room`."""
        return self._fib.has_room(routes)

    def begin(self, update: RouterUpdate) -> None:
        """Take over all of a state but its routes; of a snapshot, these too."""
        state = update.state
        if update.fib is not None:
            self._forget_interfaces(set(self.interfaces) - {one.index for one in state.interfaces})
            self._fib = update.fib
            self._paths.clear()
        elif update.room is not None:
            self._fib.take(update.room)
        for interface in state.interfaces:
            self._set_interface(interface, update.slots.get(interface.index, NO_SLOT))
        for path in state.paths:
            self._set_path(path, update.groups)
        self._collect()

    def apply_piece(self, update: RouterUpdate, piece: int) -> None:
        """Take over a piece of a change's routes."""
        first, end = update.routes.pieces[piece : piece + 2]
        self._fib.carry_out(*update.routes.columns(first, end))

    def finish(self, update: RouterUpdate) -> None:
        """Forget what a state, whose routes are all taken over, has no use for."""
        for number in update.state.paths_gone:
            self._paths.forget(number)
        self._forget_interfaces(set(update.state.interfaces_gone))
        self._collect()

    def _slots_with(self, state: RouterState) -> dict[int, int]:
        """Return the slot of each interface that there will be; none for those too many."""
        named = {interface.index for interface in state.interfaces}
        slots = {index: slot for index, slot in self.slots.items() if not state.full or index in named}
        taken = set(slots.values())
        free = (number for number in range(1, MAX_INTERFACES) if number not in taken)
        new = [interface.index for interface in state.interfaces if interface.index not in slots]
        return slots | dict(zip(new, free, strict=False))

    def _set_interface(self, interface: Interface, slot: int) -> None:
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

    def _set_path(self, path: Path, groups: Groups) -> None:
        members = _members(path, self.slots)
        kind = KINDS[path.kind]
        if kind == FORWARD and not members:
            kind = UNREACHABLE
        self._paths.put(path.id, kind, members, usable_mtu(path.mtu) if path.mtu else 0, groups)

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
        answer: Resolution = resolve_one(self.arrays, destination, flow)
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


def _members(path: Path, slots: Mapping[int, int]) -> list[Member]:
    """Return the next hops of a path by the interfaces that there are."""
    return [
        Member(way_key(slots[hop.interface], hop.gateway), hop.weight)
        for hop in path.next_hops
        if hop.interface in slots
    ]
