"""The shell around the supervisor: processes, signals, word from the kernel, control's word that all is ready."""

import os
import signal
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Final

import zmq

from services.common.endpoints import Endpoints
from services.common.interfaces import list_interfaces
from services.common.notify import Notifier
from services.common.runtime import ReloadFlag, StopFlag, clock
from services.launcher.up.processes import Processes
from services.launcher.up.readiness import Readiness
from services.launcher.up.supervisor import Supervisor
from services.launcher.up.wakeups import Wakeups

CONTROL: Final = "control"
"""The instance that keeps the configuration."""
_STDERR: Final = 2
LOOK_INTERVAL_S: Final = 1.0
"""The interfaces are looked at so often even without word from the kernel."""


class Launcher:
    """Runs the services of one router, in the network namespace of the main thread."""

    def __init__(
        self, endpoints: Endpoints, command: Callable[[str], Sequence[str]], log: Any, stack: ExitStack
    ) -> None:
        """Start nothing yet; `command` gives the command line of an instance, and `stack` takes down what is opened."""
        self._command = command
        self._log = log
        self._notifier = Notifier()
        self._processes = Processes()
        stack.callback(self._processes.kill_all)
        self._wakeups = Wakeups(stack)
        self._supervisor = Supervisor()
        self._readiness = Readiness(stack.enter_context(zmq.Context()), endpoints, log, clock())
        self._look_at = clock()

    def run(self, stop: StopFlag, reload: ReloadFlag) -> int:
        """Run until `stop` is set and everything has ended, and return the exit status.

        SIGHUP is passed on to control; it ends the router where it says that the terminal has closed.
        """
        on_terminal = os.isatty(_STDERR)
        while not self._supervisor.finished:
            hung_up = reload.take()
            if stop.is_set or (hung_up and on_terminal and not os.isatty(_STDERR)):
                self._supervisor.stop()
            elif hung_up:
                self._processes.send_if_running(CONTROL, signal.SIGHUP)
            self._act()
            self._notifier.tell(ready=self._readiness.is_ready)
            if self._wakeups.wait(self._next_at() - clock()):
                self._look_at = clock()
            self._take_events(clock())
        return 1 if self._supervisor.failed else 0

    def _next_at(self) -> float:
        """Return when there is something to do even if nothing happens before."""
        if self._supervisor.stopping:
            return self._supervisor.deadline()
        if self._readiness.is_ready:
            return min(self._supervisor.deadline(), self._look_at)
        return min(self._supervisor.deadline(), self._look_at, self._readiness.ask_at)

    def _take_events(self, now: float) -> None:
        """Tell the supervisor what happened, interfaces first: an ingress that ended with its own has not failed."""
        ended = self._processes.reap()
        if not self._supervisor.stopping and (ended or now >= self._look_at):
            self._look_at = now + LOOK_INTERVAL_S
            routed = [interface for interface in list_interfaces() if interface.is_ethernet and not interface.master]
            usable = [interface for interface in routed if interface.is_usable]
            self._supervisor.set_interfaces(
                {interface.name: interface.index for interface in usable},
                down={interface.name: interface.index for interface in routed if not interface.is_up},
            )
            self._readiness.set_interfaces(usable, now)
        for instance, status in ended:
            if self._supervisor.on_exit(instance, status, now):
                self._log.warning("service died", instance=instance, status=status)
        if not self._supervisor.stopping and self._readiness.ask_when_due(now):
            self._supervisor.set_ready()

    def _act(self) -> None:
        for action in self._supervisor.actions(clock()):
            if action.verb == "start":
                pid = self._processes.start(action.instance, self._command(action.instance))
                self._log.debug("started", instance=action.instance, pid=pid)
            elif action.verb == "terminate":
                self._processes.send(action.instance, signal.SIGTERM)
            else:
                self._log.warning("does not heed SIGTERM: killed", instance=action.instance)
                self._processes.send(action.instance, signal.SIGKILL)
