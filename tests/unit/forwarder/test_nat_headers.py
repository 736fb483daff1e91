"""What translation does to headers: ports, addresses, every checksum there is, and what is refused."""

import struct
from dataclasses import replace
from pathlib import Path

import pytest
from nat_rig import (
    ACK,
    HOST,
    ICMP,
    INSIDE,
    OUT,
    OUTSIDE,
    REMOTE,
    REMOTE2,
    RST,
    TCP,
    UDP,
    Datagram,
    NatBench,
    address,
    ip_packet,
    ones_sum,
    read,
)

OUTBOUND = {
    "tcp": Datagram(TCP, HOST, 40_001, REMOTE, 80),
    "udp": Datagram(UDP, HOST, 40_001, REMOTE, 53),
    "udp without checksum": Datagram(UDP, HOST, 40_001, REMOTE, 53, checksum="zero"),
    "echo": Datagram(ICMP, HOST, 77, REMOTE, 0, flags=0),
    "timestamp": Datagram(ICMP, HOST, 77, REMOTE, 0, flags=0, icmp_type=13),
    "tcp unfinished": Datagram(TCP, HOST, 40_001, REMOTE, 80, checksum="partial"),
    "udp unfinished": Datagram(UDP, HOST, 40_001, REMOTE, 53, checksum="partial"),
    "odd data": Datagram(UDP, HOST, 40_001, REMOTE, 53, data=b"abc"),
    "another port": Datagram(TCP, HOST, 1025, REMOTE, 80),
}


@pytest.fixture
def router(tmp_path: Path) -> NatBench:
    return NatBench(folder=tmp_path)


@pytest.mark.parametrize("name", OUTBOUND)
def test_there_and_back(router: NatBench, name: str) -> None:
    """The remote host sees the outside address; its answer finds the host. `read` adds all checksums up."""
    sent = OUTBOUND[name]
    seen = router.send(sent)
    assert (seen.source, seen.destination, seen.dport) == (OUT, sent.destination, sent.dport)
    assert seen.checksum == sent.checksum
    if name == "another port":
        assert 20_000 <= seen.sport <= 59_999
    else:
        assert seen.sport == sent.sport
    answer = seen.back(icmp_type=14 if sent.icmp_type == 13 else 0)
    back = router.send(answer, OUTSIDE)
    assert (back.source, back.sport, back.destination, back.dport) == (
        sent.destination, sent.dport, sent.source, sent.sport,
    )  # fmt: skip


def test_super_frames_keep_their_pseudo_headers_sum(router: NatBench) -> None:
    """A super-frame of TCP: only the pseudo-header's sum stands there, over a length of all of it."""
    sent = Datagram(TCP, HOST, 5000, REMOTE, 80, flags=ACK, data=bytes(9000), checksum="partial")
    virtio = struct.pack("=BBHHHH", 1, 1, 54, 1460, 34, 16)
    verdict, packet, _ = router.verdict(sent.packet(), INSIDE, virtio)
    assert verdict == "FORWARDED"
    assert read(packet, partial=True).source == OUT


