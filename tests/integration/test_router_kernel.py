"""The router's kernel stays quiet where hopwire speaks, and speaks where hopwire leaves frames to it."""

import os
import socket
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address

import pytest
from router_lab import RouterLab, inside
from router_traffic import Heard, Wire
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from services.launcher.lab import measure

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

COUNT = 50
MARKER = b"the last one"
MARKER_PORT = 4999


def is_udp_to(port: int) -> Callable[[bytes], bool]:
    return lambda frame: frame[12:14] == b"\x08\x00" and frame[23] == 17 and frame[36:38] == port.to_bytes(2, "big")


def is_echo(icmp_type: int, identifier: int) -> Callable[[bytes], bool]:
    wanted = (icmp_type, identifier)
    return lambda frame: (
        frame[12:14] == b"\x08\x00" and frame[23] == 1 and (frame[34], int.from_bytes(frame[38:40], "big")) == wanted
    )


def is_arp_reply_from(address: str) -> Callable[[bytes], bool]:
    return lambda frame: frame[12:14] == b"\x08\x06" and ARP(frame[14:]).op == 2 and ARP(frame[14:]).psrc == address


class Hosts:
    """The two ends of the lab as raw stations."""

    def __init__(self, lab: RouterLab, near: Wire, far: Wire) -> None:
        self.near, self.far = near, far
        self._lab = lab
        self.ether = Ether(src=near.mac, dst=lab.control().mac("eth0"))

    def send(self, packets: list[Packet]) -> None:
        for packet in packets:
            self.near.send(bytes(packet))

    def all_heard(self, wire: Wire, wanted: Callable[[bytes], bool]) -> list[Heard]:
        """Return the frames of a kind that a wire has heard when the router has done all that it had to do.

        The kernel answers while it receives, and so before the router forwards what was sent after it.
        """
        self._lab.control().settle()
        there, back = self._lab.topology.address("host2"), self._lab.topology.address("host1")
        self.send([self.ether / IP(src=str(back), dst=str(there)) / UDP(dport=MARKER_PORT) / MARKER])
        self.far.wait_to_hear("the marker", is_udp_to(MARKER_PORT))
        assert measure.ping(self._lab, "host2", back, "--count", "1", "--timeout", "5")["received"] == 1
        return wire.listen(wanted)


@pytest.fixture
def hosts(pair: RouterLab) -> Iterator[Hosts]:
    # so that the router knows both MACs
    measure.ping(pair, "host1", pair.topology.address("host2"), "--count", "1", "--timeout", "5")
    with Wire(pair, "host1") as near, Wire(pair, "host2") as far:
        yield Hosts(pair, near, far)


