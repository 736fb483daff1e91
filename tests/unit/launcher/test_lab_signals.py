"""Stop signals as an exception."""

import os
import signal
from contextlib import ExitStack

import pytest

from services.launcher.lab.signals import Stopped, stop_signals, uninterrupted


def signal_myself(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=str
)
def test_signal_becomes_exception(number: int, status: int) -> None:
    with pytest.raises(Stopped) as stopped, stop_signals():
        signal_myself(number)
    assert stopped.value.exit_status == status


def test_handlers_are_put_back() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    with stop_signals():
        assert [signal.getsignal(number) for number in numbers] != before
    assert [signal.getsignal(number) for number in numbers] == before


def test_second_signal_does_not_break_into_the_taking_down() -> None:
    done = []

    def take_down() -> None:
        signal_myself(signal.SIGINT)
        signal_myself(signal.SIGTERM)
        done.append("taken down")

    def work() -> None:
        with ExitStack() as stack:
            stack.callback(take_down)
            signal_myself(signal.SIGINT)

    with pytest.raises(Stopped), stop_signals():
        work()
    assert done == ["taken down"]


def test_uninterrupted_block_is_finished_first() -> None:
    done = []

    def work() -> None:
        with uninterrupted():
            with uninterrupted():
                signal_myself(signal.SIGTERM)
                done.append("inner")
            done.append("outer")
        done.append("after")

    with pytest.raises(Stopped), stop_signals():
        work()
    assert done == ["inner", "outer"]


def test_a_new_block_starts_afresh() -> None:
    for _ in range(2):
        with pytest.raises(Stopped), stop_signals():
            signal_myself(signal.SIGTERM)


def test_nohup_stays() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_signals():
            signal_myself(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
