"""Carrying out actions: batches to the forwarder, changes to the subscribers."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from services.arp.actions import Publish, Return, Withdraw
from services.arp.effects import Effects
from services.common.counters import Counter, CounterBlock
from services.common.endpoints import Endpoints
from services.common.insight import Insight
from services.common.messages import Frame, Neighbour, NeighbourState

MAC = bytes.fromhex("020000000002")
OTHER_MAC = bytes.fromhex("020000000003")


class Outside:
    """What the effects reach."""

    def __init__(self, counters: CounterBlock, insight: Insight) -> None:
        self.counters = counters
        self.batches: list[list[Frame]] = []
        self.states: list[NeighbourState] = []
        self.takes_batches = True
        self.effects = Effects(
            counters, lambda *_: None, self._take, self.states.append, structlog.get_logger(), insight
        )

    def _take(self, frames: list[Frame]) -> bool:
        self.batches.append(frames)
        return self.takes_batches


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Outside]:
    counters = CounterBlock(tmp_path / "counters.bin")
    yield Outside(counters, Insight(Endpoints(tmp_path), "arp"))
    counters.close()


def frames(count: int, length: int) -> list[Frame]:
    return [Frame(1, 3, number, 0, False, bytes(length)) for number in range(count)]


@pytest.mark.parametrize(("length", "in_a_batch"), [(80, 256), (65_000, 17)])
def test_returned_frames_travel_in_batches_of_bounded_frames_and_bytes(
    outside: Outside, length: int, in_a_batch: int
) -> None:
    for frame in frames(600, length):
        outside.effects.perform([Return([frame], waited=False)])
    outside.effects.flush()
    outside.effects.flush()
    assert {len(batch) for batch in outside.batches[:-1]} == {in_a_batch}
    assert [frame.next_hop for batch in outside.batches for frame in batch] == list(range(600))
    assert outside.counters.get(Counter.HANDED, 3) == 600


def test_a_batch_that_the_forwarder_does_not_take_is_dropped(outside: Outside) -> None:
    outside.takes_batches = False
    outside.counters.set(Counter.WAITING, 5, 3)
    outside.effects.perform([Return(frames(5, 80), waited=True)])
    outside.effects.flush()
    assert outside.counters.snapshot() == {3: {"DROP_HOST_UNREACHABLE": 5}}


def test_changes_are_published_together_each_neighbour_once(outside: Outside) -> None:
    outside.effects.perform(
        [Publish(3, 1, MAC), Publish(3, 2, MAC), Withdraw(3, 2), Withdraw(3, 3), Publish(3, 3, MAC), Publish(4, 1, MAC)]
    )
    outside.effects.perform([Publish(3, 1, OTHER_MAC)])
    assert outside.states == []
    outside.effects.flush()
    outside.effects.flush()
    assert outside.states == [
        NeighbourState(
            neighbours=[
                Neighbour(interface=3, address=1, mac=OTHER_MAC),
                Neighbour(interface=3, address=3, mac=MAC),
                Neighbour(interface=4, address=1, mac=MAC),
            ],
            gone=[(3, 2)],
        )
    ]
