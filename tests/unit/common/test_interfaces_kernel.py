"""What the kernel says about interfaces, in a namespace with one of each kind."""

import os
from collections.abc import Iterator
from ipaddress import IPv4Interface

import pytest
from pyroute2 import IPRoute
from pyroute2 import netns as pyroute2_netns

from services.common import netns
from services.common.errors import HopwireError
from services.common.interfaces import InterfaceInfo, find_interface, list_interfaces

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

NAMESPACE = f"ift{os.getpid()}"


@pytest.fixture(scope="module")
def found() -> Iterator[dict[str, InterfaceInfo]]:
    pyroute2_netns.create(NAMESPACE)
    try:
        with IPRoute(netns=NAMESPACE, flags=0) as kernel:
            kernel.link("add", index=10, kind="bridge", ifname="br0")
            kernel.link("add", index=20, kind="veth", ifname="v0", address="02:00:00:00:00:20", mtu=9000, peer="v1")
            kernel.link("add", index=30, kind="tuntap", ifname="t0", mode="tun")
            kernel.link("set", index=kernel.link_lookup(ifname="v1")[0], master=10)
            for address, length in (("10.0.1.1", 24), ("10.0.1.2", 24), ("10.0.2.1", 30)):
                kernel.addr("add", index=20, address=address, prefixlen=length)
            kernel.addr("add", index=10, local="10.0.3.1", address="10.0.3.9", prefixlen=32)
            kernel.link("set", index=20, state="up")
        with netns.inside(NAMESPACE):
            yield {interface.name: interface for interface in list_interfaces()}
    finally:
        pyroute2_netns.remove(NAMESPACE)


def test_a_veth_with_several_addresses(found: dict[str, InterfaceInfo]) -> None:
    assert found["v0"] == InterfaceInfo(
        index=20,
        name="v0",
        mac=bytes.fromhex("020000000020"),
        mtu=9000,
        link_type=1,
        is_up=True,
        master=0,
        addresses=tuple(map(IPv4Interface, ("10.0.1.1/24", "10.0.2.1/30", "10.0.1.2/24"))),
    )
    assert found["v0"].is_usable


def test_the_others(found: dict[str, InterfaceInfo]) -> None:
    assert sorted(found) == ["br0", "lo", "t0", "v0", "v1"]
    assert found["v1"].master == 10
    assert not found["v1"].is_usable
    assert not found["br0"].is_up
    assert found["br0"].addresses == (IPv4Interface("10.0.3.1/32"),), "its own address, not the peer's"
    assert not found["t0"].is_ethernet


def test_finding_in_the_namespace_of_the_thread(found: dict[str, InterfaceInfo]) -> None:
    with netns.inside(NAMESPACE):
        assert find_interface("10.0.2.0/30") == found["v0"]
        with pytest.raises(HopwireError, match="interface br0 is down; run: ip link set br0 up"):
            find_interface("10.0.3.1")
