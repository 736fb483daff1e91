"""ARP as the hosts around a router see it (conformance rows A1-A12), forwarder and arp working together."""

import os
import time
from ipaddress import IPv4Address

import pytest
from router_lab import RouterLab, second_address, wait_for
from router_traffic import Wire
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

NEIGHBOUR_QUEUE = 128  # max_waiting_frames
SPACING_S = 100e-6


def datagrams(near: Wire, router_mac: str, destination: IPv4Address, count: int) -> list[bytes]:
    """UDP datagrams from host1 that can be told apart by their IP id, which is 1 for the first."""
    ether = Ether(src=near.mac, dst=router_mac)
    return [
        bytes(ether / IP(src="192.168.1.2", dst=str(destination), ttl=64, id=number) / UDP(dport=9) / b"in order")
        for number in range(1, count + 1)
    ]


def arrived(far: Wire, destination: IPv4Address) -> list[int]:
    """The ids of the UDP datagrams to an address that came, in their order."""
    heard = far.listen(
        lambda frame: frame[12:14] == b"\x08\x00" and frame[23] == 17 and frame[30:34] == destination.packed
    )
    return [int.from_bytes(each.frame[18:20], "big") for each in heard]


class TestA3QueuedDatagrams:
    """RFC 1122 section 2.3.2.2: an answer releases every queued datagram exactly once, in order, before later ones."""

    @pytest.mark.parametrize("number", range(10))
    def test_a_stream_that_begins_before_the_answer_stays_in_order(self, pair: RouterLab, number: int) -> None:
        with second_address(pair, "host2", f"192.168.0.{100 + number}/24") as destination:
            self._stream(pair, destination, 2 * NEIGHBOUR_QUEUE, SPACING_S)

    def test_a_burst_as_large_as_the_queue_loses_nothing(self, pair: RouterLab) -> None:
        with second_address(pair, "host2", "192.168.0.120/24") as destination:
            self._stream(pair, destination, NEIGHBOUR_QUEUE, 0.0)

    def _stream(self, pair: RouterLab, destination: IPv4Address, count: int, spacing_s: float) -> None:
        """Send datagrams to a neighbour that is not resolved; they must come as they were sent."""
        control = pair.control()
        before = control.counts()
        with Wire(pair, "host1") as near, Wire(pair, "host2") as far:
            for frame in datagrams(near, control.mac("eth0"), destination, count):
                near.send(frame)
                next_at = time.monotonic() + spacing_s
                while time.monotonic() < next_at:
                    pass
            wait_for("the last datagram", lambda: count in arrived(far, destination))
            control.settle()
            assert control.counts().since(before, "DROP_") == {}
            assert arrived(far, destination) == list(range(1, count + 1))
