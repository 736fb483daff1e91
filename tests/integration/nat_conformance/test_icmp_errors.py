"""ICMP errors about translated datagrams: RFC 4787 section 9, RFC 5382 section 7.3, RFC 5508 sections 4.1 and 4.2.

An error about a datagram as it was seen on one side must arrive on the other as one about what was sent there, byte
for byte: its quote, aged by one hop, is what the test had sent.
"""

from collections.abc import Callable

import pytest
from conformance.datagrams import after_hop, finished, with_checksum
from scapy.layers.inet import IP, UDP, IPOption
from scapy.packet import Packet, Raw

from nat_conformance.connection import Connection
from nat_conformance.messages import (
    ECHO_REPLY,
    Endpoint,
    ends,
    error,
    query,
    tcp,
    transport_sum,
    udp,
    with_icmp_checksum,
)
from nat_conformance.network import NatNetwork
from nat_conformance.router import OUT

ERRORS = [(3, 0), (3, 1), (3, 3), (3, 4), (3, 13), (4, 0), (11, 0), (11, 1), (12, 0)]
LEAKS = "what conntrack calls invalid is forwarded as it is"
NARROW = 1280
ROUTER_ALERT = b"\x94\x04\x00\x00"  # RFC 2113

Sent = tuple[Packet, Packet]
"""As it was sent, and as it was seen on the other side."""
Send = Callable[[NatNetwork], Sent]


def udp_out(net: NatNetwork, inside: Endpoint | None = None, remote: Endpoint | None = None) -> Sent:
    """Send UDP from inside."""
    sent = udp(inside or net.inside(port=5000), remote or net.outside())
    return sent, net.goes_out(sent)


def tcp_out(net: NatNetwork) -> Sent:
    sent = tcp(net.inside(port=5001), net.outside(80))
    return sent, net.goes_out(sent)


def query_out(net: NatNetwork) -> Sent:
    net.goes_out(query((net.inside()[0], 77), net.outside()[0]))  # so that the identifier is taken
    sent = query((net.inside()[0], 77), net.outside()[0])
    return sent, net.goes_out(sent)


def check_error(seen: Packet, kind: tuple[int, int], about: Packet, quoted: int | None = None) -> None:
    """Check an error that has arrived: type and code, and that it quotes what was sent."""
    body = bytes(seen)[seen.ihl * 4 :]
    assert tuple(body[:2]) == kind
    assert body[8:] == after_hop(about)[:quoted]


def tell_inside(net: NatNetwork, sent: Sent, kind: tuple[int, int], by: str | None = None, rest: int = 0) -> Packet:
    """Send an error about a datagram from outside, by its destination unless said, and return what arrives inside."""
    said = error(by or sent[0].dst, bytes(sent[1]), kind, rest)
    seen = net.comes_in(said, sent[0].src)
    check_error(seen, kind, sent[0])
    assert bytes(seen)[24:28] == rest.to_bytes(4, "big")
    return seen


@pytest.mark.parametrize("kind", ERRORS)
def test_rfc4787_req12_udp_goes_on(net: NatNetwork, kind: tuple[int, int]) -> None:
    inside, remote = net.inside(), net.outside()
    sent = udp_out(net, inside, remote)
    outside = ends(sent[1])[0]
    tell_inside(net, sent, kind)
    net.reaches(remote, outside, inside)
    assert net.mapped(inside, net.outside()) == outside


def test_rfc4787_req12a_whoever_sends_them(net: NatNetwork) -> None:
    """A router on the way, which the mapping has never sent to."""
    tell_inside(net, udp_out(net), (11, 0), net.outside()[0])
    tell_inside(net, udp_out(net), (3, 1), net.h3.address)


def test_rfc4787_req12b_destination_unreachable(net: NatNetwork) -> None:
    """The next-hop MTU passes with it; and eight bytes of the transport header are enough (RFC 792)."""
    tell_inside(net, udp_out(net), (3, 4), rest=NARROW)
    sent, seen = udp_out(net)
    arrived = net.comes_in(error(sent.dst, bytes(seen)[:28]), sent.src)
    check_error(arrived, (3, 3), sent, 28)


@pytest.mark.parametrize("kind", [(3, 1), (3, 3), (11, 0)])
def test_rfc5382_req09_about_tcp(net: NatNetwork, kind: tuple[int, int]) -> None:
    tell_inside(net, tcp_out(net), kind)


