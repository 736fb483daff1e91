"""What `ps` shows of a process: the arguments in its own memory, which it may overwrite (proc_pid_cmdline(5)).

Linux shows the memory that the program's arguments were put into at its start, whatever it holds now. It does not grow:
a process that is to have other titles is started with `ROOM` as its last argument.
"""

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOM: Final = "." * 4096
"""Room for a title, in bytes: a few options, and a path or two."""
_ARG_START: Final = 45
"""Fields 48 and 49 of /proc/PID/stat, the bounds of the arguments, counted behind the name (proc_pid_stat(5))."""
_ARG_END: Final = 46


def set_title(arguments: Sequence[str]) -> bool:
    """Make these the arguments that others see of this process; what does not fit is cut off.

    :returns: whether it was done: it is not where the kernel does not tell where the arguments are.
    """
    fields = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    start, end = int(fields[_ARG_START]), int(fields[_ARG_END])
    if not 0 < start < end or ctypes.string_at(start, end - start) != Path("/proc/self/cmdline").read_bytes():
        return False
    title = b"".join(os.fsencode(argument) + b"\0" for argument in arguments)
    room = end - start - 1  # the last byte stays 0: otherwise the kernel reads on, into the environment
    ctypes.memmove(start, title[:room].ljust(room, b"\0"), room)
    return True
