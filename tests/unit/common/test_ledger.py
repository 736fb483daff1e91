"""What was handed over inside messages and never came is counted as dropped, once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.common.counters import Counter, CounterBlock
from services.common.ledger import ANNOUNCE_S, MOST_LOST, HandedLedger, TakenLedger
from services.common.messages import Handed, decode

ETH0 = 3


@pytest.fixture
def sender(tmp_path: Path) -> Iterator[CounterBlock]:
    block = CounterBlock(tmp_path / "sender.bin")
    yield block
    block.close()


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[CounterBlock]:
    block = CounterBlock(tmp_path / "receiver.bin")
    yield block
    block.close()


def lost(receiver: CounterBlock, interface: int = 0) -> tuple[int, int]:
    return receiver.get(Counter.DROP_RESTARTED, interface), receiver.get(Counter.TAKEN, interface)


def test_frames_that_came_are_not_lost(sender: CounterBlock, receiver: CounterBlock) -> None:
    handed, taken = HandedLedger(sender, Counter.HANDED_ARP), TakenLedger(receiver)
    for frames in (3, 5):
        before = handed.begin(frames)
        taken.expect(0, before)
        taken.take(0, before, frames)
    taken.expect(0, handed.handed)
    assert (taken.taken(), lost(receiver)) == (8, (0, 0))


def test_frames_that_did_not_come_are_counted_once_by_whoever_takes_the_next(
    sender: CounterBlock, receiver: CounterBlock
) -> None:
    handed = HandedLedger(sender, Counter.HANDED_ARP, ETH0)
    handed.begin(7)
    before = HandedLedger(sender, Counter.HANDED_ARP, ETH0).begin(2)  # its next run goes on
    for _ in range(2):
        taken = TakenLedger(receiver)
        taken.expect(ETH0, before)
        assert lost(receiver, ETH0) == (7, 7)
    taken.take(ETH0, before, 1)  # killed over the second frame
    TakenLedger(receiver).expect(ETH0, 9)
    assert lost(receiver, ETH0) == (8, 8)


def test_what_could_not_be_sent_was_not_handed_over(sender: CounterBlock) -> None:
    handed = HandedLedger(sender, Counter.HANDED_FORWARDER)
    handed.begin(4)
    handed.undo(4)
    assert handed.begin(1) == 0


def test_senders_are_told_apart(receiver: CounterBlock) -> None:
    taken = TakenLedger(receiver)
    taken.take(ETH0, 0, 10)
    taken.take(0, 0, 2)
    taken.expect(0, 2)
    taken.expect(ETH0, 10)
    assert (lost(receiver), lost(receiver, ETH0)) == ((0, 0), (0, 0))


def test_a_sender_that_keeps_no_count(receiver: CounterBlock) -> None:
    taken = TakenLedger(receiver)
    taken.take(0, 0, 5)
    taken.expect(0, None)
    taken.take(0, None, 3)
    assert taken.taken() == 5


@pytest.mark.parametrize("handed", [2, 5 + MOST_LOST + 1])
def test_a_count_that_cannot_be_goes_on_from_there(receiver: CounterBlock, handed: int) -> None:
    taken = TakenLedger(receiver)
    taken.take(0, 0, 5)
    taken.expect(0, handed)
    assert (taken.taken(), lost(receiver)) == (handed, (0, 0))


def test_the_count_is_announced_once_a_while_and_not_before_the_first_frame(sender: CounterBlock) -> None:
    handed = HandedLedger(sender, Counter.HANDED_ARP, ETH0)
    assert handed.due(100.0) is None
    handed.begin(6)
    message = handed.due(100.0)
    assert message is not None
    assert decode(message) == Handed(interface=ETH0, handed=6)
    assert handed.due(100.0 + ANNOUNCE_S / 2) is None
    assert handed.due(100.0 + ANNOUNCE_S) == message
    assert decode(handed.message(answer=True)) == Handed(interface=ETH0, handed=6, answer=True)
