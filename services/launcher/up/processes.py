"""Child processes that never outlive the launcher."""

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h

_libc = ctypes.CDLL(None, use_errno=True)


class Processes:
    """The launcher's children, by instance name.

    Each is in a session of its own, so that Ctrl-C at the terminal reaches the launcher alone. What it prints goes
    to the launcher's stderr.
    """

    def __init__(self) -> None:
        """No child yet."""
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, instance: str, command: Sequence[str]) -> int:
        """Start a process and return its id. Only in the main thread: it would end with the thread that started it."""
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=2,  # the launcher's own stdout says one thing: that the router is ready
            start_new_session=True,
            preexec_fn=_begin_under(os.getpid()),  # noqa: PLW1509 - system calls, no lock that another thread could hold
        )
        self._children[instance] = child
        return child.pid

    def send(self, instance: str, number: signal.Signals) -> None:
        """Send a process a signal; nothing happens if it has ended."""
        self._children[instance].send_signal(number)

    def send_if_running(self, instance: str, number: signal.Signals) -> None:
        """Send a signal to a process, if there is one of that name."""
        if instance in self._children:
            self.send(instance, number)

    def reap(self) -> list[tuple[str, int]]:
        """Return who has ended, and how: the exit status, or minus the number of the signal that killed it."""
        ended = [
            (instance, status) for instance, child in self._children.items() if (status := child.poll()) is not None
        ]
        for instance, _status in ended:
            del self._children[instance]
        return ended

    def kill_all(self) -> None:
        """Kill whoever still lives, and wait for it."""
        for child in self._children.values():
            child.kill()
        for child in self._children.values():
            child.wait()
        self._children.clear()


def _begin_under(parent: int) -> Callable[[], None]:
    """Return what a child does before it executes its program.

    It asks for SIGTERM at its parent's death, and has SIGHUP wait until it is ready for it (`ReloadFlag`).
    """

    def begin() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it died before the question was put
            os.kill(os.getpid(), signal.SIGKILL)

    return begin
