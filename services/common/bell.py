"""The bell: how an ingress wakes a forwarder that sleeps. A named pipe in the run directory (fifo(7)).

A message over ZeroMQ wakes four threads one after the other, two at each end; a byte in a pipe wakes one. What there
is to do stands in the frame rings: the byte only says "look".
"""

import os
import stat
from pathlib import Path
from typing import Final

from services.common.errors import HopwireError

_MODE: Final = 0o600
_DRAIN_BYTES: Final = 65_536  # a pipe holds no more, unless it is told to


class Bell:
    """Both ends of the pipe: whoever opens it may ring and listen, and neither waits for the other to be there."""

    def __init__(self, path: Path) -> None:
        """Open the pipe at `path`, and make it where it is missing.

        :raises HopwireError: it cannot be made or opened, or something else has its name.
        """
        try:
            path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            if not path.exists():
                _make(path)
            # Open for both: no end gets an error because the other one is away.
            self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise HopwireError(f"cannot open the bell {path}: {error.strerror}; check the run directory") from error
        if not stat.S_ISFIFO(os.fstat(self._descriptor).st_mode):
            os.close(self._descriptor)
            raise HopwireError(f"{path} is no named pipe; remove it")

    def fileno(self) -> int:
        """Return the descriptor: readable when somebody has rung."""
        return self._descriptor

    def ring(self) -> None:
        """Wake who listens. A full pipe rings already."""
        try:
            os.write(self._descriptor, b"\0")
        except BlockingIOError:
            return

    def drain(self) -> bool:
        """Take all that was rung; tell whether it was any."""
        try:
            return bool(os.read(self._descriptor, _DRAIN_BYTES))
        except BlockingIOError:
            return False

    def close(self) -> None:
        """Close this end; the pipe stays for the others."""
        os.close(self._descriptor)


def _make(path: Path) -> None:
    try:
        os.mkfifo(path, _MODE)
    except FileExistsError:
        return  # the other end was quicker