@pytest.mark.parametrize("kind", ERRORS)
def test_rfc5382_req10_tcp_goes_on(net: NatNetwork, kind: tuple[int, int]) -> None:
    inside, remote = net.inside(), net.outside(80)
    connection = Connection.opened(net, inside, remote)
    connection.talk()
    sent = tcp(inside, remote, "A", seq=connection.sent, ack=connection.received)
    tell_inside(net, (sent, net.goes_out(sent)), kind)
    connection.talk()
    connection.close()


@pytest.mark.parametrize("send", [udp_out, tcp_out, query_out])
@pytest.mark.parametrize("kind", [(3, 3), (11, 0), (12, 0)])
def test_rfc5508_req04_from_outside(net: NatNetwork, send: Send, kind: tuple[int, int]) -> None:
    """The quote is what was sent, its transport checksum too; type and code are the same; it goes to the sender."""
    seen = tell_inside(net, send(net), kind)
    quote = bytes(seen)[28:]
    if quote[9] != 1:
        assert transport_sum(quote) == 0


def test_rfc5508_req04_of_no_mapping(net: NatNetwork) -> None:
    sent, seen = udp_out(net)
    other = udp((OUT, net.port()), (sent.dst, 7000))
    with net.router.counted(DROP_NAT_ICMP=1):
        net.falls(error(sent.dst, bytes(other)))
    check_error(net.comes_in(error(sent.dst, bytes(seen)), sent.src), (3, 3), sent)


def answered_udp(net: NatNetwork) -> Sent:
    """Send UDP from outside to a mapping."""
    inside, remote = net.inside(port=5002), net.outside()
    sent = udp(remote, net.mapped(inside, remote))
    return sent, net.comes_in(sent, inside[0])


def answered_tcp(net: NatNetwork) -> Sent:
    inside, remote = net.inside(port=5003), net.outside(80)
    connection = Connection(net, inside, remote)
    connection.out("S")
    assert connection.outside
    sent = tcp(remote, connection.outside, "SA", seq=connection.received, ack=connection.sent)
    return sent, net.comes_in(sent, inside[0])


def answered_query(net: NatNetwork) -> Sent:
    sent, seen = query_out(net)
    reply = query((sent.dst, seen.payload.id), OUT, ECHO_REPLY)
    return reply, net.comes_in(reply, sent.src)


@pytest.mark.parametrize("answer", [answered_udp, answered_tcp, answered_query])
@pytest.mark.parametrize("kind", [(3, 3), (11, 1), (12, 0)])
def test_rfc5508_req05_from_inside(net: NatNetwork, answer: Send, kind: tuple[int, int]) -> None:
    sent, seen = answer(net)
    left = net.goes_out(error(seen.dst, bytes(seen), kind))
    assert (left.src, left.dst) == (OUT, sent.src)
    check_error(left, kind, sent)


def test_rfc5508_req05_from_a_router_inside(net: NatNetwork) -> None:
    """It has no mapping of its own, and leaves with the router's outside address."""
    sent, seen = answered_udp(net)
    left = net.goes_out(error(net.h1.address, bytes(seen), (11, 0)))
    assert left.src == OUT
    check_error(left, (11, 0), sent)


@pytest.mark.linux_differs(LEAKS)
def test_rfc5508_req05_of_no_mapping(net: NatNetwork) -> None:
    inside, remote = net.inside(), net.outside()
    with net.router.counted(DROP_NAT_ICMP=1):
        net.falls(error(inside[0], bytes(udp(remote, inside))))


def test_rfc5508_req03_wrong_checksum(net: NatNetwork) -> None:
    sent, seen = udp_out(net)
    said = bytes(error(sent.dst, bytes(seen)))
    wrong = IP(said[:22] + bytes((said[22] ^ 0x55,)) + said[23:])
    with net.router.counted(DROP_NAT_ICMP=1):
        net.falls(wrong)
    check_error(net.comes_in(error(sent.dst, bytes(seen)), sent.src), (3, 3), sent)


@pytest.mark.linux_differs("it does not look at the quoted header's checksum")
def test_rfc5508_req03a_damaged_quote(net: NatNetwork) -> None:
    sent, seen = udp_out(net)
    quote = bytes(seen)
    with net.router.counted(DROP_NAT_ICMP=1):
        net.falls(error(sent.dst, quote[:10] + bytes((quote[10] ^ 0x55,)) + quote[11:]))
    check_error(net.comes_in(error(sent.dst, quote), sent.src), (3, 3), sent)


