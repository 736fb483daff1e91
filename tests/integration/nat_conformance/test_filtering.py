"""Who may answer to a mapping: RFC 4787 section 5, RFC 5382 section 4.3."""

import pytest

from nat_conformance.connection import Connection
from nat_conformance.messages import ends, tcp
from nat_conformance.network import NatNetwork
from nat_conformance.router import OUT

BY_ADDRESS_AND_PORT = "it filters by address and port, always"
RESETS = "it resets what it knows no connection of"


@pytest.mark.linux_differs(BY_ADDRESS_AND_PORT)
def test_rfc4787_req08_whoever_was_sent_to_may_answer(net: NatNetwork) -> None:
    inside, remote = net.inside(), net.outside()
    outside = net.mapped(inside, remote)
    net.reaches(remote, outside, inside)
    net.reaches((remote[0], 9999), outside, inside)


@pytest.mark.linux_differs("its own stack answers strangers: port unreachable")
def test_rfc4787_req08_strangers_may_not(net: NatNetwork) -> None:
    inside = net.inside()
    outside = net.mapped(inside, net.outside())
    with net.router.counted(DROP_NAT_FILTERED=1):
        net.is_filtered(net.outside(), outside)


@pytest.mark.linux_differs(BY_ADDRESS_AND_PORT)
def test_rfc4787_req08a_endpoint_independent(net: NatNetwork) -> None:
    with net.router.use(filtering="endpoint-independent"):
        inside = net.inside()
        outside = net.mapped(inside, net.outside())
        net.reaches(net.outside(), outside, inside)


@pytest.mark.linux_differs("its own stack answers strangers: port unreachable")
def test_rfc4787_req08a_address_and_port_dependent(net: NatNetwork) -> None:
    with net.router.use(filtering="address-and-port-dependent"):
        inside, remote = net.inside(), net.outside()
        outside = net.mapped(inside, remote)
        net.reaches(remote, outside, inside)
        net.is_filtered((remote[0], 9999), outside)


@pytest.mark.linux_differs(BY_ADDRESS_AND_PORT)
def test_rfc5382_req03_filtering(net: NatNetwork) -> None:
    """As for UDP: from other ports of a host that was sent to, not from other hosts."""
    inside, remote = net.inside(), net.outside(80)
    connection = Connection.opened(net, inside, remote)
    assert connection.outside
    other = Connection(net, inside, (remote[0], 81), connection.outside)
    other.back("S")
    other.out("SA")
    other.back("A")
    with net.router.counted(DROP_NAT_FILTERED=1):
        net.falls(tcp(net.outside(80), connection.outside))
    connection.talk()
    other.talk()


@pytest.mark.linux_differs(BY_ADDRESS_AND_PORT)
def test_rfc5382_req03a_endpoint_independent(net: NatNetwork) -> None:
    with net.router.use(filtering="endpoint-independent"):
        connection = Connection.opened(net, net.inside(), net.outside(80))
        other = Connection(net, connection.inside, net.outside(82), connection.outside)
        other.back("S")
        other.out("SA")
        other.talk()


@pytest.mark.linux_differs(RESETS)
def test_rfc5382_req03a_address_and_port_dependent(net: NatNetwork) -> None:
    with net.router.use(filtering="address-and-port-dependent"):
        connection = Connection.opened(net, net.inside(), net.outside(80))
        assert connection.outside
        net.falls(tcp((connection.remote[0], 81), connection.outside))
        connection.talk()


@pytest.mark.linux_differs(RESETS)
def test_rfc5382_req04_an_unsolicited_syn_is_dropped_in_silence(net: NatNetwork) -> None:
    """To a mapping, and to a port without one. It has met its fate, so that nothing can come of it later."""
    inside, stranger = net.inside(), net.outside(80)
    outside = ends(net.goes_out(tcp(inside, net.outside(80))))[0]
    with net.router.counted(DROP_NAT_FILTERED=1, DROP_NAT_NO_SESSION=1):
        net.falls(tcp(stranger, outside), tcp(stranger, (OUT, net.port())))
    connection = Connection.opened(net, inside, stranger)
    assert connection.outside == outside
    connection.talk()
