"""Several next hops: shares by weight, order within a flow, next hops that die. Conformance row 34."""

import errno
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest
from router_lab import LIMIT_S, RouterLab, kernel, second_address, started, wait_for
from router_traffic import Wire

from services.launcher.lab.topology import Host, Link, LinkEnd, Route, Router, Topology

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]
needs_ip = pytest.mark.skipif(shutil.which("ip") is None, reason="needs ip(8)")

FLOWS = 6000
AT_ONCE = 200
"""Frames under way at the same time: no ring or socket is ever full."""
PREFIX = "10.50.0.0/16"
DESTINATION = bytes((10, 50, 0, 1))
HOP2, HOP3 = "192.168.2.2", "192.168.3.2"


def _default(gateway: str) -> tuple[Route, ...]:
    return (Route(IPv4Network("0.0.0.0/0"), IPv4Address(gateway)),)


def _link(host: str, number: int) -> Link:
    ends = ((host, f"192.168.{number}.2/24"), ("router", f"192.168.{number}.1/24"))
    left, right = (LinkEnd(node, IPv4Interface(address)) for node, address in ends)
    return Link((left, right))


FORK = Topology(
    name="fork",
    hosts=tuple(Host(f"host{number}", _default(f"192.168.{number}.1")) for number in (1, 2, 3)),
    routers=(Router("router"),),
    links=tuple(_link(f"host{number}", number) for number in (1, 2, 3)),
    picture="",
)


@pytest.fixture(scope="module")
def fork() -> Iterator[RouterLab]:
    with started(FORK, "cd") as lab:
        yield lab


def ip(lab: RouterLab, *words: str) -> None:
    subprocess.run(["ip", "-n", lab.namespace("router"), *words], check=True, timeout=30)


@contextmanager
def multipath(lab: RouterLab, *hops: tuple[str, int]) -> Iterator[None]:
    words = [word for via, weight in hops for word in ("nexthop", "via", via, "weight", str(weight))]
    lab.control().change("route", "add", PREFIX, *words)
    try:
        yield
    finally:
        lab.control().change("route", "del", PREFIX)


@contextmanager
def group(lab: RouterLab, *hops: tuple[str, int], kind: tuple[str, ...] = ()) -> Iterator[None]:
    """The same with nexthop objects."""
    for number, (via, _) in enumerate(hops, 1):
        ip(lab, "nexthop", "add", "id", str(number), "via", via, "dev", f"eth{number}")
    members = "/".join(f"{number},{weight}" for number, (_, weight) in enumerate(hops, 1))
    ip(lab, "nexthop", "add", "id", "100", "group", members, *kind)
    ip(lab, "route", "add", PREFIX, "nhid", "100")
    wait_for("the route", lambda: lab.control().route_kind("10.50.0.1") == "unicast")
    try:
        yield
    finally:
        for number in (100, *range(1, len(hops) + 1)):
            ip(lab, "nexthop", "del", "id", str(number))
        wait_for("no route", lambda: lab.control().route_kind("10.50.0.1") == "none")


class Flows:
    """UDP flows of host1, told from each other by their source ports, and who hears them."""

    def __init__(self, lab: RouterLab) -> None:
        self._wires = {host: Wire(lab, host) for host in ("host1", "host2", "host3")}
        near = self._wires["host1"]
        self._ethernet = bytes.fromhex((lab.control().mac("eth0") + near.mac).replace(":", "")) + b"\x08\x00"
        self._number = 0

    def close(self) -> None:
        for wire in self._wires.values():
            wire.__exit__()

    def send(self, port: int) -> int:
        """Send one datagram of a flow; return its number."""
        self._number += 1
        head = bytes.fromhex("4500 0024 0000 4000 4011 0000 c0a80102") + DESTINATION
        total = sum(struct.unpack("!10H", head))
        total = (total & 0xFFFF) + (total >> 16)
        head = head[:10] + struct.pack("!H", (total & 0xFFFF) + (total >> 16) ^ 0xFFFF) + head[12:]
        payload = struct.pack("!HHHHQ", port, 9, 16, 0, self._number)
        self._wires["host1"].send(self._ethernet + head + payload)
        return self._number

    def heard(self) -> dict[str, list[tuple[int, int]]]:
        """Return ports and numbers that came since the last call, by host, in order."""
        came = {}
        for host in ("host2", "host3"):
            try:
                frames = self._wires[host].listen(lambda frame: frame[30:34] == DESTINATION)
            except OSError as error:
                if error.errno != errno.ENETDOWN:  # a test took its link down
                    raise
                frames = []
            came[host] = [struct.unpack("!H6xQ", each.frame[34:50]) for each in frames]
            self._wires[host].heard.clear()
        return came

    def ways(self, ports: range) -> dict[int, str]:
        """Return who hears each flow; what was lost on the way is sent again."""
        ways: dict[int, str] = {}
        deadline = time.monotonic() + 6 * LIMIT_S
        while missing := [port for port in ports if port not in ways]:
            assert time.monotonic() < deadline, f"{len(missing)} of {len(ports)} flows are heard by nobody"
            some = missing[:AT_ONCE]
            last = max(self.send(port) for port in some)
            patience = time.monotonic() + 1.0
            while last and time.monotonic() < patience:
                for host, came in self.heard().items():
                    ways |= {port: host for port, _ in came}
                if all(port in ways for port in some):
                    last = 0
        return ways