def test_rfc5508_req03b_options_in_the_quote(net: NatNetwork) -> None:
    inside, remote = net.inside(port=5004), net.outside()
    header = IP(src=inside[0], dst=remote[0], id=4711, options=[IPOption(ROUTER_ALERT)])
    sent = finished(header / UDP(sport=inside[1], dport=remote[1]) / Raw(b"options before me"))
    seen = net.goes_out(sent)
    assert seen.ihl == 6
    tell_inside(net, (sent, seen), (3, 3))


def test_rfc5508_req03c_quoted_transport_checksum(net: NatNetwork) -> None:
    """Whoever sent the error may have changed it; it is mended by as much as the header, and stays wrong."""
    sent, seen = udp_out(net)
    quote = bytes(seen)
    said = error(sent.dst, quote[:40] + bytes((quote[40] ^ 0x01,)) + quote[41:])
    arrived = bytes(net.comes_in(said, sent.src))[28:]
    was = after_hop(sent)
    assert arrived[:26] + arrived[28:40] == was[:26] + was[28:40]
    assert arrived[26:28] == was[26:28]
    assert transport_sum(arrived) != 0


def test_rfc5508_req03d_extensions_stay(net: NatNetwork) -> None:
    """RFC 4884: the quote is padded to 128 bytes, its length in words stands in the header, an extension follows."""
    sent, seen = udp_out(net)
    label = bytes.fromhex("2000 0000 0008 0101 0001 0140")  # version 2, one MPLS object (RFC 4950)
    extension = with_icmp_checksum(label)  # whose checksum is at the same place as that of ICMP
    padded = bytes(seen).ljust(128, b"\0")
    arrived = bytes(net.comes_in(error(sent.dst, padded + extension, (11, 0), rest=32 << 16), sent.src))
    assert arrived[24:28] == (32 << 16).to_bytes(4, "big")
    assert arrived[28 : 28 + len(bytes(sent))] == after_hop(sent)
    assert arrived[28 + len(bytes(sent)) : 28 + 128] == bytes(128 - len(bytes(sent)))
    assert arrived[28 + 128 :] == extension


# bad input: short quotes, and lies


@pytest.mark.linux_differs(LEAKS)
@pytest.mark.parametrize("quoted", [0, 12, 19, 20, 27])
def test_bad_03_short_quote(net: NatNetwork, quoted: int) -> None:
    sent, seen = udp_out(net)
    other, inside = answered_udp(net)
    with net.router.counted(DROP_NAT_ICMP=2):
        net.falls(
            error(sent.dst, bytes(seen)[:quoted], to=OUT),
            error(inside.dst, bytes(inside)[:quoted], to=other.src),
        )


def _with(quote: bytes, **fields: object) -> bytes:
    changed = IP(quote)
    for name, value in fields.items():
        setattr(changed, name, value)
    return with_checksum(bytes(changed))


LIES: dict[str, Callable[[bytes], bytes]] = {
    "of another source": lambda quote: _with(quote, src="10.0.3.77"),
    "to whom nothing was sent": lambda quote: _with(quote, dst="10.0.3.77"),
    "from a port of no mapping": lambda quote: quote[:20] + b"\xc3\x50" + quote[22:],
    "to another port": lambda quote: quote[:22] + b"\x00\x07" + quote[24:],
    "of another protocol": lambda quote: _with(quote, proto=6),
    "a later fragment": lambda quote: _with(quote, frag=8),
    "of version 6": lambda quote: with_checksum(b"\x65" + quote[1:]),
    "a header of 16 bytes": lambda quote: b"\x44" + quote[1:],
    "a header longer than the quote": lambda quote: with_checksum(b"\x4f" + quote[1:])[:60],
}


@pytest.mark.linux_differs("it takes a quote of version 6 for one of version 4")
@pytest.mark.parametrize("lie", LIES)
def test_bad_04_lying_quote(net: NatNetwork, lie: str) -> None:
    sent, seen = udp_out(net)
    with net.router.counted(DROP_NAT_ICMP=1):
        net.falls(error(sent.dst, LIES[lie](bytes(seen)), to=OUT))
