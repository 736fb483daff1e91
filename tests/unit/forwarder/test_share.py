"""The time that frames out of the ordinary may take."""

import pytest

from services.forwarder.share import BUSY_SHARE, IDLE_SHARE, TimeShare

COST_S = 0.0001
BURST_S = 0.05


def full(now: float = 0.0) -> TimeShare:
    return TimeShare(COST_S, BURST_S, now)


def test_a_burst_and_then_the_share() -> None:
    share = full(100.0)
    assert share.frames(100.0) == 500
    share.spend(500, BURST_S)
    assert share.frames(100.0) == 0
    assert share.frames(100.0 + 10.5 * COST_S / BUSY_SHARE) == 10


@pytest.mark.parametrize("slept", [0.0, 0.3, 1.0])
def test_under_a_flood_only_the_shares_are_spent(slept: float) -> None:
    share = full()
    spent, milliseconds = 0.0, 10_000
    for number in range(1, milliseconds + 1):
        frames = min(256, share.frames(number / 1000, slept / 1000))
        share.spend(frames, frames * COST_S)
        spent += frames * COST_S
    earned = milliseconds / 1000 * (BUSY_SHARE + slept * IDLE_SHARE)
    assert earned - 2 * COST_S < spent < earned + BURST_S + 2 * COST_S


def test_frames_without_a_measurement_cost_what_they_are_taken_to() -> None:
    share = full()
    share.spend(200)
    assert share.frames(0.0) in (299, 300)


def test_dearer_frames_become_fewer() -> None:
    share = full()
    for number in range(100):
        share.spend(1, 2 * COST_S)
        share.frames(float(number), 1.0)  # the credit is full again each time
    assert 250 <= share.frames(1000.0) <= 251


def test_a_burst_goes_through_after_frames_that_were_much_dearer() -> None:
    share = full()
    for number in range(1000):
        share.spend(1, 30 * COST_S)  # a super-frame in fifty parts
        share.frames(float(number), 1.0)
    assert share.frames(1000.0) >= 200


def test_under_a_flood_of_much_dearer_frames_only_the_share_is_spent() -> None:
    share = full()
    cost, spent, milliseconds = 30 * COST_S, 0.0, 10_000
    for number in range(1, milliseconds + 1):
        frames = min(10, share.frames(number / 1000))  # as many as the budget of a batch lets through
        share.spend(frames, frames * cost)
        spent += frames * cost
    assert spent < milliseconds / 1000 * BUSY_SHARE + BURST_S + 10 * cost


def test_what_costs_more_than_there_is_in_hand_is_owed() -> None:
    share = full()
    share.spend(1, BURST_S + 0.01)
    assert share.frames(0.009 / BUSY_SHARE) == 0
    assert share.frames(0.5 / BUSY_SHARE) > 0


def test_no_more_is_owed_than_a_burst() -> None:
    share = full()
    share.spend(1000, 60.0)
    assert share.frames(0.9 * BURST_S / BUSY_SHARE) == 0
    assert share.frames(1.2 * BURST_S / BUSY_SHARE) > 0


def test_a_quiet_time_saves_no_more_than_a_burst() -> None:
    assert full().frames(1000.0, 1000.0) == 500


def test_a_clock_that_stands_still_does_not_make_frames_free() -> None:
    share = full()
    for _ in range(1000):
        share.spend(256, 0.0)
    assert share.frames(0.0) <= BURST_S / 1e-6


def test_nothing_is_no_measurement() -> None:
    share = full()
    share.spend(0, 1.0)
    assert share.frames(0.0) == 500
