"""Who a process's parent is, and what becomes of it at that one's death: prctl(2)."""

import ctypes
import os
import signal
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
_PR_SET_CHILD_SUBREAPER: Final = 36

_libc = ctypes.CDLL(None, use_errno=True)


def end_with(parent: int, number: signal.Signals) -> None:
    """Have this process get a signal at its parent's death; if another than `parent` is its parent, it is killed."""
    _libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:  # it died before the question was put
        os.kill(os.getpid(), signal.SIGKILL)


def adopt_descendants(*, adopt: bool) -> None:
    """Become the parent of descendants whose own parent ends, or leave them to whoever is further up.

    :raises OSError: the kernel refuses.
    """
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, int(adopt), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
