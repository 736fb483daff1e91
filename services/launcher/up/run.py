"""The shell of `hopwire up`: namespace, processes, signals and word from the kernel, around the supervisor."""

import signal
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import zmq

from services.common import netns
from services.common.bus import hold_instance
from services.common.endpoints import Endpoints, prepare_run_dir
from services.common.interfaces import list_interfaces
from services.common.kernel_settings import KernelOwnership, record_path
from services.common.runtime import StopFlag, clock, set_up_logging
from services.launcher.environment import check_capabilities, check_packet_sockets, own_namespace
from services.launcher.up.processes import Processes
from services.launcher.up.readiness import Readiness
from services.launcher.up.run_directory import LAUNCHER, clear, default_run_dir, wait_until_unused
from services.launcher.up.supervisor import Supervisor
from services.launcher.up.wakeups import Wakeups

LOOK_INTERVAL_S: Final = 1.0
"""The interfaces are looked at so often even without word from the kernel."""


@dataclass(frozen=True)
class Settings:
    """The command line of `hopwire up`."""

    namespace: str | None = None
    run_dir: Path | None = None
    config: Path | None = None
    log_level: str = "info"
    metrics_listen: str | None = None


def run_up(settings: Settings) -> int:
    """Run a router until SIGTERM or SIGINT, and return the exit status.

    :raises HopwireError: it cannot run here; then nothing has been changed.
    """
    log = set_up_logging(LAUNCHER, settings.log_level)
    check_capabilities(other_namespace=settings.namespace is not None)
    if settings.namespace is not None:
        netns.enter(settings.namespace)
    check_packet_sockets()
    run_dir = (settings.run_dir or default_run_dir(settings.namespace)).absolute()
    with ExitStack() as stack:
        if not run_dir.exists():
            stack.callback(_remove_if_empty, run_dir)
        endpoints = prepare_run_dir(run_dir)
        lock = stack.enter_context(hold_instance(endpoints, LAUNCHER))
        stack.callback(Path(lock.name).unlink, missing_ok=True)
        stack.enter_context(own_namespace())
        stop = StopFlag()
        wait_until_unused(endpoints)
        clear(endpoints)
        stack.callback(clear, endpoints)
        stack.callback(_restore_kernel_settings, record_path(run_dir), log)
        return _Launcher(endpoints, settings, log, stack).run(stop)


def service_command(instance: str, endpoints: Endpoints, settings: Settings) -> list[str]:
    """Return the command that runs one service."""
    service, _, interface = instance.partition("-")
    command = [sys.executable, "-m", f"services.{service}", "--run-dir", str(endpoints.run_dir)]
    command += ["--log-level", settings.log_level]
    if interface:
        command += ["--interface", interface]
    if service == "control" and settings.config is not None:
        command += ["--config", str(settings.config)]
    if service == "control" and settings.metrics_listen is not None:
        command += ["--metrics-listen", settings.metrics_listen]
    return command


def _remove_if_empty(run_dir: Path) -> None:
    if run_dir.is_dir() and not any(run_dir.iterdir()):
        run_dir.rmdir()


def _restore_kernel_settings(record: Path, log: Any) -> None:
    """Put back what control has not: it does so itself, unless it was killed."""
    if record.exists():
        for warning in KernelOwnership(record).restore():
            log.warning(warning)


class _Launcher:
    """Runs the services of one router."""

    def __init__(self, endpoints: Endpoints, settings: Settings, log: Any, stack: ExitStack) -> None:
        self._endpoints = endpoints
        self._settings = settings
        self._log = log
        self._processes = Processes()
        stack.callback(self._processes.kill_all)
        self._wakeups = Wakeups(stack)
        self._supervisor = Supervisor()
        self._readiness = Readiness(stack.enter_context(zmq.Context()), endpoints, log, clock())
        self._look_at = clock()

    def run(self, stop: StopFlag) -> int:
        """Run until `stop` is set and everything has ended, and return the exit status."""
        while not self._supervisor.finished:
            if stop.is_set:
                self._supervisor.stop()
            self._act()
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
            usable = [interface for interface in list_interfaces() if interface.is_usable]
            self._supervisor.set_interfaces({interface.name: interface.index for interface in usable})
            self._readiness.set_interfaces(usable, now)
        for instance, status in ended:
            self._supervisor.on_exit(instance, status, now)
            if not self._supervisor.stopping:
                self._log.warning("service ended", instance=instance, status=status)
        if not self._supervisor.stopping and self._readiness.ask_when_due(now):
            self._supervisor.set_ready()

    def _act(self) -> None:
        for action in self._supervisor.actions(clock()):
            if action.verb == "start":
                command = service_command(action.instance, self._endpoints, self._settings)
                pid = self._processes.start(action.instance, command)
                self._log.debug("started", instance=action.instance, pid=pid)
            elif action.verb == "terminate":
                self._processes.send(action.instance, signal.SIGTERM)
            else:
                self._log.warning("does not heed SIGTERM: killed", instance=action.instance)
                self._processes.send(action.instance, signal.SIGKILL)
