"""Random histories of a kernel: what was published must answer every lookup as that kernel would.

The oracle knows nothing of keys, dicts of tables or paths: it looks an address up as fib_lookup of Linux does, table
after table, longest prefix first, each route in the order of its metric.
"""

from collections.abc import Iterator
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from rib_builders import DOWN, UP, Subscriber, Treatment, dump, hop, info, link

from services.common.messages import RouterState, StateEnvelope, decode, encode
from services.common.parameters import Parameters
from services.control.kernel_types import (
    RTNH_F_DEAD,
    Link,
    LinkChanged,
    LinkGone,
    Placement,
    RouteChanged,
    RouteGone,
    RouteInfo,
    RouteType,
    Unsettled,
    route_key,
)
from services.control.rib import Rib

LOCAL, MAIN, DEFAULT = 255, 254, 253
INTERFACES = (2, 3, 4)
TUN = 4


class Installed(NamedTuple):
    table: int
    prefix: int
    length: int
    info: RouteInfo

    @property
    def rank(self) -> tuple[int, int]:
        return -self.info.tos, self.info.metric

    def holds(self, destination: int) -> bool:
        return (destination ^ self.prefix) >> (32 - self.length) == 0 if self.length else True

    def same_place(self, other: "Installed") -> bool:
        return self[:3] == other[:3] and self.rank == other.rank


class Kernel:
    """A kernel's tables as one list; routes of equal rank stand in the order in which it tries them."""

    def __init__(self) -> None:
        self.links = {index: self._link(index, UP) for index in INTERFACES}
        self.routes: list[Installed] = []

    @staticmethod
    def _link(index: int, flags: int) -> Link:
        return link(index, flags=flags, link_type=65_534 if index == TUN else 1)

    def set_link(self, index: int, flags: int) -> LinkChanged:
        self.links[index] = self._link(index, flags)
        return LinkChanged(self.links[index])

    def remove_link(self, index: int) -> LinkGone | None:
        return LinkGone(index) if self.links.pop(index, None) else None

    def install(self, route: Installed, placement: Placement) -> RouteChanged | None:
        equals = [other for other in self.routes if other.same_place(route)]
        if any(other.info.identity == route.info.identity for other in equals):
            return None  # EEXIST
        if placement is Placement.REPLACE and equals:
            self.routes[self.routes.index(equals[0])] = route
        elif placement is Placement.LAST:
            self.routes.append(route)
        else:
            self.routes.insert(0, route)
        return RouteChanged(route.table, route_key(route.prefix, route.length), route.info, placement)

    def remove(self, route: Installed) -> RouteGone:
        self.routes.remove(route)
        return RouteGone(route.table, route_key(route.prefix, route.length), route.info)

    def dumped(self) -> Iterator[RouteChanged]:
        for route in sorted(self.routes, key=lambda one: one.rank):  # stable: equals stay in their order
            key = route_key(route.prefix, route.length)
            yield RouteChanged(route.table, key, route.info, Placement.LAST)

    def lookup(self, destination: int) -> Treatment | None:
        for table in (LOCAL, MAIN, DEFAULT):
            holding = [route for route in self.routes if route.table == table and route.holds(destination)]
            for route in sorted(holding, key=lambda one: (-one.length, one.rank)):
                treatment = self._treatment(route.info)
                if treatment is not None:
                    return treatment
        return None

    def _treatment(self, route: RouteInfo) -> Treatment | None:
        if route.tos:
            return None
        if route.type is not RouteType.UNICAST:
            return route.type.name.lower(), (), 0
        alive = [
            one
            for one in route.next_hops
            if one.interface in self.links and self.links[one.interface].flags == UP and not one.flags & RTNH_F_DEAD
        ]
        ways = tuple((one.interface, one.gateway, one.weight) for one in alive if one.interface != TUN)
        if ways:
            return "unicast", ways, route.mtu
        return ("unreachable", (), 0) if alive else None


LENGTHS = (0, 8, 9, 16, 31, 32)
BASES = (0x0A000000, 0x0A000001, 0x0A800000, 0x0AFFFFFF, 0xFFFFFFFF)

