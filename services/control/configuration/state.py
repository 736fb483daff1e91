"""What the kernel has, what the configuration asks of it, and the single changes in between. Pure values.

Routes are `RouteSpec`s in one normal form: a type, a metric and a protocol always, one way as `via` and `dev`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from pydantic import BaseModel, ConfigDict

from services.control.config import Config
from services.control.names import RTPROT_CONFIGURATION, protocol_name
from services.control.rpc_params import ANYWHERE, InterfaceAddress, NextHopSpec, RouteDescription, RouteSpec

RouteKey = tuple[IPv4Network, int]
"""Destination and metric: what a route of table main is put in the place of."""


class LinkState(BaseModel):
    """Up or down, and MTU in bytes; None where it does not matter."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    up: bool | None = None
    mtu: int | None = None


class Owned(BaseModel):
    """What of the kernel's state is the configuration's. Its routes tell that by themselves: by their protocol."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    addresses: Mapping[str, tuple[InterfaceAddress, ...]] = {}
    """Those that it has given to an interface; none that was there before."""
    links: Mapping[str, LinkState] = {}
    """What an interface was like before the configuration said something about it."""

    def united(self, other: "Owned") -> "Owned":
        """Return what belongs to either; of links, what was noted first."""
        names = self.addresses.keys() | other.addresses.keys()
        addresses = {name: (*self.addresses.get(name, ()), *other.addresses.get(name, ())) for name in sorted(names)}
        links = {
            name: LinkState.model_validate(
                other.links.get(name, LinkState()).model_dump(exclude_none=True)
                | self.links.get(name, LinkState()).model_dump(exclude_none=True)
            )
            for name in sorted(self.links.keys() | other.links.keys())
        }
        return Owned.model_construct(
            addresses={name: tuple(dict.fromkeys(own)) for name, own in addresses.items()}, links=links
        )


@dataclass(frozen=True)
class Desired:
    """What a configuration asks of the kernel."""

    links: Mapping[str, LinkState] = field(default_factory=dict)
    addresses: Mapping[str, tuple[IPv4Interface, ...]] = field(default_factory=dict)
    routes: tuple[RouteSpec, ...] = ()


@dataclass(frozen=True)
class Running:
    """What the kernel has, as far as it matters."""

    links: Mapping[str, LinkState]
    addresses: Mapping[str, tuple[IPv4Interface, ...]]
    """In the kernel's order, which tells a network's primary address from its secondary ones."""
    routes: tuple[RouteSpec, ...]
    """Those of the configuration, and whatever else has a destination that it names."""


def desired(config: Config) -> Desired:
    """Return what a configuration asks of the kernel."""
    return Desired(
        links={name: LinkState(up=one.up, mtu=one.mtu) for name, one in config.links.items()},
        addresses=config.addresses,
        routes=tuple(normal_route(route, RTPROT_CONFIGURATION) for route in config.routes),
    )


def normal_route(route: RouteDescription, proto: int) -> RouteSpec:
    """Return a route in normal form."""
    single = route.nexthops[0] if len(route.nexthops) == 1 else None
    return RouteSpec.model_construct(
        dst=route.dst,
        type=route.type or "unicast",
        via=single.via if single else route.via,
        dev=single.dev if single else route.dev,
        metric=route.metric or 0,
        mtu=route.mtu or None,
        src=route.src,
        onlink=route.onlink,
        proto=proto,
        nexthops=[] if single else list(route.nexthops),
    )


def route_key(route: RouteSpec) -> RouteKey:
    """Return a route's destination and metric."""
    return route.dst, route.metric or 0


# --- Changes ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LinkStep:
    """An interface's state; `before` and `after` say the same fields."""

    dev: str
    before: LinkState
    after: LinkState

    @property
    def inverse(self) -> "LinkStep":
        """What takes it back."""
        return LinkStep(self.dev, self.after, self.before)

    @property
    def lines(self) -> list[str]:
        """It in words."""
        old, new = _link_words(self.before), _link_words(self.after)
        return [f"- link {self.dev} {old}", f"+ link {self.dev} {new}"]


@dataclass(frozen=True)
class AddressStep:
    """An address that comes or goes."""

    dev: str
    address: IPv4Interface
    comes: bool
    passing: bool = False
    """Only for a moment: it comes again, or goes again, in the same plan."""

    @property
    def inverse(self) -> "AddressStep":
        """What takes it back."""
        return AddressStep(self.dev, self.address, not self.comes, self.passing)

    @property
    def lines(self) -> list[str]:
        """It in words; none where all is as before in the end."""
        return [] if self.passing else [f"{'+' if self.comes else '-'} address {self.address} dev {self.dev}"]


@dataclass(frozen=True)
class RouteStep:
    """A route that comes, goes, or takes another one's place."""

    before: RouteSpec | None
    after: RouteSpec | None

    @property
    def inverse(self) -> "RouteStep":
        """What takes it back."""
        return RouteStep(self.after, self.before)

    @property
    def lines(self) -> list[str]:
        """It in words."""
        marked = (("-", self.before), ("+", self.after))
        return [f"{sign} route {route_words(route)}" for sign, route in marked if route is not None]


Step = LinkStep | AddressStep | RouteStep


def _link_words(state: LinkState) -> str:
    words = [] if state.up is None else ["up" if state.up else "down"]
    return " ".join(words + ([] if state.mtu is None else [f"mtu {state.mtu}"]))


def route_words(route: RouteSpec) -> str:
    """Return a route as ip(8) writes it."""
    words: list[str] = [route.type] if route.type is not None and route.type != "unicast" else []
    words += ["default" if route.dst == ANYWHERE else str(route.dst), *_way_words(route.via, route.dev)]
    for key in ("metric", "mtu", "src"):
        if value := getattr(route, key):
            words += [key, str(value)]
    words += ["onlink"] if route.onlink else []
    for hop in route.nexthops:
        words += ["nexthop", *_way_words(hop.via, hop.dev), "weight", str(hop.weight)]
    proto = route.proto
    words += ["proto", protocol_name(proto)] if proto is not None and proto != RTPROT_CONFIGURATION else []
    return " ".join(words)


def _way_words(via: IPv4Address | None, dev: str | None) -> list[str]:
    return ([] if via is None else ["via", str(via)]) + ([] if dev is None else ["dev", dev])


def ways(route: RouteSpec) -> list[NextHopSpec]:
    """Return a route's ways out, however it writes them."""
    if route.nexthops:
        return route.nexthops
    if route.via is None and route.dev is None:
        return []
    return [NextHopSpec.model_construct(via=route.via, dev=route.dev, weight=1)]
