"""Mirror and routing information base on a kernel that loses, delays and conceals: in the end they agree with it.

The kernel here does what Linux does to IPv4 routes: those of a link that goes down vanish without a word
(fib_sync_down_dev), announcements are queued with a bound and an overrun is told once (ENOBUFS of netlink(7)), and
its tables may change while they are dumped.
"""

from collections import deque
from collections.abc import Callable, Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.messages import unpack_routes
from services.control.kernel_types import (
    DumpError,
    KernelEvent,
    KernelNextHop,
    Link,
    LinkChanged,
    Placement,
    RouteChanged,
    RouteGone,
    RouteInfo,
    RouteType,
    Unsettled,
    route_key,
)
from services.control.mirror import DUMP_ATTEMPTS, KernelMirror
from services.control.rib import KernelDump, Rib
from services.control.route_table import RouteTables

MAIN = 254
UP, DOWN = 0x1_1043, 0x1002
INTERFACES = (2, 3)
QUEUE = 4
"""Announcements that the kernel keeps for us."""

Destination = int


class ConcealingKernel:
    """A kernel, as `KernelMirror` sees it."""

    def __init__(self) -> None:
        self.links = {index: self._link(index, UP) for index in INTERFACES}
        self.routes: dict[Destination, RouteInfo] = {}
        self.queue: deque[KernelEvent] = deque()
        self.overrun = False
        self.during_dump: deque[Callable[[], None]] = deque()
        """Something that happens in each of the next dumps, between its links and its routes."""
        self.interrupted_dumps = 0
        self.dumps = 0

    @staticmethod
    def _link(index: int, flags: int) -> Link:
        return Link(index, f"eth{index}", 1, flags, bytes(6), bytes(6), 1500, 0, "UP" if flags == UP else "DOWN", "", 0)

    # --- What happens in it ---

    def add_route(self, prefix: int, interface: int) -> None:
        if self.links[interface].flags != UP:
            return
        key = route_key(prefix << 16, 16)
        info = RouteInfo(RouteType.UNICAST, 3, 0, 0, 0, 0, 0, 0, (KernelNextHop(interface, 0, 1, 0),))
        placement = Placement.REPLACE if key in self.routes else Placement.FIRST
        self.routes[key] = info
        self._announce(RouteChanged(MAIN, key, info, placement))

    def remove_route(self, prefix: int) -> None:
        info = self.routes.pop(route_key(prefix << 16, 16), None)
        if info is not None:
            self._announce(RouteGone(MAIN, route_key(prefix << 16, 16), info))

    def set_link(self, index: int, flags: int) -> None:
        if self.links[index].flags == flags:
            return
        self.links[index] = self._link(index, flags)
        self._announce(LinkChanged(self.links[index]))
        if flags == DOWN:
            self.routes = {key: info for key, info in self.routes.items() if info.next_hops[0].interface != index}

    def _announce(self, event: KernelEvent) -> None:
        if len(self.queue) < QUEUE:
            self.queue.append(event)
        else:
            self.overrun = True

    # --- KernelSource ---

    def events(self) -> Iterator[KernelEvent]:
        while self.overrun or self.queue:
            if self.overrun:
                self.overrun = False
                yield Unsettled("announcements of the kernel were lost")
            else:
                yield self.queue.popleft()

    def discard_events(self) -> None:
        self.overrun = False
        self.queue.clear()

    def dump(self) -> KernelDump:
        self.dumps += 1
        links = list(self.links.values())
        if self.during_dump:
            self.during_dump.popleft()()
        if self.interrupted_dumps:
            self.interrupted_dumps -= 1
            raise DumpError("the tables changed during a dump")
        tables = RouteTables()
        for key, info in self.routes.items():
            tables.append(RouteChanged(MAIN, key, info, Placement.LAST))
        return KernelDump(links, [], 0, tables)


class Router:
    """The mirror, and one subscriber of what it publishes."""

    def __init__(self, kernel: ConcealingKernel) -> None:
        self.kernel = kernel
        self.rib = Rib()
        self.mirror = KernelMirror(kernel, self.rib)
        self.interface_of_path: dict[int, int] = {}
        self.table: dict[Destination, int] = {}

    def turn(self) -> None:
        """Follow and publish once, as the service does in a turn of its loop."""
        if not self.mirror.follow():
            return
        state = self.rib.take_changes()
        if state is None:
            return
        for path in state.paths:
            self.interface_of_path[path.id] = path.next_hops[0].interface
        for prefix, length, path_id in unpack_routes(state.routes):
            if path_id:
                self.table[route_key(prefix, length)] = self.interface_of_path[path_id]
            else:
                del self.table[route_key(prefix, length)]

    def settle(self) -> None:
        for _ in range(20):
            self.turn()
            if not self.rib.unsettled and not self.kernel.queue and not self.kernel.overrun:
                return
        raise AssertionError("the mirror does not come to rest")

    def check(self) -> None:
        self.settle()
        assert self.table == {key: info.next_hops[0].interface for key, info in self.kernel.routes.items()}


