"""From what the kernel has to what the configuration asks for, so that nothing is missing on the way. Pure.

What is right already is not touched. The order: links come up, addresses come, routes come or change, routes go,
addresses go, links go down. So a change that can be refused comes before those that take routes along: the kernel
drops all routes of an interface that goes down or loses its last address.
"""

import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Interface, IPv4Network
from typing import Any, Final, NamedTuple

from services.control.configuration.state import (
    AddressStep,
    Desired,
    LinkState,
    LinkStep,
    Owned,
    RouteKey,
    RouteStep,
    Running,
    Step,
    route_key,
    route_words,
    ways,
)
from services.control.kernel_types import RTPROT_HOPWIRE
from services.control.names import RTPROT_CONFIGURATION, protocol_name
from services.control.rpc_params import NextHopSpec, RouteSpec

_HOST_LENGTH: Final = 32


class PlanError(Exception):
    """There is no way from here to there; the text begins with the kernel's phrase."""

    def __init__(self, number: int, details: str) -> None:
        super().__init__(f"{os.strerror(number)}: {details}")


class Plan(NamedTuple):
    """What to do, and what then is the configuration's."""

    steps: tuple[Step, ...]
    owned: Owned

    @property
    def lines(self) -> list[str]:
        """It in words."""
        return [line for step in self.steps for line in step.lines]


def plan(
    running: Running,
    wanted: Desired,
    owned: Owned,
    displaced: Mapping[RouteKey, RouteSpec] | None = None,
) -> Plan:
    """Return the steps from `running` to `wanted`.

    :param displaced: routes of control-cli that gave way to the configuration's, and come back when those go.
    :raises PlanError: an interface is not there, or a route would take another's place.
    """
    _check_devices(running, wanted)
    rising, falling, links = _link_steps(running, wanted, owned)
    coming, going, addresses = _address_steps(running, wanted, owned)
    explicit = tuple(_with_devices(route, wanted, running) for route in wanted.routes)
    routes = _route_steps(running, explicit, displaced or {})
    return Plan(
        steps=(*rising, *coming, *routes, *going, *falling),
        owned=Owned.model_construct(addresses=addresses, links=links),
    )


def _check_devices(running: Running, wanted: Desired) -> None:
    named = [*wanted.links, *wanted.addresses]
    named += [hop.dev for route in wanted.routes for hop in ways(route) if hop.dev is not None]
    for name in named:
        if name not in running.links:
            raise PlanError(errno.ENODEV, f"{name}; there are: {', '.join(running.links) or 'none'}")


# --- Links ------------------------------------------------------------------------------------------------------------


def _link_steps(
    running: Running, wanted: Desired, owned: Owned
) -> tuple[list[LinkStep], list[LinkStep], dict[str, LinkState]]:
    rising: list[LinkStep] = []
    falling: list[LinkStep] = []
    noted: dict[str, LinkState] = {}
    for name, now in running.links.items():
        said = _fields(wanted.links.get(name))
        original = _fields(owned.links.get(name))
        goal = original | said  # what is no longer said becomes what it was
        present = _fields(now)
        if said:
            noted[name] = LinkState(**{key: original.get(key, present[key]) for key in said})
        differing = [key for key, value in goal.items() if value != present[key]]
        if not differing:
            continue
        step = LinkStep(
            name,
            LinkState(**{key: present[key] for key in differing}),
            LinkState(**{key: goal[key] for key in differing}),
        )
        (falling if step.after.up is False else rising).append(step)
    return rising, falling, noted


def _fields(state: LinkState | None) -> dict[str, Any]:
    return {} if state is None else state.model_dump(exclude_none=True)


# --- Addresses --------------------------------------------------------------------------------------------------------


def _address_steps(
    running: Running, wanted: Desired, owned: Owned
) -> tuple[list[AddressStep], list[AddressStep], dict[str, tuple[IPv4Interface, ...]]]:
    coming: list[AddressStep] = []
    going: list[AddressStep] = []
    own: dict[str, tuple[IPv4Interface, ...]] = {}
    for name, present in running.addresses.items():
        goal = wanted.addresses.get(name, ())
        given = owned.addresses.get(name, ())
        new = tuple(address for address in goal if address not in present)
        dropped = [address for address in present if address in given and address not in goal]
        coming += [AddressStep(name, address, comes=True) for address in new]
        going += _departures(name, (*present, *new), dropped)
        if kept := (*(address for address in goal if address in given and address in present), *new):
            own[name] = kept
    return coming, going, own


