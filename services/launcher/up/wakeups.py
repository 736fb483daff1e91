"""What ends the launcher's sleep: signals, a child's death, word of an interface from the kernel, the fork server."""

import errno
import math
import select
import signal
import socket
from contextlib import ExitStack
from typing import Final

from services.common.netlink import RECEIVE_BYTES

_RTMGRP_LINK: Final = 1  # linux/rtnetlink.h


class Wakeups:
    """Waits for the next event. In the main thread, since Python gives signals to no other."""

    def __init__(self, stack: ExitStack) -> None:
        """Listen for signals and, in the network namespace of this thread, for interfaces; `stack` undoes it."""
        self._links = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        stack.enter_context(self._links)
        self._links.bind((0, _RTMGRP_LINK))
        self._signals, writer = socket.socketpair()
        for end in (self._signals, writer):
            stack.enter_context(end)
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)  # without a handler nothing would be written
        stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False))
        self._poll = select.poll()
        self._poll.register(self._links, select.POLLIN)
        self._poll.register(self._signals, select.POLLIN)

    def wait(self, seconds: float, words: int | None) -> bool:
        """Wait for an event, at most so long; return whether an interface appeared, vanished, or went up or down.

        :param words: a descriptor that ends the sleep as well when it can be read: what the fork server says.
        """
        if words is not None:
            self._poll.register(words, select.POLLIN)
        self._poll.poll(None if math.isinf(seconds) else max(0.0, seconds) * 1000)
        if words is not None:
            self._poll.unregister(words)
        _drain(self._signals)
        return _drain(self._links)


def _drain(source: socket.socket) -> bool:
    """Read all that has come, and return whether there was anything."""
    something = False
    while True:
        try:
            source.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return something
        except OSError as error:
            if error.errno != errno.ENOBUFS:  # too many at once, some are lost
                raise
        something = True
