"""Sequences of segments: RFC 5382 section 4.2; and that payloads are nobody's business."""

import pytest

from nat_conformance.connection import Connection
from nat_conformance.messages import data_of, tcp, udp
from nat_conformance.network import NatNetwork
from nat_conformance.router import OUT

SERVER_PORT = 8080


def test_rfc5382_req02_opened_from_inside(net: NatNetwork) -> None:
    connection = Connection.opened(net, net.inside(), net.outside(80))
    connection.talk()
    connection.close()


def test_rfc5382_req02_half_closed(net: NatNetwork) -> None:
    """One side has sent all, and the other goes on."""
    connection = Connection.opened(net, net.inside(), net.outside(80))
    connection.out("FA")
    connection.back("A")
    for _ in range(3):
        connection.back("PA", b"more")
        connection.out("A")
    connection.back("FA")
    connection.out("A")


def test_rfc5382_req02_closed_by_both_at_once(net: NatNetwork) -> None:
    connection = Connection.opened(net, net.inside(), net.outside(80))
    connection.out("FA")
    connection.back("FA")
    connection.out("A")
    connection.back("A")


def test_rfc5382_req02_opened_from_outside(net: NatNetwork) -> None:
    """By a forwarded port; and the answers come from there."""
    server = net.inside(net.h2, 80)
    rule = {"protocol": "tcp", "address": OUT, "port": SERVER_PORT, "to": server[0], "to_port": server[1]}
    with net.router.use(forward=[rule]):
        connection = Connection(net, server, net.outside(50_000), (OUT, SERVER_PORT))
        connection.back("S")
        connection.out("SA")
        connection.back("A")
        connection.talk()
        connection.close()


def test_rfc5382_req02a_simultaneous_open(net: NatNetwork) -> None:
    connection = Connection(net, net.inside(), net.outside(80))
    connection.out("S")
    connection.back("S")
    connection.out("SA")
    connection.back("SA")
    connection.talk()
    connection.close()


def test_rfc4787_req10_sip_passes_as_it_is(net: NatNetwork) -> None:
    """Both ways; an address in the payload stays, and opens nothing."""
    inside, remote = net.inside(port=5060), net.outside(5060)
    media = net.port()
    text = (
        f"INVITE sip:user@{remote[0]} SIP/2.0\r\nVia: SIP/2.0/UDP {inside[0]}:5060\r\n"
        f"Contact: <sip:host@{inside[0]}:5060>\r\n\r\nc=IN IP4 {inside[0]}\r\nm=audio {media} RTP/AVP 0\r\n"
    ).encode()
    seen = net.goes_out(udp(inside, remote, text))
    assert data_of(seen) == text
    answer = text.replace(b"INVITE", b"UPDATE")
    assert data_of(net.comes_in(udp(remote, (OUT, seen.sport), answer), inside[0])) == answer
    net.is_not_reached(udp(remote, (OUT, media)))


@pytest.mark.parametrize("command", ["PORT", "EPRT"])
def test_rfc5382_req06_ftp_passes_as_it_is(net: NatNetwork, command: str) -> None:
    inside, remote = net.inside(), net.outside(21)
    data_port = net.port()
    numbers = f"{inside[0].replace('.', ',')},{data_port // 256},{data_port % 256}"
    text = f"{command} {numbers if command == 'PORT' else f'|1|{inside[0]}|{data_port}|'}\r\n".encode()
    connection = Connection.opened(net, inside, remote)
    connection.out("PA", text)  # which compares what arrives
    connection.back("PA", b"200 Command successful\r\n")
    net.is_not_reached(tcp((remote[0], 20), (OUT, data_port)))
