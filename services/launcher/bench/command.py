"""`hopwire bench`: the kernel's forwarding and hopwire's, in turn, on the same topology."""

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from typing import Any, Final

from rich.console import Console, RenderableType

from services.common.errors import HopwireError
from services.launcher.bench import deliver, report, rig
from services.launcher.bench.options import Comparison, Document, Output
from services.launcher.bench.run import Run, middle
from services.launcher.bench.sampling import FRAME_BYTES, Measured, sample
from services.launcher.bench.throughput import repeats
from services.launcher.bench.traffic import DESTINATIONS, Traffic
from services.launcher.lab.lab import Lab
from services.launcher.lab.signals import Stopped, stop_signals

_PREFIX: Final = "hw-bench-"

Rounds = dict[str, list[Measured]]
"""By mode, one a round."""


def run_bench(options: Comparison, output: Output) -> int:
    """Measure round by round, each way of forwarding in turn; print the medians, and return the exit status.

    :raises HopwireError: not root, a file cannot be read or written, or the lab cannot be built.
    """
    if os.geteuid() != 0:
        raise HopwireError("making network namespaces needs root; run: sudo hopwire bench")
    deliver.check(output)
    try:
        with stop_signals(), ExitStack() as stack:
            rounds, alone, routes = _measure(stack, options, Console(stderr=True, highlight=False))
    except Stopped as stop:
        return stop.exit_status
    document = _document(rounds, alone, routes, options)
    samples = document["samples"]
    notes = report.notes(samples, _repeated(rounds), rig.KERNEL)
    shown: list[RenderableType] = [report.table(samples, rig.MODES, rig.HOPWIRE), _conditions(document), *notes]
    deliver.deliver(document, shown, output)
    return 0


def _measure(stack: ExitStack, options: Comparison, progress: Console) -> tuple[Rounds, Mapping[int, Run], int]:
    """Return the rounds, what traffic costs without a router by frame size, and the routes of the loaded table."""
    table = None if options.table is None else rig.read_table(options.table)
    lab = stack.enter_context(Lab(rig.topology(options.interfaces), prefix=_PREFIX))
    rig.prepare(lab)
    traffic = Traffic(rig.senders(lab))
    progress.print("without a router")
    alone = {
        size: middle(
            [
                rig.without_router(lab, replace(traffic, frame_bytes=size), options.seconds)
                for _ in range(options.rounds)
            ]
        )
        for size in FRAME_BYTES
    }
    if table is not None:
        progress.print(f"loading {len(table):,} routes into the kernel")
        traffic = replace(traffic, addresses=stack.enter_context(rig.table_loaded(lab, table)))
    rounds: Rounds = {mode: [] for mode in rig.MODES}
    for number in range(1, options.rounds + 1):
        for mode, measured in rounds.items():
            progress.print(f"round {number} of {options.rounds}: {mode}")
            with rig.mode(lab, mode):
                measured.append(sample(lab, traffic, alone, options))
    return rounds, alone, 0 if table is None else len(table)


def _document(rounds: Rounds, alone: Mapping[int, Run], routes: int, options: Comparison) -> Document:
    samples = {mode: [one.values for one in measured] for mode, measured in rounds.items()}
    document: dict[str, Any] = {
        "options": asdict(options),
        "destinations": DESTINATIONS,
        "routes": routes,
        "samples": samples,
        "medians": report.medians(samples),
        "spreads": report.spreads(samples),
        "ratios": {
            baseline: report.ratios(samples, rig.HOPWIRE, baseline) for baseline in (rig.KERNEL, rig.KERNEL_RPS)
        },
        "lower_bounds": report.lower_bounds(samples),
        "without_router": {
            f"packets_{size}": {"offered": run.offered, "cpu_us": run.machine_s / run.sent * 1e6}
            for size, run in alone.items()
        },
    }
    if options.loss_free:
        document["trials"] = {
            mode: [[trial._asdict() for trial in one.trials] for one in measured] for mode, measured in rounds.items()
        }
    return document


def _repeated(rounds: Rounds) -> dict[str, int]:
    return {mode: sum(repeats(one.trials) for one in measured) for mode, measured in rounds.items()}


def _conditions(document: Document) -> str:
    machine, options = deliver.machine(), document["options"]
    sent_from = f"{options['interfaces']} hosts at once" if options["interfaces"] > 1 else "one host"
    routes = f", {document['routes']:,} routes" if document["routes"] else ""
    return (
        f"{machine['cpus']} cores, {machine['cpu']}, Linux {machine['kernel']}, medians of {options['rounds']} rounds "
        f"of {options['seconds']:g} s, {document['destinations']:,} destinations{routes}, from {sent_from}"
    )
