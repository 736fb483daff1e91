"""Named network namespaces, as `ip netns` makes them (ip-netns(8)), and entering one (setns(2)).

A namespace belongs to a thread, not to a process: what is entered here is entered by the calling thread, and
by the threads and processes that it starts from then on. ctypes makes the call, since `os.setns` exists only
from Python 3.12.
"""

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from services.common.errors import HopwireError

DIRECTORIES: Final = (Path("/run/netns"), Path("/var/run/netns"))
"""Where named namespaces are mounted; the second is the first, except where /var/run is a folder of its own."""

_CLONE_NEWNET: Final = 0x4000_0000  # linux/sched.h
_THREAD_NAMESPACE: Final = Path("/proc/thread-self/ns/net")

_libc = ctypes.CDLL(None, use_errno=True)


def names() -> list[str]:
    """Return the names of all network namespaces, sorted."""
    return sorted({entry.name for directory in DIRECTORIES if directory.is_dir() for entry in directory.iterdir()})


def path(name: str) -> Path:
    """Return the file that stands for a namespace.

    :raises HopwireError: there is none of that name.
    """
    if name in names():
        return next(directory / name for directory in DIRECTORIES if (directory / name).exists())
    existing = ", ".join(names()) or "none"
    raise HopwireError(
        f"network namespace {name!r} does not exist (there are: {existing}); make it with: ip netns add NAME"
    )


def enter(name: str) -> None:
    """Move the calling thread into a namespace.

    :raises HopwireError: there is none of that name, its file is no namespace, or the caller may not enter it.
    """
    file = path(name)
    try:
        _set_namespace(file)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            reason = "needs root (CAP_SYS_ADMIN); run it with sudo"
        elif error.errno == errno.EINVAL:
            reason = f"failed: {file} is a plain file, left behind; remove it with: rm {file}"
        else:
            reason = f"failed: {error.strerror}"
        raise HopwireError(f"entering network namespace {name!r} {reason}") from error


@contextmanager
def inside(name: str) -> Iterator[None]:
    """Run a block inside a namespace; the calling thread then goes back to where it was.

    :raises HopwireError: as `enter`.
    """
    here = os.open(_THREAD_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(name)
        try:
            yield
        finally:
            _set_namespace(here)
    finally:
        os.close(here)


def _set_namespace(target: Path | int) -> None:
    if isinstance(target, Path):
        descriptor = os.open(target, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _set_namespace(descriptor)
        finally:
            os.close(descriptor)
    elif _libc.setns(target, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
