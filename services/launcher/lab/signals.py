"""Stop signals as an exception, so that `with` blocks take down what they have set up."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_EXIT_STATUS_BASE: Final = 128  # a shell's status for a program that a signal ended


class Stopped(BaseException):
    """A stop signal came."""

    def __init__(self, number: int) -> None:
        """Remember the signal's number."""
        super().__init__(signal.Signals(number).name)
        self.exit_status = _EXIT_STATUS_BASE + number


class _State:
    """What the handler knows. Signals are one per process, and so is this."""

    depth = 0
    """How many `uninterrupted` blocks are open."""
    pending: int | None = None
    """The signal that waits for the last of them to end."""
    raised = False


def _on_signal(number: int, _frame: FrameType | None) -> None:
    if _State.raised:
        return  # a second Ctrl-C must not break into the taking down that the first one began
    if _State.depth:
        _State.pending = number
    else:
        _State.raised = True
        raise Stopped(number)


@contextmanager
def stop_signals() -> Iterator[None]:
    """Within this block the first SIGINT, SIGTERM or SIGHUP raises `Stopped`; later ones change nothing.

    Only in the main thread. A SIGHUP that is ignored, as `nohup` makes it, stays so.
    """
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    _State.pending, _State.raised = None, False
    before = [(number, signal.signal(number, _on_signal)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """A stop signal that comes within this block is raised at its end. Without `stop_signals`: no effect.

    Around what must be finished, or undone, as a whole: a namespace that is made must be remembered too.
    """
    _State.depth += 1
    try:
        yield
    finally:
        _State.depth -= 1
        if not _State.depth and _State.pending is not None:
            number, _State.pending = _State.pending, None
            _on_signal(number, None)
