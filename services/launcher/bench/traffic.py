"""Traffic through the router: generators on one host or several that start together, and what host2 gets of it."""

import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from pyroute2 import IPRoute

from services.common import netns
from services.common.errors import HopwireError
from services.common.wire.ethernet import ETHERTYPE_ARP
from services.launcher.bench import cpu, generator
from services.launcher.bench.run import Run
from services.launcher.lab.lab import Lab

DESTINATIONS: Final = 60_000
BENCHMARK_NETWORK: Final = IPv4Network("198.18.0.0/15")
"""Addresses for benchmarks: RFC 2544 appendix C.2.2. Routed to host2, which drops what it gets."""
RECEIVER: Final = "host2"
ROUTER: Final = "router"
_LIMIT_S: Final = 60.0
"""How long a generator may take beyond the time that it is to send."""
_RESIDUAL_S: Final = 2.0
"""How long to wait for the last frames at most: RFC 2544 section 23."""
_QUIET_S: Final = 0.2
"""They have all come when none came for as long: what the router holds, it holds for milliseconds."""
_POLL_S: Final = 0.01
_SOL_PACKET: Final = 263  # linux/socket.h
_PACKET_STATISTICS: Final = 6  # linux/if_packet.h
_STATISTICS: Final = struct.Struct("=II")  # tpacket_stats: packets (dropped ones included), drops


@dataclass(frozen=True)
class Traffic:
    """Who sends what to whom."""

    senders: tuple[str, ...] = ("host1",)
    addresses: Path | None = None
    """A file of destinations for `generator --addresses`; without one, they are of the benchmark's network."""
    frame_bytes: int = 60
    """Without the FCS: what RFC 2544 calls 64 bytes is 60."""


def generator_cores() -> tuple[int, ...]:
    """Return the cores that generators stay on: the first half of the machine's."""
    return tuple(range(max(1, (os.cpu_count() or 1) // 2)))


def other_cores_mask() -> int:
    """Return a bit for each core that no generator stays on; for all cores where that would be none."""
    cores = os.cpu_count() or 1
    return sum(1 << core for core in range(cores) if core not in generator_cores()) or (1 << cores) - 1


def generator_arguments(lab: Lab, traffic: Traffic, sender: str, seconds: float) -> list[str]:
    """Return the module and arguments with which a host sends."""
    place = traffic.senders.index(sender) % len(generator_cores())
    addresses = (
        ("--first-destination", str(BENCHMARK_NETWORK[0]), "--destinations", str(DESTINATIONS))
        if traffic.addresses is None
        else ("--addresses", str(traffic.addresses))
    )
    return [
        generator.__name__,
        *("--interface", "eth0", "--json", "--cpu", str(generator_cores()[place])),
        *("--gateway-mac", router_mac(lab, sender), "--source", str(lab.topology.address(sender))),
        *addresses,
        *("--frame-bytes", str(traffic.frame_bytes), "--seconds", str(seconds)),
    ]


def router_mac(lab: Lab, sender: str) -> str:
    """Return the MAC that a host sends to."""
    host = lab.topology.address(sender)
    interface = next(entry for entry in lab.topology.interfaces(ROUTER) if host in entry.address.network)
    with netns.inside(lab.namespace(ROUTER)), IPRoute() as kernel:
        return str(kernel.link("get", ifname=interface.name)[0].get_attr("IFLA_ADDRESS"))


def received(lab: Lab) -> int:
    """Return how many frames host2 has received."""
    with netns.inside(lab.namespace(RECEIVER)), IPRoute() as kernel:
        link = kernel.link("get", ifname="eth0")[0]
        return int(link.get_attr("IFLA_STATS64")["rx_packets"])


class Receiver:
    """Counts the frames that host2 receives, but for ARP: a lost frame must not hide behind a neighbour's question.

    A packet socket for one protocol costs the frames of the others nothing. The lab has no IPv6.
    """

    def __init__(self, lab: Lab) -> None:
        """Count from now on."""
        self._lab = lab
        self._before = received(lab)
        with netns.inside(lab.namespace(RECEIVER)):
            self._arp = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE_ARP))
        self._arp_frames = 0

    def __enter__(self) -> Self:
        """Nothing more to do."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Count no more."""
        self._arp.close()

    def count(self) -> int:
        """Return how many have come."""
        total = received(self._lab)
        statistics = self._arp.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size)
        self._arp_frames += _STATISTICS.unpack(statistics)[0]  # reading them sets them to zero
        return total - self._before - self._arp_frames

    def settled(self, sent: int) -> int:
        """Return how many have come when all have, or when no more come."""
        count = self.count()
        changed = started = time.monotonic()
        while count < sent and time.monotonic() < min(started + _RESIDUAL_S, changed + _QUIET_S):
            time.sleep(_POLL_S)
            if (now := self.count()) != count:
                count, changed = now, time.monotonic()
        return count


