"""Rows 10 to 13: datagrams that do not fit, and fragments."""

import random
from collections.abc import Iterator

import pytest
from scapy.layers.inet import ICMP, IP, IPOption
from scapy.packet import Packet, Raw

from conformance.datagrams import (
    FRAGMENTATION_NEEDED,
    after_hop,
    carries,
    carries_any,
    checksum,
    echo,
    hand_made_fragments,
    icmp_about,
    icmp_error,
    ip_bytes,
    reassembled,
)
from conformance.network import Network

NARROW = 1280
DF = 2
UDP_HEADERS = 28
ROUTER_ALERT = b"\x94\x04\x00\x00"  # copied into every fragment (RFC 2113)
NOT_COPIED = b"\x1e\x04\xab\xcd"  # 30, an experimental option without the copied flag (RFC 4727)


@pytest.fixture
def narrow(net: Network) -> Iterator[Network]:
    """1280 bytes fit on the way to h2."""
    with net.router.mtu("eth1", NARROW):
        yield net


@pytest.mark.parametrize("length", [NARROW + 1, 1500])
def test_row_10_fragmentation_needed(narrow: Network, length: int) -> None:
    datagram = narrow.udp(size=length - UDP_HEADERS, flags=DF)
    narrow.h1.send_ip(datagram)
    narrow.h1.wait_to_hear("fragmentation needed", icmp_about(datagram, FRAGMENTATION_NEEDED))
    (error,) = narrow.heard_anywhere(lambda frame: icmp_error(frame) or carries(datagram)(frame))
    assert error[ICMP].nexthopmtu == NARROW
    assert error[IP].src == narrow.h1.gateway


def test_row_10_the_mtu_itself_passes(narrow: Network) -> None:
    datagram = narrow.udp(size=NARROW - UDP_HEADERS, flags=DF)
    assert ip_bytes(narrow.forwarded(datagram)) == after_hop(datagram)


def test_row_10_the_mtu_of_a_route(net: Network) -> None:
    with net.router.route("10.10.0.0/16", via=net.h2.address, mtu=NARROW):
        datagram = net.udp(dst="10.10.0.1", size=1400, flags=DF)
        net.h1.send_ip(datagram)
        (error,) = net.h1.wait_to_hear("fragmentation needed", icmp_about(datagram, FRAGMENTATION_NEEDED))
        assert error[ICMP].nexthopmtu == NARROW


def _fragments_of(net: Network, datagram: Packet) -> list[Packet]:
    """Send h1's datagram and return the fragments that come, each of which must be well-formed."""
    net.h1.send_ip(datagram)
    net.h2.wait_to_hear("fragments", carries(datagram), 2)
    net.flush()
    fragments = net.h2.heard(carries(datagram))
    for frame in fragments:
        part = frame[IP]
        data = ip_bytes(frame)
        assert len(data) == part.len <= NARROW
        assert checksum(data[: part.ihl * 4]) == 0
        assert (part.ttl, part.tos, part.id, part.src, part.dst) == (
            datagram.ttl - 1,
            datagram.tos,
            datagram.id,
            datagram.src,
            datagram.dst,
        )
    return fragments


@pytest.mark.parametrize("length", [NARROW + 1, 1500])
def test_row_11_fragments(narrow: Network, length: int) -> None:
    datagram = narrow.udp(size=length - UDP_HEADERS, tos=0x48)
    fragments = _fragments_of(narrow, datagram)
    assert len(fragments) == 2
    assert all(len(frame[IP].payload) % 8 == 0 for frame in fragments if frame[IP].flags.MF)
    assert reassembled(fragments) == bytes(datagram)[20:]


def test_row_11_options_are_copied_where_their_flag_says_so(narrow: Network) -> None:
    options = [IPOption(NOT_COPIED), IPOption(ROUTER_ALERT)]
    datagram = narrow.udp(size=1400, options=options)
    first, second = sorted(_fragments_of(narrow, datagram), key=lambda frame: frame[IP].frag)
    assert ip_bytes(first)[20 : first[IP].ihl * 4] == NOT_COPIED + ROUTER_ALERT
    rest = ip_bytes(second)[20 : second[IP].ihl * 4]
    assert ROUTER_ALERT in rest
    assert NOT_COPIED not in rest
    assert rest.replace(ROUTER_ALERT, b"").strip(b"\x00\x01") == b""  # nothing else but padding
    assert reassembled([first, second]) == bytes(datagram)[28:]


