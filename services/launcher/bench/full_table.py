"""`hopwire bench --full-table`: a router with a routing table of the Internet's size, which changes under traffic."""

import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

import numpy as np
import zmq
from rich.console import Console
from rich.table import Table as Grid

from services.common import netns
from services.common.bus import RpcClient
from services.common.endpoints import Endpoints
from services.common.errors import HopwireError
from services.launcher.bench import deliver, internet_table, rig, traffic
from services.launcher.bench.internet_table import Column, RouteLoader, Table
from services.launcher.bench.options import Output
from services.launcher.lab.lab import Lab
from services.launcher.lab.signals import Stopped, stop_signals
from services.launcher.lab.topologies import PAIR

_PREFIX: Final = "hw-table-"
_ROUTER: Final = "router"
_SERVICES: Final = ("control", "forwarder")
_GATEWAYS: Final = 16
_FIRST_GATEWAY: Final = int(IPv4Address("192.168.0.10"))
"""Neighbours of the router by which the routes lead. None of them is there: no traffic goes to these routes."""
_CHANGES_A_SECOND: Final = 10_000
_BURST_S: Final = 0.01
_BURST: Final = round(_CHANGES_A_SECOND * _BURST_S)
_LOOKUPS: Final = 500
_FRAMES_A_SECOND: Final = 20_000
_TIMES: Final = (11, 12, 19)
"""User, system and start time, in ticks, behind the name in /proc/PID/stat (proc(5))."""
_SEEN_LIMIT_S: Final = 30.0
_LOOK_PAUSE_S: Final = 0.0005

Figures = dict[str, float]


def run_full_table(*, seconds: float, prefixes: Path | None, output: Output) -> int:
    """Measure, print, and return the exit status.

    :param seconds: how long routes change.
    :param prefixes: a file with one prefix a line; without one, a table with the Internet's lengths is made.
    :raises HopwireError: not root, the file cannot be read, or something does not work as it must.
    """
    if os.geteuid() != 0:
        raise HopwireError("making network namespaces needs root; run: sudo hopwire bench --full-table")
    deliver.check(output)
    say: Callable[[str], None] = Console(stderr=True, highlight=False).print
    table = internet_table.generated() if prefixes is None else internet_table.read(prefixes)
    try:
        with stop_signals(), Lab(PAIR, prefix=_PREFIX) as lab:
            figures = _measure(lab, table, seconds, say)
    except Stopped as stop:
        return stop.exit_status
    deliver.deliver(dict(figures), [_grid(figures)], output)
    return 0


def _measure(lab: Lab, table: Table, seconds: float, say: Callable[[str], None]) -> Figures:
    rig.prepare(lab)
    say("a small table")
    small = _start(lab)
    figures = {f"small_{name}": value for name, value in small.items()}
    lab.stop_routers()
    say(f"loading {len(table):,} routes into the kernel")
    with netns.inside(lab.namespace(_ROUTER)):
        loader = RouteLoader()
    context: zmq.Context[Any] = zmq.Context()
    forwarder = RpcClient(context, Endpoints(lab.run_directory(_ROUTER)).forwarder_rpc)
    try:
        gateways = (_FIRST_GATEWAY + np.arange(len(table)) % _GATEWAYS).astype(np.uint32)
        started = time.monotonic()
        loader.replace(table.prefixes, table.lengths, gateways)
        figures |= {"routes": len(table), "load_s": time.monotonic() - started}
        say("starting hopwire")
        figures |= _start(lab)
        figures["lookups"] = _check_lookups(forwarder, table)
        say(f"{_CHANGES_A_SECOND:,} changes a second for {seconds:g} s")
        figures |= _change_under_traffic(lab, loader, forwarder, table, gateways, seconds)
        figures |= {f"{name}_after_mib": _resident_mib(lab, name) for name in _SERVICES}
    finally:
        loader.close()
        forwarder.close()
        context.destroy(linger=0)
    return figures


# --- Start and memory -------------------------------------------------------------------------------------------------


def _start(lab: Lab) -> Figures:
    """Start the router; return the seconds until it was ready, from each start, and what its services take."""
    figures = {"up_s": lab.start_routers()[_ROUTER]}
    ready_at = time.clock_gettime(time.CLOCK_BOOTTIME)
    for name in _SERVICES:
        fields = Path(f"/proc/{_pid(lab, name)}/stat").read_text().rpartition(")")[2].split()
        user, system, started = (int(fields[place]) / os.sysconf("SC_CLK_TCK") for place in _TIMES)
        figures[f"{name}_s"] = ready_at - started
        figures[f"{name}_cpu_s"] = user + system
        figures[f"{name}_mib"] = _resident_mib(lab, name)
    return figures


def _pid(lab: Lab, service: str) -> int:
    return int(Endpoints(lab.run_directory(_ROUTER)).lock(service).read_text())


