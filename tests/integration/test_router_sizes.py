"""Datagrams of every size: full frames, jumbo frames, path MTU discovery, fragmentation."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address
from pathlib import Path
from random import Random

import pytest
from router_lab import RouterLab, inside, second_address, started
from router_traffic import Stream, Wire
from scapy.layers.inet import IP

from services.launcher.lab import measure
from services.launcher.lab.topologies import PAIR

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

ADDRESSES = {"host1": "192.168.1.2", "host2": "192.168.0.2"}
WAYS = [("host1", "host2"), ("host2", "host1")]
PORT = 4000
IP_MTU_DISCOVER = 10  # linux/in.h, like the next three
IP_PMTUDISC_DONT = 0
IP_PMTUDISC_DO = 2
IP_MTU = 14
SO_RCVBUFFORCE = 33  # asm-generic/socket.h
UDP_PROTOCOL = 17


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


def udp_socket(lab: RouterLab, host: str, address: str, discover: int) -> socket.socket:
    udp = inside(lab, host, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    udp.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, discover)
    udp.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
    udp.bind((address, PORT))
    udp.settimeout(10.0)
    return udp


@contextmanager
def without_path_mtu_discovery(lab: RouterLab, host: str) -> Iterator[None]:
    """Let a host send without DF for a while."""
    setting = Path("/proc/sys/net/ipv4/ip_no_pmtu_disc")
    inside(lab, host, lambda: setting.write_text("1"))
    try:
        yield
    finally:
        inside(lab, host, lambda: setting.write_text("0"))


def is_tcp(frame: bytes) -> bool:
    return frame[12:14] == b"\x08\x00" and frame[23] == 6


def payloads(size: int, count: int) -> list[bytes]:
    return [Random(number).randbytes(size) for number in range(count)]


def exchange(lab: RouterLab, size: int, count: int, discover: int) -> None:
    """Send `count` datagrams of `size` bytes each way; all must come, in order, with the bytes that were sent."""
    far = ADDRESSES["host2"]
    measure.ping(lab, "host1", IPv4Address(far), "--count", "1", "--timeout", "5")  # the neighbours are known then
    there, back = payloads(size, count), payloads(size, count)[::-1]
    with (
        udp_socket(lab, "host1", ADDRESSES["host1"], discover) as first,
        udp_socket(lab, "host2", far, discover) as second,
    ):
        for outward, homeward in zip(there, back, strict=True):
            first.sendto(outward, (far, PORT))
            second.sendto(homeward, (ADDRESSES["host1"], PORT))
        assert [second.recv(70_000) for _ in there] == there
        assert [first.recv(70_000) for _ in back] == back


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
        exchange(pair, 20_000, 10, IP_PMTUDISC_DONT)


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
    """Each test has an address of host2 for itself: host1 remembers what it has learnt of the path to one."""

    def test_fragmentation_needed(self, narrowing: RouterLab) -> None:
        options = ("--count", "2", "--interval", "0.01", "--size", "2000", "--dont-fragment")
        with second_address(narrowing, "host2", "192.168.0.60/24") as address:
            report = measure.ping(narrowing, "host1", address, *options)
        assert (report["sent"], report["received"]) == (2, 0)
        errors = [(error["source"], error["type"], error["code"], error["mtu"]) for error in report["errors"]]
        assert errors == [("192.168.1.1", 3, 4, 1500)] * 2

    @pytest.mark.parametrize(("size", "answered"), [(1472, 2), (1473, 0)])
    def test_exactly_the_mtu(self, narrowing: RouterLab, size: int, answered: int) -> None:
        options = ("--count", "2", "--interval", "0.01", "--size", str(size), "--dont-fragment")
        with second_address(narrowing, "host2", "192.168.0.61/24") as address:
            report = measure.ping(narrowing, "host1", address, *options)
        assert (report["received"], len(report["errors"])) == (answered, 2 - answered)

    def test_tcp_converges(self, narrowing: RouterLab) -> None:
        before = narrowing.control().counts()
        with second_address(narrowing, "host2", "192.168.0.62/24") as address:
            with Stream(narrowing, "host1", "host2", address, 100_000_000) as stream:
                stream.wait_for_bytes(20_000_000)
                stream.finish()
            with udp_socket(narrowing, "host1", ADDRESSES["host1"], IP_PMTUDISC_DO) as udp:
                udp.connect((str(address), PORT))
                assert udp.getsockopt(socket.IPPROTO_IP, IP_MTU) == 1500  # what the host has learnt of the path
        assert narrowing.control().counts().since(before)["DROP_MTU_EXCEEDED"] >= 1

    def test_tcp_without_df_converges(self, narrowing: RouterLab) -> None:
        """Super-frames of 8,948-byte segments, each of which has to be cut into seven fragments."""
        before = narrowing.control().counts()
        with (
            second_address(narrowing, "host2", "192.168.0.64/24") as address,
            without_path_mtu_discovery(narrowing, "host1"),
            Wire(narrowing, "host2") as wire,
            Stream(narrowing, "host1", "host2", address, 10_000_000) as stream,
        ):
            stream.wait_for_bytes(3_000_000)
            received = stream.finish()
            heard = wire.listen(is_tcp)
        grown = narrowing.control().counts().since(before)
        assert received >= 3_000_000
        assert max(len(one.frame) for one in heard) <= 1514
        assert any(IP(one.frame[14:34]).frag for one in heard)
        assert grown["FRAGMENTED"] >= 1
        assert grown["GENERATED"] > grown["FRAGMENTED"]
        assert {"DROP_MTU_EXCEEDED", "DROP_GSO_UNFRAGMENTABLE"}.isdisjoint(grown)

    @pytest.mark.parametrize(("size", "cut"), [(1473, 1), (8972, 1), (20_000, 3)])
    def test_fragments_reassemble(self, narrowing: RouterLab, size: int, cut: int) -> None:
        before = narrowing.control().counts()
        with (
            second_address(narrowing, "host2", "192.168.0.63/24") as address,
            Wire(narrowing, "host2") as wire,
        ):
            sent = payloads(size, 5)
            with (
                udp_socket(narrowing, "host1", ADDRESSES["host1"], IP_PMTUDISC_DONT) as sender,
                udp_socket(narrowing, "host2", str(address), IP_PMTUDISC_DONT) as receiver,
            ):
                received = []
                for payload in sent:
                    sender.sendto(payload, (str(address), PORT))
                    with suppress(TimeoutError):
                        received.append(receiver.recv(70_000))
            assert received == sent, narrowing.control().counts().since(before)
            heard = wire.listen(lambda frame: frame[12:14] == b"\x08\x00" and IP(frame[14:34]).proto == UDP_PROTOCOL)
        assert max(len(one.frame) for one in heard) <= 1514
        datagrams: dict[int, list[tuple[int, int, bool]]] = {}
        for one in heard:
            header = IP(one.frame[14:34])
            datagrams.setdefault(header.id, []).append((header.frag * 8, header.len - 20, "MF" in str(header.flags)))
        assert len(datagrams) == 5
        for parts in datagrams.values():
            ends = [offset + length for offset, length, _more in parts]
            assert [offset for offset, _length, _more in parts] == [0, *ends[:-1]]
            assert ends[-1] == size + 8
            assert [more for *_, more in parts] == [True] * (len(parts) - 1) + [False]
        assert narrowing.control().counts().since(before)["FRAGMENTED"] == 5 * cut