class TestNothingTwice:
    def test_forwarded_datagrams(self, hosts: Hosts) -> None:
        ip = IP(src="192.168.1.2", dst="192.168.0.2")
        hosts.send([hosts.ether / ip / UDP(dport=4000) / number.to_bytes(2, "big") for number in range(COUNT)])
        heard = hosts.all_heard(hosts.far, is_udp_to(4000))
        assert [int.from_bytes(one.frame[42:44], "big") for one in heard] == list(range(COUNT))
        assert hosts.near.listen(is_udp_to(4000)) == []

    @pytest.mark.parametrize("address", ["192.168.1.1", "192.168.0.1"])
    def test_echo_to_the_router(self, hosts: Hosts, address: str) -> None:
        ip = IP(src="192.168.1.2", dst=address)
        hosts.send([hosts.ether / ip / ICMP(id=4711, seq=number) / b"abc" for number in range(COUNT)])
        heard = hosts.all_heard(hosts.near, is_echo(0, 4711))
        assert [int.from_bytes(one.frame[40:42], "big") for one in heard] == list(range(COUNT))

    def test_echo_through_the_router(self, hosts: Hosts) -> None:
        ip = IP(src="192.168.1.2", dst="192.168.0.2")
        hosts.send([hosts.ether / ip / ICMP(id=4712, seq=number) / b"abc" for number in range(COUNT)])
        hosts.near.wait_to_hear("the answers", is_echo(0, 4712), COUNT)
        assert len(hosts.all_heard(hosts.far, is_echo(8, 4712))) == COUNT
        assert len(hosts.near.listen(is_echo(0, 4712))) == COUNT

    def test_arp(self, pair: RouterLab, hosts: Hosts) -> None:
        mac = pair.control().mac("eth0")
        request = Ether(src=hosts.near.mac, dst="ff:ff:ff:ff:ff:ff") / ARP(
            op=1, hwsrc=hosts.near.mac, psrc="192.168.1.2", pdst="192.168.1.1"
        )
        hosts.send([request] * 5)
        heard = hosts.all_heard(hosts.near, is_arp_reply_from("192.168.1.1"))
        assert [ARP(one.frame[14:]).hwsrc for one in heard] == [mac] * 5

    @pytest.mark.parametrize("target", ["192.168.0.1", "192.168.0.2", "192.168.1.2", "192.168.1.99"])
    def test_no_arp_for_others(self, hosts: Hosts, target: str) -> None:
        request = Ether(src="02:00:00:00:00:55", dst="ff:ff:ff:ff:ff:ff") / ARP(
            op=1, hwsrc="02:00:00:00:00:55", psrc="192.168.1.55", pdst=target
        )
        hosts.send([request] * 3)
        assert hosts.all_heard(hosts.near, is_arp_reply_from(target)) == []

    def test_time_exceeded(self, hosts: Hosts) -> None:
        ip = IP(src="192.168.1.2", dst="192.168.0.2", ttl=1)
        hosts.send([hosts.ether / ip / UDP(dport=4000) / b"dies" for _ in range(3)])
        errors = hosts.all_heard(hosts.near, lambda frame: frame[12:14] == b"\x08\x00" and frame[34:36] == b"\x0b\x00")
        assert len(errors) == 3

    def test_broadcast_is_not_forwarded(self, pair: RouterLab, hosts: Hosts) -> None:
        everybody = Ether(src=hosts.near.mac, dst="ff:ff:ff:ff:ff:ff")
        frames = [
            everybody / IP(src="192.168.1.2", dst="255.255.255.255") / UDP(dport=4001),
            everybody / IP(src="192.168.1.2", dst="192.168.1.255") / UDP(dport=4001),
            everybody / IP(src="192.168.1.2", dst="192.168.0.2") / UDP(dport=4001),
            hosts.ether / IP(src="192.168.1.2", dst="192.168.0.255") / UDP(dport=4001),
            hosts.ether / IP(src="192.168.1.2", dst="224.0.0.5") / UDP(dport=4001),
        ]
        before = pair.control().counts()
        hosts.send(frames)
        assert hosts.all_heard(hosts.far, is_udp_to(4001)) == []
        grown = pair.control().counts().since(before)
        assert grown["LOCAL_GROUP"] == 3
        assert (grown["DROP_LINK_BROADCAST"], grown["DROP_DIRECTED_BROADCAST"]) == (1, 1)


class TestTheKernelsOwn:
    @pytest.mark.parametrize(("host", "address"), [("host1", "192.168.1.1"), ("host2", "192.168.1.1")])
    def test_tcp_to_the_router(self, pair: RouterLab, host: str, address: str) -> None:
        before = pair.control().counts()
        assert str(pair.topology.address("router")) == address
        assert measure.transfer(pair, host, "router", 5_000_000)["intact"]
        assert pair.control().counts().since(before)["LOCAL"] > 0

    @pytest.mark.parametrize("receiver", ["host1", "host2"])
    def test_tcp_from_the_router(self, pair: RouterLab, receiver: str) -> None:
        assert measure.transfer(pair, "router", receiver, 5_000_000)["intact"]

    @pytest.mark.parametrize("address", ["192.168.1.1", "192.168.0.1"])
    def test_closed_udp_port(self, pair: RouterLab, address: str) -> None:
        with inside(pair, "host1", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as udp:
            udp.settimeout(5.0)
            udp.connect((address, 9))
            udp.send(b"anybody there?")
            with pytest.raises(ConnectionRefusedError):  # port unreachable, RFC 1122 section 4.1.3.1
                udp.recv(100)

    def test_closed_tcp_port(self, pair: RouterLab) -> None:
        with inside(pair, "host1", lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as tcp:
            tcp.settimeout(5.0)
            with pytest.raises(ConnectionRefusedError):
                tcp.connect(("192.168.1.1", 9))

    def test_ping_of_a_host_by_the_router(self, pair: RouterLab) -> None:
        report = measure.ping(pair, "router", IPv4Address("192.168.0.2"), "--count", "3", "--interval", "0.01")
        assert (report["received"], report["duplicates"]) == (3, 0)
