"""Frames to one neighbour leave in their order, whatever the messages between forwarder and arp do meanwhile.

The forwarder's side is the real one; arp, the queues between the two and the wire are played.
"""

from collections import deque
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.common.messages import Frame, Neighbour, NeighbourState
from services.forwarder.holding import HOLD_LIMIT_S, Holding, Release

ETH0 = 3
HOSTS = (0x0A000002, 0x0A000003)
MAC = bytes.fromhex("020000000002")
STEP_S = 0.01
OPERATIONS = 90
assert OPERATIONS * STEP_S < HOLD_LIMIT_S


@dataclass
class Arp:
    """What arp knows; `taken` is in its counter file."""

    known: set[int] = field(default_factory=set)
    waiting: dict[int, list[Frame]] = field(default_factory=dict)


class World:
    def __init__(self) -> None:
        self.now = 0.0
        self.holding = Holding()
        self.tables: set[int] = set()
        self.arp = Arp()
        self.taken = self.handed = 0
        self.to_arp: deque[tuple[int, list[Frame]] | int] = deque()
        self.to_forwarder: deque[NeighbourState] = deque()
        self.wire: list[tuple[int, int]] = []
        self.made = dict.fromkeys(HOSTS, 0)

    # --- The forwarder

    def frames(self, host: int, count: int) -> None:
        batch = []
        for _ in range(count):
            self.made[host] += 1
            batch.append(Frame(9, ETH0, host, 0, False, self.made[host].to_bytes(4, "big")))
        if host in self.tables:
            self._send(batch)
        else:
            self._resolve(batch)

    def _resolve(self, frames: list[Frame]) -> None:
        hand = self.holding.sort(frames).hand
        if hand:
            self.to_arp.append((self.handed, hand))
            self.handed += len(hand)
            self.holding.handed(hand, self.handed)

    def follow(self) -> None:
        if self.to_forwarder:
            self._carry_out(self.holding.on_state(self.to_forwarder.popleft(), self.now))

    def tick(self) -> None:
        self._carry_out(self.holding.on_time(self.now))

    def _carry_out(self, release: Release) -> None:
        if release.state is not None:
            if release.state.full:
                self.tables.clear()
            self.tables |= {each.address for each in release.state.neighbours}
            self.tables -= {address for _, address in release.state.gone}
        self._send(release.send)
        self._resolve(release.hand)
        if release.ask:
            self.to_arp.append(self.handed)

    # --- arp

    def work(self) -> None:
        """Take one message."""
        if not self.to_arp:
            return
        message = self.to_arp.popleft()
        if isinstance(message, int):
            self.taken = message
            self.to_forwarder.append(NeighbourState(taken=self.taken))
            return
        before, frames = message
        for frame in frames:
            if frame.next_hop in self.arp.known:
                self._send([frame])
            else:
                self.arp.waiting.setdefault(frame.next_hop, []).append(frame)
        self.taken = before + len(frames)

    def answer(self, host: int) -> None:
        self.arp.known.add(host)
        self._send(self.arp.waiting.pop(host, []))
        neighbour = Neighbour(interface=ETH0, address=host, mac=MAC)
        self.to_forwarder.append(NeighbourState(neighbours=[neighbour], taken=self.taken))

    def withdraw(self, host: int) -> None:
        if host in self.arp.known:
            self.arp.known.remove(host)
            self.to_forwarder.append(NeighbourState(gone=[(ETH0, host)], taken=self.taken))

    def snapshot(self) -> None:
        known = [Neighbour(interface=ETH0, address=host, mac=MAC) for host in sorted(self.arp.known)]
        self.to_forwarder.append(NeighbourState(full=True, neighbours=known, taken=self.taken))

    def lose_queue(self) -> None:
        """The connection breaks: what was on its way is lost."""
        self.to_arp.clear()

    def restart_arp(self) -> None:
        self.lose_queue()
        self.arp = Arp()
        self.to_forwarder.clear()
        self.snapshot()

    # --- The wire

    def _send(self, frames: list[Frame]) -> None:
        self.wire += [(frame.next_hop, int.from_bytes(frame.data, "big")) for frame in frames]

    def numbers(self, host: int) -> list[int]:
        return [number for to, number in self.wire if to == host]

    def settle(self) -> None:
        for host in HOSTS:
            self.answer(host)
        while self.to_arp or self.to_forwarder:
            self.work()
            self.follow()


HOST = st.sampled_from(HOSTS)
GENTLE = st.one_of(
    st.tuples(st.just("frames"), HOST, st.integers(1, 3)),
    st.tuples(st.sampled_from(["answer", "withdraw"]), HOST),
    st.tuples(st.sampled_from(["work", "follow", "snapshot", "tick"])),
)
ROUGH = st.one_of(GENTLE, st.tuples(st.sampled_from(["lose_queue", "restart_arp"])))


PATIENT = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def run(world: World, operations: list[tuple[object, ...]]) -> None:
    for name, *arguments in operations:
        getattr(world, str(name))(*arguments)
        world.now += STEP_S


@PATIENT
@given(st.lists(GENTLE, max_size=OPERATIONS))
def test_every_frame_leaves_exactly_once_and_in_order(operations: list[tuple[object, ...]]) -> None:
    world = World()
    run(world, operations)
    world.settle()
    for host in HOSTS:
        assert world.numbers(host) == list(range(1, world.made[host] + 1))
    assert world.tables == set(HOSTS)
    assert world.holding.waiting == 0


@PATIENT
@given(st.lists(ROUGH, max_size=OPERATIONS))
def test_what_is_lost_on_the_way_changes_no_order_and_keeps_no_neighbour_back(
    operations: list[tuple[object, ...]],
) -> None:
    world = World()
    run(world, operations)
    world.settle()
    world.now += HOLD_LIMIT_S
    world.tick()
    world.settle()
    for host in HOSTS:
        numbers = world.numbers(host)
        assert numbers == sorted(set(numbers))
    assert world.tables == set(HOSTS)
    assert world.holding.waiting == 0
