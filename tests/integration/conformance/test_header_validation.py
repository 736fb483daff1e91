"""Rows 1 to 3: which frames hold a datagram at all."""

import pytest
from scapy.layers.l2 import Ether

from conformance.datagrams import after_hop, carries, carries_any, icmp_error, ip_bytes, with_checksum
from conformance.network import Network


def _patched(data: bytes, **at: int) -> bytes:
    """Return a datagram with bytes of its header changed, and the checksum right again."""
    changed = bytearray(data)
    for position, value in at.items():
        changed[int(position.removeprefix("byte_"))] = value
    return with_checksum(bytes(changed))


MUTANTS = {
    "short": ("DROP_IP_SHORT", lambda data: data[:19]),
    "checksum": ("DROP_IP_CHECKSUM", lambda data: data[:10] + bytes((data[10] ^ 1,)) + data[11:]),
    "version": ("DROP_IP_VERSION", lambda data: _patched(data, byte_0=0x65)),
    "header_length": ("DROP_IP_HEADER_LENGTH", lambda data: b"\x44" + data[1:]),
    "header_beyond_datagram": (
        "DROP_IP_HEADER_LENGTH",
        lambda data: _patched(data[:40], byte_0=0x4F, byte_2=0, byte_3=40),
    ),
    "total_length": ("DROP_IP_TOTAL_LENGTH", lambda data: _patched(data, byte_2=0, byte_3=19)),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_row_01_malformed_header_is_dropped_in_silence(net: Network, mutant: str) -> None:
    counter, mutate = MUTANTS[mutant]
    good = net.udp()
    with net.router.counted(**{counter: 1}):
        net.h1.send_ip(mutate(bytes(good)))
        net.flush()
    assert net.heard_anywhere(lambda frame: icmp_error(frame) or carries_any([good])(frame)) == []


def test_row_02_total_length_beyond_the_frame(net: Network) -> None:
    good = net.udp(size=150 - 14 - 28)
    with net.router.counted(DROP_IP_TRUNCATED=1):
        net.h1.send_ip(_patched(bytes(good), byte_2=400 >> 8, byte_3=400 & 0xFF))
        net.flush()
    assert net.heard_anywhere(lambda frame: icmp_error(frame) or carries(good)(frame)) == []


def test_row_03_padding_is_no_part_of_the_datagram(net: Network) -> None:
    datagram = net.udp(size=1)
    padded = bytes(Ether(src=net.h1.mac, dst=net.h1.router_mac, type=0x0800)) + bytes(datagram)
    net.h1.send(padded.ljust(60, b"\xa5"))
    net.h2.wait_to_hear("the datagram", carries(datagram))
    (frame,) = net.heard_anywhere(carries(datagram))[-1:]
    assert ip_bytes(frame) == after_hop(datagram)


@pytest.mark.parametrize("trailer", [1, 300])
def test_row_03_a_trailer_is_no_part_of_the_datagram(net: Network, trailer: int) -> None:
    datagram = net.udp(size=100)
    net.h1.send_ip(bytes(datagram) + b"\xa5" * trailer)
    net.h2.wait_to_hear("the datagram", carries(datagram))
    net.flush()
    (frame,) = net.h2.heard(carries(datagram))
    assert ip_bytes(frame) == after_hop(datagram)
