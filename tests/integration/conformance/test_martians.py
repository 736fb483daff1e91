"""Rows 29 to 31: addresses that cannot be, and sources that come in by the wrong way."""

from collections.abc import Iterator

import pytest
from scapy.packet import Packet

from conformance.datagrams import carries, icmp_error
from conformance.network import Network

_CLASS_E = pytest.mark.linux_differs("Linux forwards class E")
_ZERO_NET = pytest.mark.linux_differs("Linux forwards all of 0/8 but 0.0.0.0")
_LINK_LOCAL = pytest.mark.linux_differs("Linux forwards 169.254/16")


@pytest.fixture
def routed(net: Network) -> Iterator[Network]:
    """A default route to h2, so that only the address itself can be the reason not to forward."""
    with net.router.route("0.0.0.0/0", via=net.h2.address):
        yield net


def _dropped(net: Network, datagram: Packet, counter: str) -> None:
    with net.router.counted(**{counter: 1}):
        net.h1.send_ip(datagram)
        net.flush()
    assert net.heard_anywhere(lambda frame: carries(datagram)(frame) or icmp_error(frame)) == []


@pytest.mark.parametrize(
    "source",
    [
        "0.0.0.0",
        pytest.param("0.1.2.3", marks=_ZERO_NET),
        "127.0.0.1",
        "127.255.255.255",
        "224.0.0.1",
        "239.1.2.3",
        pytest.param("240.0.0.1", marks=_CLASS_E),
        pytest.param("255.255.255.254", marks=_CLASS_E),
        "255.255.255.255",
        "10.0.1.1",
        "10.0.2.1",
    ],
)
def test_row_29_martian_source(routed: Network, source: str) -> None:
    _dropped(routed, routed.udp(src=source), "DROP_MARTIAN_SOURCE")


@pytest.mark.parametrize(
    "destination",
    [
        pytest.param("0.1.2.3", marks=_ZERO_NET),
        "127.0.0.1",
        "127.1.2.3",
        pytest.param("240.0.0.1", marks=_CLASS_E),
        pytest.param("255.255.255.254", marks=_CLASS_E),
    ],
)
def test_row_29_martian_destination(routed: Network, destination: str) -> None:
    _dropped(routed, routed.udp(dst=destination), "DROP_MARTIAN_DESTINATION")


@pytest.mark.parametrize(
    ("source", "destination"),
    [("240.0.0.1", None), ("0.1.2.3", None), ("169.254.1.1", None), (None, "240.0.0.1"), (None, "0.1.2.3")],
)
def test_row_29_martians_as_linux_where_the_policy_says_so(
    routed: Network, source: str | None, destination: str | None
) -> None:
    datagram = routed.udp(src=source, dst=destination)
    with routed.router.policy("eth0", "martians", "linux", "strict"):
        routed.forwarded(datagram)


@pytest.mark.parametrize("source", ["127.0.0.1", "224.0.0.1", "10.0.1.1", "255.255.255.255"])
def test_row_29_what_linux_drops_is_dropped_under_either_policy(routed: Network, source: str) -> None:
    with routed.router.policy("eth0", "martians", "linux", "strict"):
        _dropped(routed, routed.udp(src=source), "DROP_MARTIAN_SOURCE")


@_LINK_LOCAL
@pytest.mark.parametrize("which", ["src", "dst"])
@pytest.mark.parametrize("address", ["169.254.0.1", "169.254.255.254"])
def test_row_30_link_local_is_not_forwarded(routed: Network, which: str, address: str) -> None:
    _dropped(routed, routed.udp(**{which: address}), "DROP_LINK_LOCAL")


BACK = "10.31.0.1"
"""A source behind h3."""


@pytest.fixture
def asymmetric(net: Network) -> Iterator[Network]:
    """The route back to 10.31/16 leads to h3, and h1 sends from there."""
    with net.router.route("10.31.0.0/16", via=net.h3.address):
        yield net


def _passes(net: Network, source: str) -> bool:
    datagram = net.udp(src=source)
    net.h1.send_ip(datagram)
    net.flush()
    assert net.heard_anywhere(icmp_error) == []
    return len(net.h2.heard(carries(datagram))) == 1


@pytest.mark.parametrize(
    ("policy", "own_way", "other_way", "no_way"),
    [("off", True, True, True), ("loose", True, True, False), ("strict", True, False, False)],
)
def test_row_31_reverse_path_check(
    asymmetric: Network, policy: str, own_way: bool, other_way: bool, no_way: bool
) -> None:
    with asymmetric.router.policy("eth0", "reverse_path", policy, "off"):
        assert _passes(asymmetric, asymmetric.h1.far_host()) is own_way
        assert _passes(asymmetric, BACK) is other_way
        assert _passes(asymmetric, "10.32.0.1") is no_way


def test_row_31_only_on_the_interface_that_has_it(asymmetric: Network) -> None:
    with asymmetric.router.policy("eth2", "reverse_path", "strict", "off"):
        assert _passes(asymmetric, BACK)


def test_row_31_follows_the_routes(asymmetric: Network) -> None:
    with asymmetric.router.policy("eth0", "reverse_path", "strict", "off"):
        assert not _passes(asymmetric, BACK)
        with asymmetric.router.route("10.31.0.0/24", via=asymmetric.h1.address):
            assert _passes(asymmetric, BACK)
        assert not _passes(asymmetric, BACK)


@pytest.mark.parametrize("policy", ["loose", "strict"])
def test_row_31_the_router_itself_is_protected_too(asymmetric: Network, policy: str) -> None:
    """An echo request from a source without a route back is not answered, and nobody is told."""
    datagram = asymmetric.udp(src="10.32.0.1", dst=asymmetric.h1.gateway)
    with asymmetric.router.policy("eth0", "reverse_path", policy, "off"):
        asymmetric.h1.send_ip(datagram)
        assert asymmetric.heard_anywhere(icmp_error) == []
