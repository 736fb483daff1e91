"""The launcher's child processes: the fork server, the services that it forks, and how each ends."""

import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from services.common import notify
from services.launcher.up import fork_server
from services.launcher.up.births import Births
from services.launcher.up.fork_protocol import Born, Loaded, Message, Order, Refused, receive, send
from services.launcher.up.lineage import adopt_descendants
from services.launcher.up.supervisor import FORK_SERVER

_FAILED: Final = 1
"""The exit status that stands for a process that the kernel did not give."""


@dataclass
class Changes:
    """What has become of processes, by instance name."""

    started: list[tuple[str, int]] = field(default_factory=list)
    """With its process id."""
    refused: list[tuple[str, str]] = field(default_factory=list)
    """With the kernel's reason. It has ended as well."""
    ended: list[tuple[str, int]] = field(default_factory=list)
    """With its exit status, or minus the number of the signal that killed it."""


class Processes:
    """The launcher's children, by instance name.

    Each is in a session of its own, so that Ctrl-C at the terminal reaches the launcher alone. What it prints goes
    to the launcher's stderr. No other child of this process can be waited for as long as this lives.
    """

    def __init__(self, packages: Sequence[str]) -> None:
        """No child yet; the fork server will load these packages, in this order."""
        self._packages = packages
        self._births = Births()
        self._server: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._pids: dict[str, int] = {}
        self._changes = Changes()
        adopt_descendants(adopt=True)

    def start_server(self) -> int:
        """Start the fork server unless it runs; return its id. Only in the main thread, with which it would end."""
        if self._server is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.setblocking(False)
            with theirs:
                self._server = subprocess.Popen(
                    fork_server.command(os.getpid(), theirs.fileno(), self._packages),
                    stdin=subprocess.DEVNULL,
                    stdout=2,  # the launcher's own stdout says one thing: that the router is ready
                    pass_fds=[theirs.fileno()],
                    env={name: value for name, value in os.environ.items() if name != notify.VARIABLE},
                    start_new_session=True,
                )
            self._channel = ours
        return self._server.pid

    def start(self, order: Order) -> None:
        """Have the fork server make a process as soon as it can."""
        self._births.want(order)
        self._order()

    def send(self, instance: str, number: signal.Signals) -> None:
        """Send a process a signal; nothing happens if it has ended. Whoever is not there yet does not come."""
        if instance == FORK_SERVER:
            if self._server is not None:
                os.kill(self._server.pid, number)
        elif instance in self._pids:
            os.kill(self._pids[instance], number)  # it is a zombie at the least: the id is nobody else's
        elif self._births.withdraw(instance, number):
            self._changes.ended.append((instance, -number))

    def send_if_running(self, instance: str, number: signal.Signals) -> None:
        """Send a signal to a process, if there is one of that name by now."""
        if instance in self._pids:
            self.send(instance, number)

    @property
    def has_changed(self) -> bool:
        """Whether `take_changes` has something to return without any further event."""
        return self._changes != Changes()

    @property
    def all_started(self) -> bool:
        """Whether everybody that was to be started is a process by now, or was."""
        return not self._births.pending

    def fileno(self) -> int | None:
        """Return what becomes readable when the fork server says something; None without one."""
        return self._channel.fileno() if self._channel else None

    def take_changes(self) -> Changes:
        """Return what has happened since the last call."""
        dead = _reaped()  # before the server's words are read: it tells of everybody before they run
        self._follow_server(dead)
        names = {pid: instance for instance, pid in self._pids.items()}
        for pid, status in dead.items():
            if pid in names:
                del self._pids[names[pid]]
                self._changes.ended.append((names[pid], status))
            elif self._server is not None and pid == self._server.pid:
                self._server.returncode = status
                self._drop_server()
                self._changes.ended.append((FORK_SERVER, status))
                self._changes.ended += [(name, -number) for name, number in self._births.on_server_end()]
        changes, self._changes = self._changes, Changes()
        return changes

    def kill_all(self) -> None:
        """Kill whoever still lives, and wait for it."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._follow_server({})
            self._drop_server()
        for pid in self._pids.values():
            os.kill(pid, signal.SIGKILL)
        for pid in self._pids.values():
            os.waitpid(pid, 0)
        self._pids.clear()
        adopt_descendants(adopt=False)

    def _follow_server(self, dead: Mapping[int, int]) -> None:
        """Take in all that the fork server has said."""
        while (message := self._next_message()) is not None:
            if isinstance(message, Loaded):
                self._births.on_loaded(message.package)
            elif isinstance(message, Born):
                self._take_over(message, dead)
            elif isinstance(message, Refused):
                self._births.on_answer()
                self._changes.refused.append((message.instance, message.reason))
                self._changes.ended.append((message.instance, _FAILED))
        self._order()

    def _take_over(self, born: Born, dead: Mapping[int, int]) -> None:
        number = self._births.on_answer()
        self._changes.started.append((born.instance, born.pid))
        if born.pid in dead or _is_child(born.pid):
            self._pids[born.instance] = born.pid
            if number is not None and born.pid not in dead:
                os.kill(born.pid, number)
        else:  # somebody killed it before the server could tell of it
            self._changes.ended.append((born.instance, -signal.SIGKILL))

    def _order(self) -> None:
        """Order what can be ordered now."""
        if self._channel is not None and (order := self._births.next_order()) is not None:
            try:
                send(self._channel, order)
            except (BrokenPipeError, ConnectionResetError):
                self._close_channel()  # the server ends, and the order waits for the next one

    def _next_message(self) -> Message | None:
        """Return what the fork server has said next; None if there is nothing more now, or ever."""
        if self._channel is None:
            return None
        try:
            message = receive(self._channel)
        except BlockingIOError:
            return None
        if message is None:
            self._close_channel()
        return message

    def _drop_server(self) -> None:
        self._server = None
        self._close_channel()

    def _close_channel(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None


def _reaped() -> dict[int, int]:
    """Return which children have ended, and how. Some were never known: who was forked by a server that was killed."""
    dead = {}
    try:
        while (ended := os.waitpid(-1, os.WNOHANG))[0] != 0:
            dead[ended[0]] = os.waitstatus_to_exitcode(ended[1])
    except ChildProcessError:  # there is none left
        pass
    return dead


def _is_child(pid: int) -> bool:
    """Tell whether a process is a child of this one, dead or alive, that nobody has waited for."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
