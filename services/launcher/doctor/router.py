"""Checks of the router on a run directory: who runs, what it says of itself, what a crash has left."""

import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import zmq

from services.common.endpoints import Endpoints
from services.common.kernel_settings import record_path
from services.launcher.doctor.finding import Finding, fine, note, wrong
from services.launcher.environment import namespace_is_owned
from services.launcher.status import RouterStatus, ask_status
from services.launcher.up.run_directory import LAUNCHER
from services.launcher.up.supervisor import SERVICES

_ANSWER_LIMIT_S: Final = 2.0
_MEMORY_FILE_SYSTEMS: Final = ("tmpfs", "ramfs")


def running_process(endpoints: Endpoints, instance: str) -> str | None:
    """Return the id of the process that holds an instance's lock; None if there is none."""
    try:
        with endpoints.lock(instance).open(encoding="ascii") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read().strip() or "unknown"
    except FileNotFoundError:
        pass
    return None


def router_findings(endpoints: Endpoints) -> Iterator[Finding]:
    """Judge what runs on a run directory.

    :raises PermissionError: only its owner may look into it.
    """
    processes = {instance: running_process(endpoints, instance) for instance in (LAUNCHER, *SERVICES)}
    running = {instance: process for instance, process in processes.items() if process}
    if not processes[LAUNCHER] and namespace_is_owned():
        yield wrong(
            f"a hopwire routes in this namespace, but not on {endpoints.run_dir}",
            "give its --run-dir, or stop it before you start another",
        )
    if not running:
        yield fine(f"no router runs on {endpoints.run_dir}: nothing is in the way of `hopwire up`")
        if record_path(endpoints.run_dir).exists():
            yield wrong(
                "a router crashed here and has left the kernel's settings changed",
                "start `hopwire up` once more: it puts them back when it stops",
            )
        return
    described = ", ".join(f"{instance} (process {process})" for instance, process in running.items())
    yield fine(f"a router runs on {endpoints.run_dir}: {described}")
    with zmq.Context() as context:
        yield from status_findings(ask_status(context, endpoints, _ANSWER_LIMIT_S))


def status_findings(status: RouterStatus | None) -> Iterator[Finding]:
    """Judge what control says; None stands for no answer."""
    if status is None:
        yield wrong("control does not answer", "look at the log of `hopwire up`; if this lasts, start it again")
        return
    if status.ready:
        names = ", ".join(interface.name for interface in status.interfaces if interface.forwarding)
        yield fine(f"the router is ready and forwards on {names or 'no interface'}")
    else:
        waiting_for = ", ".join(status.waiting_for) or "something that it does not name"
        yield wrong(f"the router is not ready: it waits for {waiting_for}", "look at the log of `hopwire up`")
    for service in status.services:
        if not service.up:
            yield wrong(f"{service.instance} is not heard of any more", "look at the log of `hopwire up`")
    for warning in status.warnings:
        text, _, remedy = warning.partition("; ")
        yield note(text, remedy)


def file_system_finding(run_dir: Path, mounts: str) -> Finding:
    """Judge where the frame rings lie, from the text of /proc/mounts."""
    kinds = {Path(fields[1]): fields[2] for fields in map(str.split, mounts.splitlines())}
    mount_point = next((folder for folder in (run_dir, *run_dir.parents) if folder in kinds), Path("/"))
    kind = kinds.get(mount_point, "unknown")
    if kind in _MEMORY_FILE_SYSTEMS:
        return fine(f"{run_dir} lies in memory ({kind})")
    return note(
        f"{run_dir} lies on {mount_point} ({kind}), not in memory: the kernel writes frames to that disk",
        "choose one in memory: --run-dir /dev/shm/hopwire",
    )
