"""Rows 25 to 28: frames and datagrams to everybody, to groups, and to other stations."""

import pytest

from conformance.datagrams import after_hop, carries, icmp_error, ip_bytes
from conformance.network import Network
from conformance.station import EVERYBODY

MULTICAST_MAC = "01:00:5e:00:00:05"


@pytest.mark.parametrize("mac", [EVERYBODY, MULTICAST_MAC])
def test_row_25_unicast_in_a_broadcast_frame_is_not_forwarded(net: Network, mac: str) -> None:
    datagram = net.udp()
    with net.router.counted(DROP_LINK_BROADCAST=1):
        net.h1.send_ip(datagram, to=mac)
        net.flush()
    assert net.heard_anywhere(lambda frame: carries(datagram)(frame) or icmp_error(frame)) == []


@pytest.mark.parametrize("which", ["somebody", "another_interface_of_the_router"])
@pytest.mark.parametrize("ttl", [1, 64])
def test_row_26_a_frame_for_another_mac_is_not_forwarded(net: Network, which: str, ttl: int) -> None:
    mac = "02:00:00:00:26:26" if which == "somebody" else net.h2.router_mac
    datagram = net.udp(ttl=ttl)
    net.h1.send_ip(datagram, to=mac)
    assert net.heard_anywhere(lambda frame: carries(datagram)(frame) or icmp_error(frame)) == []


@pytest.mark.parametrize("destination", ["255.255.255.255", "224.0.0.5", "224.1.2.3", "239.255.255.250"])
@pytest.mark.parametrize("mac", ["group", "router"])
def test_row_27_broadcast_and_multicast_are_not_forwarded(net: Network, destination: str, mac: str) -> None:
    datagram = net.udp(dst=destination)
    group = EVERYBODY if destination == "255.255.255.255" else MULTICAST_MAC
    with net.router.route("0.0.0.0/0", via=net.h2.address):
        net.h1.send_ip(datagram, to=group if mac == "group" else None)
        assert net.heard_anywhere(lambda frame: carries(datagram)(frame) or icmp_error(frame)) == []


def test_row_28_directed_broadcast_is_not_forwarded(net: Network) -> None:
    datagram = net.udp(dst=net.h2.broadcast)
    with net.router.counted(DROP_DIRECTED_BROADCAST=1):
        net.h1.send_ip(datagram)
        net.flush()
    assert net.heard_anywhere(lambda frame: carries(datagram)(frame) or icmp_error(frame)) == []


def test_row_28_directed_broadcast_is_forwarded_where_switched_on(net: Network) -> None:
    datagram = net.udp(dst=net.h2.broadcast)
    with net.router.policy("eth1", "directed_broadcast", value=True, default=False):
        frame = net.forwarded(datagram)
    assert (frame.dst, frame.src) == (EVERYBODY, net.h2.router_mac)
    assert ip_bytes(frame) == after_hop(datagram)


def test_row_28_it_is_off_again_at_once(net: Network) -> None:
    with net.router.policy("eth1", "directed_broadcast", value=True, default=False):
        pass
    datagram = net.udp(dst=net.h2.broadcast)
    net.h1.send_ip(datagram)
    assert net.heard_anywhere(carries(datagram)) == []


def test_row_28_a_broadcast_frame_is_not_forwarded_even_then(net: Network) -> None:
    """RFC 1812 section 5.3.4: what came as a link-layer broadcast is not forwarded."""
    datagram = net.udp(dst=net.h2.broadcast)
    with net.router.policy("eth1", "directed_broadcast", value=True, default=False):
        net.h1.send_ip(datagram, to=EVERYBODY)
        assert net.heard_anywhere(carries(datagram)) == []
