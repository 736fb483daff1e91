"""CPU time: of the whole machine, of a family of processes. What is read of /proc is taken apart by pure functions."""

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

_IDLE_FIELDS: Final = (4, 5, 8)
"""idle, iowait and steal of /proc/stat's first line (proc_stat(5)).

What is left of the time is busy. The kernel measures when a core idles, but only samples, at ticks, what else it does.
"""
_PARENT_FIELD: Final = 1
"""Of /proc/PID/stat, counted from behind the name (proc_pid_stat(5))."""
_CPUCLOCK_SCHED: Final = 2  # linux/posix-timers.h


def idle_ticks(stat: str) -> tuple[int, int]:
    """Return the ticks that all cores together had nothing to do or were not there, and how many cores there are.

    :param stat: the text of /proc/stat.
    """
    first, *others = stat.splitlines()
    fields = first.split()
    return sum(int(fields[place]) for place in _IDLE_FIELDS), sum(line.startswith("cpu") for line in others)


def machine_s() -> float:
    """Return the seconds that the machine's cores have been busy since some moment, interrupts included."""
    ticks, cores = idle_ticks(Path("/proc/stat").read_text(encoding="ascii"))
    return cores * time.monotonic() - ticks / os.sysconf("SC_CLK_TCK")


def family(root: int, parents: Mapping[int, int]) -> set[int]:
    """Return a process and all that descend from it.

    :param parents: each process's parent.
    """
    members = {root}
    while more := {child for child, parent in parents.items() if parent in members} - members:
        members |= more
    return members


def running_family(root: int) -> set[int]:
    """Return a process and all that descend from it, as they run now."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            continue
        parents[int(entry.name)] = int(fields[_PARENT_FIELD])
    return family(root, parents)


def processes_s(processes: Iterable[int]) -> float:
    """Return the seconds of CPU that processes have used, to the nanosecond (clock_getcpuclockid(3)).

    :raises OSError: one of them has ended.
    """
    return sum(time.clock_gettime(~process << 3 | _CPUCLOCK_SCHED) for process in processes)
