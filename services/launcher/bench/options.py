"""What `hopwire bench` is asked for. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

DEFAULT_TRIAL_SECONDS: Final = 10.0
SYNTHETIC: Final = "synthetic"
"""In place of a file: a table that is made."""


@dataclass(frozen=True)
class Comparison:
    """A comparison of hopwire with the kernel's forwarding."""

    seconds: float
    """Of each measurement of a rate or a stream."""
    rounds: int
    interfaces: int
    """From how many hosts, each on an interface of its own, traffic comes at once."""
    table: str | None
    """A file of prefixes, or SYNTHETIC; None: a small table."""
    loss_free: bool
    """Whether to search for the highest rate without loss."""
    trial_seconds: float | None
    """Of each trial of that search; DEFAULT_TRIAL_SECONDS if None."""
    latency: bool
    """Whether to measure latency under load."""


@dataclass(frozen=True)
class Output:
    """Where the result goes."""

    as_json: bool = False
    """To standard output, in place of a table."""
    file: Path | None = None
    """JSON goes there, too."""


Document = dict[str, Any]
"""What is written as JSON."""


def problem(comparison: Comparison, instead: Sequence[str], *, has_prefixes: bool) -> str | None:
    """Return what is wrong with options that do not go together; None if they do.

    :param instead: the names of what is measured instead of the comparison: one at most.
    """
    if len(instead) > 1:
        return f"--{instead[0]} and --{instead[1]} are measured one at a time"
    only_compared = {
        "interfaces": comparison.interfaces != 1,
        "table": comparison.table is not None,
        "loss-free": comparison.loss_free,
        "latency": comparison.latency,
    }
    given = [name for name, is_given in only_compared.items() if is_given]
    if instead and given:
        return f"--{given[0]} is an option of the comparison with the kernel, and --{instead[0]} is measured instead"
    if has_prefixes and list(instead) != ["full-table"]:
        return "--prefixes goes with --full-table; for the comparison with the kernel use --table"
    if not comparison.loss_free and comparison.trial_seconds is not None:
        return "--trial-seconds goes with --loss-free"
    return None
