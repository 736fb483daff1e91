"""How services notice that their network namespace is not the router's any more.

A container that joins another one's network namespace stays in it, also when that other one, the holder, is started
again and gets a new one: the old namespace lives on without its interfaces. So the holder writes which namespace it is
in to a file of the run directory, and keeps that file locked as long as it runs.
"""

import fcntl
import time
from enum import Enum
from pathlib import Path
from typing import IO, Final

from services.common.errors import HopwireError

_HOLD_LIMIT_S: Final = 2.0
"""So long the holder tries to lock the file: whoever looks at it holds it for a moment."""
_POLL_S: Final = 0.01


class Sight(Enum):
    """What a service sees of the holder."""

    SAME = "same"
    """It runs, in the service's own namespace."""
    MOVED = "moved"
    """It runs, in another namespace."""
    AWAY = "away"
    """It does not run."""
    UNSEEN = "unseen"
    """It has never run on this run directory."""


def namespace_path(run_dir: Path) -> Path:
    """Return the holder's file in a run directory."""
    return run_dir / "namespace"


def hold(run_dir: Path, identity: str) -> IO[str]:
    """Announce the holder's namespace (`kernel_settings.namespace_identity`) until the returned file is closed.

    :raises HopwireError: another holder runs on this run directory, or the file cannot be written.
    """
    path = namespace_path(run_dir)
    try:
        file = path.open("a+", encoding="ascii")
    except OSError as error:
        raise HopwireError(f"run directory {run_dir}: {error.strerror}; check its volume") from error
    deadline = time.monotonic() + _HOLD_LIMIT_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                file.close()
                raise HopwireError(
                    f"another container holds the namespace for {run_dir}; stop it, or give each a volume of its own"
                ) from error
            time.sleep(_POLL_S)
    file.truncate(0)
    file.write(identity)
    file.flush()
    return file


def look(run_dir: Path, identity: str) -> Sight:
    """Return what a service in the namespace `identity` sees of the holder."""
    try:
        with namespace_path(run_dir).open(encoding="ascii", errors="replace") as file:
            held = _is_held(file)
            announced = file.read()
    except OSError:
        return Sight.UNSEEN
    if not held:
        return Sight.AWAY
    if not announced:
        return Sight.AWAY  # it is about to write
    return Sight.SAME if announced == identity else Sight.MOVED


def _is_held(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(file, fcntl.LOCK_UN)
    return False
