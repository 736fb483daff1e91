"""Garbage at the router's interface: random frames, and valid ones with bytes changed, virtio headers included."""

import os
import random
import struct

import pytest
from router_lab import RouterLab
from router_traffic import PLAIN, Pinger, Wire
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_RR
from scapy.layers.l2 import ARP, Dot1Q, Ether

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

FRAMES = 20_000
SEED = 20_000
BURST = 200
"""Frames between two looks at the router, so that its rings do not overflow and all of them are judged."""
HOST1 = bytes((192, 168, 1, 2))


class Garbage:
    """A reproducible source of frames."""

    def __init__(self, source_mac: str, router_mac: str) -> None:
        self._random = random.Random(SEED)
        self._router = bytes.fromhex(router_mac.replace(":", ""))
        ether = Ether(src=source_mac, dst=router_mac)
        ip = IP(src="192.168.1.2", dst="192.168.0.2")
        self._valid = [
            bytes(frame)
            for frame in (
                ether / ip / UDP(dport=4000) / bytes(100),
                ether / ip / TCP(dport=4000) / bytes(50),
                ether / ip / ICMP() / bytes(56),
                ether / IP(src="192.168.1.2", dst="192.168.1.1") / ICMP() / bytes(56),
                ether / IP(src="192.168.1.2", dst="192.168.0.2", ttl=1) / ICMP(type=3) / bytes(28),
                ether / IP(src="192.168.1.2", dst="192.168.0.2", options=[IPOption_RR()]) / UDP() / bytes(9),
                ether / IP(src="192.168.1.2", dst="192.168.0.2", flags="MF", frag=5) / UDP() / bytes(80),
                ether / ip / UDP(dport=4000) / bytes(1472),
                ether / Dot1Q(vlan=5) / ip / UDP() / bytes(20),
                ether / ARP(op=1, hwsrc=source_mac, psrc="192.168.1.77", pdst="192.168.1.1"),
                ether / ARP(op=2, hwsrc=source_mac, psrc="192.168.1.77", hwdst=router_mac, pdst="192.168.1.1"),
            )
        ]

    def frame(self) -> tuple[bytes, bytes]:
        """Return a frame and a virtio header."""
        frame = self._noise() if self._random.random() < 0.3 else self._mutant()
        if frame[12:14] == b"\x08\x06" and frame[28:32] == HOST1:
            return self.frame()  # it would tell the router where host1 is, and that not in vain
        return frame, self._header() if self._random.random() < 0.2 else PLAIN

    def _noise(self) -> bytes:
        frame = self._random.randbytes(self._random.choice((14, 15, 33, 34, 60, 200, 1514)))
        if self._random.random() < 0.8:
            ether_type = self._random.choice((b"\x08\x00", b"\x08\x00", b"\x08\x06", b"\x86\xdd"))
            frame = self._router + frame[6:12] + ether_type + frame[14:]
        return frame

    def _mutant(self) -> bytes:
        frame = bytearray(self._random.choice(self._valid))
        for _ in range(self._random.randrange(1, 4)):
            place = self._random.randrange(12, min(len(frame), 60))
            frame[place] = self._random.choice((0, 1, 0x7F, 0x80, 0xFF, self._random.randrange(256)))
        if self._random.random() < 0.5:
            frame = with_right_checksum(frame)
        if self._random.random() < 0.2:
            frame = frame[: self._random.randrange(14, len(frame))]
        return bytes(frame)

    def _header(self) -> bytes:
        flags, gso_type = self._random.choice((0, 1, 2, 255)), self._random.choice((0, 1, 3, 5, 129))
        words = self._random.choices((0, 1, 8, 14, 34, 40, 54, 1448, 65_535), k=4)
        return struct.pack("=BBHHHH", flags, gso_type, *words)


def with_right_checksum(frame: bytearray) -> bytearray:
    """Mend the checksum of the IPv4 header, so that the frame gets further than that check."""
    length = min(4 * (frame[14] & 0xF), len(frame) - 14) & ~1
    if length >= 20:
        frame[24:26] = bytes(2)
        total = sum(struct.unpack(f"!{length // 2}H", frame[14 : 14 + length]))
        while total > 0xFFFF:
            total = (total & 0xFFFF) + (total >> 16)
        frame[24:26] = struct.pack("!H", total ^ 0xFFFF)
    return frame


@pytest.mark.timeout(180)
def test_services_live_and_forward(pair: RouterLab) -> None:
    control = pair.control()
    pids, before = control.pids(), control.counts()
    with Pinger(pair, "host2", "192.168.1.2") as pinger, Wire(pair, "host1") as wire:
        pinger.wait_for_replies(3)
        garbage = Garbage(wire.mac, control.mac("eth0"))
        sent = 0
        for number in range(FRAMES):
            sent += wire.try_send(*garbage.frame())
            if number % BURST == 0:
                pinger.wait_for_replies(1)
        pinger.wait_for_replies(5)
    assert control.pids() == pids
    grown = control.counts().since(before)
    assert grown["RX_FRAMES"] > FRAMES
    # it was no waste: frames came to most of the decisions that there are
    assert len([name for name in grown if name.startswith("DROP_")]) >= 12, grown