MALFORMED = {
    "tcp cut short": ip_packet(TCP, HOST, REMOTE, bytes.fromhex("9c41 0050") + bytes(15)),
    "tcp with a data offset of 4": ip_packet(
        TCP, HOST, REMOTE, bytes.fromhex("9c410050") + bytes(8) + b"\x40" + bytes(7)
    ),
    "tcp with a data offset beyond": ip_packet(
        TCP, HOST, REMOTE, bytes.fromhex("9c410050") + bytes(8) + b"\xf0" + bytes(7)
    ),
    "tcp from port 0": Datagram(TCP, HOST, 0, REMOTE, 80).packet(),
    "tcp to port 0": Datagram(TCP, HOST, 40_001, REMOTE, 0).packet(),
    "udp cut short": ip_packet(UDP, HOST, REMOTE, bytes.fromhex("9c41 0035 0008 00")),
    "udp with a length of 7": ip_packet(UDP, HOST, REMOTE, bytes.fromhex("9c41 0035 0007 0000 00")),
    "udp with a length beyond": ip_packet(UDP, HOST, REMOTE, bytes.fromhex("9c41 0035 0009 0000")),
    "udp from port 0": Datagram(UDP, HOST, 0, REMOTE, 53).packet(),
    "icmp cut short": ip_packet(ICMP, HOST, REMOTE, bytes.fromhex("0800 f7ff 0000 00")),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_malformed_is_dropped(router: NatBench, name: str) -> None:
    assert router.verdict(MALFORMED[name], INSIDE)[0] == "DROP_NAT_MALFORMED"


def error(quote: bytes, source: str, destination: str, icmp_type: int = 3, code: int = 3) -> bytes:
    """An ICMP error, its checksum right."""
    body = struct.pack("!BBHI", icmp_type, code, 0, 0) + quote
    body = body[:2] + struct.pack("!H", ones_sum(body) ^ 0xFFFF) + body[4:]
    return ip_packet(ICMP, source, destination, body)


@pytest.mark.parametrize("sent", [OUTBOUND["another port"], replace(OUTBOUND["udp"], sport=1025), OUTBOUND["echo"]])
def test_an_error_from_outside_quotes_what_the_host_has_sent(router: NatBench, sent: Datagram) -> None:
    """RFC 5508 REQ-4: the quote is the host's own datagram, checksums too; a router on the way stays the source."""
    verdict, packet, _ = router.verdict(sent.packet(), INSIDE)
    assert verdict == "FORWARDED"
    verdict, out, interface = router.verdict(error(packet, REMOTE2, OUT, 11, 0), OUTSIDE)
    assert (verdict, interface) == ("FORWARDED", INSIDE)
    assert ones_sum(out[:20]) == 0xFFFF
    assert ones_sum(out[20:]) == 0xFFFF
    assert (out[12:16], out[16:20]) == (address(REMOTE2), address(HOST))
    aged = bytearray(sent.packet())
    aged[8] -= 1
    aged[10:12] = bytes(2)
    aged[10:12] = struct.pack("!H", ones_sum(bytes(aged[:20])) ^ 0xFFFF)
    assert out[28:] == bytes(aged)


def test_an_error_from_inside_leaves_as_of_the_outside_address(router: NatBench) -> None:
    """RFC 5508 REQ-5: what the quote shows of the inside is translated, and so is the sender."""
    seen = router.send(Datagram(UDP, HOST, 1025, REMOTE, 53))
    answer = seen.back()
    _, delivered, _ = router.verdict(answer.packet(), OUTSIDE)
    verdict, out, _ = router.verdict(error(delivered[:28], HOST, REMOTE), INSIDE)
    assert verdict == "FORWARDED"
    assert (out[12:16], out[16:20]) == (address(OUT), address(REMOTE))
    assert out[28 + 12 : 28 + 20] == address(REMOTE) + address(OUT)
    assert struct.unpack("!HH", out[48:52]) == (53, seen.sport)
    assert out[28 + 26 : 28 + 28] == answer.packet()[26:28]  # the checksum that the remote host has sent
    assert ones_sum(out[20:]) == 0xFFFF
    assert ones_sum(out[28:48]) == 0xFFFF


def test_errors_that_lie_are_not_translated(router: NatBench) -> None:
    """A short quote, one of no session, a wrong checksum, a quote that its addressee has not sent."""
    sent = Datagram(UDP, HOST, 40_001, REMOTE, 53)
    _, packet, _ = router.verdict(sent.packet(), INSIDE)
    _, delivered, _ = router.verdict(read(packet).back().packet(), OUTSIDE)
    good = error(delivered[:28], HOST, REMOTE)
    assert router.verdict(good, INSIDE)[0] == "FORWARDED"
    damaged = good[:-1] + bytes((good[-1] ^ 1,))
    quoted = bytearray(delivered[:28])
    quoted[10] ^= 1
    for bad in (
        error(delivered[:27], HOST, REMOTE),
        error(delivered[:28], HOST, REMOTE2),
        error(Datagram(UDP, REMOTE, 54, HOST, 40_001).packet(), HOST, REMOTE),
        error(bytes(quoted), HOST, REMOTE),
        damaged,
    ):
        assert router.verdict(bad, INSIDE)[0] == "DROP_NAT_ICMP"


def test_errors_to_the_router(router: NatBench) -> None:
    """Only what may be about a datagram of its own is its own stack's: sound, and of no port that is given out."""
    sent = Datagram(UDP, HOST, 40_001, REMOTE, 53)
    _, packet, _ = router.verdict(sent.packet(), INSIDE)
    good = error(packet[:28], REMOTE, OUT)
    assert router.verdict(good, OUTSIDE)[0] == "FORWARDED"
    damaged = good[:-1] + bytes((good[-1] ^ 1,))
    for bad in (
        damaged,
        error(packet[:27], REMOTE, OUT),
        error(b"", REMOTE, OUT),
        error(Datagram(UDP, OUT, 40_002, REMOTE, 53).packet(), REMOTE, OUT),
        error(Datagram(UDP, REMOTE2, 40_001, REMOTE, 53).packet(), REMOTE, OUT),
    ):
        assert router.verdict(bad, OUTSIDE)[0] == "DROP_NAT_ICMP"
    for own in (Datagram(UDP, OUT, 5353, REMOTE, 53), Datagram(ICMP, OUT, 9, REMOTE, 0)):
        assert router.verdict(error(own.packet(), REMOTE, OUT), OUTSIDE)[0] == "LOCAL"


def test_a_reset_of_no_session_begins_none(router: NatBench) -> None:
    assert router.fate(Datagram(TCP, HOST, 40_001, REMOTE, 80, flags=RST), INSIDE) == "DROP_NAT_NO_SESSION"
    assert router.translator.sessions_in_use == 0


def test_protocols_without_ports(router: NatBench) -> None:
    """One host at a time talks ESP to a remote one; DCCP's checksum covers the addresses, and is not mended."""
    esp = ip_packet(50, HOST, REMOTE, b"12345678")
    verdict, out, _ = router.verdict(esp, INSIDE)
    assert (verdict, out[12:16]) == ("FORWARDED", address(OUT))
    assert router.verdict(ip_packet(50, REMOTE, OUT, b"x"), OUTSIDE)[1][16:20] == address(HOST)
    assert router.verdict(ip_packet(50, "192.168.1.3", REMOTE, b"x"), INSIDE)[0] == "DROP_NAT_CLASH"
    assert router.verdict(ip_packet(33, HOST, REMOTE, bytes(16)), INSIDE)[0] == "DROP_NAT_PROTOCOL"


def test_what_is_not_translated_is_untouched(router: NatBench) -> None:
    """A malformed datagram that stays inside or is for the router is not the translator's business."""
    assert router.fate(Datagram(UDP, REMOTE, 53, HOST, 99), OUTSIDE) == "FORWARDED"
    assert router.fate(Datagram(TCP, REMOTE, 53, OUT, 22), OUTSIDE) == "LOCAL"
    assert router.fate(Datagram(TCP, REMOTE, 53, OUT, 22_222), OUTSIDE) == "DROP_NAT_NO_SESSION"
    assert router.fate(Datagram(ICMP, REMOTE, 5, OUT, 0, flags=0), OUTSIDE) == "ECHO_ANSWERED"
