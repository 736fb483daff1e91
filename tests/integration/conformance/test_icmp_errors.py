"""Rows 14 to 21: which datagrams an ICMP error is sent about, what it looks like, and how many there are."""

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.packet import Packet, Raw

from conformance.datagrams import (
    HOST_UNREACHABLE,
    TIME_EXCEEDED,
    carries_any,
    checksum,
    finished,
    hand_made_fragments,
    icmp_about,
    icmp_error,
    ip_bytes,
    next_identification,
    plain_udp,
)
from conformance.network import Network
from conformance.station import EVERYBODY

QUOTE_BYTES = 576 - 28
"""RFC 1812 section 4.3.2.3: the whole message has 576 bytes at most."""


def _dying_icmp(net: Network, kind: int, code: int = 0) -> Packet:
    """Return an ICMP message from h1 to h2 with TTL 1; errors among them quote a datagram of h2's."""
    quoted = bytes(net.udp(src=net.h2.far_host(), dst=net.h1.far_host()))
    header = IP(src=net.h1.far_host(), dst=net.h2.far_host(), ttl=1, id=next_identification())
    return finished(header / ICMP(type=kind, code=code) / Raw(quoted))


@pytest.mark.parametrize(("kind", "code"), [(3, 1), (3, 4), (4, 0), (5, 1), (11, 0), (12, 0)])
def test_row_14_no_error_about_an_error(net: Network, kind: int, code: int) -> None:
    net.h1.send_ip(_dying_icmp(net, kind, code))
    assert net.heard_anywhere(icmp_error) == []


@pytest.mark.parametrize("kind", [0, 8, 13, 14])
def test_row_14_queries_and_their_replies_do_get_one(net: Network, kind: int) -> None:
    query = _dying_icmp(net, kind)
    net.h1.send_ip(query)
    net.h1.wait_to_hear("time exceeded", icmp_about(query, TIME_EXCEEDED))
    assert len(net.heard_anywhere(icmp_error)) == 1


def test_row_14_none_about_an_error_without_a_route(net: Network) -> None:
    error = finished(IP(src=net.h1.far_host(), dst="10.14.0.1", id=next_identification()) / ICMP(type=3, code=1))
    net.h1.send_ip(error)
    assert net.heard_anywhere(icmp_error) == []


@pytest.mark.parametrize("number", [1, -1])
def test_row_15_none_about_a_later_fragment(net: Network, number: int) -> None:
    fragment = hand_made_fragments(net.udp(size=40, ttl=1), 8)[number]
    net.h1.send_ip(fragment)
    assert net.heard_anywhere(icmp_error) == []


def test_row_15_but_about_the_first_one(net: Network) -> None:
    first = hand_made_fragments(net.udp(size=40, ttl=1), 8)[0]
    net.h1.send_ip(first)
    net.h1.wait_to_hear("time exceeded", icmp_about(first, TIME_EXCEEDED))


@pytest.mark.parametrize("mac", [EVERYBODY, "01:00:5e:00:00:01", "33:33:00:00:00:01"])
@pytest.mark.parametrize("ttl", [1, 64])
def test_row_16_none_about_a_link_layer_broadcast(net: Network, mac: str, ttl: int) -> None:
    for destination in (net.h2.far_host(), "10.16.0.1"):  # one would die, the other has no route
        net.h1.send_ip(net.udp(dst=destination, ttl=ttl), to=mac)
    assert net.heard_anywhere(icmp_error) == []


@pytest.mark.parametrize("destination", ["255.255.255.255", "10.0.1.255", "10.0.2.255", "224.0.0.1", "239.1.2.3"])
@pytest.mark.parametrize("ttl", [1, 64])
def test_row_16_none_about_an_ip_broadcast_or_multicast(net: Network, destination: str, ttl: int) -> None:
    net.h1.send_ip(net.udp(dst=destination, ttl=ttl))
    net.h1.send_ip(net.udp(dst=destination, ttl=ttl), to=EVERYBODY)
    assert net.heard_anywhere(icmp_error) == []


