"""The routing information base: what the kernel has, turned into what the services are told.

For each destination the best route that can be used is published: of table local, else main, else default, as the
kernel's rules of the start ask them, and in a table the one of the lowest metric. A longer prefix of a later table
that lies within a prefix of an earlier one is never asked for, and so not published. The published state is a set
of numbered paths and a path for each destination; changes are computed against what was published last.

A change of a route costs the work for that route. Changes of interfaces, and a new dump, go once through all.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from services.common.messages import Interface, InterfaceAddress, RouteChange, RouterState, pack_routes
from services.common.parameters import InterfacePolicy, Parameters
from services.control.judgement import Verdict, judge
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
    RouteChanged,
    RouteGone,
    RouteInfo,
    Unsettled,
    covering_key,
    split_key,
)
from services.control.path_table import NumberedPath, PathContent, PathTable
from services.control.policies import InterfacePolicies
from services.control.route_table import TABLES, RouteTables, SharedInfo

MAX_REMEMBERED_NAMES: Final = 4096
"""Interfaces that are gone, but whose name their counters still bear."""


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
        self._next_hop_objects: dict[int, NextHopObject] = {}
        self.unsettled = "nothing is mirrored yet"
        self._foreign_rules = 0
        self._former_names: dict[int, str] = {}
        self._touched: set[int] = set()
        self._all_touched = False
        self._interfaces_touched = False
        self._interfaces: dict[int, Interface] = {}
        self._routes: dict[int, NumberedPath] = {}
        self._paths = PathTable()

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
        self._next_hop_objects = {one.id: one for one in dump.next_hop_objects}
        self._foreign_rules = dump.foreign_rules
        self._all_touched = self._interfaces_touched = True
        self.unsettled = ""

    def apply(self, event: KernelEvent) -> None:
        """Follow one announcement of the kernel."""
        match event:
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
        self._touched.add(event.key)
        self._touched.update(self._within(event.key, event.table))

    def _within(self, key: int, table: int) -> Iterator[int]:
        """Return the destinations of later tables that lie within a destination of this one."""
        length = key & 0xFF
        if length == 32:
            return
        for later in TABLES[TABLES.index(table) + 1 :]:
            for other in self.tables.tables[later]:
                if other & 0xFF > length and covering_key(other, length) == key:
                    yield other

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
        if isinstance(event, NextHopObjectChanged):
            number, in_silence = event.object.id, event.in_silence
            self._next_hop_objects[number] = event.object
        else:
            number, in_silence = event.id, True
            self._next_hop_objects.pop(number, None)
        used = {info.next_hop_object for info in self.tables.infos if info.next_hop_object}
        groups = [group for each in used if (group := self._next_hop_objects.get(each))]
        members = {member for group in groups for member, _ in group.members}
        if number in used and in_silence:
            self.unsettled = f"nexthop object {number} changed"
        elif number in used | members:
            self._all_touched = True

    def next_hops(self, info: RouteInfo) -> tuple[KernelNextHop, ...]:
        """Return the next hops of a route: those of its nexthop object, where it has one.

        The route itself names them only with net.ipv4.nexthop_compat_mode, and weights above 256 not even then.
        """
        known = self._next_hop_objects.get(info.next_hop_object)
        if known is None:
            return info.next_hops
        objects = [(self._next_hop_objects.get(member), weight) for member, weight in known.members or ((known.id, 1),)]
        hops = tuple(one.next_hop._replace(weight=weight) for one, weight in objects if one and one.next_hop)
        return hops if len(hops) > 1 else tuple(hop._replace(weight=1) for hop in hops)

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
        routes = self._route_changes()
        paths, paths_gone = self._paths.take_changes()
        if not (interfaces or interfaces_gone or routes or paths or paths_gone):
            return None
        return RouterState(
            interfaces=interfaces,
            interfaces_gone=interfaces_gone,
            paths=paths,
            paths_gone=paths_gone,
            routes=pack_routes(routes),
        )

    def full_state(self, parameters: Parameters) -> RouterState:
        """Return all that is published, and the parameters."""
        return RouterState(
            full=True,
            parameters=parameters,
            interfaces=list(self._interfaces.values()),
            paths=self._paths.all(),
            routes=pack_routes(RouteChange(*split_key(key), path.id) for key, path in self._routes.items()),
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
        counts: Counter[str] = Counter()
        for shared in self.tables.infos.values():
            deviation = self._verdict(shared).deviation
            if deviation:
                counts[deviation] += shared.uses
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

    def _route_changes(self) -> list[RouteChange]:
        if self._all_touched:
            for shared in self.tables.infos.values():
                shared.verdict = None
        changes = []
        for key in self._keys_to_compare():
            content = self._best(key)
            before = self._routes.get(key)
            if before is None and content is None:
                continue
            if before is not None and before.content == content:
                continue
            path = None if content is None else self._paths.acquire(content)
            if before is not None:
                self._paths.release(before)
            if path is None:
                del self._routes[key]
            else:
                self._routes[key] = path
            changes.append(RouteChange(*split_key(key), 0 if path is None else path.id))
        self._touched.clear()
        self._all_touched = False
        return changes

    def _keys_to_compare(self) -> set[int]:
        if not self._all_touched:
            return self._touched
        return set(self._routes).union(*self.tables.tables.values())

    def _best(self, key: int) -> PathContent | None:
        """Return what to do with a destination, or None where it has no route of its own that can be used."""
        for position, table in enumerate(TABLES):
            candidates = self.tables.candidates(table, key)
            if not candidates:
                continue
            if any(self._covers(earlier, key) for earlier in TABLES[:position]):
                return None
            for shared in candidates:
                content = self._verdict(shared).content
                if content is not None:
                    return content
        return None

    def _covers(self, table: int, key: int) -> bool:
        """Tell whether a usable route of this table to a shorter prefix catches a destination."""
        length = key & 0xFF
        shorter = [other for other, count in self.tables.lengths[table].items() if other < length and count]
        return any(
            self._verdict(shared).content is not None
            for other in shorter
            for shared in self.tables.candidates(table, covering_key(key, other))
        )

    def _verdict(self, shared: SharedInfo) -> Verdict:
        if shared.verdict is None:
            shared.verdict = judge(shared.info._replace(next_hops=self.next_hops(shared.info)), self.links)
        return shared.verdict