@pytest.mark.parametrize("more", [True, False])
def test_row_11_a_fragment_is_fragmented_again(narrow: Network, more: bool) -> None:
    body = bytes(random.Random(11).randbytes(1480))
    header = IP(src=narrow.h1.far_host(), dst=narrow.h2.far_host(), proto=17, id=narrow.udp().id, ttl=64, frag=100)
    header.flags = 1 if more else 0
    piece = IP(bytes(header / Raw(body)))
    fragments = sorted(_fragments_of(narrow, piece), key=lambda frame: frame[IP].frag)
    assert b"".join(bytes(frame[IP].payload) for frame in fragments) == body
    assert fragments[0][IP].frag == 100
    assert fragments[1][IP].frag == 100 + len(fragments[0][IP].payload) // 8
    assert [bool(frame[IP].flags.MF) for frame in fragments] == [True, more]


def test_row_12_transit_fragments_pass_one_to_one(net: Network) -> None:
    whole = net.udp(size=5000)
    fragments = hand_made_fragments(whole, 512)
    random.Random(12).shuffle(fragments)
    for fragment in fragments:
        net.h1.send_ip(fragment)
    net.h2.wait_to_hear("the fragments", carries(whole), len(fragments))
    net.flush()
    assert [ip_bytes(frame) for frame in net.h2.heard(carries(whole))] == [after_hop(one) for one in fragments]


def test_row_12_a_single_fragment_passes_too(net: Network) -> None:
    last = hand_made_fragments(net.udp(size=1000), 512)[-1]
    assert ip_bytes(net.forwarded(last)) == after_hop(last)


def _echo_answered(net: Network, request: Packet, fragments: list[Packet]) -> None:
    """Send an echo request in fragments; the reply, itself in fragments, has all its data."""
    for fragment in fragments:
        net.h1.send_ip(fragment)

    def reply(frame: bytes) -> bool:
        return frame[12:14] == b"\x08\x00" and frame[23] == 1 and IP(frame[14:]).dst == request.src

    net.h1.wait_to_hear("the reply's fragments", lambda frame: reply(frame) and not frame[20] & 0x20)
    net.flush()
    message = reassembled(net.h1.heard(reply))
    assert message[0] == 0  # echo reply, RFC 792
    assert checksum(message) == 0
    assert message[4:] == bytes(request)[24:]


@pytest.mark.parametrize("order", ["in_order", "reversed", "shuffled", "repeated"])
def test_row_13_fragments_to_the_router_are_reassembled(net: Network, order: str) -> None:
    request = echo(net.h1.far_host(), net.h1.gateway, size=4000)
    fragments = hand_made_fragments(request, 1480)
    if order == "reversed":
        fragments.reverse()
    elif order == "shuffled":
        random.Random(13).shuffle(fragments)
    elif order == "repeated":
        fragments.insert(1, fragments[0])
    _echo_answered(net, request, fragments)


def test_row_13_interleaved_with_another_datagram(net: Network) -> None:
    first, second = (echo(net.h1.far_host(), net.h1.gateway, size=2000) for _ in range(2))
    mixed = [
        part for pair in zip(*(hand_made_fragments(one, 1480) for one in (first, second)), strict=True) for part in pair
    ]
    _echo_answered(net, first, mixed)
    assert net.h1.heard(lambda frame: frame[23] == 1 and frame[30:34] == bytes(second)[12:16])


def test_row_13_unfinished_datagrams_do_not_stop_others(net: Network) -> None:
    stray = [hand_made_fragments(echo(net.h1.far_host(), net.h1.gateway, size=2000), 1480)[0] for _ in range(64)]
    net.paced(net.h1, [lambda one=one: net.h1.send_ip(one) for one in stray])
    request = echo(net.h1.far_host(), net.h1.gateway, size=4000)
    _echo_answered(net, request, hand_made_fragments(request, 1480))
    assert net.h1.heard(carries_any(stray)) == []
