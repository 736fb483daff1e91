"""Labs with routing daemons as their tests see them: FRR and BIRD asked, routers frozen, flows measured."""

import itertools
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from typing import Any, Final, Self

import pytest
from router_lab import RouterLab, inside, kernel, started, wait_for

from services.common.errors import HopwireError
from services.launcher.lab.daemons import RouterDaemons, check_installed
from services.launcher.lab.routing_topologies import DETECTION_S
from services.launcher.lab.topology import Topology

CONVERGENCE_LIMIT_S: Final = 60.0
"""The most that a test waits for routing daemons to agree."""
OUTAGE_LIMIT_S: Final = DETECTION_S + 0.2 + 10.0
"""The daemons' detection time, 200 ms for all that follows, and an allowance for a machine that has no time for us."""
_RTA_NH_ID: Final = 30  # linux/rtnetlink.h
_PORT: Final = 5003
_DATAGRAM: Final = struct.Struct("=IIq")
"""Flow, number in the flow, and the time at which it was sent (ns of `time.monotonic_ns`)."""


class RoutingLab:
    """A running lab and the daemons of its routers."""

    def __init__(self, lab: RouterLab, daemons: dict[str, RouterDaemons]) -> None:
        self.lab = lab
        self.daemons = daemons

    def ask(self, router: str, command: str) -> str:
        """Return what vtysh or birdc of a router answers."""
        shell = self.daemons[router].shell_command
        words = ["-c", command] if shell[0] == "vtysh" else command.split()
        done = subprocess.run([*shell, *words], capture_output=True, text=True, timeout=30, check=True)
        return done.stdout

    def ask_frr(self, router: str, command: str) -> Any:
        """Return an answer of FRR's that is JSON."""
        return json.loads(self.ask(router, f"{command} json"))

    def kernel_route(self, router: str, prefix: str) -> Any:
        """Return the kernel's best route to a prefix in table main as ip(8) would show it; None without one."""
        address, _, length = prefix.partition("/")
        with kernel(self.lab, router) as netlink:
            routes = [
                route
                for route in netlink.get_routes(table=254)
                if (route.get("dst"), route["dst_len"]) == (address, int(length))
            ]
        return min(routes, key=lambda route: route.get("priority") or 0, default=None)

    def ways(self, router: str, prefix: str) -> list[str]:
        """Return the gateways that hopwire's control knows for a prefix, sorted."""
        for route in self.lab.control(router).show("route", "show"):
            if route["dst"] == prefix:
                hops = route.get("nexthops", [route])
                return sorted(hop["gateway"] for hop in hops if "gateway" in hop and "dead" not in hop["flags"])
        return []

    def wait_for_ways(self, router: str, prefix: str, gateways: list[str]) -> None:
        wait_for(
            f"{router} reaches {prefix} by {gateways}",
            lambda: self.ways(router, prefix) == sorted(gateways),
            CONVERGENCE_LIMIT_S,
        )

    def bfd_peers(self, router: str) -> dict[str, str]:
        """Return the state of each BFD session, by the neighbour's address; `up` if it is."""
        if self.daemons[router].shell_command[0] == "vtysh":
            return {peer["peer"]: peer["status"] for peer in self.ask_frr(router, "show bfd peers")}
        rows = [line.split() for line in self.ask(router, "show bfd sessions").splitlines()]
        return {row[0]: row[2].lower() for row in rows if row and row[0].count(".") == 3}

    @contextmanager
    def frozen(self, router: str) -> Iterator[None]:
        """Stop a router in its tracks, as if it had lost power: its links stay up, and nothing answers."""
        services = self.lab.control(router).pids()
        daemons = [process.pid for process in self.daemons[router].processes.values()]
        pids = [self.lab.hopwire_pid(router), *services.values(), *daemons]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    @contextmanager
    def link_down(self, router: str, interface: str) -> Iterator[None]:
        """Set a link down at one of its ends; the other end loses its carrier."""
        with kernel(self.lab, router) as netlink:
            (index,) = netlink.link_lookup(ifname=interface)
            netlink.link("set", index=index, state="down")
            try:
                yield
            finally:
                netlink.link("set", index=index, state="up")


