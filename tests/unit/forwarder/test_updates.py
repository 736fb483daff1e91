"""Control's states on their way into the tables: in order, in pieces, snapshots beside what runs."""

import struct
import threading
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.common.messages import Interface, MessageError, NextHop, Path, RouterState
from services.forwarder import paths as paths_module
from services.forwarder.groups import BUCKETS, spread
from services.forwarder.routes import PIECE_COST, PackedRoutes
from services.forwarder.tables import ForwardingTables
from services.forwarder.updates import RouterUpdates

ETH = Interface(index=2, name="eth2", mac=bytes.fromhex("020000000001"), mtu=1500, up=True, addresses=[])
FIRST, SECOND = 1, 2
LIMIT_S = 60.0


def path(number: int) -> Path:
    return Path(id=number, kind="unicast", next_hops=[NextHop(interface=2, gateway=0x0A000000 | number)])


def group(number: int, *gateways: int) -> Path:
    return Path(id=number, kind="unicast", next_hops=[NextHop(interface=2, gateway=one) for one in gateways])


def packed(*routes: tuple[int, int, int]) -> bytes:
    return b"".join(struct.pack("=IBI", *route) for route in routes)


def host_routes(first: int, count: int, number: int) -> bytes:
    return packed(*((0x0B000000 + first + offset, 32, number) for offset in range(count)))


SNAPSHOT = RouterState(
    full=True,
    interfaces=[ETH],
    paths=[path(FIRST), path(SECOND)],
    routes=packed((0, 0, FIRST), (0x0B000000, 8, SECOND)),
)


class Queue:
    """The updates of tables, and what the other thread says of itself."""

    def __init__(self) -> None:
        self.tables = ForwardingTables()
        self.ready = threading.Event()
        self.updates = RouterUpdates(self.tables, self.ready.set)

    def work(self) -> list[RouterState]:
        """Step until all is taken over."""
        done = []
        while not self.updates.is_empty:
            if not self.updates.can_step:
                assert self.ready.wait(LIMIT_S)
                self.ready.clear()
            elif (state := self.updates.step()) is not None:
                done.append(state)
        return done

    def gateway(self, destination: int) -> int:
        return int(self.tables.resolve(destination).next_hop)


@pytest.fixture
def queue() -> Iterator[Queue]:
    made = Queue()
    yield made
    made.updates.close()


def test_nothing_to_do(queue: Queue) -> None:
    assert queue.updates.is_empty
    assert not queue.updates.can_step
    assert not queue.updates.is_loading
    assert queue.updates.step() is None


def test_a_snapshot_is_made_ready_beside_the_running_tables(queue: Queue) -> None:
    queue.updates.put(SNAPSHOT)
    assert queue.work() == [SNAPSHOT]
    other = SNAPSHOT.model_copy(update={"routes": packed((0, 0, SECOND))})
    queue.updates.put(other)
    assert queue.updates.is_loading
    while queue.updates.step() is None:
        assert queue.gateway(0x01020304) == 0x0A000001, "the old table serves until the new one is whole"
        assert queue.updates.is_loading
    assert not queue.updates.is_loading
    assert queue.gateway(0x01020304) == queue.gateway(0x0B000001) == 0x0A000002


def test_a_large_change_comes_in_pieces_and_later_ones_wait_for_it(queue: Queue) -> None:
    queue.updates.put(SNAPSHOT)
    queue.work()
    large = RouterState(routes=host_routes(0, 10 * PIECE_COST, FIRST))
    small = RouterState(routes=host_routes(5, 1, SECOND))
    queue.updates.put(large)
    queue.updates.put(small)
    seen = set()
    done: list[RouterState] = []
    while not queue.updates.is_empty:
        if queue.updates.can_step and (state := queue.updates.step()) is not None:
            done.append(state)
        seen.add(len(queue.tables))
    assert done == [large, small]
    assert len(seen) > 10, "it was to be seen half-way"
    assert len(queue.tables) == 2 + 10 * PIECE_COST
    assert [queue.gateway(0x0B000000 + last) for last in (4, 5, 6)] == [0x0A000001, 0x0A000002, 0x0A000001]


def test_a_snapshot_makes_what_waits_before_it_void(queue: Queue) -> None:
    queue.updates.put(SNAPSHOT)
    queue.work()
    queue.updates.put(RouterState(routes=packed((0x0C000000, 8, SECOND))))
    queue.updates.put(SNAPSHOT)
    assert queue.work() == [SNAPSHOT]
    assert queue.gateway(0x0C000001) == 0x0A000001


