"""The published states followed change by change: what `monitor` writes a line for. Pure.

Both states come whole at first, and again after a gap: a whole one is compared with what was known, so that nothing
that changed meanwhile is missed.
"""

import struct
from collections.abc import Iterator, Mapping
from typing import Any, Final

from services.common.messages import Interface, NeighbourState, Path, RouterState
from services.common.wire.ethernet import mac_text
from services.common.wire.ipv4 import address_text, prefix_text

LINK, ADDRESS, ROUTE, NEIGHBOUR = "link", "address", "route", "neigh"
Change = dict[str, Any]
"""`object`, `deleted` where something is gone, and the keys of `ip -j`."""

_RECORD: Final = struct.Struct("=IBI")  # of `RouterState.routes`: prefix, length, path id


class RouterChanges:
    """Follows control's state."""

    def __init__(self) -> None:
        self.interfaces: dict[int, Interface] = {}
        self._names: dict[int, str] = {}
        self._paths: dict[int, Path] = {}
        self._routes: dict[tuple[int, int], Path] = {}
        self._primed = False

    def name(self, index: int) -> str:
        """Return the name that an interface has or had."""
        return self._names.get(index, f"if{index}")

    def apply(self, state: RouterState) -> list[Change]:
        """Return what a state changes; the first one, which is all there is, changes nothing."""
        changes = [*self._interface_changes(state), *self._route_changes(state)]
        primed, self._primed = self._primed, True
        return changes if primed else []

    def _interface_changes(self, state: RouterState) -> Iterator[Change]:
        named = {one.index: one for one in state.interfaces}
        gone = set(self.interfaces) - set(named) if state.full else set(state.interfaces_gone) & set(self.interfaces)
        for index in sorted(gone):
            before = self.interfaces.pop(index)
            yield from ({**change, "deleted": True} for change in self._addresses(before))
            yield {"object": LINK, "deleted": True, **_link(before)}
        for index, interface in named.items():
            known = self.interfaces.get(index)
            self.interfaces[index] = interface
            self._names[index] = interface.name
            if known is None or _link(known) != _link(interface):
                yield {"object": LINK, **_link(interface)}
            old = [] if known is None else self._addresses(known)
            new = self._addresses(interface)
            yield from ({**change, "deleted": True} for change in old if change not in new)
            yield from (change for change in new if change not in old)

    def _addresses(self, interface: Interface) -> list[Change]:
        return [
            {
                "object": ADDRESS,
                "dev": interface.name,
                "local": address_text(one.address),
                "prefixlen": one.prefix_length,
            }
            for one in interface.addresses
        ]

    def _route_changes(self, state: RouterState) -> Iterator[Change]:
        before = self._routes
        if state.full:
            self._paths = {}
            self._routes = {}
        self._paths |= {path.id: path for path in state.paths}
        for prefix, length, number in _RECORD.iter_unpack(state.routes):
            known = before.get((prefix, length))
            path = self._paths.get(number)
            if path is None:
                self._routes.pop((prefix, length), None)
                if known is not None:
                    yield {"object": ROUTE, "deleted": True, **self._route(prefix, length, known)}
                continue
            self._routes[prefix, length] = path
            if known is None or _content(known) != _content(path):
                yield {"object": ROUTE, **self._route(prefix, length, path)}
        if state.full:
            for key in sorted(set(before) - set(self._routes)):
                yield {"object": ROUTE, "deleted": True, **self._route(*key, before[key])}
        for number in state.paths_gone:
            self._paths.pop(number, None)

    def _route(self, prefix: int, length: int, path: Path) -> Change:
        hops = [
            {**({"gateway": address_text(hop.gateway)} if hop.gateway else {}), "dev": self.name(hop.interface)}
            for hop in path.next_hops
        ]
        shown: Change = {"type": path.kind} if path.kind != "unicast" else {}
        shown["dst"] = "default" if not length else prefix_text(prefix, length)
        if len(hops) == 1:
            shown |= hops[0]
        if path.mtu:
            shown["metrics"] = [{"mtu": path.mtu}]
        if len(hops) > 1:
            shown["nexthops"] = [{**hop, "weight": one.weight} for hop, one in zip(hops, path.next_hops, strict=True)]
        return shown


def _link(interface: Interface) -> Change:
    return {
        "ifindex": interface.index,
        "ifname": interface.name,
        "operstate": "UP" if interface.up else "DOWN",
        "mtu": interface.mtu,
        "address": mac_text(interface.mac),
        "policy": interface.policy.model_dump(),
    }


def _content(path: Path) -> tuple[Any, ...]:
    return path.kind, tuple((hop.interface, hop.gateway, hop.weight) for hop in path.next_hops), path.mtu


class NeighbourChanges:
    """Follows arp's state."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], bytes] = {}
        self._primed = False

    def apply(self, state: NeighbourState, names: RouterChanges) -> list[Change]:
        """Return what a state changes; the first one, which is all there is, changes nothing."""
        new = {(one.interface, one.address): one.mac for one in state.neighbours}
        gone = set(self._known) - set(new) if state.full else set(state.gone) & set(self._known)
        changes: list[Change] = []
        for key in sorted(gone):
            mac = self._known.pop(key)
            changes.append({"object": NEIGHBOUR, "deleted": True, **_neighbour(key, mac, names)})
        for key, mac in new.items():
            if self._known.get(key) != mac:
                changes.append({"object": NEIGHBOUR, **_neighbour(key, mac, names)})
        self._known |= new
        primed, self._primed = self._primed, True
        return changes if primed else []


def _neighbour(key: tuple[int, int], mac: bytes, names: RouterChanges) -> Change:
    return {"dst": address_text(key[1]), "dev": names.name(key[0]), "lladdr": mac_text(mac)}


def line(change: Mapping[str, Any]) -> str:
    """Return a change as `ip monitor` would write it, on one line, with its object in front."""
    words = [f"[{change['object']}]"] + (["Deleted"] if change.get("deleted") else [])
    match change["object"]:
        case "link":
            words += [
                change["ifname"],
                "state",
                change["operstate"],
                "mtu",
                change["mtu"],
                "address",
                change["address"],
            ]
            words += [
                part for key, value in change["policy"].items() for part in (key.replace("_", "-"), _switch(value))
            ]
        case "address":
            words += [f"{change['local']}/{change['prefixlen']}", "dev", change["dev"]]
        case "neigh":
            words += [change["dst"], "dev", change["dev"], "lladdr", change["lladdr"]]
        case _:
            words += [change[key] for key in ("type", "dst") if key in change]
            words += _way(change)
            words += [part for metric in change.get("metrics", []) for part in ("mtu", metric["mtu"])]
            for hop in change.get("nexthops", []):
                words += ["nexthop", *_way(hop), "weight", hop["weight"]]
    text = " ".join(map(str, words))
    return "".join(character if character.isprintable() else "?" for character in text)


def _way(hop: Mapping[str, Any]) -> list[str]:
    return [part for word, key in (("via", "gateway"), ("dev", "dev")) if key in hop for part in (word, hop[key])]


def _switch(value: Any) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)
