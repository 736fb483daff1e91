"""Rows A1, A2, A7 to A12: which ARP messages are answered, believed and sent."""

import time

import pytest
from scapy.layers.l2 import ARP, Ether

from conformance.datagrams import arp, carries, carries_any, icmp_about
from conformance.network import Network
from conformance.station import EVERYBODY

STRANGER = "02:00:00:00:aa:01"
NOBODY = "00:00:00:00:00:00"


def _is_known(net: Network, host: str) -> bool:
    """Tell whether the router sends to a host without asking for it."""
    datagram = net.udp(dst=host)
    net.h1.send_ip(datagram)
    net.h2.wait_to_hear(
        "the datagram or a request", lambda frame: carries(datagram)(frame) or arp(op=1, pdst=host)(frame)
    )
    return bool(net.h2.heard(carries(datagram)))


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("to", ["everybody", "the_router"])
def test_row_a1_answers_for_its_own_address(net: Network, number: int, to: str) -> None:
    station = net.stations[number - 1]
    station.send_arp(EVERYBODY if to == "everybody" else station.router_mac, pdst=station.gateway)
    (reply,) = station.wait_to_hear("the reply", arp(op=2, psrc=station.gateway))
    message = reply[ARP]
    assert (reply.src, reply.dst, message.hwsrc) == (station.router_mac, station.mac, station.router_mac)
    assert (message.hwdst, message.pdst) == (station.mac, station.address)
    assert (message.hwtype, message.ptype, message.hwlen, message.plen) == (1, 0x0800, 6, 4)


@pytest.mark.parametrize(
    "target", ["10.0.2.1", "10.0.2.2", "10.0.1.2", "10.0.1.200", "172.18.0.1", "10.0.1.255", "0.0.0.0"]
)
def test_row_a1_never_for_another_address(net: Network, target: str) -> None:
    net.h1.send_arp(pdst=target)
    net.flush()
    assert net.h1.heard(arp(op=2, psrc=target)) == []


def test_row_a1_a_reply_is_not_answered(net: Network) -> None:
    net.h1.send_arp(net.h1.router_mac, op=2, pdst=net.h1.gateway, hwdst=net.h1.router_mac)
    datagram = net.udp()
    net.forwarded(datagram)
    assert net.h1.heard(lambda frame: arp(op=2)(frame) and ARP(frame[14:]).pdst != net.h1.address) == []


def test_row_a2_a_request_for_the_router_teaches_a_stranger(net: Network) -> None:
    host = net.h2.played_host()
    mac = net.h2.played_mac(host)
    net.h2.send_arp(psrc=host, hwsrc=mac, pdst=net.h2.gateway)
    net.h2.wait_to_hear("the reply", arp(op=2, psrc=net.h2.gateway, pdst=host))
    net.flush()
    datagram = net.udp(dst=host)
    assert net.forwarded(datagram).dst == mac
    assert net.h2.heard(lambda frame: frame[:6] == b"\xff" * 6 and arp(op=1, pdst=host)(frame)) == []


@pytest.mark.parametrize("kind", ["unsolicited_reply", "gratuitous", "broadcast_reply", "request_for_another"])
def test_row_a2_a_stranger_is_not_learned_otherwise(net: Network, kind: str) -> None:
    host = net.h2.played_host()
    mac = net.h2.played_mac(host)
    if kind == "unsolicited_reply":
        net.h2.answer(host, mac)
    elif kind == "gratuitous":
        net.h2.send_arp(psrc=host, hwsrc=mac, pdst=host)
    elif kind == "broadcast_reply":
        net.h2.send_arp(op=2, psrc=host, hwsrc=mac, pdst=host, hwdst=EVERYBODY)
    else:
        net.h2.send_arp(psrc=host, hwsrc=mac, pdst="10.0.2.126")
    net.flush()
    assert not _is_known(net, host)


@pytest.mark.parametrize(
    "kind", ["request_for_the_router", "request_for_another", "gratuitous_request", "gratuitous_reply"]
)
def test_row_a2_a_known_sender_is_refreshed_by_any_message(net: Network, kind: str) -> None:
    """Until its new MAC is used: within the lock time of the old one, messages may be ignored."""
    host, _ = net.resolved_host()
    new = net.h2.played_mac(host, 2)
    target = {"request_for_the_router": net.h2.gateway, "request_for_another": "10.0.2.2"}.get(kind, host)
    _until_used(net, host, new, op=2 if kind == "gratuitous_reply" else 1, pdst=target)


