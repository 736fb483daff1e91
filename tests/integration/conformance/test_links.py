"""Row 35: interfaces and addresses that go and come back."""

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import ARP

from conformance.datagrams import arp, carries, carries_any, icmp_about
from conformance.network import Network

BEHIND = "10.35.0.1"
ADDED = "10.36.0.1/24"


def test_row_35_without_carrier_a_shorter_prefix_takes_over(net: Network) -> None:
    with (
        net.router.route("10.35.0.0/16", via=net.h3.address),
        net.router.route("10.35.0.0/24", via=net.h2.address),
    ):
        net.forwarded(net.udp(dst=BEHIND))
        net.set_carrier(net.h2, up=False)
        try:
            datagrams = [net.udp(dst=BEHIND) for _ in range(20)]
            for datagram in datagrams:
                net.h1.send_ip(datagram)
            net.h3.wait_to_hear("all by the other way", carries_any(datagrams), len(datagrams))
        finally:
            net.set_carrier(net.h2, up=True)
        net.forwarded(net.udp(dst=BEHIND))


def test_row_35_connected_network_of_a_link_that_is_down(net: Network) -> None:
    destination = net.h2.address
    net.take_down(net.h2)
    try:
        datagram = net.udp(dst=destination)
        net.h1.send_ip(datagram)
        (error,) = net.h1.wait_to_hear("network unreachable", icmp_about(datagram))
        assert (error[ICMP].type, error[ICMP].code, error[IP].src) == (3, 0, net.h1.gateway)
    finally:
        net.bring_up(net.h2)
    net.forwarded(net.udp(dst=destination))


def test_row_35_flaps_under_traffic(net: Network) -> None:
    """Whatever happens between, in the end all goes by the way it went before."""
    with (
        net.router.route("10.35.0.0/16", via=net.h3.address),
        net.router.route("10.35.0.0/24", via=net.h2.address),
    ):
        for _ in range(5):
            net.set_carrier(net.h2, up=False)
            net.h1.send_ip(net.udp(dst=BEHIND))
            net.set_carrier(net.h2, up=True)
            net.h1.send_ip(net.udp(dst=BEHIND))
        net.forwarded(net.udp(dst=BEHIND))


def test_row_35_address_that_goes_and_comes(net: Network) -> None:
    mac = "02:00:00:00:36:07"
    for host in ("10.36.0.7", "10.36.0.8"):  # the address's neighbours may outlive it
        with net.router.address(ADDED, "eth1"):
            datagram = net.udp(dst=host)
            net.h1.send_ip(datagram)
            (request,) = net.h2.wait_to_hear("a request", arp(op=1, pdst=host, psrc="10.36.0.1"))[:1]
            net.h2.send_arp(request.src, op=2, hwsrc=mac, psrc=host, hwdst=request.src, pdst=request[ARP].psrc)
            (frame,) = net.h2.wait_to_hear("the datagram", carries(datagram))
            assert frame.dst == mac
        refused = net.udp(dst=host)
        net.h1.send_ip(refused)
        (error,) = net.h1.wait_to_hear("network unreachable", icmp_about(refused))
        assert (error[ICMP].type, error[ICMP].code) == (3, 0)
        net.forget()


@pytest.mark.parametrize("own", ["10.36.0.1"])
def test_row_35_an_address_that_is_gone_is_not_answered_for(net: Network, own: str) -> None:
    with net.router.address(ADDED, "eth1"):
        net.h2.send_arp(psrc="10.36.0.9", pdst=own)
        net.h2.wait_to_hear("the answer", arp(op=2, psrc=own))
    net.forget()
    net.h2.send_arp(psrc="10.36.0.9", pdst=own)
    net.flush()
    assert net.h2.heard(arp(op=2, psrc=own)) == []
