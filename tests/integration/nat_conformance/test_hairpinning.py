"""Inside hosts that reach each other by outside endpoints: RFC 4787 section 6, RFC 5382 7.2, RFC 5508 5."""

import pytest
from conformance.datagrams import after_hop

from nat_conformance.messages import ECHO_REPLY, Endpoint, data_of, ends, error, query, tcp, udp
from nat_conformance.network import NatNetwork
from nat_conformance.router import OUT, OUT2

NO_RULE = "masquerade alone does not lead back inside"

pytestmark = pytest.mark.linux_differs(NO_RULE)


def two_hosts(net: NatNetwork, same_network: bool) -> tuple[Endpoint, Endpoint]:
    return net.inside(), net.inside(net.h1 if same_network else net.h2)


@pytest.mark.parametrize("same_network", [False, True])
def test_rfc4787_req09_udp_there_and_back(net: NatNetwork, same_network: bool) -> None:
    """Both have sent outside only: filtering is not for those inside."""
    first, second = two_hosts(net, same_network)
    outside = {one: net.mapped(one, net.outside()) for one in (first, second)}
    there = net.passes(udp(first, outside[second]), net.host_station(second[0]))
    assert ends(there)[1] == second
    back = net.passes(udp(second, ends(there)[0]), net.host_station(first[0]))
    assert ends(back)[1] == first


@pytest.mark.parametrize("same_network", [False, True])
def test_rfc4787_req09a_the_source_is_the_outside_one(net: NatNetwork, same_network: bool) -> None:
    """Of a mapping that was there, and of one that begins with this."""
    first, second = two_hosts(net, same_network)
    outside = net.mapped(second, net.outside())
    to = net.host_station(second[0])
    assert ends(net.passes(udp(first, outside), to))[0] == (OUT, first[1])
    assert net.mapped(first, net.outside()) == (OUT, first[1])
    assert ends(net.passes(udp(first, outside), to))[0] == (OUT, first[1])


def test_rfc5382_req08_tcp_there_and_back(net: NatNetwork) -> None:
    client, server = two_hosts(net, same_network=False)
    outside = ends(net.goes_out(tcp(server, net.outside(80))))[0]
    syn = net.passes(tcp(client, outside, seq=100), net.h2)
    assert ends(syn)[1] == server
    answer = net.passes(tcp(server, ends(syn)[0], "SA", seq=500, ack=101), net.h1)
    assert ends(answer) == (outside, client)
    data = net.passes(tcp(client, outside, "PA", b"hello", seq=101, ack=501), net.h2)
    assert data_of(data) == b"hello"


def test_rfc5382_req08a_the_source_is_the_outside_one(net: NatNetwork) -> None:
    client, server = two_hosts(net, same_network=False)
    outside = ends(net.goes_out(tcp(server, net.outside(80))))[0]
    assert ends(net.passes(tcp(client, outside), net.h2))[0] == (OUT, client[1])


def hairpinned_error(net: NatNetwork) -> None:
    """An error about a hairpinned datagram: the sender gets it from outside, about what it has sent."""
    first, second = two_hosts(net, same_network=False)
    outside = net.mapped(second, net.outside())
    sent = udp(first, outside)
    there = net.passes(sent, net.h2)
    seen = net.passes(error(second[0], bytes(there), (3, 3)), net.h1)
    assert (seen.src, seen.dst) == (OUT, first[0])
    assert bytes(seen)[20:22] == bytes((3, 3))
    assert bytes(seen)[28:] == after_hop(sent)


def test_rfc5508_req07_errors(net: NatNetwork) -> None:
    hairpinned_error(net)


def test_rfc5508_req07a_errors_go_to_the_source_of_what_they_quote(net: NatNetwork) -> None:
    """Also where the one who sent it has a mapping for others already."""
    first, second = two_hosts(net, same_network=True)
    outside = {one: net.mapped(one, net.outside()) for one in (first, second)}
    sent = udp(first, outside[second])
    there = net.passes(sent, net.h1)
    seen = net.passes(error(second[0], bytes(there), (3, 13)), net.h1)
    quote = bytes(seen)[28:]
    assert seen.dst == first[0] == ".".join(map(str, quote[12:16]))
    assert quote == after_hop(sent)


def test_rfc5508_req07_queries_of_basic_nat(net: NatNetwork) -> None:
    """A host with an outside address of its own answers one that has none."""
    first, second = two_hosts(net, same_network=False)
    with net.router.use(one_to_one=[{"outside": OUT2, "inside": second[0]}]):
        there = net.passes(query(first, OUT2), net.h2)
        assert (there.src, there.dst) == (OUT, second[0])
        back = net.passes(query((second[0], there.payload.id), there.src, ECHO_REPLY), net.h1)
        assert (back.src, back.dst, back.payload.id) == (OUT2, *first)