@pytest.fixture
def flows(fork: RouterLab) -> Iterator[Flows]:
    made = Flows(fork)
    yield made
    made.close()


PORTS = range(10_000, 10_000 + FLOWS)
WEIGHTS = [(1, 1), (2, 1), (11, 45)]


def assert_shares(ways: dict[int, str], weights: tuple[int, int]) -> None:
    for host, weight in zip(("host2", "host3"), weights, strict=True):
        share = list(ways.values()).count(host)
        assert share == pytest.approx(len(ways) * weight / sum(weights), rel=0.15)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_shares_of_a_multipath_route(fork: RouterLab, flows: Flows, weights: tuple[int, int]) -> None:
    with multipath(fork, (HOP2, weights[0]), (HOP3, weights[1])):
        assert_shares(flows.ways(PORTS), weights)


@needs_ip
@pytest.mark.parametrize("kind", [(), ("type", "resilient", "buckets", "64")], ids=["hash-threshold", "resilient"])
def test_shares_of_a_nexthop_group(fork: RouterLab, flows: Flows, kind: tuple[str, ...]) -> None:
    with group(fork, (HOP2, 11), (HOP3, 45), kind=kind):
        assert_shares(flows.ways(PORTS), (11, 45))


def test_a_flow_keeps_its_way_and_its_order(fork: RouterLab, flows: Flows) -> None:
    with multipath(fork, (HOP2, 1), (HOP3, 1)):
        ways = flows.ways(range(10_000, 10_040))
        came: dict[str, list[tuple[int, int]]] = {"host2": [], "host3": []}

        def take_in() -> None:
            for host, more in flows.heard().items():
                came[host] += more

        for _ in range(25):
            last = [flows.send(port) for port in ways][-1]
            wait_for(
                "the last one", lambda n=last: take_in() or any(n in dict(map(reversed, one)) for one in came.values())
            )  # type: ignore[misc]
        for host, heard in came.items():
            for port in ways:
                numbers = [number for each, number in heard if each == port]
                assert numbers == sorted(numbers)
                assert bool(numbers) == (ways[port] == host)


def everything_takes(flows: Flows, ports: range, good: Callable[[dict[int, str]], bool]) -> dict[int, str]:
    """Wait until the flows' ways are as wanted, and return them."""
    found: dict[int, str] = {}

    def look() -> bool:
        found.update(flows.ways(ports))
        return good(found)

    wait_for("other ways", look, 6 * LIMIT_S)
    return found


def test_when_a_link_dies_its_flows_move_and_no_others_do(fork: RouterLab, flows: Flows) -> None:
    ports = range(10_000, 10_400)
    with multipath(fork, (HOP2, 1), (HOP3, 1)):
        before = flows.ways(ports)
        with kernel(fork, "host3") as host3:
            (index,) = host3.link_lookup(ifname="eth0")
            host3.link("set", index=index, state="down")
            try:
                everything_takes(flows, ports, lambda ways: set(ways.values()) == {"host2"})
            finally:
                host3.link("set", index=index, state="up")
        everything_takes(flows, ports, lambda ways: ways == before)


def test_a_next_hop_that_does_not_answer_arp_is_left_out_until_it_does(fork: RouterLab, flows: Flows) -> None:
    ports = range(10_000, 10_400)
    with multipath(fork, (HOP2, 1), ("192.168.3.99", 1)):
        everything_takes(flows, ports, lambda ways: set(ways.values()) == {"host2"})
        hops = fork.control().ask("route.show", dst=PREFIX)[0]["nexthops"]
        assert len(hops) == 2
        with second_address(fork, "host3", "192.168.3.99/24"):
            # of 400 flows half, but for five standard deviations
            everything_takes(flows, ports, lambda ways: abs(list(ways.values()).count("host3") - 200) < 50)
