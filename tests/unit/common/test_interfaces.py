"""Choosing an interface by name, address or subnet; what is refused, and in which words."""

from dataclasses import replace
from ipaddress import IPv4Interface

import pytest

from services.common.errors import HopwireError
from services.common.interfaces import InterfaceInfo, choose_interface, list_interfaces

LOOPBACK = InterfaceInfo(1, "lo", bytes(6), 65_536, 772, True, 0, (IPv4Interface("127.0.0.1/8"),))
ETH0 = InterfaceInfo(2, "eth0", b"\2\0\0\0\0\2", 1500, 1, True, 0, (IPv4Interface("10.0.10.20/24"),))
ETH1 = InterfaceInfo(
    3, "eth1", b"\2\0\0\0\0\3", 1500, 1, True, 0, (IPv4Interface("10.0.20.20/24"), IPv4Interface("10.0.30.1/30"))
)
BRIDGE = InterfaceInfo(4, "br0", b"\2\0\0\0\0\4", 1500, 1, True, 0, ())
ALL = (LOOPBACK, ETH0, ETH1, BRIDGE)


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("eth0", ETH0),
        ("10.0.10.20", ETH0),
        ("10.0.10.0/24", ETH0),
        ("10.0.10.7/24", ETH0),
        ("10.0.30.0/30", ETH1),
        ("10.0.30.1", ETH1),
        ("br0", BRIDGE),
    ],
)
def test_finds_by_name_address_and_subnet(selector: str, found: InterfaceInfo) -> None:
    assert choose_interface(selector, ALL) is found


def test_several_matches_are_named() -> None:
    with pytest.raises(HopwireError, match=r"several interfaces match '10\.0\.0\.0/19': eth0, eth1; choose one by"):
        choose_interface("10.0.0.0/19", ALL)


def test_a_name_goes_before_an_address_that_looks_the_same() -> None:
    odd = replace(BRIDGE, index=5, name="10.0.10.20")
    assert choose_interface("10.0.10.20", (*ALL, odd)) is odd


@pytest.mark.parametrize("selector", ["eth9", "10.0.10.21", "192.168.0.0/16", "10.0.10.0/33", "10.0.10", "", "/"])
def test_says_what_there_is_where_nothing_matches(selector: str) -> None:
    with pytest.raises(HopwireError) as caught:
        choose_interface(selector, ALL)
    assert caught.value.message == (
        f"no interface matches {selector!r}; there are: "
        "lo 127.0.0.1/8, eth0 10.0.10.20/24, eth1 10.0.20.20/24 10.0.30.1/30, br0"
    )


@pytest.mark.parametrize(
    ("interface", "words"),
    [
        (LOOPBACK, "interface lo is not Ethernet but the loopback interface; there are: lo 127.0.0.1/8"),
        (
            replace(ETH0, link_type=65_534),
            "interface eth0 is not Ethernet but without a link layer (TUN, WireGuard); there are: eth0 10.0.10.20/24",
        ),
        (
            replace(ETH0, link_type=32),
            "interface eth0 is not Ethernet but of link type 32; there are: eth0 10.0.10.20/24",
        ),
        (replace(ETH0, is_up=False), "interface eth0 is down; run: ip link set eth0 up"),
    ],
)
def test_refuses_what_hopwire_cannot_route_by(interface: InterfaceInfo, words: str) -> None:
    assert not interface.is_usable
    with pytest.raises(HopwireError) as caught:
        choose_interface(interface.name, [interface])
    assert caught.value.message == words


def test_refuses_the_port_of_a_bridge_and_names_the_bridge() -> None:
    port = replace(ETH0, master=BRIDGE.index)
    assert not port.is_usable
    with pytest.raises(HopwireError, match="interface eth0 is a port of br0; choose br0 itself"):
        choose_interface("eth0", (port, BRIDGE))


def test_lists_the_loopback_interface_of_this_very_namespace() -> None:
    loopback = next(interface for interface in list_interfaces() if interface.name == "lo")
    assert (loopback.index, loopback.mac, loopback.is_ethernet, loopback.is_usable) == (1, bytes(6), False, False)
