"""Topologies: what they refuse, what they derive, and that those shipped connect every host with every other."""

import re
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from operator import attrgetter

import pytest

from services.common.errors import HopwireError
from services.launcher.lab.topologies import (
    BGP_ECMP,
    OSPF_RING,
    PAIR,
    THREE_ROUTERS,
    TOPOLOGIES,
    named_topology,
)
from services.launcher.lab.topology import Host, Interface, Link, LinkEnd, Route, Router, Topology


def link(left: str, left_address: str, right: str, right_address: str, mtu: int = 1500) -> Link:
    return Link((LinkEnd(left, IPv4Interface(left_address)), LinkEnd(right, IPv4Interface(right_address))), mtu)


def walk(topology: Topology, source: str, destination: IPv4Address) -> list[str]:
    """Follow the routes by longest prefix from a node to the owner of an address; return the nodes passed."""
    owners = {end.address.ip: end.node for one in (*topology.links, *topology.bridges) for end in one.ends}
    routes = {node.name: node.routes for node in topology.nodes}
    path = [source]
    while path[-1] != owners[destination]:
        assert len(path) <= len(topology.nodes), f"a loop: {path}"
        node = path[-1]
        candidates = [(i.address.network, destination) for i in topology.interfaces(node)]
        candidates += [(route.destination, route.gateway) for route in routes[node]]
        _, next_hop = max(
            (c for c in candidates if destination in c[0]),
            key=lambda candidate: candidate[0].prefixlen,
        )
        path.append(owners[next_hop])
    return path


class TestShippedTopologies:
    def test_names(self) -> None:
        assert list(TOPOLOGIES) == ["pair", "three-routers", "nat", "ospf-ring", "bgp-ecmp"]
        assert named_topology("three-routers") is THREE_ROUTERS

    def test_unknown_name_lists_the_known(self) -> None:
        with pytest.raises(
            HopwireError, match="'ring' does not exist; choose one of: pair, three-routers, nat, ospf-ring"
        ):
            named_topology("ring")

    def test_paths_of_pair(self) -> None:
        assert walk(PAIR, "host1", IPv4Address("192.168.0.2")) == ["host1", "router", "host2"]
        assert walk(PAIR, "host2", IPv4Address("192.168.1.2")) == ["host2", "router", "host1"]

    @pytest.mark.parametrize(
        ("source", "destination", "path"),
        [
            ("host1", "192.168.2.2", ["host1", "router1", "router2", "host2"]),
            ("host1", "192.168.4.2", ["host1", "router1", "router3", "host3"]),
            ("host2", "192.168.1.2", ["host2", "router2", "router1", "host1"]),
            ("host2", "192.168.4.2", ["host2", "router2", "router1", "router3", "host3"]),
            ("host3", "192.168.1.2", ["host3", "router3", "router1", "host1"]),
            ("host3", "192.168.2.2", ["host3", "router3", "router1", "router2", "host2"]),
        ],
    )
    def test_paths_of_three_routers(self, source: str, destination: str, path: list[str]) -> None:
        assert walk(THREE_ROUTERS, source, IPv4Address(destination)) == path

    @pytest.mark.parametrize("topology", [PAIR, THREE_ROUTERS], ids=attrgetter("name"))
    def test_every_address_is_reached_from_every_host(self, topology: Topology) -> None:
        for host in topology.hosts:
            for one in topology.links:
                for end in one.ends:
                    assert walk(topology, host.name, end.address.ip)[-1] == end.node

    @pytest.mark.parametrize("topology", [OSPF_RING, BGP_ECMP], ids=attrgetter("name"))
    def test_routers_with_daemons_have_no_static_routes_and_the_host_at_eth0(self, topology: Topology) -> None:
        hosts = {host.name for host in topology.hosts}
        for router in topology.routers:
            assert router.daemons
            assert router.routes == ()
        for link in topology.links[: len(hosts)]:
            (host,) = {end.node for end in link.ends} & hosts
            assert topology.interfaces(host)[0].name == "eth0"
        assert len(topology.host_networks) == len(hosts)

    @pytest.mark.parametrize("topology", [OSPF_RING, BGP_ECMP], ids=attrgetter("name"))
    def test_daemons_name_only_addresses_of_the_topology(self, topology: Topology) -> None:
        known = {str(end.address.ip) for one in (*topology.links, *topology.bridges) for end in one.ends}
        known |= {str(network.network_address) for network in topology.host_networks}
        for router in topology.routers:
            for daemon in router.daemons:
                assert set(re.findall(r"\d+\.\d+\.\d+\.\d+", daemon.configuration)) <= known

    @pytest.mark.parametrize("topology", TOPOLOGIES.values(), ids=attrgetter("name"))
    def test_picture_shows_every_node_and_address_and_no_other(self, topology: Topology) -> None:
        words = {word for word in topology.picture.replace("-", " ").split() if word not in "|+"}
        addresses = {str(end.address.ip) for one in (*topology.links, *topology.bridges) for end in one.ends}
        assert words == addresses | {node.name for node in topology.nodes}
        assert topology.picture.isascii()
        assert max(map(len, topology.picture.splitlines())) <= 80


