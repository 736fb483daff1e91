"""Waiting for one descriptor with poll(2). `select.select` refuses descriptors of 1,024 and above, which a process that
inherits many, or a router of many interfaces, does have.
"""

import select
from typing import Final, Protocol

_MILLISECONDS: Final = 1e3


class HasFileno(Protocol):
    """What select(2) takes as well: a socket, a file, a bell."""

    def fileno(self) -> int:
        """Return the descriptor."""


def is_readable(source: int | HasFileno, timeout_s: float = 0.0) -> bool:
    """Wait until there is something to read, or the other end has gone; false where neither comes in `timeout_s`."""
    return _wait(source, select.POLLIN, timeout_s)


def is_writable(source: int | HasFileno, timeout_s: float = 0.0) -> bool:
    """Wait until there is room to write, or nobody reads any more; false where neither comes in `timeout_s`."""
    return _wait(source, select.POLLOUT, timeout_s)


def _wait(source: int | HasFileno, events: int, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(source, events)
    return bool(poll.poll(timeout_s * _MILLISECONDS))
