"""What process 1 of a container sleeps on: signals, and the descriptors that it listens to."""

import select
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final, Protocol

_MOST_SIGNALS: Final = 4096


class HasDescriptor(Protocol):
    """Whatever can be polled."""

    def fileno(self) -> int:
        """Return the descriptor."""


class Events:
    """Waits for the next event and calls who listens. In the main thread, since Python gives signals to no other."""

    def __init__(self, stack: ExitStack) -> None:
        """Take over SIGTERM, SIGINT, SIGHUP and SIGCHLD; `stack` undoes it."""
        self.stop_asked = False
        self.reload_asked = False
        self._handlers: dict[int, Callable[[], None]] = {}
        self._poll = select.poll()
        self._signals, writer = socket.socketpair()
        for end in (self._signals, writer):
            stack.enter_context(end)
            end.setblocking(False)
        stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False))
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, self._on_signal)
        self.listen(self._signals, self._drain)

    def listen(self, source: HasDescriptor, handler: Callable[[], None]) -> None:
        """Call `handler` whenever `source` is readable or closed."""
        self._handlers[source.fileno()] = handler
        self._poll.register(source, select.POLLIN)

    def ignore(self, source: HasDescriptor) -> None:
        """Listen to a source no longer; it is still open."""
        del self._handlers[source.fileno()]
        self._poll.unregister(source)

    def wait(self, seconds: float) -> None:
        """Wait for events, at most so long, and have them handled."""
        for descriptor, _event in self._poll.poll(max(0.0, seconds) * 1000):
            self._handlers[descriptor]()

    def _on_signal(self, number: int, _frame: object) -> None:
        if number == signal.SIGHUP:
            self.reload_asked = True
        elif number != signal.SIGCHLD:
            self.stop_asked = True

    def _drain(self) -> None:
        self._signals.recv(_MOST_SIGNALS)
