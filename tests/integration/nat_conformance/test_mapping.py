"""Which outside endpoint an inside one gets: RFC 4787 section 4, RFC 5382 4.1 and 7.1, RFC 5508 3.1."""

import pytest

from nat_conformance.messages import Endpoint, ends, query, tcp
from nat_conformance.network import NatNetwork
from nat_conformance.router import OUT, OUT2, OUTSIDE

HOSTS = 8
POOL_HOSTS = 16


def with_taken_port(net: NatNetwork, odd: int = 0) -> tuple[Endpoint, Endpoint]:
    """Return a new inside endpoint behind h2 whose port another inside host has outside, and whom that one talks to."""
    port, remote = net.port() + odd, net.outside()
    assert net.mapped(net.inside(port=port), remote) == (OUT, port)
    return net.inside(net.h2, port), remote


def test_rfc4787_req01_one_outside_endpoint_for_all_destinations(net: NatNetwork) -> None:
    inside, remote = net.inside(), net.outside()
    assert net.mapped(inside, remote) == (OUT, inside[1])  # it is free, so it is kept
    assert net.mapped(inside, (remote[0], 7001)) == (OUT, inside[1])
    assert net.mapped(inside, net.outside()) == (OUT, inside[1])


def test_rfc4787_req01_also_where_the_port_is_taken(net: NatNetwork) -> None:
    inside, remote = with_taken_port(net)
    outside = net.mapped(inside, remote)
    assert outside[1] != inside[1]
    assert net.mapped(inside, (remote[0], 7001)) == outside
    assert net.mapped(inside, net.outside()) == outside


def test_rfc4787_req02_paired(net: NatNetwork) -> None:
    """UDP, TCP and ICMP of a host bear one of two outside addresses; both are in use."""
    used = set()
    with net.router.use(masquerade=[{"interface": OUTSIDE, "addresses": [OUT, OUT2]}]):
        for number in range(POOL_HOSTS):
            host = net.inside(net.stations[number % 2])
            own = {net.mapped((host[0], net.port()), net.outside())[0] for _ in range(3)}
            own.add(net.goes_out(tcp(host, net.outside())).src)
            own.add(net.goes_out(query(host, net.outside()[0])).src)
            assert len(own) == 1
            used |= own
    assert used == {OUT, OUT2}


@pytest.mark.linux_differs("to different destinations it gives a port twice")
def test_rfc4787_req03_ports_are_not_overloaded(net: NatNetwork) -> None:
    port = net.port()
    hosts = [net.inside(net.stations[number % 2], port) for number in range(HOSTS)]
    assert len({net.mapped(inside, net.outside()) for inside in hosts}) == HOSTS


def test_rfc4787_req03_ports_to_one_destination(net: NatNetwork) -> None:
    port, remote = net.port(), net.outside()
    hosts = [net.inside(net.stations[number % 2], port) for number in range(HOSTS)]
    outside = {inside: net.mapped(inside, remote) for inside in hosts}
    assert len(set(outside.values())) == HOSTS
    for inside in hosts:
        net.reaches(remote, outside[inside], inside)


@pytest.mark.parametrize("port", [1024, 5000, 65_535])
def test_rfc4787_req03a_high_ports_stay_high(net: NatNetwork, port: int) -> None:
    assert net.mapped(net.inside(port=port), net.outside())[1] >= 1024


@pytest.mark.linux_differs("it takes no notice of parity")
@pytest.mark.parametrize("odd", [0, 1])
def test_rfc4787_req04_parity_where_the_port_is_taken(net: NatNetwork, odd: int) -> None:
    taken, remote = with_taken_port(net, odd)
    for _ in range(HOSTS):
        assert net.mapped(net.inside(net.h2, taken[1]), remote)[1] % 2 == odd


@pytest.mark.parametrize("port", [1025, 1026, 60_001, 60_002])
def test_rfc4787_req04_parity_of_ports_that_are_not_given_out(net: NatNetwork, port: int) -> None:
    assert net.mapped(net.inside(port=port), net.outside())[1] % 2 == port % 2


@pytest.mark.linux_differs("it filters by address and port, and gives a port twice")
def test_rfc4787_req11_the_same_with_conflicts(net: NatNetwork) -> None:
    """Of many hosts with one port each has a mapping like the first one's: independent, filtered by address."""
    port, remote, stranger = net.port(), net.outside(), net.outside()
    hosts = [net.inside(net.stations[number % 2], port) for number in range(HOSTS)]
    outside = [net.mapped(inside, remote) for inside in hosts]
    for inside, mapping in zip(hosts, outside, strict=True):
        assert net.mapped(inside, (remote[0], 7001)) == mapping
        net.reaches((remote[0], 9999), mapping, inside)
    for mapping in outside:
        net.is_filtered(stranger, mapping)


def test_rfc5382_req01_one_outside_endpoint_for_all_destinations(net: NatNetwork) -> None:
    inside, remote = net.inside(), net.outside(80)
    seen = [net.goes_out(tcp(inside, to)) for to in (remote, (remote[0], 81), net.outside(80))]
    assert {ends(one)[0] for one in seen} == {(OUT, inside[1])}


def test_rfc5382_req01_also_where_the_port_is_taken(net: NatNetwork) -> None:
    inside, remote = net.inside(), net.outside(80)
    net.goes_out(tcp(inside, remote))
    other = net.inside(net.h2, inside[1])
    seen = [net.goes_out(tcp(other, to)) for to in (remote, (remote[0], 81), net.outside(80))]
    (outside,) = {ends(one)[0] for one in seen}
    assert outside[1] != inside[1]


@pytest.mark.linux_differs("to different destinations it gives a port twice")
def test_rfc5382_req07_ports_are_not_overloaded(net: NatNetwork) -> None:
    port = net.port()
    hosts = [net.inside(net.stations[number % 2], port) for number in range(HOSTS)]
    assert len({ends(net.goes_out(tcp(inside, net.outside(80))))[0] for inside in hosts}) == HOSTS


def test_rfc5508_req01a_an_identifier_for_all_destinations(net: NatNetwork) -> None:
    inside = net.inside()
    taken = net.inside(net.h2, inside[1])
    for one in (inside, taken):
        seen = {(q.src, q.payload.id) for q in (net.goes_out(query(one, net.outside()[0])) for _ in range(3))}
        assert len(seen) == 1