def test_buckets_of_many_groups_are_given_out_by_the_other_thread(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.updates.put(SNAPSHOT)
    queue.work()
    givers = []

    def watched(members: tuple[tuple[int, int], ...]) -> npt.NDArray[np.int64]:
        givers.append(threading.current_thread())
        return spread(members)

    monkeypatch.setattr(paths_module, "spread", watched)
    groups = [group(number, 0x0A000010 + number, 0x0A000020 + number) for number in range(3, 13)]
    many = RouterState(paths=groups, routes=packed(*((0x0C000000 + one.id, 32, one.id) for one in groups)))
    queue.updates.put(many)
    queue.work()
    assert len(givers) == len(groups)
    assert threading.main_thread() not in givers
    whole = ForwardingTables()
    whole.apply_router_state(SNAPSHOT)
    whole.apply_router_state(many)
    for one in groups:
        for flow in range(0, BUCKETS, 37):
            destination = 0x0C000000 + one.id
            assert queue.tables.resolve(destination, flow) == whole.resolve(destination, flow)


def test_who_falls_silent_while_a_state_is_made_ready_has_no_bucket() -> None:
    tables = ForwardingTables()
    first, second = 0x0A000011, 0x0A000012
    snapshot = SNAPSHOT.model_copy(update={"paths": [path(FIRST), group(SECOND, first, second)]})
    tables.apply_router_state(snapshot)
    update = tables.prepare(snapshot)
    tables.next_hop_failed(ETH.index, first)
    tables.begin(update)
    tables.finish(update)
    assert {tables.resolve(0x0B000001, flow).next_hop for flow in range(BUCKETS)} == {second}


@pytest.mark.parametrize("routes", [packed((0, 0, 9)), host_routes(0, 5000, 9), packed((0x0B000001, 8, 1)), b"\0"])
@pytest.mark.parametrize("full", [False, True])
def test_a_state_that_contradicts_itself_is_dropped_and_the_next_one_taken(
    queue: Queue, routes: bytes, full: bool
) -> None:
    queue.updates.put(SNAPSHOT)
    queue.work()
    queue.updates.put(SNAPSHOT.model_copy(update={"routes": routes, "full": full}))
    with pytest.raises(MessageError):
        queue.work()
    assert not queue.updates.is_loading
    queue.updates.put(RouterState(routes=packed((0x0C000000, 8, SECOND))))
    queue.work()
    assert len(queue.tables) == 3


def test_pieces_weigh_what_they_paint() -> None:
    assert PackedRoutes(b"").pieces == [0]
    assert PackedRoutes(packed((0, 0, 1))).pieces == [0, 1]
    assert len(PackedRoutes(host_routes(0, 4 * PIECE_COST, 1)).pieces) == 1 + 4 + 1
    short = [(number << 24, 8, 1) for number in range(1, 129)]  # 65,536 entries of the table each
    pieces = PackedRoutes(packed(*short)).pieces
    assert len(pieces) >= 8
    assert pieces[0] == 0
    assert pieces[-1] == len(short)
    assert all(first < second for first, second in pairwise(pieces))


changes = st.lists(
    st.tuples(st.integers(0, 40), st.sampled_from((8, 16, 24, 30, 32)), st.integers(0, 2)), min_size=1, max_size=30
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(changes, min_size=1, max_size=6))
def test_pieces_come_out_as_the_whole(states: list[list[tuple[int, int, int]]]) -> None:
    queue, whole = Queue(), ForwardingTables()
    try:
        for number, routes in enumerate(states):
            data = packed(
                *(((place * 0x01010101) & ~(0xFFFF_FFFF >> bits), bits, path) for place, bits, path in routes)
            )
            state = RouterState(
                full=number == 0,
                interfaces=[ETH],
                paths=[path(FIRST), path(SECOND)] if number == 0 else [],
                routes=data,
            )
            queue.updates.put(state)
            whole.apply_router_state(state)
        queue.work()
        for place in range(42):
            assert queue.tables.resolve(place * 0x01010101) == whole.resolve(place * 0x01010101)
        assert len(queue.tables) == len(whole)
    finally:
        queue.updates.close()
