"""Datagrams that do not fit, and fragments: RFC 4787 sections 10 and 11; a fragment that overlaps the first."""

import pytest
from conformance.datagrams import FRAGMENTATION_NEEDED, hand_made_fragments, icmp_about, ip_bytes, payload
from router_lab import wait_for
from scapy.layers.inet import ICMP, IP
from scapy.packet import Packet

from nat_conformance.messages import Endpoint, check, data_of, ends, joined, query, udp
from nat_conformance.network import NatNetwork, arrives
from nat_conformance.router import OUT, OUTSIDE

NARROW = 1280
LARGE = payload(1400)
FLOOD = 400
"""More than the 256 fragments that may wait for their first one (docs/nat.md)."""


def fragments_pass(net: NatNetwork, parts: list[Packet], to: str) -> Packet:
    """Send fragments by the source's station, and return the datagram that they make up at a host; its data whole."""
    net.forget()
    for part in parts:
        net.host_station(part.src).send_ip(part)
    receiver = net.host_station(to)

    def arrived() -> bytes | None:
        frames = [frame for frame in receiver.listen() if arrives(parts[0])(frame)]
        return joined([frame[14 : 14 + int.from_bytes(frame[16:18], "big")] for frame in frames]) if frames else None

    return IP(wait_for("all fragments arrive", arrived))


def test_rfc4787_req13_too_large(net: NatNetwork) -> None:
    """The error quotes what the host has sent, not what it would have become."""
    inside, remote = net.inside(port=5005), net.outside()
    net.mapped(inside, remote)
    sent = udp(inside, remote, LARGE, flags="DF")
    with net.router.mtu(OUTSIDE, NARROW):
        net.h1.send_ip(sent)
        (frame,) = net.h1.wait_to_hear("fragmentation needed", icmp_about(sent, FRAGMENTATION_NEEDED))
        assert frame[ICMP].nexthopmtu == NARROW
        assert (frame[IP].src, frame[IP].dst) == (net.h1.gateway, inside[0])
        quote = ip_bytes(frame)[28:]
        assert quote == bytes(sent)[: len(quote)]
        assert not net.heard_anywhere(arrives(sent))


def test_rfc4787_req13a_fragments_in_order(net: NatNetwork) -> None:
    inside, remote = net.inside(port=5006), net.outside()
    sent = udp(inside, remote, LARGE)
    with net.router.mtu(OUTSIDE, NARROW):
        net.h1.send_ip(sent)
        frames = net.h3.wait_to_hear("fragments", arrives(sent), 2)
    assert [frame[IP].frag for frame in frames] == sorted(frame[IP].frag for frame in frames)
    whole = joined([ip_bytes(frame) for frame in frames])
    assert whole is not None
    check([bytes(frame) for frame in frames])
    assert data_of(IP(whole)) == LARGE
    assert ends(IP(whole))[0][0] == OUT


ORDERS = {
    "in order": [0, 1, 2],
    "reversed": [2, 1, 0],
    "the first in the middle": [1, 0, 2],
    "the last first": [2, 0, 1],
}


def in_order(datagram: Packet, order: str) -> list[Packet]:
    parts = hand_made_fragments(datagram, 512)
    assert len(parts) == 3
    return [parts[number] for number in ORDERS[order]]


@pytest.mark.parametrize("order", ORDERS)
def test_rfc4787_req14_from_inside(net: NatNetwork, order: str) -> None:
    """Of a new session, and of one that is there."""
    inside, remote = net.inside(port=5007), net.outside()
    seen = [fragments_pass(net, in_order(udp(inside, remote, LARGE), order), remote[0]) for _ in range(2)]
    assert {data_of(one) for one in seen} == {LARGE}
    (outside,) = {ends(one)[0] for one in seen}
    assert outside[0] == OUT
    assert outside == net.mapped(inside, net.outside())


@pytest.mark.parametrize("order", ORDERS)
def test_rfc4787_req14_from_outside(net: NatNetwork, order: str) -> None:
    inside, remote = net.inside(port=5008), net.outside()
    outside = net.mapped(inside, remote)
    seen = fragments_pass(net, in_order(udp(remote, outside, LARGE), order), inside[0])
    assert ends(seen) == (remote, inside)
    assert data_of(seen) == LARGE


@pytest.mark.parametrize("order", ORDERS)
def test_rfc4787_req14_of_a_query(net: NatNetwork, order: str) -> None:
    inside, remote = net.inside(port=78), net.outside()
    sent = query(inside, remote[0])
    long = IP(bytes(IP(src=inside[0], dst=remote[0], id=sent.id + 1) / ICMP(type=8, id=78) / LARGE))
    seen = fragments_pass(net, in_order(long, order), remote[0])
    assert seen.src == OUT
    assert data_of(seen) == LARGE


def test_rfc4787_req14a_a_flood(net: NatNetwork) -> None:
    """Later fragments whose first one never comes, from both sides: all else goes on as before."""
    inside, remote = net.inside(), net.outside()
    outside = net.mapped(inside, remote)
    for source, destination in ((inside, remote), (remote, outside)):
        lost = [hand_made_fragments(udp(source, destination, LARGE), 512)[2] for _ in range(FLOOD)]
        station = net.host_station(source[0])
        net.paced(station, [lambda part=part, by=station: by.send_ip(part) for part in lost])
    net.reaches(remote, outside, inside)
    assert net.mapped(net.inside(), remote)[0] == OUT
    sent = udp(remote, outside, LARGE)
    assert data_of(fragments_pass(net, hand_made_fragments(sent, 512), inside[0])) == LARGE
    net.router.wait_until_none_waits()


def overlapping(source: Endpoint, destination: Endpoint) -> list[Packet]:
    """Return a first fragment of 512 bytes, and one that would put other ports into its place (RFC 1858 section 4)."""
    first, second, _ = hand_made_fragments(udp(source, destination, LARGE), 512)
    evil = second.copy()
    evil.frag, evil.chksum = 1, None
    return [first, IP(bytes(evil))]


def test_bad_05_overlapping_the_first(net: NatNetwork) -> None:
    """The first has gone already; what overlaps it does not follow."""
    inside, remote = net.inside(), net.outside()
    outside = net.mapped(inside, remote)
    with net.router.counted(DROP_NAT_FRAGMENT=2):
        for source, destination in ((inside, remote), (remote, outside)):
            parts = overlapping(source, destination)
            for part in parts:
                net.host_station(source[0]).send_ip(part)
            frames = net.heard_anywhere(arrives(parts[0]))
            assert [frame[IP].frag for frame in frames] in ([0], [])
