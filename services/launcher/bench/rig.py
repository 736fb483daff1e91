"""The rig: hosts, a router that forwards in one of several ways, host2; and what is measured on it."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any, Final

import numpy as np
from pyroute2 import IPRoute

from services.common import guard, netns
from services.common.errors import HopwireError
from services.launcher.bench import cpu, internet_table, stream
from services.launcher.bench.internet_table import RouteLoader, Table
from services.launcher.bench.options import SYNTHETIC
from services.launcher.bench.run import Run
from services.launcher.bench.traffic import (
    BENCHMARK_NETWORK,
    DESTINATIONS,
    RECEIVER,
    ROUTER,
    Traffic,
    offer,
    other_cores_mask,
)
from services.launcher.lab import measure
from services.launcher.lab.lab import Lab
from services.launcher.lab.topologies import PAIR
from services.launcher.lab.topology import Host, Link, LinkEnd, Route, Topology

KERNEL: Final = "kernel"
KERNEL_RPS: Final = "kernel+RPS"
HOPWIRE: Final = "hopwire"
MODES: Final = (KERNEL, KERNEL_RPS, HOPWIRE)

_FIRST_EXTRA_NETWORK: Final = 2
"""192.168.0.0/24 and 192.168.1.0/24 are the pair's."""
_FLOOD_PINGS: Final = 2000
_IDLE_PINGS: Final = 40
_IDLE_INTERVAL_S: Final = 0.03
LIMIT_S: Final = 60.0
"""How long a program on a host may take."""


def topology(senders: int) -> Topology:
    """Return the pair of hosts with the router between them, and as many more hosts that send, host3 and so on."""
    extra = range(3, senders + 2)
    hosts, links = [], []
    for place, number in enumerate(extra, _FIRST_EXTRA_NETWORK):
        near, far = IPv4Interface(f"192.168.{place}.2/24"), IPv4Interface(f"192.168.{place}.1/24")
        hosts.append(Host(f"host{number}", (Route(IPv4Network("0.0.0.0/0"), far.ip),)))
        links.append(Link((LinkEnd(f"host{number}", near), LinkEnd(ROUTER, far))))
    return replace(PAIR, hosts=(*PAIR.hosts, *hosts), links=(*PAIR.links, *links))


def senders(lab: Lab) -> tuple[str, ...]:
    """Return the hosts that traffic comes from."""
    return tuple(host.name for host in lab.topology.hosts if host.name != RECEIVER)


def prepare(lab: Lab) -> None:
    """Route the benchmark's destinations through the router to host2, which drops them as soon as it has counted them.

    Otherwise host2's own routing would cost more than the router's, on the core that the router sends from.
    """
    with netns.inside(lab.namespace(RECEIVER)):
        guard.install(["eth0"])
    gateway = str(lab.topology.address(RECEIVER))
    with netns.inside(lab.namespace(ROUTER)), IPRoute() as kernel:
        kernel.route("add", dst=str(BENCHMARK_NETWORK), gateway=gateway)


def without_router(lab: Lab, traffic: Traffic, seconds: float) -> Run:
    """Return what the load itself costs: the router drops it, as host2 does, as if host1 were wired to host2."""
    with netns.inside(lab.namespace(ROUTER)):
        guard.install([interface.name for interface in lab.topology.interfaces(ROUTER)])
        try:
            return offer(lab, traffic, seconds)
        finally:
            guard.remove()


# --- A full routing table ---------------------------------------------------------------------------------------------


def read_table(name: str) -> Table:
    """Return the table of a file, or a made one.

    :raises HopwireError: the file cannot be read, or there is no destination in it.
    """
    table = internet_table.generated() if name == SYNTHETIC else internet_table.read(Path(name))
    if not len(table):
        raise HopwireError(f"prefixes {name}: there is no IPv4 prefix; name another file")
    return table


@contextmanager
def table_loaded(lab: Lab, table: Table) -> Iterator[Path]:
    """Load a table into the router's kernel, all of it by host2; yield a file of destinations all over it."""
    addresses = internet_table.destinations(table, DESTINATIONS, lab.topology.host_networks)
    gateways = np.full(len(table), int(lab.topology.address(RECEIVER)), np.uint32)
    with netns.inside(lab.namespace(ROUTER)):
        loader = RouteLoader()
    try:
        loader.replace(table.prefixes, table.lengths, gateways)
    finally:
        loader.close()
    with tempfile.TemporaryDirectory(prefix="hopwire-bench-") as folder:
        file = Path(folder, "addresses")
        addresses.astype(">u4").tofile(file)
        yield file


