"""`hopwire bench --observed`: what is left of the 60-byte rate while somebody looks.

What never stops, counters, histograms and the flight recorder, is in the rate that nobody looks at. The others are: a
Prometheus that scrapes fifteen times as often as by default, with a status page open; and on top of them a capture
whose filter every frame is held against.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Final

from rich.console import Console
from rich.table import Table

from services.common.errors import HopwireError
from services.launcher.bench import deliver, rig, watcher
from services.launcher.bench.options import Output
from services.launcher.bench.traffic import Traffic, offer
from services.launcher.lab.lab import Lab
from services.launcher.lab.signals import Stopped, stop_signals
from services.launcher.lab.topologies import PAIR

NOBODY: Final = "nobody looks"
SCRAPED: Final = "scraped every second, status page open"
CAPTURED: Final = "and every frame held against a capture's filter"
KINDS: Final = (NOBODY, SCRAPED, CAPTURED)

_PREFIX: Final = "hw-observed-"
_MONITORING: Final = ("127.0.0.1", "9100")  # the default of `metrics_listen`
_CAPTURE: Final = ("capture", "eth0", "udp", "port", "53", "--write", "/dev/null")
"""Of datagrams that the benchmark does not send."""
_LIMIT_S: Final = 20.0
_LOOK_S: Final = 0.02

Rates = Mapping[str, Sequence[float]]
"""By who looks: the frames a second that were forwarded, one value a round."""


def run_observed(*, seconds: float, rounds: int, output: Output) -> int:
    """Measure with each kind of observer in turn, `rounds` times; print the medians, and return the exit status.

    :param seconds: of each measurement.
    :raises HopwireError: not root, the lab cannot be built, or the result cannot be written.
    """
    if os.geteuid() != 0:
        raise HopwireError("making network namespaces needs root; run: sudo hopwire bench --observed")
    deliver.check(output)
    progress = Console(stderr=True, highlight=False)
    rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
    try:
        with stop_signals(), Lab(PAIR, prefix=_PREFIX) as lab:
            rig.prepare(lab)
            with rig.mode(lab, rig.HOPWIRE):
                rig.resolve_neighbours(lab)
                for number in range(1, rounds + 1):
                    progress.print(f"round {number} of {rounds}")
                    for kind, values in rates.items():
                        with _observed(lab, kind):
                            values.append(offer(lab, Traffic(), seconds).forwarded)
    except Stopped as stop:
        return stop.exit_status
    deliver.deliver({"seconds": seconds, "rates": rates, "kept": kept(rates)}, [table(rates)], output)
    return 0


def kept(rates: Rates) -> dict[str, float]:
    """Return the share of the rate that each kind of observer leaves: the median of the rounds' own ratios."""
    return {
        kind: median(one / alone for one, alone in zip(values, rates[NOBODY], strict=True))
        for kind, values in rates.items()
    }


def table(rates: Rates) -> Table:
    """Return the table for people."""
    result = Table("60-byte frames, while")
    for title in ("forwarded, k/s", "kept"):
        result.add_column(title, justify="right")
    for kind, share in kept(rates).items():
        values = [value / 1e3 for value in rates[kind]]
        result.add_row(kind, f"{median(values):,.0f} ({min(values):,.0f}-{max(values):,.0f})", f"{share:.2f}")
    return result


@contextmanager
def _observed(lab: Lab, kind: str) -> Iterator[None]:
    """Let observers of that kind look at the router until the end of the block."""
    programs = []
    try:
        if kind in (SCRAPED, CAPTURED):
            command = [sys.executable, "-m", watcher.__name__, *_MONITORING]
            programs.append(lab.popen("router", command, stdout=subprocess.DEVNULL))
        if kind == CAPTURED:
            run_dir = str(lab.run_directory("router"))
            command = [sys.executable, "-m", "services.control.cli", "--run-dir", run_dir, *_CAPTURE]
            programs.append(lab.popen("router", command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            _wait_for_capture(lab)
        yield
        for program in programs:
            if program.poll() is not None:
                raise HopwireError(f"an observer has ended by itself, with status {program.returncode}")
    finally:
        for program in programs:
            lab.end(program)


def _wait_for_capture(lab: Lab) -> None:
    """Wait until the forwarder has taken note of the capture's tap."""
    deadline = time.monotonic() + _LIMIT_S
    while not any((lab.run_directory("router") / "taps").glob("*/*")):
        if time.monotonic() > deadline:
            raise HopwireError(f"control-cli capture did not begin within {_LIMIT_S:.0f} s")
        time.sleep(_LOOK_S)