def _resident_mib(lab: Lab, service: str) -> float:
    """Return a process's resident memory, libraries that it shares with others included."""
    pages = Path(f"/proc/{_pid(lab, service)}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20


# --- Lookups and changes ----------------------------------------------------------------------------------------------


def _check_lookups(forwarder: RpcClient, table: Table) -> int:
    """Ask for random destinations, and compare with a search of the table; return how many there were.

    :raises HopwireError: an answer is wrong.
    """
    chance = np.random.default_rng(1)
    for row in chance.integers(0, len(table), _LOOKUPS).tolist():
        length = int(table.lengths[row])
        address = int(table.prefixes[row]) | int(chance.integers(0, 1 << 32)) & (0xFFFF_FFFF >> length)
        answer = forwarder.call("route.get", {"dst": address}, _SEEN_LIMIT_S)
        if (answer["prefix"], answer["prefix_length"]) != table.matched(address):
            raise HopwireError(
                f"the forwarder routes {IPv4Address(address)} by another prefix than it should: {answer}"
            )
    return _LOOKUPS


def _change_under_traffic(
    lab: Lab, loader: RouteLoader, forwarder: RpcClient, table: Table, gateways: Column, seconds: float
) -> Figures:
    rig.resolve_neighbours(lab)
    before = traffic.received(lab)
    arguments = traffic.generator_arguments(lab, traffic.Traffic(), "host1", seconds + 2)
    sender = lab.popen(
        "host1",
        [sys.executable, "-m", *arguments, "--rate", str(_FRAMES_A_SECOND)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        time.sleep(1.0)  # the traffic begins before the changes, and ends after them
        delays, changes, elapsed = _change(loader, forwarder, table, gateways, seconds)
        output, errors = sender.communicate(timeout=_SEEN_LIMIT_S)
    finally:
        lab.end(sender)
    if sender.returncode != 0:
        raise HopwireError(f"the generator failed: {errors.strip()}")
    time.sleep(0.2)  # the last frames lie in the router's rings for milliseconds
    sent = json.loads(output)["sent"]
    return {
        "changes": changes,
        "changes_per_s": changes / elapsed,
        "delay_p50_ms": float(np.percentile(delays, 50)) * 1e3,
        "delay_p99_ms": float(np.percentile(delays, 99)) * 1e3,
        "delay_max_ms": max(delays) * 1e3,
        "frames_sent": sent,
        "frames_lost": max(0, sent - (traffic.received(lab) - before)),  # ARP is received, too
    }


def _change(
    loader: RouteLoader, forwarder: RpcClient, table: Table, gateways: Column, seconds: float
) -> tuple[list[float], int, float]:
    """Change routes in bursts, and watch the last one of each arrive at the forwarder.

    :return: the delays in seconds, how many routes were changed, and the seconds it took to have the kernel do it.
    """
    rows = _changeable(table)
    delays: list[float] = []
    awaited: deque[tuple[float, int, int]] = deque()
    started = time.monotonic()
    bursts = 0
    changed_at = started
    while bursts < seconds / _BURST_S or awaited:
        now = time.monotonic()
        if bursts < seconds / _BURST_S and now >= started + bursts * _BURST_S:
            some = rows[(np.arange(_BURST) + bursts * _BURST) % len(rows)]
            gateways[some] = _FIRST_GATEWAY + (gateways[some] - _FIRST_GATEWAY + 1) % _GATEWAYS
            awaited.append((now, int(table.prefixes[some[-1]]), int(gateways[some[-1]])))
            loader.replace(table.prefixes[some], table.lengths[some], gateways[some])
            bursts += 1
            changed_at = time.monotonic()
        elif awaited:
            sent_at, destination, gateway = awaited[0]
            (hop,) = forwarder.call("route.get", {"dst": destination}, _SEEN_LIMIT_S)["next_hops"]
            if hop["gateway"] == gateway:
                delays.append(time.monotonic() - sent_at)
                awaited.popleft()
            elif now - sent_at > _SEEN_LIMIT_S:
                raise HopwireError(f"the forwarder did not follow a change of {IPv4Address(destination)}")
            else:
                time.sleep(_LOOK_PAUSE_S)
        else:
            time.sleep(_LOOK_PAUSE_S)
    return delays, bursts * _BURST, changed_at - started


def _changeable(table: Table) -> Column:
    """Return, in random order, the rows of the /24s in which no longer prefix lies."""
    longer = np.unique(table.prefixes[table.lengths > 24] & np.uint32(0xFFFF_FF00))
    rows = np.flatnonzero((table.lengths == 24) & ~np.isin(table.prefixes, longer))
    chosen: Column = np.random.default_rng(2).permutation(rows).astype(np.uint32)
    return chosen


def _grid(figures: Figures) -> Grid:
    grid = Grid(show_header=False)
    for title, value in (
        ("routes in the kernel", f"{figures['routes']:,.0f}, loaded in {figures['load_s']:.1f} s"),
        ("`hopwire up` until ready, small table", f"{figures['small_up_s']:.2f} s"),
        ("`hopwire up` until ready", f"{figures['up_s']:.2f} s"),
        *(
            (f"{name}'s start until ready", f"{figures[f'{name}_s']:.2f} s ({figures[f'{name}_cpu_s']:.2f} s of CPU)")
            for name in _SERVICES
        ),
        ("lookups compared", f"{figures['lookups']:.0f}"),
        ("changes", f"{figures['changes']:,.0f}, {figures['changes_per_s']:,.0f}/s"),
        ("delay of a change, median", f"{figures['delay_p50_ms']:.1f} ms"),
        ("delay of a change, 99th percentile", f"{figures['delay_p99_ms']:.1f} ms"),
        ("delay of a change, longest", f"{figures['delay_max_ms']:.1f} ms"),
        ("frames meanwhile", f"{figures['frames_sent']:,.0f}, of which lost {figures['frames_lost']:,.0f}"),
        *(
            (
                f"{name}'s resident memory in MiB: with a small table, all routes, after the changes",
                " / ".join(f"{figures[key]:.0f}" for key in (f"small_{name}_mib", f"{name}_mib", f"{name}_after_mib")),
            )
            for name in _SERVICES
        ),
    ):
        grid.add_row(title, value)
    return grid