def test_announcements_alone_need_no_further_dump() -> None:
    kernel = ConcealingKernel()
    router = Router(kernel)
    router.check()
    assert kernel.dumps == 1
    for prefix in range(3):
        kernel.add_route(prefix, 2)
    router.check()
    kernel.remove_route(1)
    kernel.add_route(0, 3)
    router.check()
    assert kernel.dumps == 1


def test_an_overrun_is_made_good_by_one_dump() -> None:
    kernel = ConcealingKernel()
    router = Router(kernel)
    router.check()
    for prefix in range(10 * QUEUE):
        kernel.add_route(prefix, 2)
    router.check()
    assert kernel.dumps == 2
    assert len(router.table) == 10 * QUEUE


def test_routes_that_vanish_without_a_word() -> None:
    kernel = ConcealingKernel()
    kernel.add_route(1, 2)
    kernel.add_route(2, 3)
    router = Router(kernel)
    router.check()
    kernel.set_link(2, DOWN)
    router.check()
    assert len(router.table) == 1
    kernel.set_link(2, UP)
    router.check()
    assert len(router.table) == 1


def test_a_link_that_fell_and_rose_before_anybody_looked_has_lost_its_routes() -> None:
    kernel = ConcealingKernel()
    router = Router(kernel)
    router.check()
    kernel.add_route(1, 2)
    kernel.set_link(2, DOWN)
    kernel.set_link(2, UP)
    router.check()
    assert router.table == {}


def test_a_dump_that_is_cut_short_is_repeated() -> None:
    kernel = ConcealingKernel()
    kernel.add_route(1, 2)
    kernel.interrupted_dumps = DUMP_ATTEMPTS - 1
    router = Router(kernel)
    router.turn()
    assert len(router.table) == 1
    assert kernel.dumps == DUMP_ATTEMPTS


def test_while_no_dump_succeeds_nothing_is_published_and_the_service_gets_its_turn() -> None:
    kernel = ConcealingKernel()
    kernel.add_route(1, 2)
    router = Router(kernel)
    router.check()
    kernel.interrupted_dumps = DUMP_ATTEMPTS + 1
    kernel.add_route(2, 2)
    kernel.set_link(3, DOWN)
    for prefix in range(QUEUE):
        kernel.add_route(10 + prefix, 2)
    router.turn()
    assert kernel.dumps == 1 + DUMP_ATTEMPTS
    assert router.rib.unsettled == "the tables changed during a dump"
    assert len(router.table) == 1
    router.check()
    assert len(router.table) == 2 + QUEUE


def test_what_changes_during_a_dump_is_not_missed() -> None:
    kernel = ConcealingKernel()
    router = Router(kernel)
    router.check()
    kernel.add_route(1, 2)
    kernel.set_link(3, DOWN)
    kernel.set_link(3, UP)
    kernel.during_dump.append(lambda: kernel.remove_route(1))
    kernel.during_dump.append(lambda: kernel.add_route(5, 3))
    router.check()


changes = st.one_of(
    st.tuples(st.just("add"), st.integers(0, 7), st.sampled_from(INTERFACES)),
    st.tuples(st.just("remove"), st.integers(0, 7)),
    st.tuples(st.just("link"), st.sampled_from(INTERFACES), st.sampled_from((UP, DOWN))),
)
steps = st.one_of(
    changes,
    changes,
    st.tuples(st.just("turn")),
    st.tuples(st.just("during dump"), changes),
    st.tuples(st.just("interrupt"), st.integers(1, DUMP_ATTEMPTS + 1)),
)


def carry_out(kernel: ConcealingKernel, router: Router, step: tuple[object, ...]) -> None:
    match step:
        case ("add", int(prefix), int(interface)):
            kernel.add_route(prefix, interface)
        case ("remove", int(prefix)):
            kernel.remove_route(prefix)
        case ("link", int(index), int(flags)):
            kernel.set_link(index, flags)
        case ("turn",):
            router.turn()
        case ("during dump", tuple(change)):
            kernel.during_dump.append(lambda: carry_out(kernel, router, change))
        case ("interrupt", int(times)):
            kernel.interrupted_dumps = times


@settings(max_examples=300, deadline=None)
@given(st.lists(steps, min_size=5, max_size=60))
def test_any_history_ends_in_agreement(history: list[tuple[object, ...]]) -> None:
    kernel = ConcealingKernel()
    router = Router(kernel)
    for step in history:
        carry_out(kernel, router, step)
    router.check()
