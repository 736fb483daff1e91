"""What the router's slow path answers and rewrites: options, fragments to the router itself, redirects."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address

import pytest
from router_lab import RouterLab, second_address, wait_for
from router_traffic import Wire
from scapy.layers.inet import ICMP, IP, UDP, IPOption
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from services.launcher.lab import measure

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

HOST1, HOST2 = "192.168.1.2", "192.168.0.2"
ROUTER1, ROUTER2 = "192.168.1.1", "192.168.0.1"
STATION = "192.168.1.77"
ANOTHER_WAY = "10.55.0.0/16"


def is_icmp(icmp_type: int, code: int = 0, source: str = "") -> Callable[[bytes], bool]:
    return lambda frame: (
        frame[12:14] == b"\x08\x00"
        and frame[23] == 1
        and (ICMP(bytes(IP(frame[14:]).payload)).type, ICMP(bytes(IP(frame[14:]).payload)).code) == (icmp_type, code)
        and source in ("", IP(frame[14:]).src)
    )


class Hosts:
    """The two ends of the lab as raw stations."""

    def __init__(self, lab: RouterLab, near: Wire, far: Wire) -> None:
        self.near, self.far = near, far
        self._ether = Ether(src=near.mac, dst=lab.control().mac("eth0"))

    def send(self, packet: Packet) -> None:
        """Let host1 send a datagram by way of the router."""
        self.near.send(bytes(self._ether / packet))


@pytest.fixture
def hosts(pair: RouterLab) -> Iterator[Hosts]:
    # so that the router knows both MACs
    measure.ping(pair, "host1", IPv4Address(HOST2), "--count", "1", "--timeout", "5")
    with Wire(pair, "host1") as near, Wire(pair, "host2") as far:
        yield Hosts(pair, near, far)


def options_of(frame: bytes) -> bytes:
    return frame[34 : 14 + 4 * (frame[14] & 15)]


def addresses(*texts: str) -> bytes:
    return b"".join(IPv4Address(text).packed for text in texts)


class TestOptions:
    """Conformance row 32."""

    def test_record_route_there_and_back(self, hosts: Hosts) -> None:
        """host2's kernel returns the option in its reply, with its own address twice, as Linux does."""
        empty = IPOption(bytes((7, 39, 4)) + bytes(36) + b"\0")
        hosts.send(IP(src=HOST1, dst=HOST2, options=[empty]) / ICMP(id=71) / b"which way?")
        (there, *_) = hosts.far.wait_to_hear("the request", is_icmp(8, source=HOST1))
        assert options_of(there.frame) == bytes((7, 39, 8)) + addresses(ROUTER2) + bytes(33)
        assert IP(there.frame[14:]).ttl == 63
        (back, *_) = hosts.near.wait_to_hear("the reply", is_icmp(0, source=HOST2))
        way = addresses(ROUTER2, HOST2, HOST2, ROUTER1)
        assert options_of(back.frame) == bytes((7, 39, 20)) + way + bytes(21)

    def test_record_route_to_the_router(self, hosts: Hosts) -> None:
        empty = IPOption(bytes((7, 11, 4)) + bytes(8) + b"\0")
        hosts.send(IP(src=HOST1, dst=ROUTER2, options=[empty]) / ICMP(id=72))
        (reply, *_) = hosts.near.wait_to_hear("the reply", is_icmp(0, source=ROUTER2))
        assert options_of(reply.frame) == bytes((7, 11, 12)) + addresses(ROUTER2, ROUTER1) + b"\0"

    def test_timestamp(self, hosts: Hosts) -> None:
        hosts.send(IP(src=HOST1, dst=HOST2, options=[IPOption(bytes((68, 12, 5, 1)) + bytes(8))]) / UDP(dport=4010))
        (frame, *_) = hosts.far.wait_to_hear("the datagram", lambda one: one[12:14] == b"\x08\x00" and one[23] == 17)
        option = options_of(frame.frame)
        assert option[:8] == bytes((68, 12, 13, 1)) + addresses(ROUTER2)
        assert 0 < int.from_bytes(option[8:], "big") < 86_400_000  # milliseconds since midnight

    def test_malformed_option(self, pair: RouterLab, hosts: Hosts) -> None:
        before = pair.control().counts()
        hosts.send(IP(src=HOST1, dst=HOST2, options=[IPOption(bytes.fromhex("01 07 07 03 00000000"))]) / UDP())
        (error, *_) = hosts.near.wait_to_hear("the error", is_icmp(12))
        message = bytes(IP(error.frame[14:]).payload)
        assert message[4] == 23  # the pointer, that may not be 3: byte 20 is the no operation
        assert IP(error.frame[14:]).src == ROUTER1
        assert message[8:36][20:28] == bytes.fromhex("01 07 07 03 00000000")
        assert pair.control().counts().since(before)["DROP_OPTION_MALFORMED"] == 1

    def test_malformed_option_to_the_router(self, pair: RouterLab, hosts: Hosts) -> None:
        """The kernel reports it, and nobody else."""
        hosts.send(IP(src=HOST1, dst=ROUTER1, options=[IPOption(bytes.fromhex("07 01 00 00"))]) / ICMP(id=73))
        hosts.send(IP(src=HOST1, dst=ROUTER1) / ICMP(id=74))
        hosts.near.wait_to_hear("the error", is_icmp(12))
        hosts.near.wait_to_hear("the next reply", is_icmp(0))
        pair.control().settle()
        assert len(hosts.near.listen(is_icmp(12))) == 1
        assert len(hosts.near.listen(is_icmp(0))) == 1