# --- Ways of forwarding -----------------------------------------------------------------------------------------------


@contextmanager
def mode(lab: Lab, name: str) -> Iterator[None]:
    """Let the router forward in the way of that name, until the end of the block."""
    if name == HOPWIRE:
        lab.start_routers()
        try:
            yield
        finally:
            lab.stop_routers()
        return
    _forward_in_kernel(lab, enabled=True)
    if name == KERNEL_RPS:
        _steer(lab, other_cores_mask())
    try:
        yield
    finally:
        if name == KERNEL_RPS:
            _steer(lab, 0)
        _forward_in_kernel(lab, enabled=False)


def _forward_in_kernel(lab: Lab, *, enabled: bool) -> None:
    with netns.inside(lab.namespace(ROUTER)):
        Path("/proc/sys/net/ipv4/ip_forward").write_text(f"{int(enabled)}\n")


def _steer(lab: Lab, mask: int) -> None:
    python(lab, ROUTER, "services.launcher.bench.steering", f"{mask:x}")


# --- Measurements -----------------------------------------------------------------------------------------------------


def resolve_neighbours(lab: Lab) -> None:
    """See that the router forwards between the hosts.

    :raises HopwireError: it does not.
    """
    for sender in senders(lab):
        report = measure.ping(lab, sender, lab.topology.address(RECEIVER), "--count", "5", "--interval", "0.2")
        if not report["received"]:
            raise HopwireError("the router does not forward between the benchmark's hosts; see `hopwire doctor`")


def tcp_rate(lab: Lab, sender: str, receiver: str, seconds: float) -> float:
    """Return the Gbit/s of a TCP stream, as its receiver saw it."""
    address: IPv4Address = lab.topology.address(receiver)
    command = [sys.executable, "-m", stream.__name__]
    server = lab.popen(receiver, [*command, "server", str(address)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert server.stdout is not None
        server.stdout.readline()
        python(lab, sender, stream.__name__, "client", str(address), "--seconds", str(seconds))
        output, errors = server.communicate(timeout=LIMIT_S)
    finally:
        lab.end(server)
    if server.returncode != 0:
        raise HopwireError(f"the TCP stream's server on {receiver} failed: {errors.strip()}")
    report = json.loads(output)
    return float(report["bytes"]) * 8 / float(report["seconds"]) / 1e9


def flood_rtt_us(lab: Lab) -> float:
    """Return the median RTT, in microseconds, of pings that each go when the last is answered."""
    return _rtt_us(lab, "--flood", "--count", str(_FLOOD_PINGS))


def idle_rtt_us(lab: Lab) -> float:
    """Return the median RTT, in microseconds, of pings that find everybody asleep."""
    return _rtt_us(lab, "--interval", str(_IDLE_INTERVAL_S), "--count", str(_IDLE_PINGS))


def _rtt_us(lab: Lab, *options: str) -> float:
    report = measure.ping(lab, "host1", lab.topology.address(RECEIVER), *options)
    if report["rtt_us"] is None:
        raise HopwireError("no ping was answered")
    return report["rtt_us"]["median"]


def idle_cores(lab: Lab, seconds: float) -> tuple[float, float]:
    """Return what share of one core hopwire's processes take with no traffic, and what share everything else takes.

    The first is 0 where it is not hopwire that forwards.
    """
    root = lab.router_process(ROUTER)
    processes = cpu.running_family(root) if root is not None else set()
    started, machine, router = time.monotonic(), cpu.machine_s(), cpu.processes_s(processes)
    time.sleep(seconds)
    elapsed = time.monotonic() - started
    router = cpu.processes_s(processes) - router
    return router / elapsed, max(0.0, cpu.machine_s() - machine - router) / elapsed


def python(lab: Lab, node: str, module: str, *arguments: str) -> Any:
    """Run a module on a node to its end; return the JSON that it printed, if any.

    :raises HopwireError: it failed.
    """
    done = lab.run(node, [sys.executable, "-m", module, *arguments], limit_s=LIMIT_S)
    if done.returncode != 0:
        raise HopwireError(f"{module} failed on {node}: {done.stderr.strip() or f'status {done.returncode}'}")
    return json.loads(done.stdout) if done.stdout.strip() else None
