"""The rig: host1, a router that forwards in one of several ways, host2; and what is measured on it."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, Final

from pyroute2 import IPRoute

from services.common import guard, netns
from services.common.errors import HopwireError
from services.launcher.bench import generator, stream
from services.launcher.lab import measure
from services.launcher.lab.lab import Lab

KERNEL: Final = "kernel"
KERNEL_RPS: Final = "kernel+RPS"
HOPWIRE: Final = "hopwire"
MODES: Final = (KERNEL, KERNEL_RPS, HOPWIRE)

DESTINATIONS: Final = 60_000
BENCHMARK_NETWORK: Final = IPv4Network("198.18.0.0/15")
"""Addresses for benchmarks: RFC 2544 appendix C.2.2. Routed to host2, which drops what it gets."""
GENERATOR_CPU: Final = 0
_FLOOD_PINGS: Final = 2000
_IDLE_PINGS: Final = 40
_IDLE_INTERVAL_S: Final = 0.03
_LIMIT_S: Final = 60.0

Sample = Mapping[str, float]
"""Measured values, by the names in `report.ROWS`."""


def prepare(lab: Lab) -> None:
    """Route the benchmark's destinations through the router to host2, which drops them as soon as it has counted them.

    Otherwise host2's own routing would cost more than the router's, on the core that the router sends from.
    """
    with netns.inside(lab.namespace("host2")):
        guard.install(["eth0"])
    gateway = str(lab.topology.address("host2"))
    with netns.inside(lab.namespace("router")), IPRoute() as kernel:
        kernel.route("add", dst=str(BENCHMARK_NETWORK), gateway=gateway)


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
        _steer(lab, 1 << 1)
    try:
        yield
    finally:
        if name == KERNEL_RPS:
            _steer(lab, 0)
        _forward_in_kernel(lab, enabled=False)


def _forward_in_kernel(lab: Lab, *, enabled: bool) -> None:
    with netns.inside(lab.namespace("router")):
        Path("/proc/sys/net/ipv4/ip_forward").write_text(f"{int(enabled)}\n")


def _steer(lab: Lab, mask: int) -> None:
    python(lab, "router", "services.launcher.bench.steering", f"{mask:x}")


def sample(lab: Lab, seconds: float) -> Sample:
    """Measure everything once. Each measurement of a rate or stream takes `seconds`."""
    resolve_neighbours(lab)
    small, small_offered = packet_rate(lab, 60, seconds)
    large, large_offered = packet_rate(lab, 1514, seconds)
    return {
        "packets_60": small,
        "offered_60": small_offered,
        "packets_1514": large,
        "offered_1514": large_offered,
        "tcp_forth": tcp_rate(lab, "host1", "host2", seconds),
        "tcp_back": tcp_rate(lab, "host2", "host1", seconds),
        "flood_rtt": _rtt_us(lab, "--flood", "--count", str(_FLOOD_PINGS)),
        "idle_rtt": _rtt_us(lab, "--interval", str(_IDLE_INTERVAL_S), "--count", str(_IDLE_PINGS)),
    }


def resolve_neighbours(lab: Lab) -> None:
    """See that the router forwards between the hosts.

    :raises HopwireError: it does not.
    """
    report = measure.ping(lab, "host1", lab.topology.address("host2"), "--count", "5", "--interval", "0.2")
    if not report["received"]:
        raise HopwireError("the router does not forward between the benchmark's hosts; see `hopwire doctor`")


def packet_rate(lab: Lab, frame_bytes: int, seconds: float) -> tuple[float, float]:
    """Return the frames a second that host2 received, and those that host1 sent."""
    before = received(lab)
    report = python(lab, "host1", *generator_arguments(lab, frame_bytes, seconds))
    # host1's frames lie in the router's rings for milliseconds; the generator's end takes longer than that.
    return (received(lab) - before) / report["seconds"], report["sent"] / report["seconds"]


def generator_arguments(lab: Lab, frame_bytes: int, seconds: float) -> list[str]:
    """Return the module and arguments with which host1 sends to the benchmark's destinations."""
    return [
        generator.__name__,
        *("--interface", "eth0", "--json", "--cpu", str(GENERATOR_CPU)),
        *("--gateway-mac", router_mac(lab), "--source", str(lab.topology.address("host1"))),
        *("--first-destination", str(BENCHMARK_NETWORK[0]), "--destinations", str(DESTINATIONS)),
        *("--frame-bytes", str(frame_bytes), "--seconds", str(seconds)),
    ]


def received(lab: Lab) -> int:
    """Return how many frames host2 has received."""
    with netns.inside(lab.namespace("host2")), IPRoute() as kernel:
        link = kernel.link("get", ifname="eth0")[0]
        return int(link.get_attr("IFLA_STATS64")["rx_packets"])


def router_mac(lab: Lab) -> str:
    """Return the MAC that host1 sends to."""
    host = lab.topology.address("host1")
    interface = next(entry for entry in lab.topology.interfaces("router") if host in entry.address.network)
    with netns.inside(lab.namespace("router")), IPRoute() as kernel:
        return str(kernel.link("get", ifname=interface.name)[0].get_attr("IFLA_ADDRESS"))


def tcp_rate(lab: Lab, sender: str, receiver: str, seconds: float) -> float:
    """Return the Gbit/s of a TCP stream, as its receiver saw it."""
    address: IPv4Address = lab.topology.address(receiver)
    command = [sys.executable, "-m", stream.__name__]
    server = lab.popen(receiver, [*command, "server", str(address)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert server.stdout is not None
        server.stdout.readline()
        python(lab, sender, stream.__name__, "client", str(address), "--seconds", str(seconds))
        output, errors = server.communicate(timeout=_LIMIT_S)
    finally:
        lab.end(server)
    if server.returncode != 0:
        raise HopwireError(f"the TCP stream's server on {receiver} failed: {errors.strip()}")
    report = json.loads(output)
    return float(report["bytes"]) * 8 / float(report["seconds"]) / 1e9


def _rtt_us(lab: Lab, *options: str) -> float:
    report = measure.ping(lab, "host1", lab.topology.address("host2"), *options)
    if report["rtt_us"] is None:
        raise HopwireError("no ping was answered")
    return report["rtt_us"]["median"]


def python(lab: Lab, node: str, module: str, *arguments: str) -> Any:
    """Run a module on a node to its end; return the JSON that it printed, if any.

    :raises HopwireError: it failed.
    """
    done = lab.run(node, [sys.executable, "-m", module, *arguments], limit_s=_LIMIT_S)
    if done.returncode != 0:
        raise HopwireError(f"{module} failed on {node}: {done.stderr.strip() or f'status {done.returncode}'}")
    return json.loads(done.stdout) if done.stdout.strip() else None