hops = st.builds(
    lambda interface, gateway, weight, dead: hop(
        interface, f"10.0.0.{gateway}", weight=weight, flags=RTNH_F_DEAD if dead else 0
    ),
    st.sampled_from(INTERFACES),
    st.integers(0, 2),
    st.integers(1, 2),
    st.sampled_from((False, False, False, True)),
)
infos = st.one_of(
    st.builds(
        lambda ways, metric, mtu, tos: info(*ways, metric=metric, mtu=mtu, tos=tos),
        st.lists(hops, min_size=1, max_size=3),
        st.sampled_from((0, 5)),
        st.sampled_from((0, 1400)),
        st.sampled_from((0, 0, 0, 8)),
    ),
    st.builds(
        lambda route_type, metric: info(type=route_type, metric=metric),
        st.sampled_from((RouteType.LOCAL, RouteType.BLACKHOLE, RouteType.PROHIBIT)),
        st.sampled_from((0, 5)),
    ),
)
routes = st.builds(
    lambda table, base, length, what: Installed(table, base & ~(0xFFFF_FFFF >> length), length, what),
    st.sampled_from((LOCAL, MAIN, MAIN, MAIN, DEFAULT)),
    st.sampled_from(BASES),
    st.sampled_from(LENGTHS),
    infos,
)
steps = st.one_of(
    st.tuples(st.just("install"), routes, st.sampled_from(Placement)),
    st.tuples(st.just("install"), routes, st.sampled_from(Placement)),
    st.tuples(st.just("remove"), st.integers(0, 99)),
    st.tuples(st.just("link"), st.sampled_from(INTERFACES), st.sampled_from((UP, UP, DOWN))),
    st.tuples(st.just("link gone"), st.sampled_from(INTERFACES)),
    st.tuples(st.just("dump")),
    st.tuples(st.just("lost"), routes, st.sampled_from(Placement)),
    st.tuples(st.just("late subscriber")),
)


class Play:
    """A kernel, the rib that follows it, and subscribers."""

    def __init__(self) -> None:
        self.kernel = Kernel()
        self.rib = Rib()
        self.dump()
        self.subscribers = [Subscriber()]

    def dump(self) -> None:
        self.rib.adopt(dump(self.kernel.links.values(), self.kernel.dumped()))

    def publish(self) -> None:
        state = self.rib.take_changes()
        if state is not None:
            state = self._sent(state)
        for subscriber in self.subscribers:
            subscriber.apply(state)

    def join(self) -> None:
        late = Subscriber()
        late.apply(self._sent(self.rib.full_state(Parameters())))
        assert late.table() == self.subscribers[0].table()
        self.subscribers.append(late)

    @staticmethod
    def _sent(state: RouterState) -> RouterState:
        body = decode(encode(StateEnvelope(epoch=1, sequence=1, body=state))).body
        assert isinstance(body, RouterState)
        return body

    def step(self, name: str, *arguments: object) -> None:
        event: object = None
        match name, arguments:
            case "install", (Installed() as route, Placement() as placement):
                event = self.kernel.install(route, placement)
            case "remove", (int(number),) if self.kernel.routes:
                event = self.kernel.remove(self.kernel.routes[number % len(self.kernel.routes)])
            case "link", (int(index), int(flags)):
                event = self.kernel.set_link(index, flags)
            case "link gone", (int(index),):
                event = self.kernel.remove_link(index)
            case "dump", ():
                self.dump()
            case "lost", (Installed() as route, Placement() as placement):
                self.kernel.install(route, placement)
                self.rib.apply(Unsettled("announcements were lost"))
                self.dump()
            case "late subscriber", ():
                self.join()
        if event is not None:
            self.rib.apply(event)  # type: ignore[arg-type]

    def check(self) -> None:
        self.publish()
        edges = {
            (route.prefix + offset) & 0xFFFF_FFFF
            for route in self.kernel.routes
            for offset in (-1, 0, 1, (1 << (32 - route.length)) - 1, 1 << (32 - route.length))
        }
        for destination in edges | set(BASES):
            expected = self.kernel.lookup(destination)
            for subscriber in self.subscribers:
                assert subscriber.lookup(destination) == expected, f"{destination:#x}"
        assert self.rib.take_changes() is None


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(steps, st.booleans()), min_size=15, max_size=40))
def test_every_lookup_is_answered_as_the_kernel_would(history: list[tuple[tuple[object, ...], bool]]) -> None:
    play = Play()
    for (name, *arguments), look in history:
        play.step(str(name), *arguments)
        if look:
            play.check()
    play.check()
    play.dump()
    play.check()
