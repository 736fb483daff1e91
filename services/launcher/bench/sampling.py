"""One round of one way of forwarding: everything that is measured of it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np

from services.common.errors import HopwireError
from services.launcher.bench import rig, throughput
from services.launcher.bench.options import DEFAULT_TRIAL_SECONDS, Comparison
from services.launcher.bench.report import LOADS, PERCENTILES, bound_name
from services.launcher.bench.run import Run
from services.launcher.bench.throughput import Outcome, Throughput, Trial
from services.launcher.bench.traffic import RECEIVER, ROUTER, Traffic, offer, sending
from services.launcher.lab import measure
from services.launcher.lab.lab import Lab

FRAME_BYTES: Final = (60, 1514)
"""Without the FCS: RFC 2544's 64 and 1518."""
_IDLE_SHARE: Final = 2.5
"""How long the router is watched with no traffic, in lengths of another measurement."""
_PING_INTERVAL_S: Final = 0.002
_MIN_PINGS: Final = 50


class Measured(NamedTuple):
    """What came of a round."""

    values: Mapping[str, float]
    """By the names in `report.ROWS`, and more for the JSON."""
    trials: tuple[Trial, ...]
    """Of the search for the highest rate without loss."""


def sample(lab: Lab, traffic: Traffic, alone: Mapping[int, Run], options: Comparison) -> Measured:
    """Measure everything once.

    :param alone: by frame size, what the traffic costs without a router.
    """
    rig.resolve_neighbours(lab)
    values: dict[str, float] = {}
    for size in FRAME_BYTES:
        run = offer(lab, replace(traffic, frame_bytes=size), options.seconds)
        values |= _rates(run, alone[size], size)
    trials: tuple[Trial, ...] = ()
    if options.loss_free:
        found = _search(lab, traffic, options.trial_seconds or DEFAULT_TRIAL_SECONDS, values["offered_60"])
        trials = found.trials
        values |= {"loss_free": found.rate, "lossy": found.lossy, bound_name("loss_free"): float(found.is_bound)}
        values["loss_free_share"] = found.rate / values["packets_60"]
    if options.latency:
        full = values.get("loss_free") or values["packets_60"]
        for load in LOADS:
            values |= _latency(lab, traffic, options.seconds, load, full * load / 100)
    values["tcp_forth"] = rig.tcp_rate(lab, "host1", RECEIVER, options.seconds)
    values["tcp_back"] = rig.tcp_rate(lab, RECEIVER, "host1", options.seconds)
    values["flood_rtt"] = rig.flood_rtt_us(lab)
    values["idle_rtt"] = rig.idle_rtt_us(lab)
    router, others = rig.idle_cores(lab, options.seconds * _IDLE_SHARE)
    values["others_cpu"] = others * 100
    if lab.router_process(ROUTER) is not None:
        values["idle_cpu"] = router * 100
    return Measured(values, trials)


def _rates(run: Run, alone: Run, size: int) -> dict[str, float]:
    if not run.received:
        raise HopwireError(f"none of the {size}-byte frames came through the router; see `hopwire doctor`")
    name = f"packets_{size}"
    rates = {name: run.forwarded, bound_name(name): float(run.is_bound)}
    rates |= {f"offered_{size}": run.offered, f"cpu_{size}": run.cpu_us(alone)}
    return rates | ({f"router_cpu_{size}": run.router_s / run.received * 1e6} if run.router_s else {})


def _search(lab: Lab, traffic: Traffic, seconds: float, highest: float) -> Throughput:
    """Search for the highest rate without loss; at the highest of all the generator sends as fast as it can."""

    def attempt(rate: float) -> Outcome:
        run = offer(lab, traffic, seconds, rate if rate < highest else None)
        return Outcome(run.sent, run.lost, run.offered)

    return throughput.search(attempt, highest)


def _latency(lab: Lab, traffic: Traffic, seconds: float, load: int, rate: float) -> dict[str, float]:
    """Ping while the router is under load; the load lasts as long as the pings do."""
    count = max(_MIN_PINGS, round(seconds / _PING_INTERVAL_S))
    with sending(lab, traffic, rig.LIMIT_S, rate) as generators:
        address = lab.topology.address(RECEIVER)
        options = ("--interval", str(_PING_INTERVAL_S), "--count", str(count))
        report = measure.ping(lab, "host1", address, *options)
        generators.stop()
        results = generators.wait(rig.LIMIT_S)
    times = [reply["rtt_us"] for reply in report["replies"]]
    if not times:
        raise HopwireError(f"no ping was answered at {load} % load")
    found = {f"rtt_{load}_p{percent}": float(np.percentile(times, percent)) for percent in PERCENTILES}
    return found | {
        f"rtt_{load}_offered": sum(result.sent / result.seconds for result in results),
        f"rtt_{load}_lost": 100 * (1 - len(times) / count),
    }
