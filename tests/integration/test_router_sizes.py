"""Datagrams of every size: full frames, jumbo frames, path MTU discovery, fragmentation."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address
from random import Random

import pytest
from router_lab import RouterLab, Wire, inside, started
from scapy.layers.inet import IP

from services.launcher.lab import measure
from services.launcher.lab.topologies import PAIR

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

ADDRESSES = {"host1": "192.168.1.2", "host2": "192.168.0.2"}
WAYS = [("host1", "host2"), ("host2", "host1")]
PORT = 4000
IP_MTU_DISCOVER = 10  # linux/in.h, like the next three
IP_PMTUDISC_INTERFACE = 4
IP_PMTUDISC_DO = 2
IP_MTU = 14
SO_RCVBUFFORCE = 33  # asm-generic/socket.h


@pytest.fixture(scope="module")
def pair() -> Iterator[RouterLab]:
    with started(PAIR, "u") as lab:
        yield lab


@pytest.fixture(scope="module")
def jumbo() -> Iterator[RouterLab]:
    topology = PAIR.with_mtu("host1", "router", 9000).with_mtu("router", "host2", 9000)
    with started(topology, "j") as lab:
        yield lab


@pytest.fixture(scope="module")
def narrowing(jumbo: RouterLab) -> Iterator[RouterLab]:
    """Jumbo frames up to the router, 1500 bytes behind it; both hosts believe in 9000."""
    jumbo.control().change("link", "set", "eth1", "mtu", "1500")
    yield jumbo
    jumbo.control().change("link", "set", "eth1", "mtu", "9000")


def udp_socket(lab: RouterLab, host: str, discover: int) -> socket.socket:
    udp = inside(lab, host, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    udp.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, discover)
    udp.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
    udp.bind((ADDRESSES[host], PORT))
    udp.settimeout(10.0)
    return udp


def exchange(lab: RouterLab, size: int, count: int, discover: int, ways: list[tuple[str, str]] = WAYS) -> None:
    """Send `count` datagrams of `size` bytes each way; all must come, in order, with the bytes that were sent."""
    with ExitStack() as stack:
        sockets = {host: stack.enter_context(udp_socket(lab, host, discover)) for host in ADDRESSES}
        payloads = {way: [Random(number).randbytes(size) for number in range(count)] for way in ways}
        for way in zip(*payloads.values(), strict=True):
            for (sender, receiver), payload in zip(payloads, way, strict=True):
                sockets[sender].sendto(payload, (ADDRESSES[receiver], PORT))
        for (_sender, receiver), sent in payloads.items():
            assert [sockets[receiver].recv(70_000) for _ in range(count)] == sent


class TestFullFrames:
    def test_udp_of_1514_byte_frames(self, pair: RouterLab) -> None:
        before = pair.control().counts()
        exchange(pair, 1472, 200, IP_PMTUDISC_DO)
        grown = pair.control().counts().since(before)
        assert grown["TX_BYTES"] >= 400 * 1514
        assert "DROP" not in str(grown)

    @pytest.mark.parametrize("size", [0, 1, 17, 18, 19, 1471])
    def test_udp_sizes(self, pair: RouterLab, size: int) -> None:
        exchange(pair, size, 5, IP_PMTUDISC_DO)

    def test_datagram_in_fragments(self, pair: RouterLab) -> None:
        exchange(pair, 20_000, 10, IP_PMTUDISC_INTERFACE)


class TestJumboFrames:
    def test_udp_of_9014_byte_frames(self, jumbo: RouterLab) -> None:
        before = jumbo.control().counts()
        exchange(jumbo, 8972, 100, IP_PMTUDISC_DO)
        grown = jumbo.control().counts().since(before)
        assert grown["TX_BYTES"] >= 200 * 9014
        assert "DROP" not in str(grown)

    @pytest.mark.parametrize(("sender", "receiver"), WAYS)
    def test_tcp(self, jumbo: RouterLab, sender: str, receiver: str) -> None:
        report = measure.transfer(jumbo, sender, receiver, 50_000_000)
        assert report["intact"]


class TestNarrowerLink:
    def test_fragmentation_needed(self, narrowing: RouterLab) -> None:
        options = ("--count", "2", "--interval", "0.01", "--size", "2000", "--dont-fragment")
        report = measure.ping(narrowing, "host1", IPv4Address("192.168.0.2"), *options)
        assert (report["sent"], report["received"]) == (2, 0)
        assert [
            (error["source"], error["type"], error["code"], error["mtu"]) for error in report["errors"]
        ] == [("192.168.1.1", 3, 4, 1500)] * 2

    @pytest.mark.parametrize(("size", "answered"), [(1472, 2), (1473, 0)])
    def test_exactly_the_mtu(self, narrowing: RouterLab, size: int, answered: int) -> None:
        options = ("--count", "2", "--interval", "0.01", "--size", str(size), "--dont-fragment")
        report = measure.ping(narrowing, "host1", IPv4Address("192.168.0.2"), *options)
        assert (report["received"], len(report["errors"])) == (answered, 2 - answered)

    def test_tcp_converges(self, narrowing: RouterLab) -> None:
        before = narrowing.control().counts()
        report = measure.transfer(narrowing, "host1", "host2", 50_000_000)
        assert report["intact"]
        assert narrowing.control().counts().since(before)["DROP_MTU_EXCEEDED"] >= 1
        udp = udp_socket(narrowing, "host1", IP_PMTUDISC_DO)
        with udp:
            udp.connect((ADDRESSES["host2"], PORT))
            assert udp.getsockopt(socket.IPPROTO_IP, IP_MTU) == 1500  # what the host has learnt of the path

    @pytest.mark.parametrize("size", [1473, 8972, 20_000])
    def test_fragments_reassemble(self, narrowing: RouterLab, size: int) -> None:
        before = narrowing.control().counts()
        with Wire(narrowing, "host2") as wire:
            exchange(narrowing, size, 5, IP_PMTUDISC_INTERFACE, [("host1", "host2")])
            datagrams = [one.frame[14:] for one in wire.listen(lambda frame: frame[12:14] == b"\x08\x00")]
        assert max(map(len, datagrams)) <= 1500
        offsets: dict[int, list[tuple[int, int, bool]]] = {}
        for datagram in datagrams:
            header = IP(datagram[:20])
            part = (header.frag * 8, header.len - 20, "MF" in str(header.flags))
            offsets.setdefault(header.id, []).append(part)
        assert len(offsets) == 5
        for parts in offsets.values():
            ends = [offset + length for offset, length, _more in parts]
            assert [offset for offset, _length, _more in parts] == [0, *ends[:-1]]
            assert ends[-1] == size + 8
            assert [more for *_, more in parts] == [True] * (len(parts) - 1) + [False]
        # of a datagram that came in fragments the last one fits already
        cut = {1473: 1, 8972: 1, 20_000: 3}[size]
        assert narrowing.control().counts().since(before)["FRAGMENTED"] == 5 * cut