class TestReassembly:
    """Conformance row 13."""

    @pytest.mark.parametrize("router", [ROUTER1, ROUTER2])
    @pytest.mark.parametrize("size", [1473, 4000, 20_000, 65_507])
    def test_ping(self, pair: RouterLab, router: str, size: int) -> None:
        control = pair.control()
        wait_for("what earlier tests began is given up", lambda: control.counts().get("WAITING") == 0, 60)
        before = control.counts()
        options = ("--count", "3", "--interval", "0.05", "--size", str(size), "--timeout", "10")
        report = measure.ping(pair, "host1", IPv4Address(router), *options)
        assert (report["sent"], report["received"], report["wrong"], report["duplicates"]) == (3, 3, 0, 0)
        grown = control.counts().since(before)
        parts = -(-(size + 8) // 1480)
        assert (grown["ECHO_ANSWERED"], grown["REASSEMBLED"]) == (3, 3 * (parts - 1))
        assert control.counts().get("WAITING") == 0

    def test_killed_while_fragments_wait(self, pair: RouterLab, hosts: Hosts) -> None:
        control = pair.control()
        wait_for("what earlier tests began is given up", lambda: control.counts().get("WAITING") == 0, 60)
        before = control.counts()
        hosts.send(IP(src=HOST1, dst=ROUTER1, flags="MF", id=9) / ICMP(id=75) / bytes(64))
        wait_for("the fragment is held", lambda: control.counts().get("WAITING") == 1)
        control.kill("forwarder")
        control.settle()
        assert control.counts().get("WAITING") == 0
        assert control.counts().since(before)["DROP_RESTARTED"] == 1
        report = measure.ping(pair, "host1", IPv4Address(ROUTER1), "--count", "1", "--size", "4000", "--timeout", "10")
        assert report["received"] == 1


@contextmanager
def route_back_to_the_link(lab: RouterLab) -> Iterator[None]:
    """Let a network be behind a station on host1's own link."""
    with second_address(lab, "host1", f"{STATION}/24"):
        lab.control().change("route", "add", ANOTHER_WAY, "via", STATION)
        try:
            wait_for("the forwarder has the route", lambda: lab.control().route_kind("10.55.0.1") == "unicast")
            yield
        finally:
            lab.control().change("route", "del", ANOTHER_WAY, "via", STATION)


class TestRedirect:
    """Conformance row 24."""

    def test_hairpin(self, pair: RouterLab, hosts: Hosts) -> None:
        before = pair.control().counts()
        with route_back_to_the_link(pair):
            hosts.send(IP(src=HOST1, dst="10.55.0.1", ttl=9) / UDP(dport=4011) / b"here and there")
            forwarded = hosts.near.wait_to_hear(
                "the datagram comes back", lambda frame: frame[12:14] == b"\x08\x00" and frame[23] == 17
            )
            (redirect, *_) = hosts.near.wait_to_hear("the redirect", is_icmp(5, 1))
        assert [(IP(one.frame[14:]).dst, IP(one.frame[14:]).ttl) for one in forwarded] == [("10.55.0.1", 8)]
        datagram = IP(redirect.frame[14:])
        assert (datagram.src, datagram.dst) == (ROUTER1, HOST1)
        message = bytes(datagram.payload)
        assert message[4:8] == addresses(STATION)
        assert message[8:][16:20] == addresses("10.55.0.1")
        assert pair.control().counts().since(before)["REDIRECTS"] == 1

    def test_all_are_forwarded_and_few_redirected(self, pair: RouterLab, hosts: Hosts) -> None:
        before = pair.control().counts()
        source = "192.168.1.78"
        with second_address(pair, "host1", f"{source}/24"), route_back_to_the_link(pair):
            for number in range(200):
                hosts.send(IP(src=source, dst="10.55.0.1") / UDP(dport=4012) / number.to_bytes(2, "big"))
            hosts.near.wait_to_hear("all come back", lambda frame: frame[12:14] == b"\x08\x00" and frame[23] == 17, 200)
        grown = pair.control().counts().since(before)
        assert 1 <= grown["REDIRECTS"] <= 9
