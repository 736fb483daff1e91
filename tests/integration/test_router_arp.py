"""ARP as the hosts around a router see it (conformance rows A1-A12), forwarder and arp working together."""

import os
import struct
import time
from ipaddress import IPv4Address

import pytest
from router_lab import RouterLab, second_address, wait_for
from router_traffic import Pinger, Wire
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
            self._stream(pair, destination, NEIGHBOUR_QUEUE - 8, SPACING_S)

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


class TestA8Sweep:
    """A sweep neither grows the table nor stops flows whose neighbours are known."""

    DESTINATIONS = 16_384
    NETWORK = IPv4Address("10.77.0.0")

    def test_known_flows_lose_nothing(self, pair: RouterLab) -> None:
        control = pair.control()
        with (
            second_address(pair, "router", "10.77.0.1/16", "eth1"),
            Pinger(pair, "host1", "192.168.0.2", 0.02) as pinger,
            Wire(pair, "host1") as near,
        ):
            wait_for("the route", lambda: control.route_kind("10.77.1.1") == "unicast")
            pinger.wait_for_replies(5)
            macs = bytes.fromhex((control.mac("eth0") + near.mac).replace(":", ""))
            for number in range(1, self.DESTINATIONS):
                near.send(macs + b"\x08\x00" + self._datagram(int(self.NETWORK) + 4 * number))
                if number % 64 == 0:
                    time.sleep(0.004)
            pinger.wait_for_replies(20)
            assert pinger.lost() == 0
            neighbours = control.show("neigh", "show", "dev", "eth1")
            assert len(neighbours) <= 1024
            assert {"192.168.0.2"} <= {one["dst"] for one in neighbours}

    @staticmethod
    def _datagram(destination: int) -> bytes:
        """UDP from 192.168.1.2 port 1000 to port 9, 28 bytes long, TTL 64 (RFC 791, RFC 768)."""
        words = [0x4500, 28, 0, 0, 0x4011, 0, 0xC0A8, 0x0102, destination >> 16, destination & 0xFFFF]
        total = sum(words)
        total = (total & 0xFFFF) + (total >> 16)
        words[5] = ~(total + (total >> 16)) & 0xFFFF
        return struct.pack("!14H", *words, 1000, 9, 8, 0)


class TestNeighbourCommands:
    """`control-cli neigh`, in ip's grammar and with its phrases."""

    SILENT = "192.168.0.201"
    MAC = "02:00:00:00:00:c9"

    def _refused(self, pair: RouterLab, *words: str) -> str:
        done = pair.control().cli("neigh", *words)
        assert (done.returncode, done.stdout) == (1, ""), words
        return done.stderr.removeprefix("control-cli: ").rstrip()

    def _shown(self, pair: RouterLab, address: str) -> dict[str, object] | None:
        return next(iter(pair.control().show("neigh", "show", address, "dev", "eth1")), None)

    def test_permanent_entries(self, pair: RouterLab) -> None:
        control = pair.control()
        entry = (self.SILENT, "lladdr", self.MAC, "dev", "eth1")
        control.change("neigh", "add", *entry, "nud", "permanent")
        try:
            shown = self._shown(pair, self.SILENT)
            assert shown is not None
            assert (shown["lladdr"], shown["state"]) == (self.MAC, ["PERMANENT"])
            assert self._refused(pair, "add", *entry) == f"File exists: {self.SILENT} dev eth1; use replace"
            with Wire(pair, "host1") as near, Wire(pair, "host2") as far:
                self._is_used(near, far, control.mac("eth0"), self.MAC)
                control.kill("arp")
                self._is_used(near, far, control.mac("eth0"), self.MAC)
                new = "02:00:00:00:00:ca"
                control.change("neigh", "replace", self.SILENT, "lladdr", new, "dev", "eth1")
                self._is_used(near, far, control.mac("eth0"), new)
            control.change("neigh", "flush", "dev", "eth1")
            assert self._shown(pair, self.SILENT) is not None
        finally:
            control.change("neigh", "del", self.SILENT, "dev", "eth1")
        assert self._shown(pair, self.SILENT) is None
        gone = self._refused(pair, "del", self.SILENT, "dev", "eth1")
        assert gone == f"No such file or directory: {self.SILENT} dev eth1"

    def _is_used(self, near: Wire, far: Wire, router_mac: str, mac: str) -> None:
        """See that a datagram to the silent address goes to this MAC."""
        (frame,) = datagrams(near, router_mac, IPv4Address(self.SILENT), 1)

        def arrives() -> bool:
            near.send(frame)  # until the entry is in the forwarder's table
            return bool(far.listen(lambda heard: heard[:6].hex(":") == mac))

        wait_for(f"a datagram to {mac}", arrives)

    def test_no_such_device(self, pair: RouterLab) -> None:
        said = self._refused(pair, "add", self.SILENT, "lladdr", self.MAC, "dev", "eth7")
        assert said == "No such device: eth7; there are: eth0, eth1"

    def test_no_single_station(self, pair: RouterLab) -> None:
        said = self._refused(pair, "add", self.SILENT, "lladdr", "03:00:00:00:00:01", "dev", "eth1")
        assert said == "Invalid argument: lladdr 03:00:00:00:00:01 is no single station's"

    def test_probe_delete_and_flush(self, pair: RouterLab) -> None:
        control = pair.control()
        (probed,) = control.show("neigh", "probe", "192.168.0.2", "dev", "eth1")
        assert probed["state"] == ["REACHABLE"]
        control.change("neigh", "del", "192.168.0.2", "dev", "eth1")
        assert self._shown(pair, "192.168.0.2") is None
        (probed,) = control.show("neigh", "probe", "192.168.0.2", "dev", "eth1")
        assert probed["state"] == ["REACHABLE"]
        control.change("neigh", "flush")
        assert self._shown(pair, "192.168.0.2") is None

    def test_a_probe_that_nobody_answers(self, pair: RouterLab) -> None:
        done = pair.control().cli("--timeout", "20", "neigh", "probe", self.SILENT, "dev", "eth1")
        assert done.returncode == 1
        assert done.stderr == f"control-cli: {self.SILENT} dev eth1: no answer\n"
