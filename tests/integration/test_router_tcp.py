"""TCP with the hosts' default offloads: super-frames, unfinished checksums, and both kinds waiting for ARP."""

import json
import os
import struct
import subprocess
import sys

import pytest
from router_lab import Control, RouterLab, second_address, wait_for
from router_traffic import Heard, Stream, Wire
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import ARP, Ether

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

STATION_MAC = "02:00:00:00:00:77"
STATION = "192.168.0.77"
"""A host on host2's link that only the test itself plays."""
NEEDS_CHECKSUM = 1  # linux/virtio_net.h, like the next one
GSO_TCPV4 = 1
HEADERS_BYTES = 54  # Ethernet, IPv4, TCP without options


def virtio_header(gso_type: int, gso_size: int, checksum_start: int, checksum_offset: int) -> bytes:
    """struct virtio_net_hdr, in the byte order of this machine."""
    headers = HEADERS_BYTES if gso_type else 0
    return struct.pack("=BBHHHH", NEEDS_CHECKSUM, gso_type, headers, gso_size, checksum_start, checksum_offset)


def ones_complement_sum(data: bytes) -> int:
    """RFC 1071, not complemented."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def pseudo_header_sum(datagram: bytes) -> int:
    """What CHECKSUM_PARTIAL leaves in the field: RFC 9293 section 3.1, the pseudo-header alone."""
    length = len(datagram) - 20
    return ones_complement_sum(datagram[12:20] + bytes((0, datagram[9])) + struct.pack("!H", length))


def unfinished(frame: bytes, checksum_place: int) -> bytes:
    """Return a frame without options whose transport checksum is left to the hardware."""
    checksum = pseudo_header_sum(frame[14:])
    return frame[:checksum_place] + struct.pack("!H", checksum) + frame[checksum_place + 2 :]


class TestTransfers:
    def test_both_ways_at_the_same_time(self, pair: RouterLab) -> None:
        before = pair.control().counts()
        probe = [sys.executable, "-m", "services.launcher.probes.transfer", "--json"]
        ways = [("host1", "192.168.0.2"), ("host2", "192.168.1.2")]
        receiver = {"host1": "host2", "host2": "host1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        servers = [pair.popen(receiver[host], [*probe, "server", address], **pipes) for host, address in ways]
        for server in servers:
            assert server.stdout is not None
            assert "port" in server.stdout.readline()
        clients = [pair.popen(host, [*probe, "client", to, "--bytes", "200000000"], **pipes) for host, to in ways]
        for client in clients:
            output, errors = client.communicate(timeout=90)
            assert (client.returncode, errors) == (0, "")
            report = json.loads(output)
            assert (report["bytes"], report["intact"]) == (200_000_000, True)
        for program in (*servers, *clients):
            pair.end(program)
        grown = pair.control().counts().since(before)
        # frames that are longer than any on the wire: the hosts' offloads were on
        assert grown["RX_BYTES"] / grown["RX_FRAMES"] > 1514

    def test_first_syn_waits_for_arp(self, pair: RouterLab) -> None:
        before = pair.control().counts()
        with second_address(pair, "host2", "192.168.0.50/24") as address, Wire(pair, "host2") as wire:
            with Stream(pair, "host1", "host2", address, 20_000_000) as stream:
                stream.wait_for_bytes(1_000_000)
                stream.finish()
            wire.listen()
            requests = [one.frame for one in wire.heard if is_arp_request_for(one.frame, str(address))]
            segments = [IP(one.frame[14:]) for one in wire.heard if one.frame[12:14] == b"\x08\x00"]
        first = next(one for one in segments if one.dst == str(address))
        assert len(requests) == 1
        assert str(first[TCP].flags) == "S"
        # nothing was dropped, so that this was the first SYN, not a later one
        assert pair.control().counts().since(before, "DROP_") == {}

    def test_arp_killed_while_tcp_runs(self, pair: RouterLab) -> None:
        control = pair.control()
        with Stream(pair, "host1", "host2", pair.topology.address("host2"), 30_000_000) as stream:
            stream.wait_for_bytes(3_000_000)
            asked = control.counts().get("ARP_REQUESTS_SENT")
            control.kill("arp")
            stream.wait_for_bytes(10_000_000)
            stream.finish()
        # the cache was empty then, and the segments waited for an answer once more
        assert control.counts().get("ARP_REQUESTS_SENT") > asked
        assert {one["dst"] for one in control.show("neigh", "show")} == {"192.168.1.2", "192.168.0.2"}


def is_arp_request_for(frame: bytes, address: str) -> bool:
    return frame[12:14] == b"\x08\x06" and ARP(frame[14:]).op == 1 and ARP(frame[14:]).pdst == address


class TestFramesThatWait:
    """Frames with a virtio header that wait for ARP; the test answers when all of them wait."""

    def frames(self, source_mac: str, router_mac: str) -> list[Heard]:
        ether = Ether(src=source_mac, dst=router_mac)
        ip = IP(src="192.168.1.2", dst=STATION, ttl=9, id=77)
        payload = bytes(range(256)) * 80
        tcp = TCP(sport=1000, dport=2000, seq=1, ack=2, flags="PA", window=500)
        super_frame = unfinished(bytes(ether / ip / tcp / payload), 50)
        udp = unfinished(bytes(ether / ip / UDP(sport=1000, dport=2001) / b"unfinished checksum"), 40)
        plain = bytes(ether / ip / UDP(sport=1000, dport=2002) / b"plain")
        return [
            Heard(virtio_header(GSO_TCPV4, 1448, 34, 16), super_frame),
            Heard(virtio_header(0, 0, 34, 6), udp),
            Heard(bytes(10), plain),
        ]

    def test_in_order_and_unchanged(self, pair: RouterLab) -> None:
        control = pair.control()
        with Wire(pair, "host1") as near, Wire(pair, "host2") as far:
            sent = self.frames(near.mac, control.mac("eth0"))
            for each in sent:
                near.send(each.frame, each.header)
            (request, *_) = far.wait_to_hear("an ARP request", lambda frame: is_arp_request_for(frame, STATION))
            wait_for_waiting(control, len(sent))
            router = ARP(request.frame[14:])
            reply = ARP(op=2, hwsrc=STATION_MAC, psrc=STATION, hwdst=router.hwsrc, pdst=router.psrc)
            far.send(bytes(Ether(src=STATION_MAC, dst=router.hwsrc) / reply))
            station = bytes.fromhex(STATION_MAC.replace(":", ""))
            heard = far.wait_to_hear("the frames", lambda frame: frame[:6] == station, len(sent))
            for each, original in zip(heard, sent, strict=True):
                self.check(each, original, control.mac("eth1"))
            # the next one overtakes nothing, and goes straight through
            near.send(sent[2].frame)
            far.wait_to_hear("one more", lambda frame: frame[:6] == station, len(sent) + 1)
        wait_for("nothing waits", lambda: control.counts().get("WAITING") == 0)

    def check(self, heard: Heard, sent: Heard, router_mac: str) -> None:
        assert heard.frame[6:12].hex(":") == router_mac
        ip = heard.frame[14:34]
        assert ip[8] == 8  # the TTL
        assert ones_complement_sum(ip) == 0xFFFF
        assert ip[:8] + ip[9:10] + ip[12:] == sent.frame[14:22] + sent.frame[23:24] + sent.frame[26:34]
        assert heard.frame[34:] == sent.frame[34:]
        # flags, GSO type and size, where the checksum is to be finished: as the sender said
        assert heard.header[:2] + heard.header[4:] == sent.header[:2] + sent.header[4:]


def wait_for_waiting(control: Control, count: int) -> None:
    """Wait until so many frames wait for the station."""

    def waiting() -> bool:
        return [one["waiting_frames"] for one in control.ask("neigh.show") if one["dst"] == STATION] == [count]

    wait_for(f"{count} frames wait", waiting)
