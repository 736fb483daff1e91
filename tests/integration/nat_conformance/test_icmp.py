"""ICMP queries, the router's own messages, and all other ICMP: RFC 5508 sections 3.1, 6 to 8."""

import pytest
from conformance.datagrams import icmp_about, ip_bytes, payload
from scapy.layers.inet import ICMP, IP
from scapy.packet import Packet, Raw

from nat_conformance.messages import ECHO, ECHO_REPLY, TIMESTAMP, TIMESTAMP_REPLY, data_of, ends, query, tcp, udp
from nat_conformance.network import NatNetwork
from nat_conformance.router import OUT

PROHIBITED = (3, 13)
LEAKS = "what conntrack calls invalid is forwarded as it is"
NO_ROUTE_TO = "198.18.0.1"  # RFC 2544


@pytest.mark.parametrize(("ask", "answer"), [(ECHO, ECHO_REPLY), (TIMESTAMP, TIMESTAMP_REPLY)])
def test_rfc5508_req01_there_and_back(net: NatNetwork, ask: int, answer: int) -> None:
    """Of two hosts with one identifier each gets its own answers."""
    remote, identifier = net.outside()[0], net.port()
    for station in (net.h1, net.h2):
        inside = net.inside(station, identifier)
        sent = query(inside, remote, ask)
        seen = net.goes_out(sent)
        assert (seen.src, seen.payload.type) == (OUT, ask)
        assert data_of(seen) == data_of(sent)
        reply = query((remote, seen.payload.id), OUT, answer)
        back = net.comes_in(reply, inside[0])
        assert (back.payload.type, back.payload.id) == (answer, identifier)
        assert data_of(back) == data_of(reply)


def test_rfc5508_req01_answers_that_nobody_asked_for(net: NatNetwork) -> None:
    net.falls(query((net.outside()[0], net.port()), OUT, ECHO_REPLY))


def check_told(net: NatNetwork, sent: Packet, kind: tuple[int, int], source: str) -> None:
    """Send a datagram, and see its sender be told: from whom, and that the quote is what it has sent."""
    station = net.host_station(sent.src)
    station.send_ip(sent)
    frame = station.wait_to_hear("an error", icmp_about(sent, kind))[0]
    assert (frame[IP].src, frame[IP].dst) == (source, sent.src)
    quote = ip_bytes(frame)[28:]
    assert quote == bytes(sent)[: len(quote)]
    net.flush()
    assert not [frame for station in net.stations for frame in station.listen() if frame[18:20] == bytes(sent)[4:6]]


def test_rfc5508_req10_time_exceeded_to_an_inside_host(net: NatNetwork) -> None:
    inside, remote = net.inside(), net.outside()
    net.mapped(inside, remote)
    check_told(net, udp(inside, remote, ttl=1), (11, 0), net.h1.gateway)
    check_told(net, udp(net.inside(), remote, ttl=1), (11, 0), net.h1.gateway)


def test_rfc5508_req10_time_exceeded_to_an_outside_host(net: NatNetwork) -> None:
    """It quotes the outside address, and nothing from inside."""
    inside, remote = net.inside(), net.outside()
    outside = net.mapped(inside, remote)
    check_told(net, udp(remote, outside, ttl=1), (11, 0), OUT)


def test_rfc5508_req10_unreachable_to_an_inside_host(net: NatNetwork) -> None:
    check_told(net, udp(net.inside(), (NO_ROUTE_TO, 7000)), (3, 0), net.h1.gateway)


def test_rfc5508_req10_too_large_for_the_inside(net: NatNetwork) -> None:
    inside, remote = net.inside(), net.outside()
    outside = net.mapped(inside, remote)
    with net.router.mtu("eth0", 1280):
        check_told(net, udp(remote, outside, payload(1400), flags="DF"), (3, 4), OUT)


def test_rfc5508_req10_echo_of_the_router(net: NatNetwork) -> None:
    """Its own addresses answer, inside and outside, from both sides."""
    for sender, address in (
        (net.h1.address, net.h1.gateway),
        (net.h1.address, OUT),
        (net.h2.address, OUT),
        (net.h3.address, OUT),
    ):
        station = net.host_station(f"172.{16 + int(sender.split('.')[2])}.0.1")
        sent = query((sender, net.port()), address)
        station.send_ip(sent)
        wanted = bytes(sent)[24:28]
        frame = station.wait_to_hear("a reply", lambda frame, w=wanted: frame[34:35] == b"\0" and frame[38:42] == w)[0]
        assert (frame[IP].src, frame[IP].dst) == (address, sender)


@pytest.mark.linux_differs("it drops in silence")
def test_rfc5508_req08_no_port_left(net: NatNetwork) -> None:
    """The sender is told 3/13; sessions that are there go on."""
    first = net.port()
    with net.router.use(first_port=first, last_port=first + 1):
        remote = net.outside()
        hosts = [net.inside() for _ in range(2)]
        outside = [net.mapped(inside, remote) for inside in hosts]
        assert {port for _, port in outside} == {first, first + 1}
        with net.router.counted(DROP_NAT_PORTS_FULL=2):
            check_told(net, udp(net.inside(), remote), PROHIBITED, net.h1.gateway)
            check_told(net, udp(net.inside(net.h2), remote), PROHIBITED, net.h2.gateway)
        for inside, mapping in zip(hosts, outside, strict=True):
            net.reaches(remote, mapping, inside)
        net.goes_out(tcp(net.inside(), remote))  # which has ports of its own


@pytest.mark.linux_differs("it has no limit of this kind")
def test_rfc5508_req08_too_many_sessions_of_a_host(net: NatNetwork) -> None:
    with net.router.use(max_sessions_per_host=2):
        inside = net.inside()
        for _ in range(2):
            net.mapped(inside, net.outside())
        with net.router.counted(DROP_NAT_HOST_LIMIT=2):
            check_told(net, tcp(inside, net.outside(80)), PROHIBITED, net.h1.gateway)
            check_told(net, query(inside, net.outside()[0]), PROHIBITED, net.h1.gateway)
        assert ends(net.goes_out(udp(net.inside(), net.outside())))[0][0] == OUT


@pytest.mark.linux_differs(LEAKS)
def test_rfc5508_req11_other_icmp_from_inside_does_not_leave(net: NatNetwork) -> None:
    """Redirect, router advertisement and solicitation, and a type that nobody knows."""
    inside, remote = net.inside(), net.outside()
    messages = [IP(src=inside[0], dst=remote[0], id=50 + t) / ICMP(type=t) / Raw(payload(32)) for t in (5, 9, 10, 200)]
    with net.router.counted(DROP_NAT_PROTOCOL=4):
        net.falls(*[IP(bytes(message)) for message in messages])


def test_rfc5508_req11_other_icmp_from_outside_does_not_come_in(net: NatNetwork) -> None:
    inside, remote = net.inside(), net.outside()
    net.mapped(inside, remote)
    messages = [IP(src=remote[0], dst=OUT, id=50 + t) / ICMP(type=t) / Raw(payload(32)) for t in (5, 9, 10, 200)]
    net.falls(*[IP(bytes(message)) for message in messages])
