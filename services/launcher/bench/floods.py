"""`hopwire bench --floods`: what is left of the fast path's rate while as many frames again are exceptions.

The rate is compared with the one beside a flood for a blackhole, which costs the ways in and the fast path the same,
and is no exception.
"""

import os
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final

from pyroute2 import IPRoute
from rich.console import Console
from rich.table import Table

from services.common import netns
from services.common.errors import HopwireError
from services.launcher.bench import deliver, exceptions, flood_generator, rig, traffic
from services.launcher.bench.options import Output
from services.launcher.lab.lab import Lab
from services.launcher.lab.signals import Stopped, stop_signals
from services.launcher.lab.topologies import PAIR

_PREFIX: Final = "hw-flood-"

Rates = Mapping[str, Sequence[float]]
"""By kind of flood: the frames a second that were forwarded, one value a round."""


def run_floods(*, seconds: float, rounds: int, output: Output) -> int:
    """Measure each flood in turn, `rounds` times; print the medians, and return the exit status.

    :param seconds: of each flood.
    :raises HopwireError: not root, the lab cannot be built, or the result cannot be written.
    """
    if os.geteuid() != 0:
        raise HopwireError("making network namespaces needs root; run: sudo hopwire bench --floods")
    deliver.check(output)
    progress = Console(stderr=True, highlight=False)
    rates: dict[str, list[float]] = {kind: [] for kind in exceptions.KINDS}
    try:
        with stop_signals(), Lab(PAIR, prefix=_PREFIX) as lab:
            rig.prepare(lab)
            with netns.inside(lab.namespace("router")), IPRoute() as kernel:
                kernel.route("add", dst=str(exceptions.BLACKHOLED), type="blackhole")
            with rig.mode(lab, rig.HOPWIRE):
                rig.resolve_neighbours(lab)
                for number in range(1, rounds + 1):
                    progress.print(f"round {number} of {rounds}")
                    for kind, values in rates.items():
                        values.append(_rate(lab, kind, seconds))
    except Stopped as stop:
        return stop.exit_status
    deliver.deliver({"seconds": seconds, "rates": rates, "kept": kept(rates)}, [table(rates)], output)
    return 0


def kept(rates: Rates) -> dict[str, float]:
    """Return the share of the fast path's rate that each flood leaves: medians against the control group's."""
    control = median(rates[exceptions.BLACKHOLE])
    return {kind: median(values) / control for kind, values in rates.items()}


def table(rates: Rates) -> Table:
    """Return the table for people."""
    result = Table("every other frame")
    for title in ("forwarded, k/s", "kept"):
        result.add_column(title, justify="right")
    for kind, share in kept(rates).items():
        values = [value / 1e3 for value in rates[kind]]
        result.add_row(kind, f"{median(values):,.0f} ({min(values):,.0f}-{max(values):,.0f})", f"{share:.2f}")
    return result


def _rate(lab: Lab, kind: str, seconds: float) -> float:
    first = traffic.BENCHMARK_NETWORK[0]
    host = lab.topology.address("host1")
    near = next(entry for entry in lab.topology.interfaces("router") if host in entry.address.network)
    far = next(entry for entry in lab.topology.interfaces("router") if entry is not near)
    before = traffic.received(lab)
    report = rig.python(
        lab,
        "host1",
        flood_generator.__name__,
        *(kind, "--interface", "eth0", "--gateway-mac", traffic.router_mac(lab, "host1")),
        *("--cpu", str(traffic.generator_cores()[0])),
        *("--source", str(host), "--router", str(near.address.ip), "--absent", str(far.address.network[20])),
        *("--first-destination", str(first), "--destinations", str(traffic.DESTINATIONS), "--seconds", str(seconds)),
    )
    return (traffic.received(lab) - before) / float(report["seconds"])
