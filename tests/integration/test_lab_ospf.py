"""OSPF by FRR and BIRD drives three routers in a ring: routes, BFD, ways round a broken link, services killed."""

import itertools
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from router_lab import PREFIX, Counts, inside, wait_for
from routing_lab import (
    CONVERGENCE_LIMIT_S,
    OUTAGE_LIMIT_S,
    Flows,
    RoutingLab,
    check_or_skip,
    started_with_daemons,
    undisturbed,
    uses_nexthop_object,
)

from services.common import netns
from services.launcher.lab import measure
from services.launcher.lab.routing_topologies import DETECTION_S
from services.launcher.lab.run import description
from services.launcher.lab.topologies import OSPF_RING

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.timeout(300),
]

RTPROT_BIRD = 12  # linux/rtnetlink.h
RTPROT_OSPF = 188
BFD_PEERS = {
    "router1": {"192.168.12.2", "192.168.13.3"},
    "router2": {"192.168.12.1", "192.168.23.3"},
    "router3": {"192.168.13.1", "192.168.23.2"},
}
WAYS = {
    ("router1", "192.168.2.0/24"): ["192.168.12.2"],
    ("router1", "192.168.3.0/24"): ["192.168.13.3"],
    ("router2", "192.168.1.0/24"): ["192.168.12.1"],
    ("router2", "192.168.3.0/24"): ["192.168.23.3"],
    ("router3", "192.168.1.0/24"): ["192.168.13.1"],
    ("router3", "192.168.2.0/24"): ["192.168.23.2"],
    ("router3", "192.168.12.0/24"): ["192.168.13.1", "192.168.23.2"],
}


@pytest.fixture(scope="module")
def running() -> Iterator[RoutingLab]:
    with started_with_daemons(OSPF_RING, "o") as lab:
        yield lab


@pytest.fixture
def ring(running: RoutingLab) -> RoutingLab:
    """The ring, whole: all adjacencies and BFD sessions are up, and hopwire has the routes."""
    for router, peers in BFD_PEERS.items():
        wait_for(
            f"BFD of {router}",
            lambda router=router, peers=peers: running.bfd_peers(router) == dict.fromkeys(peers, "up"),
            CONVERGENCE_LIMIT_S,
        )
    for (router, prefix), gateways in WAYS.items():
        running.wait_for_ways(router, prefix, gateways)
    return running


def test_routes_come_by_the_kernel(ring: RoutingLab) -> None:
    for router, prefix, protocol in (
        ("router1", "192.168.3.0/24", RTPROT_OSPF),
        ("router3", "192.168.1.0/24", RTPROT_BIRD),
    ):
        assert ring.kernel_route(router, prefix)["proto"] == protocol
    answer = ring.lab.control("router1").ask("route.get", dst="192.168.3.2")
    assert (answer["prefix"], answer["gateway"], answer["dev"]) == ("192.168.3.0/24", "192.168.13.3", "eth2")
    for router in BFD_PEERS:
        assert ring.lab.run(router, ["cat", "/proc/sys/net/ipv4/ip_forward"], limit_s=10).stdout == "0\n"


def test_frr_uses_nexthop_objects(ring: RoutingLab) -> None:
    """A route of several ways names a group of objects, and hopwire uses all of them.

    Before any link goes down: the kernel then takes the way out of the group, and zebra 8.4 does not put it back.
    """
    ring.wait_for_ways("router1", "192.168.23.0/24", ["192.168.12.2", "192.168.13.3"])
    route = ring.kernel_route("router1", "192.168.23.0/24")
    assert uses_nexthop_object(route)
    assert {hop["oif"] for hop in route.get("multipath")} == {hop_index(ring, "eth1"), hop_index(ring, "eth2")}
    first, second = ring.lab.control("router1").show("route", "show", "192.168.23.0/24")[0]["nexthops"]
    assert (first["weight"], second["weight"]) == (1, 1)


def test_description_gives_commands_that_work(ring: RoutingLab) -> None:
    text = description(ring.lab, {}, ring.daemons)
    for router, answer in (("router1", "ospf router-id 192.168.1.1"), ("router3", "Router ID is 192.168.3.1")):
        (command,) = re.findall(rf"^  {router} +((?:vtysh|birdc) .*)$", text, re.MULTILINE)
        question = ["-c", "show running-config"] if router == "router1" else ["show", "status"]
        done = subprocess.run([*shlex.split(command), *question], capture_output=True, text=True, check=True)
        assert answer in done.stdout


def hop_index(ring: RoutingLab, interface: str) -> int:
    return inside(ring.lab, "router1", lambda: socket.if_nametoindex(interface))


def test_every_host_reaches_every_other(ring: RoutingLab) -> None:
    for source, destination in itertools.permutations(("host1", "host2", "host3"), 2):
        report = measure.ping(ring.lab, source, ring.lab.topology.address(destination), "--count", "3")
        assert (report["received"], {reply["ttl"] for reply in report["replies"]}) == (3, {62}), (source, destination)


