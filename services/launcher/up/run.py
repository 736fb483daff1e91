"""`hopwire up`: takes possession of a namespace and a run directory, and leaves both as they were."""

import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.common import netns
from services.common.bus import hold_instance
from services.common.endpoints import Endpoints, prepare_run_dir
from services.common.kernel_settings import KernelOwnership, record_path
from services.common.logs import AUTO, set_up_logging
from services.common.runtime import ReloadFlag, StopFlag
from services.launcher.environment import check_capabilities, check_packet_sockets, own_namespace
from services.launcher.up.loop import Launcher
from services.launcher.up.run_directory import LAUNCHER, clear, default_run_dir, wait_until_unused


@dataclass(frozen=True)
class Settings:
    """The command line of `hopwire up`."""

    namespace: str | None = None
    run_dir: Path | None = None
    config: Path | None = None
    log_level: str | None = None
    metrics_listen: str | None = None
    log_format: str | None = None


def run_up(settings: Settings) -> int:
    """Run a router until SIGTERM or SIGINT, and return the exit status.

    :raises HopwireError: it cannot run here; then nothing has been changed.
    """
    log = set_up_logging(LAUNCHER, settings.log_level or "info", settings.log_format or AUTO)
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
        stop, reload = StopFlag(), ReloadFlag()
        wait_until_unused(endpoints)
        clear(endpoints)
        stack.callback(clear, endpoints)
        stack.callback(_restore_kernel_settings, record_path(run_dir), log)
        launcher = Launcher(endpoints, lambda instance: service_command(instance, endpoints, settings), log, stack)
        return launcher.run(stop, reload)


def service_command(instance: str, endpoints: Endpoints, settings: Settings) -> list[str]:
    """Return the command that runs one service."""
    service, _, interface = instance.partition("-")
    command = [sys.executable, "-m", f"services.{service}", "--run-dir", str(endpoints.run_dir)]
    options: dict[str, str | Path | None] = {
        "--log-level": settings.log_level,
        "--log-format": settings.log_format,
        "--interface": interface or None,
    }
    if service == "control":
        options |= {"--config": settings.config, "--metrics-listen": settings.metrics_listen}
    for option, value in options.items():
        if value is not None:
            command += [option, str(value)]
    return command


def _remove_if_empty(run_dir: Path) -> None:
    if run_dir.is_dir() and not any(run_dir.iterdir()):
        run_dir.rmdir()


def _restore_kernel_settings(record: Path, log: Any) -> None:
    """Put back what control has not: it does so itself, unless it was killed."""
    if record.exists():
        for warning in KernelOwnership(record).restore():
            log.warning(warning)
