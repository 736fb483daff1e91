"""When to look for frames again, step by step."""

import pytest

from services.common.coalesce import BUSY_FRAMES, EMPTY_LOOKS, Coalescer, Wait

BUDGET = 256


def test_an_idle_reader_sleeps_until_woken() -> None:
    coalescer = Coalescer()
    assert [coalescer.after(0, BUDGET) for _ in range(3)] == [Wait.SLEEP] * 3


@pytest.mark.parametrize("frames", [1, BUSY_FRAMES - 1])
def test_after_a_few_frames_it_lets_others_run_for_a_while_and_then_sleeps(frames: int) -> None:
    coalescer = Coalescer()
    assert coalescer.after(frames, BUDGET) is Wait.YIELD
    looks = [coalescer.after(0, BUDGET) for _ in range(EMPTY_LOOKS)]
    assert looks == [Wait.YIELD] * (EMPTY_LOOKS - 1) + [Wait.SLEEP]


def test_a_full_batch_means_more_is_waiting() -> None:
    assert Coalescer().after(BUDGET, BUDGET) is Wait.NOT


@pytest.mark.parametrize("frames", [BUSY_FRAMES, BUDGET - 1])
def test_under_load_frames_gather(frames: int) -> None:
    coalescer = Coalescer()
    assert [coalescer.after(frames, BUDGET) for _ in range(5)] == [Wait.PAUSE] * 5


def test_a_frame_starts_the_count_of_empty_looks_again() -> None:
    coalescer = Coalescer()
    coalescer.after(1, BUDGET)
    for _ in range(EMPTY_LOOKS - 1):
        coalescer.after(0, BUDGET)
    coalescer.after(1, BUDGET)
    assert coalescer.after(0, BUDGET) is Wait.YIELD