def _departures(dev: str, present: Iterable[IPv4Interface], dropped: list[IPv4Interface]) -> Iterator[AddressStep]:
    by_network: dict[IPv4Network, list[IPv4Interface]] = {}
    for address in present:
        by_network.setdefault(address.network, []).append(address)
    for group in by_network.values():
        leaving = [address for address in group if address in dropped]
        staying = [address for address in group if address not in dropped]
        if group[0] in leaving and staying:
            yield from _new_primary(dev, group, staying)
        else:
            yield from (AddressStep(dev, address, comes=False) for address in reversed(leaving))


def _new_primary(dev: str, group: list[IPv4Interface], staying: list[IPv4Interface]) -> Iterator[AddressStep]:
    """Take away a network's primary address while secondary ones stay.

    Linux removes those along with it (without promote_secondaries), and with the last address of the interface all
    of its routes. So a host address holds the place meanwhile.
    """
    holder = IPv4Interface((staying[0].ip, _HOST_LENGTH))
    yield AddressStep(dev, holder, comes=True, passing=True)
    for address in reversed(group):
        yield AddressStep(dev, address, comes=False, passing=address in staying)
    for address in staying:
        yield AddressStep(dev, address, comes=True, passing=True)
    yield AddressStep(dev, holder, comes=False, passing=True)


# --- Routes -----------------------------------------------------------------------------------------------------------


def _with_devices(route: RouteSpec, wanted: Desired, running: Running) -> RouteSpec:
    """Return a route whose gateways have the interface on whose network they are in the end, where that is clear."""

    def device(hop: NextHopSpec) -> str | None:
        if hop.dev is not None or hop.via is None:
            return hop.dev
        configured = [(address.network, name) for name, own in wanted.addresses.items() for address in own]
        present = [(address.network, name) for name, own in running.addresses.items() for address in own]
        for connected in (configured, present):
            holding = [(network.prefixlen, name) for network, name in connected if hop.via in network]
            longest = {name for length, name in holding if length == max(holding)[0]}
            if len(longest) == 1:
                return longest.pop()
        return None

    if route.nexthops:
        return route.model_copy(
            update={"nexthops": [hop.model_copy(update={"dev": device(hop)}) for hop in route.nexthops]}
        )
    (only,) = ways(route) or [NextHopSpec.model_construct(via=None, dev=None)]
    return route.model_copy(update={"dev": device(only)})


def _route_steps(
    running: Running, wanted: Iterable[RouteSpec], displaced: Mapping[RouteKey, RouteSpec]
) -> list[RouteStep]:
    ours = {route_key(route): route for route in running.routes if route.proto == RTPROT_CONFIGURATION}
    others: dict[RouteKey, list[RouteSpec]] = {}
    for route in running.routes:
        if route.proto != RTPROT_CONFIGURATION:
            others.setdefault(route_key(route), []).append(route)
    coming = []
    # what is on a link goes first: gateways are found through it
    for route in sorted(wanted, key=lambda one: any(hop.via is not None for hop in ways(one))):
        key = route_key(route)
        before = ours.pop(key, None)
        if before is not None and is_same(before, route):
            continue
        coming.append(RouteStep(before or _yielding(others.get(key, []), route), route))
        if before is not None and key in others:
            raise _occupied(route, others[key][0])
    going = [RouteStep(route, displaced.get(key)) for key, route in ours.items()]
    going.sort(key=lambda step: not any(hop.via is not None for hop in ways(step.before)) if step.before else True)
    return coming + going


def is_same(present: RouteSpec, wanted: RouteSpec) -> bool:
    """Tell whether a route of the kernel is the one that is asked for; a gateway may leave the interface open."""
    plain: dict[str, Any] = {"via": None, "dev": None, "nexthops": []}
    if present.model_copy(update=plain) != wanted.model_copy(update=plain):
        return False
    here, there = ways(present), ways(wanted)
    return len(here) == len(there) and all(
        one.via == other.via and one.weight == other.weight and other.dev in (None, one.dev)
        for one, other in zip(here, there, strict=True)
    )


def _yielding(others: list[RouteSpec], route: RouteSpec) -> RouteSpec | None:
    """Return the route of control-cli that gives way, or None where the place is free."""
    if not others:
        return None
    if len(others) == 1 and others[0].proto == RTPROT_HOPWIRE:
        return others[0]
    raise _occupied(route, next(one for one in others if one.proto != RTPROT_HOPWIRE or len(others) > 1))


def _occupied(route: RouteSpec, other: RouteSpec) -> PlanError:
    owner = protocol_name(other.proto or 0)
    return PlanError(
        errno.EEXIST,
        f"{route_words(route)}: there is a route of that metric by {owner}, which is not touched; remove that one, or "
        "give this one another metric",
    )
