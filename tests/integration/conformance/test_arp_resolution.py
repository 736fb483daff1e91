"""Row 9, and A3 to A6: next hops that are asked for, answer, do not answer, and stop answering."""

import time

import pytest
from scapy.layers.inet import IP
from scapy.layers.l2 import ARP
from scapy.packet import Packet

from conformance.datagrams import (
    HOST_UNREACHABLE,
    Wanted,
    after_hop,
    arp,
    carries,
    carries_any,
    icmp_about,
    ip_bytes,
    to_mac,
)
from conformance.network import Network
from conformance.router import PERMANENT
from conformance.station import EVERYBODY

FAILED_LIMIT_S = 20.0
THREE_REQUESTS_S = 2.0
"""The least time between the first request and the end of the third one's wait, less the last second for slack."""


def test_row_09_host_unreachable_when_resolution_has_failed_and_not_before(net: Network) -> None:
    host = net.h2.played_host()
    datagrams = [net.udp(dst=host) for _ in range(3)]
    sent_at = time.monotonic()
    for datagram in datagrams:
        net.h1.send_ip(datagram)
    for datagram in datagrams:
        (error,) = net.h1.wait_to_hear("3/1", icmp_about(datagram, HOST_UNREACHABLE), limit_s=FAILED_LIMIT_S)
        assert error[IP].src == net.h1.gateway
    assert time.monotonic() - sent_at >= THREE_REQUESTS_S
    assert net.heard_anywhere(carries_any(datagrams)) == []


def test_row_09_each_sender_is_told(net: Network) -> None:
    host = net.h2.played_host()
    by_station = [(station, net.udp(src=station.far_host(), dst=host)) for station in (net.h1, net.h3)]
    for station, datagram in by_station:
        station.send_ip(datagram)
    for station, datagram in by_station:
        station.wait_to_hear("3/1", icmp_about(datagram, HOST_UNREACHABLE), limit_s=FAILED_LIMIT_S)


def test_row_a3_an_answer_releases_the_queue_once_in_order_before_later_ones(net: Network) -> None:
    host = net.h2.played_host()
    mac = net.h2.played_mac(host)
    datagrams = [net.udp(dst=host) for _ in range(40)]
    for datagram in datagrams[:10]:
        net.h1.send_ip(datagram)
    net.h2.wait_to_hear("a request", arp(op=1, pdst=host))
    for number, datagram in enumerate(datagrams[10:]):
        net.h1.send_ip(datagram)
        if number == 10:
            net.h2.answer(host, mac)
    heard = net.h2.wait_to_hear("all of them", carries_any(datagrams), len(datagrams))
    net.flush()
    assert [ip_bytes(frame) for frame in heard] == [after_hop(datagram) for datagram in datagrams]
    assert {frame.dst for frame in heard} == {mac}
    assert len(net.heard_anywhere(carries_any(datagrams))) == len(datagrams)


def test_row_a4_one_request_a_second_three_attempts_then_failed(net: Network) -> None:
    host = net.h2.played_host()
    datagrams = [net.udp(dst=host) for _ in range(20)]
    for datagram in datagrams:
        net.h1.send_ip(datagram)
    net.h1.wait_to_hear("3/1", icmp_about(datagrams[-1], HOST_UNREACHABLE), limit_s=FAILED_LIMIT_S)
    requests = net.h2.heard(arp(op=1, pdst=host))
    assert [(one.dst, one[ARP].hwdst, one[ARP].psrc) for one in requests] == [
        (EVERYBODY, "00:00:00:00:00:00", net.h2.gateway)
    ] * 3


@pytest.mark.linux_differs("Linux remembers no failure: the next datagram has it ask again")
def test_row_a4_the_failure_is_remembered(net: Network) -> None:
    host = net.h2.played_host()
    first = net.udp(dst=host)
    net.h1.send_ip(first)
    net.h1.wait_to_hear("3/1", icmp_about(first, HOST_UNREACHABLE), limit_s=FAILED_LIMIT_S)
    requests = len(net.h2.heard(arp(op=1, pdst=host)))
    second = net.udp(dst=host)
    net.h1.send_ip(second)
    net.h1.wait_to_hear("3/1 at once", icmp_about(second, HOST_UNREACHABLE), limit_s=FAILED_LIMIT_S)
    assert len(net.h2.heard(arp(op=1, pdst=host))) == requests


