"""Rows 22 to 24: what the router answers for itself, and redirects."""

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.packet import Raw

from conformance.datagrams import (
    REDIRECT_HOST,
    after_hop,
    carries,
    carries_any,
    echo,
    echo_reply,
    finished,
    icmp_about,
    icmp_error,
    ip_bytes,
    next_identification,
    plain_udp,
    udp,
)
from conformance.network import Network

ECHO_TYPES = (0, 8)
UNKNOWN = 200


@pytest.mark.parametrize("sender", [1, 2, 3])
@pytest.mark.parametrize("own", [1, 2, 3])
@pytest.mark.parametrize("size", [0, 1400])
def test_row_22_echo_is_answered_from_the_address_asked(net: Network, sender: int, own: int, size: int) -> None:
    station, address = net.stations[sender - 1], net.stations[own - 1].gateway
    request = echo(station.far_host(), address, size)
    station.send_ip(request)
    (reply,) = station.wait_to_hear("the reply", echo_reply(request))
    assert (reply[IP].src, reply[IP].dst) == (address, request.src)
    assert ip_bytes(reply)[24:] == bytes(request)[24:]
    assert finished(reply[IP]).chksum == reply[IP].chksum


def test_row_22_nobody_else_answers(net: Network) -> None:
    request = echo(net.h1.far_host(), net.h1.gateway)
    net.h1.send_ip(request)
    net.h1.wait_to_hear("the reply", echo_reply(request))
    assert len(net.heard_anywhere(echo_reply(request))) == 1


@pytest.mark.parametrize("kind", [UNKNOWN, 1, 2, 7, 44, 255])
def test_row_23_unknown_icmp_to_the_router_is_ignored(net: Network, kind: int) -> None:
    header = IP(src=net.h1.far_host(), dst=net.h1.gateway, id=next_identification())
    net.h1.send_ip(finished(header / ICMP(type=kind) / Raw(b"to the router")))
    assert net.heard_anywhere(lambda frame: frame[12:14] == b"\x08\x00" and b"to the router" in frame[34:]) == []


def test_row_23_all_icmp_in_transit_is_forwarded(net: Network) -> None:
    messages = []
    for kind in range(256):
        header = IP(src=net.h1.far_host(), dst=net.h2.far_host(), id=next_identification())
        messages.append(finished(header / ICMP(type=kind) / Raw(b"in transit")))
        net.h1.send_ip(messages[-1])
    net.h2.wait_to_hear("all of them", carries_any(messages), len(messages))
    assert [ip_bytes(frame) for frame in net.h2.heard(carries_any(messages))] == [after_hop(one) for one in messages]


BEHIND = "10.24.0.0/16"


def test_row_24_redirect_to_a_sender_on_the_link(net: Network) -> None:
    gateway, sender = net.h1.near_host(), net.h1.near_host()
    with net.router.route(BEHIND, via=gateway):
        datagram = udp(sender, "10.24.0.1")
        net.h1.send_ip(datagram)
        (redirect,) = net.h1.wait_to_hear("the redirect", icmp_about(datagram, REDIRECT_HOST))
        net.h1.wait_to_hear("the datagram", carries(datagram))
        assert (redirect[ICMP].gw, redirect[IP].src, redirect[IP].dst) == (gateway, net.h1.gateway, sender)
        net.flush()
        (frame,) = net.h1.heard(lambda frame: carries(datagram)(frame) and not icmp_error(frame))
        assert ip_bytes(frame) == after_hop(datagram)


def test_row_24_redirect_straight_to_a_host_on_the_link(net: Network) -> None:
    """The better first hop is the destination itself."""
    sender, destination = net.h1.near_host(), net.h1.near_host()
    datagram = udp(sender, destination)
    net.h1.send_ip(datagram)
    (redirect,) = net.h1.wait_to_hear("the redirect", icmp_about(datagram, REDIRECT_HOST))
    assert redirect[ICMP].gw == destination
    net.h1.wait_to_hear("the datagram", carries(datagram))


@pytest.mark.parametrize("case", ["sender_behind_another_router", "leaves_by_another_interface"])
def test_row_24_none_where_nothing_is_better(net: Network, case: str) -> None:
    gateway = net.h1.near_host()
    with net.router.route(BEHIND, via=gateway):
        if case == "sender_behind_another_router":
            datagram, receiver = udp("172.16.99.1", "10.24.0.1"), net.h1
        else:
            datagram, receiver = udp(net.h1.near_host(), net.h2.far_host()), net.h2
        net.h1.send_ip(datagram)
        receiver.wait_to_hear("the datagram", carries(datagram))
        assert net.heard_anywhere(icmp_error) == []


def test_row_24_redirects_are_limited(net: Network) -> None:
    gateway, sender = net.h1.near_host(), net.h1.near_host()
    with net.router.route(BEHIND, via=gateway):
        first = udp(sender, "10.24.0.1")
        net.h1.send_ip(first)
        net.h1.wait_to_hear("a redirect", icmp_about(first, REDIRECT_HOST))
        many = [plain_udp(sender, "10.24.0.1") for _ in range(200)]
        net.paced(net.h1, [lambda one=one: net.h1.send_ip(one) for one in many])
        net.h1.wait_to_hear("all datagrams", carries_any(many), len(many))
        net.flush()
        assert len(net.h1.heard(icmp_error)) < 100


def test_row_24_redirects_can_be_switched_off(net: Network) -> None:
    gateway, sender = net.h1.near_host(), net.h1.near_host()
    with net.router.policy("eth0", "redirects", value=False, default=True), net.router.route(BEHIND, via=gateway):
        datagram = udp(sender, "10.24.0.1")
        net.h1.send_ip(datagram)
        net.h1.wait_to_hear("the datagram", carries(datagram))
        assert net.heard_anywhere(icmp_error) == []
