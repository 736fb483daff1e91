"""The search for the highest rate without loss, on routers that are made up."""

from collections.abc import Callable

import pytest

from services.launcher.bench.throughput import FEW, RESOLUTION, Outcome, repeats, search

Router = Callable[[float], Outcome]


def router(capacity: float, generator: float = 1e9) -> Router:
    """A router that loses whatever is beyond its capacity, and a generator that can send only so much; for 10 s."""

    def attempt(rate: float) -> Outcome:
        offered = min(rate, generator)
        return Outcome(sent=round(offered * 10), lost=round(max(0.0, offered - capacity) * 10), offered=offered)

    return attempt


@pytest.mark.parametrize("capacity", [1_000.0, 30_000.0, 123_456.0, 250_000.0, 399_000.0])
def test_the_highest_rate_without_loss(capacity: float) -> None:
    found = search(router(capacity), 400_000.0)
    assert found.rate <= capacity < found.lossy
    assert not found.is_bound
    assert found.lossy - found.rate <= RESOLUTION * 400_000
    assert found.trials[0].intended == 400_000.0
    assert len(found.trials) <= 9


def test_no_loss_at_the_highest_rate() -> None:
    found = search(router(500_000.0), 400_000.0)
    assert (found.rate, found.lossy, found.is_bound, len(found.trials)) == (400_000.0, 400_000.0, True, 1)


def test_loss_at_any_rate() -> None:
    found = search(lambda rate: Outcome(round(rate), round(rate / 2), rate), 400_000.0)
    assert found.rate == 0.0
    assert found.lossy <= RESOLUTION * 400_000


def test_a_generator_that_cannot_offer_what_lies_between() -> None:
    def attempt(rate: float) -> Outcome:  # it offers the highest rate, but at an even pace it cannot
        return Outcome(4_000_000, 9_000, rate) if rate == 400_000.0 else router(390_000.0, 150_000.0)(rate)

    found = search(attempt, 400_000.0)
    assert (found.rate, found.lossy, found.is_bound) == (150_000.0, 400_000.0, True)


def test_a_generator_that_falls_somewhat_short() -> None:
    found = search(lambda rate: router(250_000.0)(0.96 * rate), 400_000.0)
    assert found.rate <= 250_000.0 < found.lossy
    assert not found.is_bound


class Hiccups:
    """Loses a few frames in some trials, whatever the rate."""

    def __init__(self, capacity: float, when: set[int], lost: int) -> None:
        self.router = router(capacity)
        self.when = when
        self.lost = lost
        self.made = 0

    def __call__(self, rate: float) -> Outcome:
        self.made += 1
        outcome = self.router(rate)
        return outcome._replace(lost=outcome.lost + self.lost) if self.made in self.when else outcome


def test_a_trial_that_loses_few_frames_is_made_once_more() -> None:
    plain = search(router(250_000.0), 400_000.0)
    found = search(Hiccups(250_000.0, {2}, 100), 400_000.0)  # the second is at half the rate: 2,000,000 frames
    assert found.rate == plain.rate
    assert [trial.lost for trial in found.trials[1:3]] == [100, 0]
    assert found.trials[1].intended == found.trials[2].intended == 200_000.0
    assert (repeats(plain.trials), repeats(found.trials)) == (0, 1)


def test_it_is_not_made_a_third_time() -> None:
    found = search(Hiccups(250_000.0, {2, 3}, 100), 400_000.0)
    assert found.rate < 200_000.0
    assert found.lossy == 200_000.0


def test_a_trial_that_loses_more_decides_at_once() -> None:
    few = round(FEW * 2_000_000)
    assert repeats(search(Hiccups(250_000.0, {2}, few), 400_000.0).trials) == 1
    assert repeats(search(Hiccups(250_000.0, {2}, few + 1), 400_000.0).trials) == 0
