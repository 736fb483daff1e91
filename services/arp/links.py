"""What the resolver knows of the router's interfaces: their addresses, and the gateways beyond their prefixes."""

from collections import Counter as Multiset
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from services.arp.deadlines import Key
from services.common.messages import Interface, InterfaceAddress, Path, RouterState
from services.common.wire.ipv4 import LIMITED_BROADCAST, prefix_mask

_POINT_TO_POINT_LENGTH = 31  # RFC 3021: neither of its two addresses is a broadcast


@dataclass(frozen=True, slots=True)
class Link:
    """One interface."""

    index: int
    name: str
    mac: bytes
    up: bool
    addresses: tuple[InterfaceAddress, ...]
    own: frozenset[int]
    proxy_arp: bool = False
    """Requests for hosts behind other interfaces are answered here (RFC 1027)."""

    @classmethod
    def of(cls, interface: Interface) -> "Link":
        """Return the link of an interface as control describes it."""
        addresses = tuple(interface.addresses)
        own = frozenset(each.address for each in addresses)
        proxy_arp = interface.policy.proxy_arp
        return cls(interface.index, interface.name, interface.mac, interface.up, addresses, own, proxy_arp)

    def holds(self, address: int) -> bool:
        """Tell whether an address lies in one of the interface's prefixes."""
        return any(_same_prefix(each, address) for each in self.addresses)

    def is_broadcast(self, address: int) -> bool:
        """Tell whether an address is the limited broadcast or that of one of the prefixes (RFC 1812 5.3.5)."""
        return address == LIMITED_BROADCAST or any(
            each.prefix_length < _POINT_TO_POINT_LENGTH
            and address == each.address | ~prefix_mask(each.prefix_length) & 0xFFFF_FFFF
            for each in self.addresses
        )

    def source_for(self, target: int) -> int | None:
        """Return the own address to ask for `target` with: of its prefix, else the first; None without any."""
        for each in self.addresses:
            if _same_prefix(each, target):
                return each.address
        return self.addresses[0].address if self.addresses else None


class LinkChange(NamedTuple):
    """One interface before and after; None where it was or is not there."""

    before: Link | None
    after: Link | None


class Links:
    """The interfaces by index, and the next hops that routes name outside of the interfaces' prefixes."""

    def __init__(self) -> None:
        """Begin with none."""
        self._links: dict[int, Link] = {}
        self._paths: dict[int, list[Key]] = {}
        self._gateways: Multiset[Key] = Multiset()

    def __iter__(self) -> Iterator[Link]:
        """Go through the interfaces."""
        return iter(self._links.values())

    def get(self, index: int) -> Link | None:
        """Return an interface."""
        return self._links.get(index)

    def named(self, name: str) -> Link | None:
        """Return the interface of that name."""
        return next((link for link in self if link.name == name), None)

    def is_gateway(self, interface: int, address: int) -> bool:
        """Tell whether a route goes by this next hop: one flagged `onlink` need not lie in a prefix."""
        return (interface, address) in self._gateways

    def apply(self, state: RouterState) -> list[LinkChange]:
        """Take over control's state, and return what changed about interfaces."""
        gone = set(state.interfaces_gone)
        if state.full:
            gone |= self._links.keys() - {each.index for each in state.interfaces}
            self._forget_paths(list(self._paths))
        self._take_paths(state.paths)
        self._forget_paths(state.paths_gone)
        changes = [LinkChange(self._links.pop(index), None) for index in sorted(gone & self._links.keys())]
        for interface in state.interfaces:
            before, after = self._links.get(interface.index), Link.of(interface)
            self._links[after.index] = after
            if before != after:
                changes.append(LinkChange(before, after))
        return changes

    def _take_paths(self, paths: Iterable[Path]) -> None:
        for path in paths:
            self._forget_paths([path.id])
            keys = [(hop.interface, hop.gateway) for hop in path.next_hops if hop.gateway]
            if keys:
                self._paths[path.id] = keys
                self._gateways.update(keys)

    def _forget_paths(self, path_ids: Iterable[int]) -> None:
        for path_id in path_ids:
            for key in self._paths.pop(path_id, ()):
                self._gateways[key] -= 1
                if not self._gateways[key]:
                    del self._gateways[key]


def _same_prefix(own: InterfaceAddress, address: int) -> bool:
    return not (own.address ^ address) & prefix_mask(own.prefix_length)