def test_row_a4_asked_again_in_the_end(net: Network) -> None:
    """A failure is not for ever: a host that was away is found when it is back."""
    host = net.h2.played_host()
    mac = net.h2.played_mac(host)
    first = net.udp(dst=host)
    net.h1.send_ip(first)
    net.h1.wait_to_hear("3/1", icmp_about(first, HOST_UNREACHABLE), limit_s=FAILED_LIMIT_S)
    deadline = time.monotonic() + FAILED_LIMIT_S
    while not net.h2.heard(to_mac(mac)):
        assert time.monotonic() < deadline
        known = len(net.h2.heard(arp(op=1, pdst=host)))
        net.h1.send_ip(net.udp(dst=host))
        net.flush()
        if len(net.h2.heard(arp(op=1, pdst=host))) > known:
            net.h2.answer(host, mac)
            net.flush()


def test_row_a5_the_first_datagram_survives_resolution(net: Network) -> None:
    net.resolved_host()


def test_row_a5_the_queue_is_bounded_and_the_oldest_go_first(net: Network) -> None:
    host = net.h2.played_host()
    datagrams = [net.udp(dst=host, size=1400) for _ in range(400)]
    net.paced(net.h1, [lambda one=one: net.h1.send_ip(one) for one in datagrams])
    net.h2.wait_to_hear("a request", arp(op=1, pdst=host))
    net.h2.answer(host, net.h2.played_mac(host))
    net.h2.wait_to_hear("the last one", carries(datagrams[-1]))
    net.flush()
    arrived = [frame[IP].id for frame in net.h2.heard(carries_any(datagrams))]
    assert 0 < len(arrived) * 1428 <= 212_992  # Linux unres_qlen_bytes
    assert arrived == [one.id for one in datagrams][-len(arrived) :]


def _keep_sending_until(net: Network, host: str, what: str, wanted: Wanted) -> None:
    """Use a neighbour until h2 hears something; it is sent to all the while."""
    sent = []
    deadline = time.monotonic() + 30.0
    while not net.h2.heard(wanted):
        assert time.monotonic() < deadline, what
        sent.append(net.udp(dst=host))
        net.h1.send_ip(sent[-1])
        net.flush([net.h1, net.h2])
    assert len(net.h2.heard(carries_any(sent))) == len(sent), "a datagram was lost while the neighbour was probed"


def _broadcast_request(host: str) -> Wanted:
    wanted = arp(op=1, pdst=host)
    return lambda frame: frame[:6] == b"\xff" * 6 and wanted(frame)


def _unicast_request(host: str, mac: str) -> Wanted:
    wanted = arp(op=1, pdst=host)
    to = bytes.fromhex(mac.replace(":", ""))
    return lambda frame: frame[:6] == to and wanted(frame)


def test_row_a6_a_silent_neighbour_goes_stale_is_probed_three_times_and_fails(net: Network) -> None:
    host, mac = net.resolved_host()
    net.forget()
    _keep_sending_until(net, host, "the first probe", _unicast_request(host, mac))
    assert net.h2.heard(_broadcast_request(host)) == []
    last = _broadcast_request_after_probes(net, host)
    assert len(net.h2.heard(_unicast_request(host, mac))) == 3
    net.h1.wait_to_hear("3/1", icmp_about(last, HOST_UNREACHABLE), limit_s=FAILED_LIMIT_S)


def _broadcast_request_after_probes(net: Network, host: str) -> Packet:
    """Keep using a neighbour until it has failed and is asked for by broadcast; return the last datagram."""
    deadline = time.monotonic() + 30.0
    while not net.h2.heard(_broadcast_request(host)):
        assert time.monotonic() < deadline
        datagram = net.udp(dst=host)
        net.h1.send_ip(datagram)
        net.flush([net.h1, net.h2])
    return datagram


def test_row_a6_a_probe_that_is_answered_keeps_the_neighbour(net: Network) -> None:
    host, mac = net.resolved_host()
    for _ in range(2):
        net.forget()
        _keep_sending_until(net, host, "a probe", _unicast_request(host, mac))
        net.h2.answer(host, mac)
        net.flush()
        assert net.h2.heard(_broadcast_request(host)) == []


def test_row_a6_a_permanent_neighbour_is_never_asked_and_never_changed(net: Network) -> None:
    host, mac = PERMANENT
    for _ in range(2):
        datagram = net.udp(dst=host)
        assert net.forwarded(datagram).dst == mac
        assert net.h2.heard(arp(op=1, pdst=host)) == []
        net.h2.answer(host, "02:00:00:00:66:66")
        net.h2.send_arp(op=2, psrc=host, pdst=host, hwsrc="02:00:00:00:66:66")
        net.flush()
