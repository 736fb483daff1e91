"""The shell of `hopwire doctor`: asks everything, prints what it found."""

from collections.abc import Iterator
from pathlib import Path

from services.common import netns
from services.common.endpoints import Endpoints
from services.common.interfaces import list_interfaces
from services.launcher.doctor.finding import Finding, Level, wrong
from services.launcher.doctor.machine import check_machine
from services.launcher.doctor.network import (
    interface_findings,
    offload_findings,
    reverse_path_findings,
    setting_findings,
)
from services.launcher.doctor.router import file_system_finding, router_findings, running_process
from services.launcher.up.run_directory import default_run_dir


def run_doctor(namespace: str | None, run_dir: Path | None) -> int:
    """Check a network namespace and the run directory of its router; return 1 if anything is wrong.

    :raises HopwireError: the namespace cannot be entered.
    """
    if namespace is not None:
        netns.enter(namespace)
    endpoints = Endpoints((run_dir or default_run_dir(namespace)).absolute())
    wrong_count = 0
    for finding in _findings(endpoints, other_namespace=namespace is not None):
        wrong_count += finding.level is Level.WRONG
        print(f"{finding.level.value} {finding.text}")
        if finding.remedy:
            print(f"    {finding.remedy}")
    print("Nothing is wrong." if not wrong_count else f"Wrong: {wrong_count}, marked with {Level.WRONG.value}.")
    return 1 if wrong_count else 0


def _findings(endpoints: Endpoints, *, other_namespace: bool) -> Iterator[Finding]:
    interfaces = list_interfaces()
    usable = [interface.name for interface in interfaces if interface.is_usable]
    yield from check_machine(len(usable), other_namespace=other_namespace)
    yield from interface_findings(interfaces)
    yield from offload_findings(usable)
    yield from reverse_path_findings(usable)
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    yield file_system_finding(endpoints.run_dir, mounts)
    try:
        router_runs = running_process(endpoints, "control") is not None
        yield from setting_findings(usable, router_runs=router_runs)
        yield from router_findings(endpoints)
    except PermissionError:
        yield wrong(f"{endpoints.run_dir} cannot be read", "run it with sudo")
