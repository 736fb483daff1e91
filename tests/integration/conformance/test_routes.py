"""Rows 7 and 8: which route a datagram takes, and what its sender is told where there is none."""

import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv4Network

import pytest
from scapy.layers.inet import IP

from conformance.datagrams import carries, carries_any, icmp_about, icmp_error
from conformance.network import Network
from conformance.station import Station

NESTED = ["0.0.0.0/0", *(f"{IPv4Network((0x67B5A6C4, length), strict=False)}" for length in range(8, 33))]
"""103.181.166.196, an address with as many ones as zeroes, in prefixes of all lengths."""


def _expected(routes: dict[IPv4Network, Station], address: IPv4Address) -> Station:
    return routes[max((prefix for prefix in routes if address in prefix), key=lambda prefix: prefix.prefixlen)]


def _addresses(source: random.Random) -> Iterator[IPv4Address]:
    """One address inside each prefix and outside the next longer one, and its neighbours."""
    for text in NESTED:
        prefix = IPv4Network(text)
        yield prefix.network_address
        yield prefix.broadcast_address
        yield prefix[source.randrange(prefix.num_addresses)]


def _check(net: Network, routes: dict[IPv4Network, Station], source: random.Random) -> None:
    """Send to all addresses that no martian rule names, and compare where each comes out with `ipaddress`."""
    wanted: dict[str, list[int]] = {station.name: [] for station in net.stations}
    sent = []
    for address in _addresses(source):
        if not 1 <= address.packed[0] < 224 or address.packed[0] == 127:
            continue
        datagram = net.udp(dst=str(address))
        sent.append(datagram)
        wanted[_expected(routes, address).name].append(datagram.id)
        net.h1.send_ip(datagram)
    net.flush()
    wanted["h1"] = []
    for station in net.stations:
        assert [frame[IP].id for frame in station.heard(carries_any(sent))] == wanted[station.name], station.name


def test_row_07_longest_prefix_wins_also_during_changes(net: Network) -> None:
    source = random.Random(7)
    routes: dict[IPv4Network, Station] = {}
    with ExitStack() as stack:
        opened: dict[IPv4Network, ExitStack] = {}
        for number, text in enumerate(NESTED):
            station = (net.h2, net.h3)[number % 2]
            opened[IPv4Network(text)] = each = stack.enter_context(ExitStack())
            each.enter_context(net.router.route(text, via=station.address))
            routes[IPv4Network(text)] = station
        _check(net, routes, source)
        removed = source.sample(NESTED[1:], 15)
        for some in (removed[:5], removed[5:10], removed[10:]):
            for text in some:
                opened[IPv4Network(text)].close()
                del routes[IPv4Network(text)]
            net.forget()
            _check(net, routes, source)


def test_row_07_a_change_loses_nothing(net: Network) -> None:
    """While a longer prefix comes and goes, every datagram takes one way or the other."""
    sent: list[IP] = []
    stop = threading.Event()

    def keep_sending() -> None:
        while not stop.is_set():
            sent.append(net.udp(dst="10.7.7.7"))
            net.h1.send_ip(sent[-1])
            stop.wait(0.001)

    with net.router.route("10.7.0.0/16", via=net.h2.address):
        sender = threading.Thread(target=keep_sending)
        sender.start()
        try:
            for _ in range(10):
                with net.router.route("10.7.7.0/24", via=net.h3.address):
                    pass
        finally:
            stop.set()
            sender.join()
        net.flush()
    arrived = [frame[IP].id for station in (net.h2, net.h3) for frame in station.heard(carries_any(sent))]
    assert sorted(arrived) == sorted(one.id for one in sent)


def test_row_08_no_route(net: Network) -> None:
    datagram = net.udp(dst="10.8.0.1")
    net.h1.send_ip(datagram)
    (error,) = net.h1.wait_to_hear("network unreachable", icmp_about(datagram))
    assert (error["ICMP"].type, error["ICMP"].code, error[IP].src) == (3, 0, net.h1.gateway)
    assert len(net.heard_anywhere(icmp_error)) == 1


@pytest.mark.parametrize(("kind", "code"), [("unreachable", 1), ("prohibit", 13)])
def test_row_08_routes_that_refuse(net: Network, kind: str, code: int) -> None:
    with net.router.route("10.8.0.0/16", type=kind):
        datagram = net.udp(dst="10.8.0.1")
        net.h1.send_ip(datagram)
        (error,) = net.h1.wait_to_hear(kind, icmp_about(datagram))
        assert (error["ICMP"].type, error["ICMP"].code, error[IP].src) == (3, code, net.h1.gateway)
        assert len(net.heard_anywhere(icmp_error)) == 1


def test_row_08_blackhole(net: Network) -> None:
    with net.router.route("10.8.0.0/16", type="blackhole"), net.router.route("0.0.0.0/0", via=net.h2.address):
        datagram = net.udp(dst="10.8.0.1")
        net.h1.send_ip(datagram)
        assert net.heard_anywhere(lambda frame: icmp_error(frame) or carries(datagram)(frame)) == []
