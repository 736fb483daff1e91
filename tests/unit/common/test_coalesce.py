"""When to look for frames again, step by step."""

import os
import time

import pytest

from services.common.coalesce import BUSY_FRAMES, EMPTY_LOOKS, PAUSE_S, Coalescer, Wait, wait_briefly

BUDGET = 256


def empty_looks(coalescer: Coalescer, count: int) -> list[Wait]:
    return [coalescer.after(0, BUDGET) for _ in range(count)]


def test_a_reader_that_has_seen_nothing_yet_sleeps_until_woken() -> None:
    assert empty_looks(Coalescer(), 3) == [Wait.SLEEP] * 3


@pytest.mark.parametrize(
    ("frames", "wait"),
    [
        (1, Wait.YIELD),
        (BUSY_FRAMES - 1, Wait.YIELD),
        (BUSY_FRAMES, Wait.PAUSE),
        (BUDGET - 1, Wait.PAUSE),
        (BUDGET, Wait.NOT),
    ],
)
def test_what_the_last_batch_looked_like(frames: int, wait: Wait) -> None:
    coalescer = Coalescer()
    assert [coalescer.after(frames, BUDGET) for _ in range(3)] == [wait] * 3


@pytest.mark.parametrize("frames", [1, BUSY_FRAMES, BUDGET])
def test_after_traffic_it_looks_a_few_times_more_and_then_sleeps(frames: int) -> None:
    coalescer = Coalescer()
    coalescer.after(frames, BUDGET)
    assert empty_looks(coalescer, EMPTY_LOOKS + 2) == [Wait.YIELD] * (EMPTY_LOOKS - 1) + [Wait.SLEEP] * 3


def test_each_frame_starts_the_count_again() -> None:
    coalescer = Coalescer()
    for _ in range(3):
        assert coalescer.after(1, BUDGET) is Wait.YIELD
        assert empty_looks(coalescer, EMPTY_LOOKS - 1) == [Wait.YIELD] * (EMPTY_LOOKS - 1)
    assert coalescer.after(0, BUDGET) is Wait.SLEEP


@pytest.mark.parametrize(
    ("wait", "calls"),
    [(Wait.NOT, []), (Wait.YIELD, ["yield"]), (Wait.PAUSE, [PAUSE_S]), (Wait.SLEEP, [])],
)
def test_how_the_short_waits_are_carried_out(
    monkeypatch: pytest.MonkeyPatch, wait: Wait, calls: list[str | float]
) -> None:
    done: list[str | float] = []
    monkeypatch.setattr(os, "sched_yield", lambda: done.append("yield"))
    monkeypatch.setattr(time, "sleep", done.append)
    wait_briefly(wait)
    assert done == calls
