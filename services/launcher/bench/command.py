"""`hopwire bench`: the kernel's forwarding and hopwire's, in turn, on the same topology."""

import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from services.common.errors import HopwireError
from services.launcher.bench import report, rig
from services.launcher.lab.lab import Lab
from services.launcher.lab.signals import Stopped, stop_signals
from services.launcher.lab.topologies import PAIR

_PREFIX: Final = "hw-bench-"


def run_bench(*, seconds: float, rounds: int, as_json: bool) -> int:
    """Measure `rounds` times, each way of forwarding in turn, and print the medians; return the exit status.

    :param seconds: of each measurement of a rate or a stream; a round has four for each way of forwarding.
    :raises HopwireError: not root, or the lab cannot be built.
    """
    if os.geteuid() != 0:
        raise HopwireError("making network namespaces needs root; run: sudo hopwire bench")
    progress = Console(stderr=True, highlight=False)
    samples: dict[str, list[rig.Sample]] = {mode: [] for mode in rig.MODES}
    try:
        with stop_signals(), Lab(PAIR, prefix=_PREFIX) as lab:
            rig.prepare(lab)
            for number in range(1, rounds + 1):
                for mode in rig.MODES:
                    progress.print(f"round {number} of {rounds}: {mode}")
                    with rig.mode(lab, mode):
                        samples[mode].append(rig.sample(lab, seconds))
    except Stopped as stop:
        return stop.exit_status
    if as_json:
        print(json.dumps(_document(samples, seconds), indent=2))
        return 0
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(report.table(samples, rig.MODES, rig.HOPWIRE))
    machine = _machine()
    console.print(f"{machine['cpus']} cores, {machine['cpu']}, Linux {machine['kernel']}, medians of {rounds} rounds")
    return 0


def _document(samples: report.Samples, seconds: float) -> dict[str, Any]:
    return {
        "machine": _machine(),
        "seconds": seconds,
        "samples": samples,
        "medians": report.medians(samples),
        "ratios": {
            baseline: report.ratios(samples, rig.HOPWIRE, baseline) for baseline in (rig.KERNEL, rig.KERNEL_RPS)
        },
    }


def _machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.machine(),
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "numba": version("numba"),
    }