def check_or_skip(topology: Topology) -> None:
    """Skip a test whose routing daemons are not installed."""
    try:
        check_installed(topology)
    except HopwireError as error:
        pytest.skip(error.message)


@contextmanager
def started_with_daemons(topology: Topology, tag: str) -> Iterator[RoutingLab]:
    """Run a lab with hopwire and the routing daemons in its routers; skip where those are not installed."""
    check_or_skip(topology)
    for shell in ("vtysh", "birdc"):
        assert shutil.which(shell), f"{shell} is not on the PATH"
    with started(topology, tag) as lab:
        yield RoutingLab(lab, dict(lab.start_daemons()))


def uses_nexthop_object(route: Any) -> bool:
    """Tell whether a route of the kernel names a nexthop object; pyroute2 does not know the attribute."""
    unknown = [value["header"]["type"] for name, value in route["attrs"] if name == "UNKNOWN"]
    return _RTA_NH_ID in unknown or route.get("nh_id") is not None


class Flows:
    """UDP flows from one host to another, a datagram of each in every interval, and what became of them."""

    def __init__(self, lab: RouterLab, sender: str, receiver: str, count: int, interval_s: float = 0.02) -> None:
        address = lab.topology.address(receiver)
        self._interval_s = interval_s
        self._receiver = inside(lab, receiver, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._receiver.bind((str(address), _PORT))
        self._receiver.settimeout(0.1)
        self._senders = [self._sender(lab, sender, address) for _ in range(count)]
        self.ports = [one.getsockname()[1] for one in self._senders]
        self.received: list[list[tuple[int, int]]] = [[] for _ in range(count)]
        """Of each flow, in the order of arrival: numbers and times of sending in nanoseconds."""
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=work) for work in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    @staticmethod
    def _sender(lab: RouterLab, host: str, address: IPv4Address) -> socket.socket:
        made = inside(lab, host, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        made.connect((str(address), _PORT))
        return made

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for one in (*self._senders, self._receiver):
            one.close()

    def _send(self) -> None:
        number = 0
        while not self._stop.wait(self._interval_s):
            number += 1
            for flow, one in enumerate(self._senders):
                try:
                    one.send(_DATAGRAM.pack(flow, number, time.monotonic_ns()))
                except OSError:  # an ICMP error about an earlier one: the network is unreachable for now
                    continue

    def _receive(self) -> None:
        while not self._stop.is_set():
            try:
                flow, number, sent_ns = _DATAGRAM.unpack(self._receiver.recv(_DATAGRAM.size))
            except TimeoutError:
                continue
            self.received[flow].append((number, sent_ns))

    def wait_for_more(self, datagrams: int = 20) -> None:
        """Wait until so many more of every flow have arrived."""
        wanted = [len(arrived) + datagrams for arrived in self.received]
        wait_for(
            f"{datagrams} more datagrams of each flow",
            lambda: all(len(arrived) >= goal for arrived, goal in zip(self.received, wanted, strict=True)),
            CONVERGENCE_LIMIT_S,
        )

    def forget(self) -> None:
        """Leave out of account what has arrived until now."""
        for arrived in self.received:
            del arrived[:-1]

    def outage_s(self) -> float:
        """Return the longest time in which what was sent of one flow got lost; 0 if nothing was."""
        gaps = [0]
        for arrived in self.received:
            in_order = sorted(arrived)
            gaps += [
                later - earlier
                for (before, earlier), (after, later) in itertools.pairwise(in_order)
                if after > before + 1
            ]
        return max(gaps) / 1e9

    def reordered(self) -> int:
        """Return how many datagrams came after a later one of their flow."""
        return sum(
            after < before for arrived in self.received for (before, _), (after, _) in itertools.pairwise(arrived)
        )


def undisturbed(what: str, disturb: Callable[[], None], state: Callable[[], Any], attempts: int = 3) -> None:
    """Check that a state does not change by a disturbance.

    A machine that has no time for the daemons may change it as well, but not each time.
    """
    for _ in range(attempts):
        before = state()
        disturb()
        after = state()
        if after == before:
            return
    raise AssertionError(f"{what}: {before} became {after}, {attempts} times")
