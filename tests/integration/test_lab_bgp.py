"""BGP by FRR and BIRD drives five routers: three paths of equal cost, all used; a spine dies, a link goes down."""

import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from router_lab import wait_for
from router_traffic import Wire
from routing_lab import (
    CONVERGENCE_LIMIT_S,
    OUTAGE_LIMIT_S,
    Flows,
    RoutingLab,
    started_with_daemons,
    uses_nexthop_object,
)

from services.launcher.lab import measure
from services.launcher.lab.routing_topologies import DETECTION_S
from services.launcher.lab.topologies import BGP_ECMP

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.timeout(300),
]

RTPROT_BIRD = 12  # linux/rtnetlink.h
RTPROT_BGP = 186
SPINES = ("spine1", "spine2", "spine3")
TO_SPINES = {"edge1": ["10.1.1.2", "10.1.2.2", "10.1.3.2"], "edge2": ["10.2.1.1", "10.2.2.1", "10.2.3.1"]}
FLOWS = 48
"""So many that all three paths are used: that one is not has a chance of one in a hundred million."""


@pytest.fixture(scope="module")
def running() -> Iterator[RoutingLab]:
    with started_with_daemons(BGP_ECMP, "b") as lab:
        yield lab


@pytest.fixture
def fabric(running: RoutingLab) -> RoutingLab:
    """All five routers, with all sessions up and three paths each way in hopwire."""
    for edge, spines in TO_SPINES.items():
        wait_for(
            f"BFD of {edge}",
            lambda edge=edge, spines=spines: running.bfd_peers(edge) == dict.fromkeys(spines, "up"),
            CONVERGENCE_LIMIT_S,
        )
    running.wait_for_ways("edge1", "192.168.2.0/24", TO_SPINES["edge1"])
    running.wait_for_ways("edge2", "192.168.1.0/24", TO_SPINES["edge2"])
    return running


def test_routes_come_by_the_kernel(fabric: RoutingLab) -> None:
    """From FRR as a group of nexthop objects, from BIRD as a multipath route."""
    by_frr = fabric.kernel_route("edge1", "192.168.2.0/24")
    by_bird = fabric.kernel_route("edge2", "192.168.1.0/24")
    assert (by_frr["proto"], uses_nexthop_object(by_frr)) == (RTPROT_BGP, True)
    assert (by_bird["proto"], uses_nexthop_object(by_bird)) == (RTPROT_BIRD, False)
    for route in (by_frr, by_bird):
        assert len(route.get("multipath")) == 3


def test_hosts_reach_each_other(fabric: RoutingLab) -> None:
    for source, destination in (("host1", "host2"), ("host2", "host1")):
        report = measure.ping(fabric.lab, source, fabric.lab.topology.address(destination), "--count", "3")
        assert (report["received"], {reply["ttl"] for reply in report["replies"]}) == (3, {61})
    assert measure.transfer(fabric.lab, "host1", "host2", 5_000_000)["intact"]


def source_port(frame: bytes) -> int:
    """Return the UDP source port of a frame without IP options, or 0."""
    if frame[12:14] != b"\x08\x00" or frame[23] != 17:
        return 0
    return int(struct.unpack_from("!H", frame, 34)[0])


@pytest.mark.parametrize(
    ("source", "destination", "interface"), [("host1", "host2", "eth0"), ("host2", "host1", "eth1")]
)
def test_all_paths_are_used_and_no_flow_changes_its_own(
    fabric: RoutingLab, source: str, destination: str, interface: str
) -> None:
    with ExitStack() as stack:
        wires = {spine: stack.enter_context(Wire(fabric.lab, spine, interface)) for spine in SPINES}
        flows = stack.enter_context(Flows(fabric.lab, source, destination, FLOWS))
        flows.wait_for_more(30)
        paths = {
            spine: {source_port(heard.frame) for heard in wire.listen()} & set(flows.ports)
            for spine, wire in wires.items()
        }
        assert flows.reordered() == 0
    assert all(paths.values()), paths
    assert sum(len(ports) for ports in paths.values()) == FLOWS, paths


@pytest.mark.parametrize("spine", ["spine1", "spine3"])
def test_spine_dies(fabric: RoutingLab, spine: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Its flows go over the other two after BFD has noticed: at an edge by FRR, and back at an edge by BIRD."""
    number = SPINES.index(spine)
    with Flows(fabric.lab, "host1", "host2", FLOWS) as there, Flows(fabric.lab, "host2", "host1", FLOWS) as back:
        for flows in (there, back):
            flows.wait_for_more()
        with fabric.frozen(spine):
            for edge, prefix in (("edge1", "192.168.2.0/24"), ("edge2", "192.168.1.0/24")):
                others = [gateway for gateway in TO_SPINES[edge] if gateway != TO_SPINES[edge][number]]
                fabric.wait_for_ways(edge, prefix, others)
            for flows in (there, back):
                flows.wait_for_more()
            outages_s = there.outage_s(), back.outage_s()
    with capsys.disabled():
        print(f"\nBGP, {spine} dead: no traffic for {outages_s[0]:.3f} s from host1, {outages_s[1]:.3f} s from host2")
        print(f"BFD detects in {DETECTION_S} s")
    assert max(outages_s) <= OUTAGE_LIMIT_S


def test_link_down_and_up(fabric: RoutingLab, capsys: pytest.CaptureFixture[str]) -> None:
    """The edge at the link loses its carrier, the other one is told by BGP."""
    with Flows(fabric.lab, "host1", "host2", FLOWS) as there, Flows(fabric.lab, "host2", "host1", FLOWS) as back:
        for flows in (there, back):
            flows.wait_for_more()
        with fabric.link_down("spine2", "eth1"):
            fabric.wait_for_ways("edge1", "192.168.2.0/24", ["10.1.1.2", "10.1.3.2"])
            fabric.wait_for_ways("edge2", "192.168.1.0/24", ["10.2.1.1", "10.2.3.1"])
            for flows in (there, back):
                flows.wait_for_more()
            outages_s = there.outage_s(), back.outage_s()
        fabric.wait_for_ways("edge1", "192.168.2.0/24", TO_SPINES["edge1"])
        fabric.wait_for_ways("edge2", "192.168.1.0/24", TO_SPINES["edge2"])
    with capsys.disabled():
        print(f"\nBGP, link down: no traffic for {outages_s[0]:.3f} s from host1, {outages_s[1]:.3f} s from host2")
    assert max(outages_s) <= OUTAGE_LIMIT_S
