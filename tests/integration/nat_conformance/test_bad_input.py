"""Transport headers that are cut short, malformed, or have port 0; protocols that cannot be translated.

They are dropped and counted, from inside and from outside: never a wrong translation, nor an inside address outside.
"""

import struct
from collections.abc import Callable

import pytest
from conformance.datagrams import next_identification
from scapy.layers.inet import IP
from scapy.packet import Packet, Raw

from nat_conformance.messages import ICMP_NUMBER, TCP_NUMBER, UDP_NUMBER, Endpoint, tcp, udp
from nat_conformance.network import NatNetwork
from nat_conformance.router import OUT

pytestmark = pytest.mark.linux_differs("what conntrack calls invalid is forwarded as it is, or its own stack answers")

PORTS = struct.pack("!HH", 30_001, 30_003)
MALFORMED: dict[str, tuple[int, bytes]] = {
    "TCP of no bytes": (TCP_NUMBER, b""),
    "TCP of 4 bytes": (TCP_NUMBER, PORTS),
    "TCP of 19 bytes": (TCP_NUMBER, PORTS + bytes(8) + b"\x50\x02" + bytes(5)),
    "TCP, a header of 16 bytes": (TCP_NUMBER, PORTS + bytes(8) + b"\x40\x02" + bytes(6)),
    "TCP, a header beyond the end": (TCP_NUMBER, PORTS + bytes(8) + b"\xf0\x02" + bytes(6)),
    "UDP of no bytes": (UDP_NUMBER, b""),
    "UDP of 7 bytes": (UDP_NUMBER, PORTS + bytes(3)),
    "UDP, a length of 7": (UDP_NUMBER, PORTS + b"\x00\x07\x00\x00" + bytes(8)),
    "UDP, a length beyond the end": (UDP_NUMBER, PORTS + b"\x00\x11\x00\x00" + bytes(8)),
    "ICMP of 4 bytes": (ICMP_NUMBER, b"\x08\x00\xf7\xff"),
    "ICMP of 7 bytes": (ICMP_NUMBER, b"\x08\x00\xf7\xff" + bytes(3)),
}


def datagram(source: str, destination: str, protocol: int, body: bytes) -> Packet:
    header = IP(src=source, dst=destination, proto=protocol, id=next_identification(), ttl=64)
    return IP(bytes(header / Raw(body)))


@pytest.mark.parametrize("what", MALFORMED)
def test_bad_01_malformed(net: NatNetwork, what: str) -> None:
    remote = net.outside()[0]
    with net.router.counted(DROP_NAT_MALFORMED=2):
        net.falls(
            datagram(net.inside()[0], remote, *MALFORMED[what]),
            datagram(remote, OUT, *MALFORMED[what]),
        )


def test_bad_01_a_first_fragment_without_the_whole_header(net: NatNetwork) -> None:
    """RFC 1858 section 3: the tiny fragment."""
    inside, remote = net.inside(), net.outside(80)
    tiny = tcp(inside, remote)
    tiny = IP(bytes(IP(bytes(tiny)[:28])))
    tiny.len, tiny.flags, tiny.chksum = 28, "MF", None
    with net.router.counted(DROP_NAT_MALFORMED=1):
        net.falls(IP(bytes(tiny)))


@pytest.mark.parametrize("make", [udp, tcp])
def test_bad_02_port_0(net: NatNetwork, make: Callable[[Endpoint, Endpoint], Packet]) -> None:
    """What comes to port 0 of the router itself, its own stack may answer."""
    inside, remote = net.inside(), net.outside()
    with net.router.counted(DROP_NAT_MALFORMED=4):
        net.falls(
            make((inside[0], 0), remote),
            make(inside, (remote[0], 0)),
            make((remote[0], 0), (OUT, net.port())),
        )
        net.is_not_reached(make(remote, (OUT, 0)))


@pytest.mark.parametrize(("name", "protocol"), [("AH", 51), ("DCCP", 33), ("UDP-Lite", 136)])
def test_bad_06_checksums_that_nobody_mends(net: NatNetwork, name: str, protocol: int) -> None:
    body = PORTS + bytes(20) + name.encode()
    with net.router.counted(DROP_NAT_PROTOCOL=1):
        net.falls(datagram(net.inside()[0], net.outside()[0], protocol, body))
