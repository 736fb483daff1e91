"""Ping and traceroute through one router and through three: every host reaches every host, by the expected path."""

import os
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest
from router_lab import RouterLab, started

from services.launcher.lab import measure
from services.launcher.lab.topologies import THREE_ROUTERS
from services.launcher.probes.ping import PingReport
from services.launcher.probes.traceroute import is_usual

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

FAST = ("--count", "3", "--interval", "0.01", "--timeout", "5")
PATHS = {
    ("host1", "host2"): ["192.168.1.1", "192.168.0.2", "192.168.2.2"],
    ("host1", "host3"): ["192.168.1.1", "192.168.3.2", "192.168.4.2"],
    ("host2", "host1"): ["192.168.2.1", "192.168.0.1", "192.168.1.2"],
    ("host2", "host3"): ["192.168.2.1", "192.168.0.1", "192.168.3.2", "192.168.4.2"],
    ("host3", "host1"): ["192.168.4.1", "192.168.3.1", "192.168.1.2"],
    ("host3", "host2"): ["192.168.4.1", "192.168.3.1", "192.168.0.2", "192.168.2.2"],
}
"""Each router answers from its address towards the sender (RFC 1812 section 4.3.2.4)."""


@pytest.fixture(scope="module")
def three_routers() -> Iterator[RouterLab]:
    with started(THREE_ROUTERS, "t") as lab:
        yield lab


def assert_answered(report: PingReport, ttl: int) -> None:
    assert (report["sent"], report["received"], report["duplicates"], report["wrong"]) == (3, 3, 0, 0)
    assert [reply["ttl"] for reply in report["replies"]] == [ttl] * 3
    assert (report["errors"], report["send_errors"]) == ([], [])


def hops(lab: RouterLab, source: str, destination: IPv4Address) -> list[list[str | None]]:
    report = measure.traceroute(lab, source, destination, "--probes", "2", "--timeout", "5", "--max-hops", "6")
    assert report["reached"]
    assert all(answer and is_usual(answer) for hop in report["hops"] for answer in hop["answers"])
    return [[answer and answer["source"] for answer in hop["answers"]] for hop in report["hops"]]


class TestPair:
    @pytest.mark.parametrize(
        ("source", "destination", "ttl"),
        [
            ("host1", "192.168.0.2", 63),
            ("host2", "192.168.1.2", 63),
            ("host1", "192.168.1.1", 64),
            ("host1", "192.168.0.1", 64),
            ("host2", "192.168.0.1", 64),
            ("host2", "192.168.1.1", 64),
        ],
    )
    def test_ping(self, pair: RouterLab, source: str, destination: str, ttl: int) -> None:
        assert_answered(measure.ping(pair, source, IPv4Address(destination), *FAST), ttl)

    @pytest.mark.parametrize("destination", ["192.168.0.2", "192.168.1.1"])
    def test_largest_ping_in_one_frame(self, pair: RouterLab, destination: str) -> None:
        report = measure.ping(pair, "host1", IPv4Address(destination), *FAST, "--size", "1472", "--dont-fragment")
        assert_answered(report, 63 if destination == "192.168.0.2" else 64)

    @pytest.mark.parametrize("size", [0, 1473, 20_000])
    def test_ping_sizes(self, pair: RouterLab, size: int) -> None:
        assert_answered(measure.ping(pair, "host1", IPv4Address("192.168.0.2"), *FAST, "--size", str(size)), 63)

    @pytest.mark.parametrize("destination", ["192.168.1.1", "192.168.0.1"])
    def test_ttl_1_reaches_the_router(self, pair: RouterLab, destination: str) -> None:
        assert_answered(measure.ping(pair, "host1", IPv4Address(destination), *FAST, "--ttl", "1"), 64)

    def test_ttl_1_goes_no_further(self, pair: RouterLab) -> None:
        report = measure.ping(pair, "host1", IPv4Address("192.168.0.2"), "--count", "1", "--ttl", "1")
        assert report["received"] == 0
        (error,) = report["errors"]
        assert (error["source"], error["type"], error["code"]) == ("192.168.1.1", 11, 0)

    def test_ttl_2_is_enough(self, pair: RouterLab) -> None:
        report = measure.ping(pair, "host1", IPv4Address("192.168.0.2"), *FAST, "--ttl", "2")
        assert_answered(report, 63)

    def test_traceroute(self, pair: RouterLab) -> None:
        assert hops(pair, "host1", IPv4Address("192.168.0.2")) == [["192.168.1.1"] * 2, ["192.168.0.2"] * 2]
        assert hops(pair, "host2", IPv4Address("192.168.1.2")) == [["192.168.0.1"] * 2, ["192.168.1.2"] * 2]


class TestThreeRouters:
    @pytest.mark.parametrize(("source", "destination"), PATHS)
    def test_every_host_reaches_every_host(self, three_routers: RouterLab, source: str, destination: str) -> None:
        path = PATHS[source, destination]
        address = three_routers.topology.address(destination)
        assert_answered(measure.ping(three_routers, source, address, *FAST), 64 - (len(path) - 1))
        assert hops(three_routers, source, address) == [[hop] * 2 for hop in path]

    def test_far_addresses_of_routers(self, three_routers: RouterLab) -> None:
        for address, ttl in (("192.168.3.1", 63), ("192.168.0.2", 62), ("192.168.2.1", 62)):
            assert_answered(measure.ping(three_routers, "host3", IPv4Address(address), *FAST), ttl)
