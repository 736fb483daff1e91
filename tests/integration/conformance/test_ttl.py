"""Rows 4 to 6: the time to live."""

import random

import pytest
from scapy.layers.inet import IP

from conformance.datagrams import (
    TIME_EXCEEDED,
    after_hop,
    carries,
    carries_any,
    checksum,
    echo,
    echo_reply,
    icmp_about,
    icmp_error,
    ip_bytes,
    next_identification,
    udp,
    with_checksum,
)
from conformance.network import Network


def _with_checksum_ffff(data: bytes) -> bytes:
    """Choose the identification so that the header's checksum is 0x0000 on the wire before or after the hop."""
    for identification in range(0xFFFF):
        candidate = with_checksum(data[:4] + identification.to_bytes(2, "big") + data[6:])
        if after_hop(candidate)[10:12] == b"\0\0":
            return candidate
    raise AssertionError("no identification gives that sum")


def test_row_04_ttl_falls_by_one_and_the_checksum_is_right(net: Network) -> None:
    source = random.Random(4)
    sent = []
    for _ in range(300):
        datagram = net.udp(
            size=source.randrange(0, 200),
            ttl=source.randrange(2, 256),
            tos=source.randrange(256),
            flags=source.choice([0, 2]),
        )
        sent.append(bytes(datagram))
        net.h1.send_ip(sent[-1])
    net.h2.wait_to_hear("all datagrams", carries_any(sent), len(sent))
    assert [ip_bytes(frame) for frame in net.h2.heard(carries_any(sent))] == [after_hop(one) for one in sent]


def test_row_04_checksum_at_the_edge_of_ffff(net: Network) -> None:
    """RFC 1624: a sum that becomes zero must not come out as 0xFFFF; a receiver's check would still pass."""
    edge = _with_checksum_ffff(bytes(net.udp()))
    frame = net.forwarded(IP(edge))
    assert ip_bytes(frame) == after_hop(edge)
    assert checksum(ip_bytes(frame)[:20]) == 0


@pytest.mark.parametrize("high_byte", [0x00, 0x01, 0xFE, 0xFF])
def test_row_04_checksum_carries_over(net: Network, high_byte: int) -> None:
    """Sums whose upper byte over- or underflows when the TTL's 0x0100 is added."""
    data = bytes(net.udp())
    wanted = next(
        candidate
        for identification in range(0xFFFF)
        if (candidate := with_checksum(data[:4] + identification.to_bytes(2, "big") + data[6:]))[10] == high_byte
    )
    assert ip_bytes(net.forwarded(IP(wanted))) == after_hop(wanted)


@pytest.mark.parametrize("ttl", [0, 1])
def test_row_05_time_exceeded(net: Network, ttl: int) -> None:
    datagram = net.udp(ttl=ttl)
    net.h1.send_ip(datagram)
    net.h1.wait_to_hear("time exceeded", icmp_about(datagram, TIME_EXCEEDED))
    errors = net.heard_anywhere(icmp_about(datagram))
    assert len(errors) == 1
    assert (errors[0][IP].src, errors[0][IP].dst) == (net.h1.gateway, datagram.src)
    assert checksum(bytes(errors[0])[34:]) == 0
    assert checksum(bytes(errors[0])[14:34]) == 0
    assert net.h2.heard(carries(datagram)) == []


def test_row_05_ttl_2_is_enough(net: Network) -> None:
    datagram = net.udp(ttl=2)
    assert net.forwarded(datagram)[IP].ttl == 1
    assert net.heard_anywhere(icmp_about(datagram)) == []


@pytest.mark.parametrize("ttl", [0, 1])
@pytest.mark.parametrize("number", [1, 2])
def test_row_06_ttl_1_to_the_router_is_delivered(net: Network, number: int, ttl: int) -> None:
    """A host must not drop for its TTL what is addressed to it (RFC 1122 section 3.2.1.7), nor 0."""
    request = echo(net.h1.far_host(), net.stations[number - 1].gateway, ttl=ttl)
    net.h1.send_ip(request)
    net.h1.wait_to_hear("the reply", echo_reply(request))
    assert net.heard_anywhere(icmp_error) == []


def test_row_05_no_error_where_the_source_is_forged_as_the_router(net: Network) -> None:
    """An error would go to the router itself; it is a martian (row 29) first."""
    datagram = udp(net.h1.gateway, net.h2.far_host(), ttl=1, id=next_identification())
    net.h1.send_ip(datagram)
    assert net.heard_anywhere(icmp_error) == []
