"""A run directory between two runs: its default, who still uses it, and clearing what an earlier run has left."""

import time
from pathlib import Path
from typing import Final

from services.common.bus import hold_instance
from services.common.endpoints import DEFAULT_RUN_DIR, Endpoints
from services.common.errors import HopwireError
from services.common.restarts import TERMINATE_LIMIT_S
from services.launcher.up.supervisor import SERVICES, ingress_of

LAUNCHER: Final = "launcher"
"""The instance name of the launcher itself."""
_POLL_S: Final = 0.02


def default_run_dir(namespace: str | None) -> Path:
    """Return the run directory where none is given: one for each named namespace."""
    return DEFAULT_RUN_DIR if namespace is None else DEFAULT_RUN_DIR.with_name(f"{DEFAULT_RUN_DIR.name}-{namespace}")


def wait_until_unused(endpoints: Endpoints) -> None:
    """Wait for the services of a launcher that was killed: they end by themselves a moment after it.

    :raises HopwireError: one still runs after the time in which it should have ended.
    """
    deadline = time.monotonic() + TERMINATE_LIMIT_S
    for instance in _instances(endpoints):
        while True:
            try:
                hold_instance(endpoints, instance).close()
                break
            except HopwireError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_S)


def clear(endpoints: Endpoints) -> None:
    """Remove the rings, bell, counters, recordings, taps, sockets and locks of services that do not run any more."""
    for instance in _instances(endpoints):
        endpoints.lock(instance).unlink(missing_ok=True)
    for socket in _sockets(endpoints):
        socket.unlink(missing_ok=True)
    endpoints.forwarder_bell.unlink(missing_ok=True)
    _remove(endpoints.rings, ".ring", ".new")
    _remove(endpoints.counters("any").parent, ".bin")
    _remove(endpoints.recordings, ".bin")
    for folder in endpoints.all_taps.glob("*/"):
        _remove(folder, ".tap", ".new")
    _remove(endpoints.all_taps)


def _instances(endpoints: Endpoints) -> list[str]:
    """Return the names of all services that have ever run here: no others, as the directory may be somebody's own."""
    ingresses = sorted(lock.stem for lock in endpoints.run_dir.glob(endpoints.lock(ingress_of("*")).name))
    return [*(service for service in SERVICES if endpoints.lock(service).exists()), *ingresses]


def _sockets(endpoints: Endpoints) -> list[Path]:
    """Return the socket files of all endpoints."""
    properties = [name for name, member in vars(Endpoints).items() if isinstance(member, property)]
    addresses = [str(getattr(endpoints, name)) for name in properties]
    return [Path(address.removeprefix("ipc://")) for address in addresses if address.startswith("ipc://")]


def _remove(folder: Path, *suffixes: str) -> None:
    """Remove the files with these suffixes from a folder, and the folder itself if nothing else is in it."""
    if folder.is_dir():
        for file in folder.iterdir():
            if file.suffix in suffixes:
                file.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()
