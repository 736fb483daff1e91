"""The steps of a decision: each verdict at one of them, in words for people."""

from collections import Counter as Multiset

from services.common.counters import Counter
from services.control.steps import STEPS, stages


def test_no_verdict_falls_at_two_steps() -> None:
    seen = Multiset(verdict for step in STEPS for verdict in step.verdicts)
    assert set(seen.values()) == {1}


def test_what_comes_before_was_passed_and_what_comes_behind_was_not_reached() -> None:
    told = stages(Counter.DROP_TTL_EXCEEDED)
    assert [stage.name for stage in told] == [step.name for step in STEPS]
    at = [stage.name for stage in told].index("ttl")
    assert {stage.result for stage in told[:at]} == {"passed"}
    assert (told[at].result, told[at].text) == ("stopped", Counter.DROP_TTL_EXCEEDED.text)
    assert {stage.result for stage in told[at + 1 :]} == {"not reached"}


def test_a_frame_that_is_forwarded_passes_all() -> None:
    assert {stage.result for stage in stages(Counter.FORWARDED)} == {"passed"}


def test_want_of_time_is_no_step() -> None:
    assert stages(Counter.DROP_SLOW_PATH_FULL) == []