class Generators:
    """The generators of a load, from their start on."""

    def __init__(self, programs: list["subprocess.Popen[str]"]) -> None:
        """Take over programs that send."""
        self._programs = programs

    def stop(self) -> None:
        """Have them end before their time."""
        for program in self._programs:
            program.terminate()

    def wait(self, limit_s: float) -> list[generator.Sent]:
        """Return what each has sent, when all have ended.

        :raises HopwireError: one failed, or did not end in time.
        """
        results = []
        for program in self._programs:
            try:
                output, errors = program.communicate(timeout=limit_s)
            except subprocess.TimeoutExpired as error:
                raise HopwireError(f"a generator did not end within {limit_s:.0f} s") from error
            if program.returncode != 0:
                raise HopwireError(f"a generator failed: {errors.strip() or f'status {program.returncode}'}")
            results.append(generator.Sent(**json.loads(output)))
        return results


@contextmanager
def sending(lab: Lab, traffic: Traffic, seconds: float, rate: float | None = None) -> Iterator[Generators]:
    """Have all senders begin at once; they end with the block, if not before.

    :param rate: frames a second of all together; as many as go if None.
    :raises HopwireError: one fails before it sends.
    """
    share = [] if rate is None else ["--rate", str(max(1, round(rate / len(traffic.senders))))]
    programs: list[subprocess.Popen[str]] = []
    with tempfile.TemporaryDirectory(prefix="hopwire-bench-") as folder:
        start = Path(folder, "start")
        os.mkfifo(start)
        try:
            for sender in traffic.senders:
                arguments = [*generator_arguments(lab, traffic, sender, seconds), *share, "--start", str(start)]
                command = [sys.executable, "-m", *arguments]
                programs.append(lab.popen(sender, command, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
            for program in programs:
                assert program.stdout is not None
                if not program.stdout.readline():
                    _output, errors = program.communicate()
                    raise HopwireError(f"a generator failed: {errors.strip()}")
            opened = os.open(start, os.O_RDWR)  # for writing alone it would wait for a reader, even if that has died
            try:
                yield Generators(programs)
            finally:
                os.close(opened)
        finally:
            for program in programs:
                lab.end(program)


def offer(lab: Lab, traffic: Traffic, seconds: float, rate: float | None = None) -> Run:
    """Offer a load for a time, and return what came of it.

    :param rate: frames a second of all senders together; as many as go if None.
    """
    router = lab.router_process(ROUTER)
    processes = cpu.running_family(router) if router is not None else set()
    with Receiver(lab) as receiver:
        with sending(lab, traffic, seconds, rate) as generators:
            router_before = cpu.processes_s(processes)
            results = generators.wait(seconds + _LIMIT_S)
        sent = sum(result.sent for result in results)
        count = receiver.settled(sent)
        router_s = cpu.processes_s(processes) - router_before
    longest = max(results, key=lambda result: result.seconds)
    return Run(sent, count, longest.seconds, longest.machine_s, router_s)