def test_what_daemons_send_to_each_other_is_the_kernels(ring: RoutingLab) -> None:
    """OSPF hellos to 224.0.0.5 and BFD come in on both sides of the ring, are counted, and are never forwarded."""
    control = ring.lab.control("router1")
    before = control.counts()

    def grown(counts: Counts) -> bool:
        return all(
            counts.get(counter, interface) >= before.get(counter, interface) + 3
            for counter in ("LOCAL", "LOCAL_GROUP")
            for interface in ("eth1", "eth2")
        )

    wait_for("hellos and BFD are counted", lambda: grown(control.counts()), 30.0)
    after = control.counts().since(before)
    assert "FORWARDED" not in after
    assert not {name for name in after if name.startswith("DROP")}, after


def test_tcp_to_the_router_is_the_kernels(ring: RoutingLab) -> None:
    before = ring.lab.control("router2").counts()
    with inside(ring.lab, "router2", lambda: socket.create_server(("192.168.12.2", 22))) as server:
        client = inside(ring.lab, "host1", lambda: socket.create_connection(("192.168.12.2", 22), 10))
        with client, server.accept()[0] as connection:
            connection.sendall(b"SSH-2.0-test\r\n")
            assert client.recv(100) == b"SSH-2.0-test\r\n"
    grown = ring.lab.control("router2").counts().since(before)
    assert grown["LOCAL"] >= 3


def test_stopped_while_it_waits_for_the_routes() -> None:
    """A signal takes the lab down once, whatever it was doing."""
    check_or_skip(OSPF_RING)
    prefix = f"{PREFIX}os-"
    program = f"from services.launcher.lab.run import run_lab; run_lab({OSPF_RING.name!r}, {prefix!r})"
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:

        def daemon_runs() -> bool:
            folders = [folder for parent in ("/run", "/dev/shm", "/tmp") for folder in Path(parent).glob(f"{prefix}d*")]
            return any((folder / "router3/bird.ctl").exists() for folder in folders)

        wait_for("BIRD runs", daemon_runs, 60.0)
        process.terminate()
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert output.splitlines()[-2:] == ["stopping the routers", "the lab is down"]
    assert [name for name in netns.names() if name.startswith(prefix)] == []


def test_link_down_and_up(ring: RoutingLab, capsys: pytest.CaptureFixture[str]) -> None:
    """What went over the link goes round the ring, and comes back when the link does."""
    with Flows(ring.lab, "host1", "host2", 4) as flows:
        flows.wait_for_more()
        with ring.link_down("router1", "eth1"):
            ring.wait_for_ways("router1", "192.168.2.0/24", ["192.168.13.3"])
            ring.wait_for_ways("router2", "192.168.1.0/24", ["192.168.23.3"])
            flows.wait_for_more()
            down_s = flows.outage_s()
            report = measure.ping(ring.lab, "host1", ring.lab.topology.address("host2"), "--count", "1")
            assert [reply["ttl"] for reply in report["replies"]] == [61]
            assert ring.ways("router1", "192.168.23.0/24") == ["192.168.13.3"]
            flows.forget()
        ring.wait_for_ways("router1", "192.168.2.0/24", ["192.168.12.2"])
        flows.wait_for_more()
        up_s = flows.outage_s()
    with capsys.disabled():
        print(f"\nOSPF: no traffic for {down_s:.3f} s when a link went down, for {up_s:.3f} s when it came up")
    assert max(down_s, up_s) <= OUTAGE_LIMIT_S


def test_router_dies(ring: RoutingLab, capsys: pytest.CaptureFixture[str]) -> None:
    """BFD notices, and in both other routers the routes through it leave hopwire."""
    dead = "192.168.2.0/24"
    with ring.frozen("router2"):
        started = time.monotonic()
        for router in ("router1", "router3"):
            control = ring.lab.control(router)
            wait_for(
                f"{router} knows no way",
                lambda control=control: control.route_kind("192.168.2.2") == "none",
                OUTAGE_LIMIT_S,
            )
        detected_s = time.monotonic() - started
        assert ring.ways("router1", dead) == []
        report = measure.ping(ring.lab, "host1", ring.lab.topology.address("host3"), "--count", "3")
        assert report["received"] == 3
    with capsys.disabled():
        print(f"\nOSPF, router dead: its routes were gone after {detected_s:.3f} s; BFD detects in {DETECTION_S} s")
    ring.wait_for_ways("router1", dead, ["192.168.12.2"])


@pytest.mark.parametrize("service", ["forwarder", "control"])
def test_service_killed_under_a_daemon(ring: RoutingLab, service: str) -> None:
    control = ring.lab.control("router1")

    def adjacencies() -> Any:
        """Return how often each BFD session went down, and to which neighbours OSPF is full."""
        sessions = {one["peer"]: one["session-down"] for one in ring.ask_frr("router1", "show bfd peers counters")}
        neighbours = ring.ask_frr("router1", "show ip ospf neighbor")["neighbors"]
        return sessions, {name: [one["nbrState"] for one in ones] for name, ones in neighbours.items()}

    undisturbed("adjacencies", lambda: control.kill(service), adjacencies)
    for destination in ("host2", "host3"):
        report = measure.ping(ring.lab, "host1", ring.lab.topology.address(destination), "--count", "3")
        assert report["received"] == 3