def _until_used(net: Network, host: str, mac: str, **message: object) -> None:
    """Send a message with a new MAC again and again until datagrams follow it."""
    deadline = time.monotonic() + 20.0
    while True:
        net.h2.send_arp(psrc=host, hwsrc=mac, **message)
        net.flush()
        datagram = net.udp(dst=host)
        net.h1.send_ip(datagram)
        (frame,) = net.h2.wait_to_hear("the datagram", carries(datagram))
        if frame.dst == mac:
            return
        assert time.monotonic() < deadline, f"datagrams go to {frame.dst}, not to {mac}"


def test_row_a7_a_changed_mac_is_followed(net: Network) -> None:
    host, _ = net.resolved_host()
    for variant in (1, 2, 3):
        _until_used(net, host, net.h2.played_mac(host, variant), op=2, pdst=host)


def test_row_a7_but_not_within_a_second_of_the_last_change(net: Network) -> None:
    """Of several answers to one request the first counts."""
    host = net.h2.played_host()
    first, second = net.h2.played_mac(host, 1), net.h2.played_mac(host, 2)
    datagram = net.udp(dst=host)
    net.h1.send_ip(datagram)
    net.h2.wait_to_hear("a request", arp(op=1, pdst=host))
    net.h2.answer(host, first)
    net.h2.answer(host, second)
    net.h2.wait_to_hear("the datagram", carries(datagram))
    net.flush()
    assert net.forwarded(net.udp(dst=host)).dst == first


SWEPT = "10.64.0.0/16"
TABLE_LIMIT = 1024


def test_row_a8_a_sweep_neither_grows_the_table_nor_stops_flows(net: Network) -> None:
    # The kernel's table is one for all namespaces of the machine: with the control group others shall not notice.
    hosts = 3000 if net.router.name == "hopwire" else 600
    known = []
    with net.router.address("10.64.0.1/16", "eth2"):
        for number in range(hosts):
            net.h1.send_ip(net.udp(dst=f"10.64.{number >> 8}.{number & 0xFF or 1}"))
            if number % 16 == 15:
                known.append(net.udp())
                net.h1.send_ip(known[-1])
                net.h2.wait_to_hear("the known flow", carries(known[-1]))
        net.flush()
        assert net.router.neighbour_count() <= TABLE_LIMIT
        assert len(net.h2.heard(carries_any(known))) == len(known)


def _raw_request(net: Network, **fields: object) -> Ether:
    values = {"op": 1, "hwsrc": STRANGER, "psrc": "10.0.1.140", "pdst": net.h1.gateway, **fields}
    return Ether(src=STRANGER, dst=EVERYBODY) / ARP(**values)


_BROADCAST_IP = pytest.mark.linux_differs("Linux answers a sender with the broadcast address of the network")
_BROADCAST_MAC = pytest.mark.linux_differs("Linux believes a sender whose MAC is a group's")


@pytest.mark.parametrize(
    "fields",
    [
        {"hwtype": 6},
        {"hwtype": 0},
        {"ptype": 0x86DD},
        {"hwlen": 8, "hwsrc": bytes(8), "hwdst": bytes(8)},
        {"plen": 16, "psrc": bytes(16), "pdst": bytes(16)},
        {"hwlen": 0, "hwsrc": b"", "hwdst": b""},
        {"plen": 0, "psrc": b"", "pdst": b""},
        pytest.param({"psrc": "10.0.1.255"}, marks=_BROADCAST_IP),
        {"psrc": "255.255.255.255"},
        {"psrc": "224.0.0.1"},
        {"psrc": "127.0.0.1"},
        {"psrc": "192.0.2.1"},
        {"psrc": "10.0.2.140"},
        pytest.param({"hwsrc": EVERYBODY}, marks=_BROADCAST_MAC),
        pytest.param({"hwsrc": "01:00:5e:00:00:01"}, marks=_BROADCAST_MAC),
        pytest.param({"hwsrc": NOBODY}, marks=_BROADCAST_MAC),
        {"op": 0},
        {"op": 3},
        {"op": 8},
    ],
    ids=lambda fields: ",".join(f"{name}={value if value else 'none'}" for name, value in fields.items()),
)
def test_row_a9_invalid_messages_are_not_answered(net: Network, fields: dict[str, object]) -> None:
    net.h1.send(_raw_request(net, **fields))
    net.flush()
    replies = net.h1.heard(lambda frame: arp(op=2)(frame) and ARP(frame[14:]).pdst != net.h1.address)
    assert replies == []


def test_row_a9_a_truncated_message_is_not_answered(net: Network) -> None:
    whole = bytes(_raw_request(net))
    for length in range(14, len(whole)):
        net.h1.send(whole[:length])
    net.flush()
    assert net.h1.heard(arp(op=2, pdst="10.0.1.140")) == []


