"""How long sessions last, and what renews them: RFC 4787 section 4.3, RFC 5382 section 5, RFC 5508 sections 3.2, 4.3.

Lifetimes are compared with what the router tells of its sessions; that they hold is tried with short ones.
"""

import time
from collections.abc import Callable

import pytest
from router_lab import wait_for

from nat_conformance.connection import Connection
from nat_conformance.messages import ECHO_REPLY, Endpoint, error, query, tcp, udp
from nat_conformance.network import NatNetwork

SHORT_S = 2
LONG_S = 60
TRIES = 5


def lifetime(net: NatNetwork, protocol: str, inside: Endpoint) -> float:
    """Return how long the one session of an inside endpoint may be idle; in whole milliseconds."""
    (shown,) = net.router.shown(protocol, inside)
    return round(shown.lifetime_s, 3)


def test_rfc4787_req05_not_a_second_less(net: NatNetwork) -> None:
    with net.router.use(timeouts={"udp_s": SHORT_S}):
        inside, remote = net.inside(), net.outside()
        outside = net.mapped(inside, remote)
        began = time.monotonic()
        net.reaches(remote, outside, inside)
        net.router.wait_until_ended("udp", inside)
        assert time.monotonic() - began >= SHORT_S
        net.is_not_reached(udp(remote, outside))


@pytest.mark.linux_differs("30 s until there is an answer, then 120 s")
def test_rfc4787_req05_five_minutes_by_default(net: NatNetwork) -> None:
    inside = net.inside()
    net.mapped(inside, net.outside())
    assert lifetime(net, "udp", inside) >= 300


def is_renewed(net: NatNetwork, protocol: str, inside: Endpoint, act: Callable[[], object]) -> bool:
    """Tell whether a session that has been idle is so no longer when something was done."""
    resolution = net.router.idle_resolution_s
    wanted = 1.0 + 2 * resolution

    def idle() -> float:
        return min(shown.idle_s for shown in net.router.shown(protocol, inside))

    for _ in range(TRIES):
        wait_for("the session has been idle", lambda: idle() >= wanted, 20.0)
        before = idle()
        began = time.monotonic()
        act()
        after = idle()
        if after < before - resolution:
            return True
        if time.monotonic() - began < before - resolution:
            return False  # it would have had to be less, had it been renewed
    raise AssertionError("this machine is too slow to tell")


def test_rfc4787_req06_what_is_sent_renews(net: NatNetwork) -> None:
    inside, remote = net.inside(), net.outside()
    net.mapped(inside, remote)
    assert is_renewed(net, "udp", inside, lambda: net.mapped(inside, remote))


def test_rfc4787_req06a_what_is_received_renews(net: NatNetwork) -> None:
    inside, remote = net.inside(), net.outside()
    outside = net.mapped(inside, remote)
    assert is_renewed(net, "udp", inside, lambda: net.reaches(remote, outside, inside))


def test_rfc5382_req05_not_a_second_less(net: NatNetwork) -> None:
    """Transitory: before there is an answer, and after both ends have closed. What is established goes on."""
    with net.router.use(timeouts={"tcp_transitory_s": SHORT_S, "tcp_established_s": LONG_S}):
        opening, open_, closed = (net.inside() for _ in range(3))
        established = Connection.opened(net, open_, net.outside(80))
        ending = Connection.opened(net, closed, net.outside(80))
        began = time.monotonic()
        net.goes_out(tcp(opening, net.outside(80)))
        ending.close()
        net.router.wait_until_ended("tcp", opening)
        net.router.wait_until_ended("tcp", closed)
        assert time.monotonic() - began >= SHORT_S
        assert lifetime(net, "tcp", open_) == LONG_S
        established.talk()


@pytest.mark.linux_differs("an opening one: 120 s, as a closed one")
def test_rfc5382_req05_by_default(net: NatNetwork) -> None:
    inside = net.inside()
    connection = Connection(net, inside, net.outside(80))
    connection.out("S")
    assert lifetime(net, "tcp", inside) >= 4 * 60
    connection.back("SA")
    connection.out("A")
    assert lifetime(net, "tcp", inside) >= 2 * 3600 + 4 * 60
    connection.close()
    assert lifetime(net, "tcp", inside) >= 4 * 60


def test_rfc5508_req02_not_a_second_less(net: NatNetwork) -> None:
    with net.router.use(timeouts={"icmp_s": SHORT_S}):
        inside, remote = net.inside(), net.outside()
        began = time.monotonic()
        net.goes_out(query(inside, remote[0]))
        net.router.wait_until_ended("icmp", inside)
        assert time.monotonic() - began >= SHORT_S


@pytest.mark.linux_differs("30 s")
def test_rfc5508_req02_sixty_seconds_by_default(net: NatNetwork) -> None:
    inside = net.inside()
    net.goes_out(query(inside, net.outside()[0]))
    assert lifetime(net, "icmp", inside) >= 60


def test_rfc5508_req06_an_error_changes_nothing(net: NatNetwork) -> None:
    inside, remote = net.inside(), net.outside()
    sent = net.goes_out(query(inside, remote[0]))

    def tell() -> None:
        net.comes_in(error(net.outside()[0], bytes(sent), (11, 0)), inside[0])

    assert not is_renewed(net, "icmp", inside, tell)
    reply = query((remote[0], sent.payload.id), sent.src, ECHO_REPLY)
    assert net.comes_in(reply, inside[0]).payload.id == inside[1]