_ROUTED_BACK = pytest.mark.linux_differs("Linux takes 0/8 but 0.0.0.0, and class E, for hosts' addresses")
_BROADCAST_SOURCE = pytest.mark.linux_differs("Linux broadcasts an error to a directed broadcast address")


@pytest.mark.parametrize(
    "source",
    [
        "0.0.0.0",
        pytest.param("0.1.2.3", marks=_ROUTED_BACK),
        "127.0.0.1",
        "127.255.255.254",
        "224.0.0.1",
        "239.255.255.255",
        pytest.param("240.0.0.1", marks=_ROUTED_BACK),
        pytest.param("255.255.255.254", marks=_ROUTED_BACK),
        "255.255.255.255",
    ],
)
def test_row_17_none_to_a_source_that_is_no_single_host(net: Network, source: str) -> None:
    with net.router.route("0.0.0.0/0", via=net.h3.address):  # there is a way to it
        net.h1.send_ip(net.udp(src=source, ttl=1))
        assert net.heard_anywhere(icmp_error) == []


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("10.0.1.255", marks=_BROADCAST_SOURCE),
        pytest.param("10.0.2.255", marks=_BROADCAST_SOURCE),
    ],
)
def test_row_17_none_to_a_broadcast_address_of_a_connected_network(net: Network, source: str) -> None:
    net.h1.send_ip(net.udp(src=source, ttl=1))
    assert net.heard_anywhere(icmp_error) == []


@pytest.mark.parametrize("size", [0, 8, 500, QUOTE_BYTES - 28, QUOTE_BYTES - 27, 1472])
def test_row_18_the_quote_is_what_was_sent(net: Network, size: int) -> None:
    dying = net.udp(size=size, ttl=1, tos=0x1C)
    net.h1.send_ip(dying)
    (error,) = net.h1.wait_to_hear("time exceeded", icmp_about(dying))
    data = ip_bytes(error)
    assert data[28:] == bytes(dying)[:QUOTE_BYTES]
    assert len(data) == error[IP].len <= 576
    assert data[24:28] == bytes(4)  # unused, RFC 792
    assert checksum(data[20:]) == 0


def test_row_19_the_source_is_the_interface_it_leaves_by(net: Network) -> None:
    """Whichever interface a datagram came in by."""
    for sender in net.stations:
        for receiver in net.stations:
            dying = net.udp(src=receiver.far_host(), dst="172.18.255.1", ttl=1)
            sender.send_ip(dying)
            (error,) = receiver.wait_to_hear("time exceeded", icmp_about(dying))
            assert error[IP].src == receiver.gateway


@pytest.mark.parametrize("destination", ["172.18.255.1", "10.20.0.1"])
def test_row_20_errors_carry_precedence_6(net: Network, destination: str) -> None:
    dying = net.udp(dst=destination, ttl=1 if destination.startswith("172") else 64)
    net.h1.send_ip(dying)
    (error,) = net.h1.wait_to_hear("the error", icmp_about(dying))
    assert error[IP].tos == 0xC0


def test_row_20_host_unreachable_too(net: Network) -> None:
    datagram = net.udp(dst=net.h2.played_host())
    net.h1.send_ip(datagram)
    (error,) = net.h1.wait_to_hear("host unreachable", icmp_about(datagram, HOST_UNREACHABLE), limit_s=20.0)
    assert error[IP].tos == 0xC0


def test_row_21_errors_are_limited_and_forwarding_goes_on(net: Network) -> None:
    source, destination = net.h1.far_host(), net.h2.far_host()
    through = []
    net.router.set_icmp_limits(on=True)
    try:
        for number in range(10_000):
            net.h1.send_ip(plain_udp(source, destination, ttl=1))
            if number % 250 == 0:  # and wait, so that no queue of the machine's overflows
                through.append(plain_udp(source, destination))
                net.h1.send_ip(through[-1])
                net.h2.wait_to_hear("what is forwarded", carries_any(through), len(through))
        net.flush()
    finally:
        net.router.set_icmp_limits(on=False)
    errors = len(net.h1.heard(icmp_error))
    assert 0 < errors < 1000
    assert len(net.h2.heard(carries_any(through))) == len(through) == 40