class TestInterfaces:
    def test_named_in_the_order_of_links(self) -> None:
        assert THREE_ROUTERS.interfaces("router1") == (
            Interface("eth0", IPv4Interface("192.168.1.1/24"), 1500),
            Interface("eth1", IPv4Interface("192.168.0.1/24"), 1500),
            Interface("eth2", IPv4Interface("192.168.3.1/24"), 1500),
        )

    def test_interface_of_a_link_end(self) -> None:
        assert PAIR.interface(PAIR.links[1].ends[0]) == Interface("eth1", IPv4Interface("192.168.0.1/24"), 1500)

    def test_address_is_the_first_interfaces(self) -> None:
        assert PAIR.address("router") == IPv4Address("192.168.1.1")

    def test_mtu_of_one_link(self) -> None:
        changed = PAIR.with_mtu("host2", "router", 1280)
        assert [interface.mtu for interface in changed.interfaces("router")] == [1500, 1280]
        assert [interface.mtu for interface in changed.interfaces("host2")] == [1280]
        assert [interface.mtu for interface in PAIR.interfaces("router")] == [1500, 1500]

    @pytest.mark.parametrize("mtu", [68, 65_535])
    def test_extreme_mtus(self, mtu: int) -> None:
        assert PAIR.with_mtu("host1", "router", mtu).interfaces("host1")[0].mtu == mtu

    @pytest.mark.parametrize("mtu", [67, 65_536])
    def test_impossible_mtus(self, mtu: int) -> None:
        with pytest.raises(HopwireError, match=f"MTU {mtu} between host1 and router"):
            PAIR.with_mtu("host1", "router", mtu)

    def test_mtu_of_no_link(self) -> None:
        with pytest.raises(HopwireError, match="no link between host1 and host2"):
            PAIR.with_mtu("host1", "host2", 1280)


class TestRefused:
    def test_two_nodes_of_one_name(self) -> None:
        with pytest.raises(HopwireError, match="topology pair: two nodes are called host1"):
            replace(PAIR, routers=(*PAIR.routers, Router("host1")))

    @pytest.mark.parametrize("name", ["", "a/b", "..", "-x", "a b"])
    def test_name_that_names_no_file(self, name: str) -> None:
        with pytest.raises(HopwireError, match="is no name for a node"):
            replace(PAIR, hosts=(*PAIR.hosts, Host(name)))

    def test_link_to_nowhere(self) -> None:
        stray = link("router", "10.0.0.1/24", "host9", "10.0.0.2/24")
        with pytest.raises(HopwireError, match="a link ends at host9, which is no node"):
            replace(PAIR, links=(*PAIR.links, stray))

    def test_link_between_two_subnets(self) -> None:
        stray = link("router", "10.0.0.1/24", "host1", "10.0.1.2/24")
        with pytest.raises(HopwireError, match=r"10\.0\.0\.1/24 and 10.0.1.2/24 share a link, but no subnet"):
            replace(PAIR, links=(*PAIR.links, stray))

    def test_address_twice(self) -> None:
        stray = link("router", "192.168.1.1/24", "host1", "192.168.1.3/24")
        with pytest.raises(HopwireError, match=r"192\.168\.1\.1 is there twice"):
            replace(PAIR, links=(*PAIR.links, stray))

    def test_node_without_link(self) -> None:
        with pytest.raises(HopwireError, match="host3 has no link"):
            replace(PAIR, hosts=(*PAIR.hosts, Host("host3")))

    def test_gateway_off_the_link(self) -> None:
        lost = Router("router", (Route(IPv4Network("10.0.0.0/8"), IPv4Address("192.168.2.9")),))
        with pytest.raises(HopwireError, match=r"router cannot reach the gateway 192\.168\.2\.9 of"):
            replace(PAIR, routers=(lost,))
