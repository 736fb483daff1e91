"""Where a subscriber stands in its publisher's sequence: each rule, on a clock of numbers."""

from services.common.clone import HEARTBEAT_S, SILENCE_S, SNAPSHOT_RETRY_S, CloneTracker
from services.common.messages import NeighbourState, StateEnvelope

EPOCH = 100


def change(sequence: int, epoch: int = EPOCH) -> StateEnvelope:
    return StateEnvelope(epoch=epoch, sequence=sequence, body=NeighbourState())


def heartbeat(sequence: int, epoch: int = EPOCH) -> StateEnvelope:
    return StateEnvelope(epoch=epoch, sequence=sequence)


def snapshot(sequence: int, epoch: int = EPOCH) -> StateEnvelope:
    return StateEnvelope(epoch=epoch, sequence=sequence, body=NeighbourState(full=True))


def synchronised(sequence: int = 5, now: float = 0.0) -> CloneTracker:
    tracker = CloneTracker()
    assert tracker.should_ask(now)
    assert tracker.on_snapshot(snapshot(sequence), now) == "apply"
    assert tracker.synchronised
    return tracker


def test_it_asks_at_once_and_again_until_a_snapshot_comes() -> None:
    tracker = CloneTracker()
    assert tracker.should_ask(0.0)
    assert not tracker.should_ask(SNAPSHOT_RETRY_S / 2)
    assert tracker.should_ask(SNAPSHOT_RETRY_S)
    tracker.on_snapshot(snapshot(0), SNAPSHOT_RETRY_S)
    assert not tracker.should_ask(2 * SNAPSHOT_RETRY_S)


def test_changes_in_order_are_applied() -> None:
    tracker = synchronised(5)
    assert [tracker.on_publication(change(number), 0.1) for number in (6, 7, 8)] == ["apply"] * 3
    assert tracker.sequence == 8


def test_what_the_snapshot_holds_already_is_ignored() -> None:
    tracker = synchronised(5)
    assert [tracker.on_publication(change(number), 0.1) for number in (3, 5, 6, 6)] == [
        "ignore",
        "ignore",
        "apply",
        "ignore",
    ]


def test_a_gap_means_a_new_snapshot() -> None:
    tracker = synchronised(5)
    assert tracker.on_publication(change(7), SNAPSHOT_RETRY_S) == "resync"
    assert not tracker.synchronised
    assert tracker.should_ask(SNAPSHOT_RETRY_S)
    assert tracker.on_snapshot(snapshot(7), SNAPSHOT_RETRY_S) == "apply"
    assert tracker.on_publication(change(8), SNAPSHOT_RETRY_S) == "apply"


def test_a_heartbeat_shows_the_loss_of_the_last_change() -> None:
    tracker = synchronised(5)
    assert tracker.on_publication(heartbeat(5), 0.5) == "ignore"
    assert tracker.synchronised
    assert tracker.on_publication(heartbeat(6), 1.0) == "resync"
    assert not tracker.synchronised


def test_a_restarted_publisher_means_a_new_snapshot() -> None:
    tracker = synchronised(5)
    assert tracker.on_publication(change(6, epoch=EPOCH + 1), SNAPSHOT_RETRY_S) == "resync"
    assert tracker.should_ask(SNAPSHOT_RETRY_S)
    assert tracker.on_snapshot(snapshot(2, epoch=EPOCH + 1), SNAPSHOT_RETRY_S) == "apply"
    assert tracker.on_publication(change(3, epoch=EPOCH + 1), SNAPSHOT_RETRY_S) == "apply"


def test_a_publisher_whose_clock_went_back_is_new_too() -> None:
    tracker = synchronised(5)
    assert tracker.on_publication(heartbeat(0, epoch=EPOCH - 1), 0.1) == "resync"
    assert tracker.on_snapshot(snapshot(0, epoch=EPOCH - 1), 0.2) == "apply"
    assert tracker.on_publication(change(1, epoch=EPOCH - 1), 0.3) == "apply"


def test_changes_of_the_dead_publisher_that_still_lie_in_the_queue_are_void() -> None:
    tracker = synchronised(5)
    tracker.on_publication(change(7), 0.1)
    tracker.on_snapshot(snapshot(1, epoch=EPOCH + 1), 0.2)
    assert [tracker.on_publication(change(number), 0.3) for number in (8, 9, 10)] == ["ignore"] * 3
    assert tracker.on_publication(change(2, epoch=EPOCH + 1), 0.3) == "apply"
    assert tracker.synchronised


def test_so_are_those_of_one_that_died_before_it_was_ever_heard() -> None:
    tracker = synchronised(5)
    assert tracker.on_publication(change(1, epoch=EPOCH + 1), 0.1) == "resync"
    tracker.on_snapshot(snapshot(1, epoch=EPOCH + 2), 0.2)
    assert tracker.on_publication(change(2, epoch=EPOCH + 1), 0.3) == "ignore"
    assert tracker.on_publication(change(2, epoch=EPOCH + 2), 0.3) == "apply"


def test_void_publications_are_no_sign_of_life() -> None:
    tracker = synchronised(5)
    tracker.on_snapshot(snapshot(1, epoch=EPOCH + 1), 0.0)
    tracker.on_publication(change(6), SILENCE_S)
    assert tracker.should_ask(SILENCE_S + 0.1)
    # and a publisher that was taken for dead wrongly is followed again
    assert tracker.on_snapshot(snapshot(6), SILENCE_S + 0.2) == "apply"
    assert tracker.on_publication(change(7), SILENCE_S + 0.2) == "apply"


def test_a_silent_publisher_is_asked() -> None:
    tracker = synchronised(5)
    assert not tracker.should_ask(SILENCE_S)
    assert tracker.should_ask(SILENCE_S + 0.1)
    assert not tracker.should_ask(SILENCE_S + 0.2)


def test_heartbeats_are_signs_of_life() -> None:
    tracker = synchronised(5)
    beats = int(4 * SILENCE_S / HEARTBEAT_S)
    for number in range(1, beats):
        tracker.on_publication(heartbeat(5), number * HEARTBEAT_S)
        assert not tracker.should_ask(number * HEARTBEAT_S)


def test_the_answer_to_a_needless_question_is_ignored() -> None:
    tracker = synchronised(5)
    assert tracker.on_snapshot(snapshot(5), 0.1) == "ignore"
    assert tracker.on_snapshot(snapshot(4), 0.1) == "ignore"
    assert tracker.sequence == 5
    assert tracker.on_snapshot(snapshot(6), 0.1) == "apply"


def test_a_late_snapshot_does_not_take_the_state_back() -> None:
    tracker = synchronised(5)
    tracker.on_publication(change(6), 0.1)
    tracker.on_publication(change(8), 0.2)
    assert tracker.on_snapshot(snapshot(5), 0.3) == "ignore"
    assert not tracker.synchronised
    assert tracker.on_snapshot(snapshot(8), 0.4) == "apply"


def test_a_snapshot_from_before_the_gap_is_mended_by_the_next_heartbeat() -> None:
    tracker = synchronised(5)
    tracker.on_publication(change(7), 0.1)
    assert tracker.on_snapshot(snapshot(6), 0.2) == "apply"
    assert tracker.on_publication(heartbeat(7), 0.5) == "resync"
    assert tracker.on_snapshot(snapshot(7), 1.2) == "apply"


def test_an_envelope_without_a_state_is_no_snapshot() -> None:
    tracker = CloneTracker()
    assert tracker.on_snapshot(heartbeat(5), 0.0) == "ignore"
    assert not tracker.synchronised
