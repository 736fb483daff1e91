"""When to look for frames again, step by step."""

import pytest

from services.common.coalesce import BUSY_FRAMES, EMPTY_PAUSES, PAUSE_S, Coalescer

BUDGET = 256


def test_an_idle_reader_sleeps_until_woken() -> None:
    coalescer = Coalescer()
    assert [coalescer.pause_s(0, BUDGET) for _ in range(3)] == [None] * 3


@pytest.mark.parametrize("frames", [1, BUSY_FRAMES - 1])
def test_after_a_few_frames_it_looks_once_more_at_once_and_then_sleeps(frames: int) -> None:
    coalescer = Coalescer()
    assert coalescer.pause_s(frames, BUDGET) == 0.0
    assert coalescer.pause_s(0, BUDGET) is None


def test_a_full_batch_means_more_is_waiting() -> None:
    coalescer = Coalescer()
    assert coalescer.pause_s(BUDGET, BUDGET) == 0.0


@pytest.mark.parametrize("frames", [BUSY_FRAMES, BUDGET - 1])
def test_under_load_frames_gather(frames: int) -> None:
    coalescer = Coalescer()
    assert [coalescer.pause_s(frames, BUDGET) for _ in range(5)] == [PAUSE_S] * 5


@pytest.mark.parametrize("frames", [BUSY_FRAMES, BUDGET])
def test_the_load_is_over_after_some_empty_looks(frames: int) -> None:
    coalescer = Coalescer()
    coalescer.pause_s(frames, BUDGET)
    assert [coalescer.pause_s(0, BUDGET) for _ in range(EMPTY_PAUSES + 1)] == [PAUSE_S] * EMPTY_PAUSES + [None]


def test_a_dribble_ends_the_load_too() -> None:
    coalescer = Coalescer()
    coalescer.pause_s(BUSY_FRAMES, BUDGET)
    assert [coalescer.pause_s(1, BUDGET) for _ in range(EMPTY_PAUSES + 1)] == [PAUSE_S] * EMPTY_PAUSES + [0.0]


def test_new_load_starts_the_count_again() -> None:
    coalescer = Coalescer()
    coalescer.pause_s(BUSY_FRAMES, BUDGET)
    coalescer.pause_s(0, BUDGET)
    coalescer.pause_s(BUSY_FRAMES, BUDGET)
    assert [coalescer.pause_s(0, BUDGET) for _ in range(EMPTY_PAUSES + 1)] == [PAUSE_S] * EMPTY_PAUSES + [None]
