"""What a sender is told when its datagram cannot be forwarded, and when."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address

import pytest
from router_lab import RouterLab, far_address, kernel, wait_for
from router_traffic import Heard, Wire
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import ARP, Ether

from services.launcher.lab import measure

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

ONCE = ("--count", "1", "--timeout", "5")
SILENT = "192.168.0.99"
FAR = "10.9.0.1"
"""An address of host2 that the router has no route to."""
RTN_BLACKHOLE, RTN_UNREACHABLE, RTN_PROHIBIT = 6, 7, 8  # linux/rtnetlink.h


@pytest.fixture(scope="module", autouse=True)
def network_behind_host2(pair: RouterLab) -> Iterator[None]:
    with far_address(pair, "host2", FAR):
        yield


def errors_of_ping(lab: RouterLab, destination: str) -> list[tuple[str, int, int]]:
    report = measure.ping(lab, "host1", IPv4Address(destination), *ONCE)
    assert report["received"] == 0
    return [(error["source"], error["type"], error["code"]) for error in report["errors"]]


def wait_for_route(lab: RouterLab, kind: str) -> None:
    """Wait until the forwarder's own table has a route of that kind to FAR."""
    wait_for(f"a route {kind}", lambda: lab.control().route_kind(FAR) == kind)


class TestSilentNextHop:
    def test_host_unreachable_for_each_datagram_and_in_its_time(self, pair: RouterLab) -> None:
        with Wire(pair, "host1") as near, Wire(pair, "host2") as far:
            ether = Ether(src=near.mac, dst=pair.control().mac("eth0"))
            sent = [
                bytes(ether / IP(src="192.168.1.2", dst=SILENT, ttl=64, id=number) / UDP(dport=9) / b"to nobody")
                for number in range(1, 4)
            ]
            sent_at = time.monotonic()
            for frame in sent:
                near.send(frame)
            errors = near.wait_to_hear("host unreachable", is_icmp(3, 1), len(sent))
            assert time.monotonic() - sent_at >= 2.0
            requests = far.listen(lambda frame: frame[12:14] == b"\x08\x06" and ARP(frame[14:]).pdst == SILENT)
        assert len(requests) == 3
        assert [quoted(error) for error in errors] == [before_hop(frame) for frame in sent]
        for error in errors:
            ip = IP(error.frame[14:])
            assert (ip.src, ip.dst, ip.tos) == ("192.168.1.1", "192.168.1.2", 0xC0)  # RFC 1812 section 4.3.2.5

    def test_no_arp_for_addresses_beyond_the_link(self, pair: RouterLab) -> None:
        with Wire(pair, "host2") as far:
            assert errors_of_ping(pair, "203.0.113.1") == [("192.168.1.1", 3, 0)]
            assert far.listen(lambda frame: frame[12:14] == b"\x08\x06" and "203.0.113" in ARP(frame[14:]).pdst) == []


def is_icmp(icmp_type: int, code: int) -> Callable[[bytes], bool]:
    return lambda frame: frame[12:14] == b"\x08\x00" and frame[23] == 1 and tuple(frame[34:36]) == (icmp_type, code)


def quoted(error: Heard) -> bytes:
    """The datagram that an error quotes, without the fields that change on the way."""
    return without_changes(error.frame[42:])


def before_hop(frame: bytes) -> bytes:
    return without_changes(frame[14:])


def without_changes(datagram: bytes) -> bytes:
    return datagram[:8] + datagram[9:10] + datagram[12:]


@contextmanager
def kernel_route(lab: RouterLab, kind: int) -> Iterator[None]:
    """A route of this type in the router's namespace that somebody has set with netlink."""
    with kernel(lab, "router") as router:
        router.route("add", dst="10.9.0.0/24", type=kind)
        try:
            yield
        finally:
            router.route("del", dst="10.9.0.0/24", type=kind)


class TestRouteTypes:
    def test_network_unreachable(self, pair: RouterLab) -> None:
        assert errors_of_ping(pair, FAR) == [("192.168.1.1", 3, 0)]

    @pytest.mark.parametrize(
        ("kind", "name", "code"),
        [(RTN_UNREACHABLE, "unreachable", 1), (RTN_PROHIBIT, "prohibit", 13)],
        ids=["unreachable", "prohibit"],
    )
    def test_route_of_netlink(self, pair: RouterLab, kind: int, name: str, code: int) -> None:
        with kernel_route(pair, kind):
            wait_for_route(pair, name)
            assert errors_of_ping(pair, FAR) == [("192.168.1.1", 3, code)]
        wait_for_route(pair, "none")
        assert errors_of_ping(pair, FAR) == [("192.168.1.1", 3, 0)]

    def test_blackhole_of_netlink(self, pair: RouterLab) -> None:
        with kernel_route(pair, RTN_BLACKHOLE):
            wait_for_route(pair, "blackhole")
            before = pair.control().counts()
            report = measure.ping(pair, "host1", IPv4Address(FAR), "--count", "3", "--interval", "0.01", "-W", "0.3")
            assert (report["sent"], report["received"], report["errors"]) == (3, 0, [])
            assert pair.control().counts().since(before, "DROP_") == {"DROP_BLACKHOLE": 3}

    @pytest.mark.parametrize(("kind", "code"), [("unreachable", 1), ("prohibit", 13)])
    def test_route_of_control_cli_works_at_once(self, pair: RouterLab, kind: str, code: int) -> None:
        control = pair.control()
        control.change("route", "add", kind, "10.9.0.0/24")
        assert errors_of_ping(pair, FAR) == [("192.168.1.1", 3, code)]
        control.change("route", "replace", "10.9.0.0/24", "via", "192.168.0.2")
        assert measure.ping(pair, "host1", IPv4Address(FAR), *ONCE)["received"] == 1
        control.change("route", "del", "10.9.0.0/24")
        assert errors_of_ping(pair, FAR) == [("192.168.1.1", 3, 0)]

    def test_longest_prefix_wins(self, pair: RouterLab) -> None:
        control = pair.control()
        control.change("route", "add", "10.9.0.0/16", "via", "192.168.0.2")
        control.change("route", "add", "unreachable", "10.9.0.0/25")
        assert errors_of_ping(pair, FAR) == [("192.168.1.1", 3, 1)]
        control.change("route", "add", FAR, "via", "192.168.0.2")
        assert measure.ping(pair, "host1", IPv4Address(FAR), *ONCE)["received"] == 1
        for prefix in (FAR, "10.9.0.0/16"):
            control.change("route", "del", prefix)
        control.change("route", "del", "unreachable", "10.9.0.0/25")


class TestErrorsAreLimited:
    def test_and_forwarding_goes_on(self, pair: RouterLab) -> None:
        """RFC 1812 section 4.3.2.8."""
        before = pair.control().counts()
        with Wire(pair, "host1") as near:
            ether = Ether(src=near.mac, dst=pair.control().mac("eth0"))
            dying = bytes(ether / IP(src="192.168.1.2", dst="192.168.0.2", ttl=1) / ICMP() / b"x")
            for _ in range(300):
                near.send(dying)
            report = measure.ping(pair, "host1", IPv4Address("192.168.0.2"), *ONCE)
            assert report["received"] == 1
            after = pair.control().counts().since(before)
            errors = len(near.listen(is_icmp(11, 0)))
        decided = after["DROP_TTL_EXCEEDED"] + after.get("DROP_SLOW_PATH_FULL", 0)
        assert decided == 300
        assert errors == after["ICMP_ERRORS"] < 300
        assert after["ICMP_ERRORS"] + after["ICMP_SUPPRESSED"] == after["DROP_TTL_EXCEEDED"]