@pytest.mark.linux_differs("Linux believes a sender whose MAC is a group's")
@pytest.mark.parametrize("mac", [EVERYBODY, "01:00:5e:00:00:01"])
def test_row_a9_a_known_neighbour_is_not_given_a_groups_mac(net: Network, mac: str) -> None:
    host = net.h2.played_host()
    datagram = net.udp(dst=host)
    net.h1.send_ip(datagram)
    net.h2.wait_to_hear("a request", arp(op=1, pdst=host))
    net.h2.answer(host, mac)
    net.flush()
    net.h2.answer(host, net.h2.played_mac(host))
    (frame,) = net.h2.wait_to_hear("the datagram", carries(datagram))
    assert frame.dst == net.h2.played_mac(host)


def test_row_a10_announces_itself_when_its_link_comes_up(net: Network) -> None:
    net.take_down(net.h2)
    net.forget()
    net.bring_up(net.h2)
    announcement = net.h2.wait_to_hear("an announcement", arp(psrc=net.h2.gateway, pdst=net.h2.gateway))[0]
    assert (announcement.dst, announcement[ARP].hwsrc) == (EVERYBODY, net.h2.router_mac)


@pytest.mark.linux_differs("Linux announces addresses with the link only")
def test_row_a10_announces_an_address_that_is_added(net: Network) -> None:
    with net.router.address("10.65.0.1/24", "eth1"):
        announcement = net.h2.wait_to_hear("an announcement", arp(psrc="10.65.0.1", pdst="10.65.0.1"))[0]
        assert (announcement.dst, announcement[ARP].hwsrc) == (EVERYBODY, net.h2.router_mac)


def test_row_a10_answers_a_probe_without_learning_it(net: Network) -> None:
    net.h1.send_arp(psrc="0.0.0.0", hwsrc=STRANGER, pdst=net.h1.gateway)
    (reply,) = net.h1.wait_to_hear("the reply", arp(op=2, psrc=net.h1.gateway, hwdst=STRANGER))
    assert reply[ARP].hwsrc == net.h1.router_mac


@pytest.mark.linux_differs("Linux does not defend its addresses")
def test_row_a10_defends_its_address(net: Network) -> None:
    """RFC 5227 section 2.4 (b): one announcement; the conflict changes nothing."""
    net.h3.send_arp(op=2, psrc=net.h3.gateway, pdst=net.h3.gateway, hwsrc=STRANGER)
    defence = net.h3.wait_to_hear("the defence", arp(psrc=net.h3.gateway, pdst=net.h3.gateway))[0]
    assert (defence.dst, defence[ARP].hwsrc) == (EVERYBODY, net.h3.router_mac)


def test_row_a10_a_conflict_stops_nothing(net: Network) -> None:
    net.h3.send_arp(op=2, psrc=net.h3.gateway, pdst=net.h3.gateway, hwsrc=STRANGER)
    net.flush()
    net.forwarded(net.udp(dst=net.h3.far_host()), receiver=net.h3)


@pytest.mark.parametrize("target", ["10.0.2.2", "172.18.0.1"])
def test_row_a11_proxy_arp_answers_for_hosts_behind_other_interfaces(net: Network, target: str) -> None:
    with net.router.policy("eth0", "proxy_arp", value=True, default=False):
        net.h1.send_arp(pdst=target)
        (reply,) = net.h1.wait_to_hear("the reply", arp(op=2, psrc=target))
        assert reply[ARP].hwsrc == net.h1.router_mac
    net.forget()
    net.h1.send_arp(pdst=target)
    net.flush()
    assert net.h1.heard(arp(op=2, psrc=target)) == []


@pytest.mark.parametrize("target", ["10.0.1.2", "10.0.1.200", "10.66.0.1"])
def test_row_a11_but_for_none_of_this_link_or_of_nowhere(net: Network, target: str) -> None:
    with net.router.policy("eth0", "proxy_arp", value=True, default=False):
        net.h1.send_arp(psrc=net.h1.near_host(), pdst=target)
        net.flush()
        assert net.h1.heard(arp(op=2, psrc=target, hwsrc=net.h1.router_mac)) == []


def test_row_a11_the_other_interfaces_do_not(net: Network) -> None:
    with net.router.policy("eth0", "proxy_arp", value=True, default=False):
        net.h2.send_arp(pdst=net.h1.address)
        net.flush()
        assert net.h2.heard(arp(op=2, psrc=net.h1.address)) == []


def test_row_a12_link_down_flushes_dynamic_entries(net: Network) -> None:
    host, _ = net.resolved_host()
    net.take_down(net.h2)
    net.bring_up(net.h2)
    net.forget()
    assert not _is_known(net, host)
    assert net.h2.heard(arp(op=1, pdst=host))[0].dst == EVERYBODY
    assert net.h1.heard(icmp_about(net.udp(dst=host))) == []
