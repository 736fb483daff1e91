"""Publisher and subscriber of a state: whatever is lost, repeated or reordered between them, they agree again.

First over a network of lists, on a virtual clock, where hypothesis plays the accidents; then over real sockets.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import zmq
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.common.bus import State, StatePublisher, StateSubscriber, bound, connected, try_send
from services.common.clone import HEARTBEAT_S, SILENCE_S, SNAPSHOT_RETRY_S
from services.common.endpoints import Endpoints
from services.common.messages import Neighbour, NeighbourState, RpcRequest, encode

LIMIT_S: Final = 30.0
MAC: Final = bytes.fromhex("02000000000a")

Neighbours = dict[int, bytes]


def full(neighbours: Neighbours) -> NeighbourState:
    return NeighbourState(full=True, neighbours=[_neighbour(*item) for item in neighbours.items()])


def added(address: int, mac: bytes) -> NeighbourState:
    return NeighbourState(neighbours=[_neighbour(address, mac)])


def gone(address: int) -> NeighbourState:
    return NeighbourState(gone=[(2, address)])


def _neighbour(address: int, mac: bytes) -> Neighbour:
    return Neighbour(interface=2, address=address, mac=mac)


def applied(neighbours: Neighbours, states: list[State]) -> Neighbours:
    for state in states:
        assert isinstance(state, NeighbourState)
        neighbours = {} if state.full else dict(neighbours)
        for address in state.gone:
            neighbours.pop(address[1], None)
        for neighbour in state.neighbours:
            neighbours[neighbour.address] = neighbour.mac
    return neighbours


# --- accidents on a network of lists ----------------------------------------------------------------------------------


class ListSocket:
    """As much of a ZeroMQ socket as the bus uses; what it sends goes to a list."""

    def __init__(self, kind: int, network: "Network") -> None:
        self.kind = kind
        self._network = network

    def set_hwm(self, _value: int) -> None: ...

    def set(self, _option: int, _value: Any) -> None: ...

    def bind(self, _endpoint: str) -> None: ...

    def connect(self, _endpoint: str) -> None: ...

    def close(self) -> None: ...

    def send(self, data: bytes) -> None:
        self._network.on_the_way.append(data)

    def send_multipart(self, parts: list[bytes], _flags: int) -> None:
        if self.kind == zmq.DEALER:
            self._network.requests.append([b"subscriber", *parts])
        else:
            self._network.answers_on_the_way.append(parts[1:])

    def get(self, option: int) -> int:
        assert option == zmq.EVENTS
        return zmq.POLLIN if self._inbox() else 0

    def recv_multipart(self, _flags: int) -> list[bytes]:
        return self._inbox().pop(0)

    def _inbox(self) -> list[list[bytes]]:
        network = self._network
        inboxes: dict[int, list[list[bytes]]] = {
            zmq.SUB: network.changes,
            zmq.DEALER: network.snapshots,
            zmq.ROUTER: network.requests,
        }
        return inboxes[self.kind]


class Network:
    """Stands in for a ZeroMQ context: one publisher, one subscriber, and the messages between them."""

    def __init__(self) -> None:
        self.on_the_way: list[bytes] = []
        self.changes: list[list[bytes]] = []
        self.requests: list[list[bytes]] = []
        self.answers_on_the_way: list[list[bytes]] = []
        self.snapshots: list[list[bytes]] = []

    def as_context(self) -> Any:
        return self

    def socket(self, kind: int) -> ListSocket:
        return ListSocket(kind, self)

    def deliver(self, count: int) -> None:
        self.changes += [[data] for data in self.on_the_way[:count]]
        del self.on_the_way[:count]

    def deliver_answers(self) -> None:
        self.snapshots += self.answers_on_the_way
        self.answers_on_the_way.clear()


class Accidents(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.network = Network()
        self.history: dict[tuple[int, int], Neighbours] = {}
        self.epochs: list[int] = []
        self.truth: Neighbours = {}
        self.publisher = self._new_publisher()
        self.subscriber = StateSubscriber(self.network.as_context(), "changes", "snapshots")
        self.copy: Neighbours = {}
        self.last = (-1, -1)

    @initialize(begun=st.booleans())
    def begin(self, begun: bool) -> None:
        if begun:
            self._heartbeat_and_snapshot()

    def _new_publisher(self) -> StatePublisher:
        publisher = StatePublisher(self.network.as_context(), "changes", "snapshots", lambda: full(self.truth))
        self.epochs.append(publisher._epoch)
        assert len(set(self.epochs)) == len(self.epochs)
        self.history[self.epochs[-1], 0] = self.truth
        return publisher

    def _publish(self, change: NeighbourState) -> None:
        self.truth = applied(self.truth, [change])
        self.publisher.publish(change, self.now)
        self.history[self.epochs[-1], self.publisher.sequence] = self.truth

    @rule(address=st.integers(1, 4), last=st.integers(0, 255))
    def learn(self, address: int, last: int) -> None:
        self._publish(added(address, MAC[:5] + bytes((last,))))

    @rule(address=st.integers(1, 4))
    def forget(self, address: int) -> None:
        self._publish(gone(address))

    @rule(pause_s=st.sampled_from([0.01, HEARTBEAT_S, SNAPSHOT_RETRY_S, SILENCE_S + 0.1]))
    def time_passes(self, pause_s: float) -> None:
        self.now += pause_s
        self.publisher.beat(self.now)

    @rule(count=st.integers(1, 5), noticed=st.booleans())
    def arrive(self, count: int, noticed: bool) -> None:
        self.network.deliver(count)
        if noticed:
            self.follow()

    @precondition(lambda self: self.network.on_the_way)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        del self.network.on_the_way[data.draw(st.integers(0, len(self.network.on_the_way) - 1))]

    @precondition(lambda self: self.network.on_the_way)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        places = st.integers(0, len(self.network.on_the_way) - 1)
        self.network.on_the_way.insert(data.draw(places), self.network.on_the_way[data.draw(places)])

    @precondition(lambda self: len(self.network.on_the_way) > 1)
    @rule(data=st.data())
    def reorder(self, data: st.DataObject) -> None:
        self.network.on_the_way = list(data.draw(st.permutations(self.network.on_the_way)))

    @rule()
    def follow(self) -> None:
        self.copy = applied(self.copy, self.subscriber.receive(self.now))

    @rule(at_once=st.booleans())
    def answer(self, at_once: bool) -> None:
        assert self.publisher.answer_requests() == 0
        if at_once:
            self.network.deliver_answers()

    @precondition(lambda self: self.network.answers_on_the_way)
    @rule()
    def late_answers_arrive(self) -> None:
        self.network.deliver_answers()

    @precondition(lambda self: len(self.epochs) < 5)
    @rule(keeps=st.booleans())
    def restart(self, keeps: bool) -> None:
        """The publisher dies with its unanswered questions, and starts again with another state."""
        self.network.requests.clear()
        self.network.answers_on_the_way.clear()
        self.truth = {} if not keeps else dict(list(self.truth.items())[:1])
        self.publisher = self._new_publisher()

    @rule()
    def the_subscriber_restarts(self) -> None:
        """It dies with what waited for it, and another one starts with nothing; what is on the way may still come."""
        for queue in (self.network.changes, self.network.snapshots, self.network.answers_on_the_way):
            queue.clear()
        self.subscriber = StateSubscriber(self.network.as_context(), "changes", "snapshots")
        self.copy = {}
        self.last = (-1, -1)

    @invariant()
    def the_copy_is_what_the_publisher_once_had(self) -> None:
        tracker = self.subscriber.tracker
        if tracker.sequence >= 0:
            assert self.copy == self.history[tracker.epoch, tracker.sequence]
        assert tracker.epoch != self.last[0] or tracker.sequence >= self.last[1], "the copy went back"
        self.last = (tracker.epoch, tracker.sequence)
        assert self.subscriber.malformed == 0

    def teardown(self) -> None:
        """After the accidents a heartbeat and a snapshot are enough; one more for each publisher that died."""
        self.network.deliver(len(self.network.on_the_way))
        for _ in self.epochs:
            self._heartbeat_and_snapshot()
        assert self.subscriber.tracker.synchronised
        assert self.copy == self.truth
        self._publish(added(9, MAC))
        self.network.deliver(1)
        self.follow()
        assert self.copy == self.truth

    def _heartbeat_and_snapshot(self) -> None:
        self.now += 1.1 * SNAPSHOT_RETRY_S
        self.publisher.beat(self.now)
        self.network.deliver(1)
        self.follow()
        self.answer(at_once=True)
        self.follow()


TestAccidents = Accidents.TestCase
TestAccidents.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


# --- real sockets -----------------------------------------------------------------------------------------------------


class Follower:
    """A subscriber and its copy of the state."""

    def __init__(self, context: zmq.Context[Any], endpoints: Endpoints) -> None:
        self.subscriber = StateSubscriber(context, endpoints.arp_state, endpoints.arp_snapshot)
        self.copy: Neighbours = {}

    def follow(self, now: float | None = None) -> None:
        self.copy = applied(self.copy, self.subscriber.receive(time.monotonic() if now is None else now))


class Leader:
    """A publisher and its state."""

    def __init__(self, context: zmq.Context[Any], endpoints: Endpoints, neighbours: Neighbours) -> None:
        self.neighbours = neighbours
        self.snapshots = 0
        self.malformed = 0
        self.publisher = StatePublisher(context, endpoints.arp_state, endpoints.arp_snapshot, self._full)

    def _full(self) -> NeighbourState:
        self.snapshots += 1
        return full(self.neighbours)

    def learn(self, address: int) -> None:
        self.neighbours = {**self.neighbours, address: MAC}
        self.publisher.publish(added(address, MAC), time.monotonic())

    def turn(self) -> None:
        self.malformed += self.publisher.answer_requests()
        self.publisher.beat(time.monotonic())


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    context: zmq.Context[Any] = zmq.Context()
    yield context
    context.destroy(linger=0)


def turn_until(done: Callable[[], bool], *turns: Callable[[], None]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not done():
        assert time.monotonic() < deadline, "not within the limit"
        for turn in turns:
            turn()
        time.sleep(0.002)


def test_a_subscriber_that_was_there_first_follows_and_goes_on_after_a_restart(
    context: zmq.Context[Any], tmp_path: Path
) -> None:
    endpoints = Endpoints(tmp_path)
    follower = Follower(context, endpoints)
    follower.follow()
    with zmq.Context() as first_run:  # which at its end has let go of the sockets' files
        leader = Leader(first_run, endpoints, {1: MAC})
        turn_until(lambda: follower.copy == {1: MAC}, leader.turn, follower.follow)
        for address in range(10, 20):
            leader.learn(address)
        turn_until(lambda: follower.copy == leader.neighbours, leader.turn, follower.follow)
        leader.publisher.close()
    again = Leader(context, endpoints, {5: MAC})
    turn_until(lambda: follower.copy == {5: MAC}, again.turn, follower.follow)
    again.learn(6)
    turn_until(lambda: follower.copy == {5: MAC, 6: MAC}, again.turn, follower.follow)


def test_two_late_subscribers_get_a_snapshot_each(context: zmq.Context[Any], tmp_path: Path) -> None:
    endpoints = Endpoints(tmp_path)
    leader = Leader(context, endpoints, {1: MAC})
    for address in range(10, 20):
        leader.learn(address)
    followers = [Follower(context, endpoints) for _ in range(2)]
    turn_until(
        lambda: all(follower.copy == leader.neighbours for follower in followers),
        leader.turn,
        *(follower.follow for follower in followers),
    )


def test_questions_to_a_publisher_that_is_away_do_not_pile_up(context: zmq.Context[Any], tmp_path: Path) -> None:
    endpoints = Endpoints(tmp_path)
    follower = Follower(context, endpoints)
    for number in range(50):
        follower.follow(now=number * 2 * SNAPSHOT_RETRY_S)
    leader = Leader(context, endpoints, {1: MAC})
    turn_until(lambda: follower.copy == {1: MAC}, leader.turn, lambda: follower.follow(100 * SNAPSHOT_RETRY_S))
    leader.learn(2)
    turn_until(lambda: 2 in follower.copy, leader.turn, lambda: follower.follow(100 * SNAPSHOT_RETRY_S))
    assert leader.snapshots <= 2, "50 questions were queued"


def test_malformed_messages_are_counted_at_both_ends(context: zmq.Context[Any], tmp_path: Path) -> None:
    endpoints = Endpoints(tmp_path)
    leader = Leader(context, endpoints, {1: MAC})
    stranger = connected(context, zmq.DEALER, endpoints.arp_snapshot)
    for data in (b"", b"\x01\x81\x90\x01", encode(RpcRequest(id=1, method="status"))):
        turn_until(lambda data=data: try_send(stranger, [data]))  # type: ignore[misc]
    turn_until(lambda: leader.malformed == 3, leader.turn)

    (tmp_path / "other").mkdir()
    other = Endpoints(tmp_path / "other")
    router = bound(context, zmq.ROUTER, other.arp_snapshot)
    follower = Follower(context, other)
    follower.follow()
    assert router.poll(int(LIMIT_S * 1000))
    peer = router.recv_multipart()[0]
    for data in (b"", b"nonsense", encode(RpcRequest(id=1, method="status"))):
        router.send_multipart([peer, data])
    turn_until(lambda: follower.subscriber.malformed == 3, follower.follow)
