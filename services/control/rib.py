"""The routing information base: what the kernel has, turned into what the services are told.

For each destination the best route that can be used is published: of table local, else main, else default, as the
kernel's rules of the start ask them, and in a table the one of the lowest metric. A longer prefix of a later table
that lies within a prefix of an earlier one is never asked for, and so not published. The published state is a set
of numbered paths and a path for each destination; changes are computed against what was published last.

Routes are compared in compiled code (`route_kernels`): a change of a route costs the work for that route. Changes of
interfaces, and a new dump, go once through all.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from services.common.hash_table import HashTable
from services.common.messages import ROUTE_DTYPE, Interface, InterfaceAddress, RouterState
from services.common.nat_rules import NatRules
from services.common.parameters import InterfacePolicy, Parameters
from services.control.judgement import judge
from services.control.kernel_types import (
    IFA_F_SECONDARY,
    IFF_UP,
    AddressChanged,
    AddressGone,
    KernelEvent,
    KernelNextHop,
    Link,
    LinkAddress,
    LinkChanged,
    LinkGone,
    NextHopObject,
    NextHopObjectChanged,
    NextHopObjectGone,
    RouteBatch,
    RouteChanged,
    RouteGone,
    RouteInfo,
    Unsettled,
)
from services.control.next_hop_objects import NextHopObjects
from services.control.path_table import PathTable
from services.control.policies import InterfacePolicies
from services.control.route_kernels import STORED, UNUSABLE, compare, vanished
from services.control.route_table import TABLES, Keys, RouteTables

MAX_REMEMBERED_NAMES: Final = 4096
"""Interfaces that are gone, but whose name their counters still bear."""
_COMPARED_AT_ONCE: Final = 1 << 16
"""Destinations: what is published grows by no more than these before its room is looked at again."""


class KernelDump(NamedTuple):
    """All that the kernel has, at one time."""

    links: list[Link]
    addresses: list[LinkAddress]
    foreign_rules: int
    """Routing rules (ip-rule(8)) besides the three of the start."""
    tables: RouteTables
    next_hop_objects: tuple[NextHopObject, ...] = ()


class Rib:
    """Mirrors the kernel and keeps what is published.

    :ivar unsettled: why the mirror needs a new dump; empty while it is right.
    """

    def __init__(self, policies: InterfacePolicies | None = None) -> None:
        self.policies = policies or InterfacePolicies()
        self.links: dict[int, Link] = {}
        self.addresses: dict[int, list[LinkAddress]] = {}
        self.tables = RouteTables()
        self._next_hop_objects = NextHopObjects()
        self.unsettled = "nothing is mirrored yet"
        self._foreign_rules = 0
        self._former_names: dict[int, str] = {}
        self._touched: list[Keys] = []
        self._all_touched = False
        self._interfaces_touched = False
        self._interfaces: dict[int, Interface] = {}
        self._routes = HashTable()
        """The path of each published destination."""
        self._paths = PathTable()
        self._deviations: dict[int, str] = {}
        """By the number of an info: in which way hopwire does not follow it."""

    # --- What the kernel says -----------------------------------------------------------------------------------------

    def adopt(self, dump: KernelDump) -> None:
        """Take a dump for the truth in place of all that was mirrored."""
        before = self.links
        self.links = {link.index: link for link in dump.links}
        for index, link in before.items():
            if index not in self.links:
                self._remember_name(link)
        self.addresses = {}
        for address in dump.addresses:
            self._store_address(address)
        self.tables = dump.tables
        self._next_hop_objects = NextHopObjects(dump.next_hop_objects)
        self._foreign_rules = dump.foreign_rules
        self._all_touched = self._interfaces_touched = True
        self.unsettled = ""

    def apply(self, event: KernelEvent) -> None:
        """Follow one announcement of the kernel."""
        match event:
            case RouteBatch():
                self._apply_routes(event)
            case RouteChanged() | RouteGone():
                self._apply_route(event)
            case LinkChanged(link=link):
                self._apply_link(link)
            case LinkGone(index=index):
                self._remove_link(index)
            case AddressChanged(address=address):
                self._store_address(address)
            case AddressGone(address=address):
                self._remove_address(address)
            case NextHopObjectChanged() | NextHopObjectGone():
                self._apply_next_hop_object(event)
            case Unsettled(reason=reason):
                self.unsettled = reason

    def _apply_route(self, event: RouteChanged | RouteGone) -> None:
        if event.table not in TABLES:
            return
        if isinstance(event, RouteChanged):
            self.tables.insert(event)
        elif not self.tables.remove(event):
            return
        self._touch(np.array([event.table], np.uint8), np.array([event.key], np.int64))

    def _apply_routes(self, batch: RouteBatch) -> None:
        self.tables.apply(batch)
        self._touch(batch.tables, batch.keys)

    def _touch(self, tables: npt.NDArray[np.uint8], keys: Keys) -> None:
        if not self._all_touched:
            self._touched += [keys, self.tables.within(tables, keys)]

    def _apply_link(self, link: Link) -> None:
        before = self.links.get(link.index)
        self.links[link.index] = link
        self._interfaces_touched = True
        if (before is None or before.fate != link.fate) and self._is_used(link.index):
            self._all_touched = True
            self.unsettled = f"{link.name} changed"

    def _remove_link(self, index: int) -> None:
        link = self.links.pop(index, None)
        if link is None:
            return
        self.addresses.pop(index, None)
        self._remember_name(link)
        self._interfaces_touched = True
        if self._is_used(index):
            self._all_touched = True
            self.unsettled = f"{link.name} is gone"

    def _is_used(self, index: int) -> bool:
        """Tell whether a route leads through this interface."""
        return any(hop.interface == index for info in self.tables.infos for hop in self.next_hops(info))

    def _apply_next_hop_object(self, event: NextHopObjectChanged | NextHopObjectGone) -> None:
        effect = self._next_hop_objects.apply(event, self.tables.infos)
        if effect.is_silent:
            number = event.id if isinstance(event, NextHopObjectGone) else event.object.id
            self.unsettled = f"nexthop object {number} changed"
        elif effect.is_felt:
            self._all_touched = True

    def next_hops(self, info: RouteInfo) -> tuple[KernelNextHop, ...]:
        """Return the next hops of a route, those of its nexthop object where it names one."""
        return self._next_hop_objects.next_hops(info)

    @property
    def lacks_next_hops(self) -> bool:
        """Whether routes name nexthop objects that are not known."""
        return self._next_hop_objects.are_missing(self.tables.infos)

    def _remember_name(self, link: Link) -> None:
        self._former_names.pop(link.index, None)
        self._former_names[link.index] = link.name
        if len(self._former_names) > MAX_REMEMBERED_NAMES:
            del self._former_names[next(iter(self._former_names))]

    def _store_address(self, address: LinkAddress) -> None:
        """Put an address among those of its interface, primary ones first, each kind in the kernel's order."""
        others = self.addresses.setdefault(address.interface, [])
        for position, other in enumerate(others):
            if (other.address, other.prefix_length) == (address.address, address.prefix_length):
                others[position] = address
                break
        else:
            others.append(address)
        others.sort(key=lambda one: one.flags & IFA_F_SECONDARY)
        self._interfaces_touched = True

    def _remove_address(self, address: LinkAddress) -> None:
        others = self.addresses.get(address.interface, [])
        identity = (address.address, address.prefix_length)
        self.addresses[address.interface] = [one for one in others if (one.address, one.prefix_length) != identity]
        self._interfaces_touched = True
        self.unsettled = "an address was removed"  # with the last one go routes that no message tells of

    # --- What the operator says ---------------------------------------------------------------------------------------

    def policy(self, link: Link) -> InterfacePolicy:
        """Return what holds for an interface."""
        return self.policies.of(link.index, link.name)

    def change_policy(self, index: int, changes: Mapping[str, Any]) -> None:
        """Change fields of an interface's policy."""
        self.policies.change(index, changes)
        self._interfaces_touched = True

    # --- What is published --------------------------------------------------------------------------------------------

    def take_changes(self) -> RouterState | None:
        """Return how the state differs from what was published last, and count it as published; None: not at all."""
        interfaces, interfaces_gone = self._interface_changes()
        routes, touched_paths = self._route_changes()
        paths, paths_gone = self._paths.take_changes(touched_paths)
        if paths_gone:
            self.tables.unjudge(paths_gone)
        if not (interfaces or interfaces_gone or routes):
            return None
        return RouterState(
            interfaces=interfaces,
            interfaces_gone=interfaces_gone,
            paths=paths,
            paths_gone=paths_gone,
            routes=routes,
        )

    def full_state(self, parameters: Parameters, nat: NatRules | None = None) -> RouterState:
        """Return all that is published, the parameters and the rules of address translation."""
        stored = np.flatnonzero(self._routes.keys)
        return RouterState(
            full=True,
            parameters=parameters,
            nat=nat,
            interfaces=list(self._interfaces.values()),
            paths=self._paths.all(),
            routes=_packed(self._routes.keys[stored] & ~STORED, self._routes.values[stored]),
        )

    @property
    def interfaces(self) -> list[Interface]:
        """The published interfaces, by index."""
        return [self._interfaces[index] for index in sorted(self._interfaces)]

    @property
    def ethernet_names(self) -> list[str]:
        """The names of the Ethernet interfaces that are administratively up, with carrier or without."""
        return sorted(link.name for link in self.links.values() if link.is_routed and link.flags & IFF_UP)

    def interface_name(self, index: int) -> str:
        """Return the name that an interface has or had; `if7` for one that was never seen, as ip(8) writes it."""
        link = self.links.get(index)
        return link.name if link else self._former_names.get(index, f"if{index}")

    def routes_by_kind(self) -> Counter[str]:
        """Return how many destinations are published with each kind of path."""
        return self._paths.uses_by_kind()

    def deviations(self) -> list[str]:
        """Return, for the user's eyes, what of the kernel's routing hopwire does not follow."""
        self._judge()
        counts: Counter[str] = Counter()
        for number in self.tables.infos.values() if self._deviations else ():
            deviation = self._deviations.get(number)
            if deviation:
                counts[deviation] += self.tables.uses(number)
        texts = [f"{count} route{'s' * (count > 1)} not followed: {text}" for text, count in sorted(counts.items())]
        if self._foreign_rules:
            texts.append(
                f"{self._foreign_rules} routing rule{'s' * (self._foreign_rules > 1)} not followed (see `ip rule`): "
                "all traffic takes the tables local, main and default"
            )
        return texts

    def _interface_changes(self) -> tuple[list[Interface], list[int]]:
        if not self._interfaces_touched:
            return [], []
        self._interfaces_touched = False
        self.policies.forget_gone(self.links)
        current = {index: self._interface(link) for index, link in self.links.items() if link.is_routed}
        changed = [interface for index, interface in current.items() if self._interfaces.get(index) != interface]
        gone = [index for index in self._interfaces if index not in current]
        self._interfaces = current
        return changed, gone

    def _interface(self, link: Link) -> Interface:
        return Interface(
            index=link.index,
            name=link.name,
            mac=link.mac,
            mtu=link.mtu,
            up=link.is_up,
            addresses=[
                InterfaceAddress(address=one.address, prefix_length=one.prefix_length)
                for one in self.addresses.get(link.index, [])
            ],
            policy=self.policy(link),
        )

    def _route_changes(self) -> tuple[bytes, npt.NDArray[np.int64]]:
        """Return the packed changes of routes, and the paths of which some route's use began or ended."""
        if self._all_touched:
            self.tables.unjudge()
        self._judge()
        keys = self._keys_to_compare()
        packed, touched_paths = [], [np.zeros(0, np.int64)]
        if self._all_touched:
            self._routes.make_room(max(0, len(keys) - self._routes.used))
        for first in range(0, len(keys), _COMPARED_AT_ONCE):
            some = keys[first : first + _COMPARED_AT_ONCE]
            self._routes.make_room(len(some))
            growth, changes = np.zeros(1, np.int64), np.empty((len(some), 3), np.int64)
            count = compare(
                self.tables.arrays,
                some,
                self._routes.keys,
                self._routes.values,
                self._paths.uses,
                growth,
                changes,
            )
            self._routes.used += int(growth[0])
            packed.append(_packed(changes[:count, 0], changes[:count, 1]))
            touched_paths.append(np.unique(changes[:count, 1:]))
        self._touched.clear()
        self._all_touched = False
        return b"".join(packed), np.concatenate(touched_paths)

    def _keys_to_compare(self) -> Keys:
        if not self._all_touched:
            return np.concatenate([np.zeros(0, np.int64), *self._touched])
        gone = np.empty(self._routes.used, np.int64)
        count = vanished(self.tables.arrays, self._routes.keys, gone)
        return np.concatenate([gone[:count], *(self.tables.keys(position) for position in range(len(TABLES)))])

    def _judge(self) -> None:
        """Judge what routes say, where it is new or the interfaces are others."""
        for number, info in self.tables.unjudged():
            verdict = judge(info._replace(next_hops=self.next_hops(info)), self.links)
            self.tables.judge(number, UNUSABLE if verdict.content is None else self._paths.number(verdict.content))
            self._deviations.pop(number, None)
            if verdict.deviation:
                self._deviations[number] = verdict.deviation
        self._paths.tidy(self.tables.arrays.path)


def _packed(keys: Keys, paths: npt.NDArray[np.int64] | npt.NDArray[np.int32]) -> bytes:
    """Return routes as the bus carries them (see `messages.pack_routes`)."""
    records = np.empty(len(keys), ROUTE_DTYPE)
    records["prefix"] = keys >> 8
    records["length"] = keys & 0xFF
    records["path"] = paths
    return records.tobytes()
