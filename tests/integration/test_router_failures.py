"""Services killed one by one, and all at once, while traffic runs: it resumes, and every frame is accounted for."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from router_lab import Control, RouterLab, fork_server_of, started, wait_for
from router_traffic import Pinger, Stream, Wire
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from services.launcher.lab.topologies import PAIR

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

SERVICES = ["ingress-eth0", "ingress-eth1", "forwarder", "arp", "control"]
INTERVAL_S = 0.05
OUTAGE_S = 3.0
"""For so long pings may get lost while a service starts again."""


@pytest.fixture(scope="module")
def fragile() -> Iterator[RouterLab]:
    with started(PAIR, "f") as lab:
        yield lab


def longest_outage_s() -> float:
    """Return OUTAGE_S, or more on a machine that is too busy to start a service within a third of it."""
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", "import services.forwarder.service"], check=True, timeout=60)
    return max(OUTAGE_S, 3 * (time.monotonic() - started))


@pytest.mark.parametrize("service", SERVICES)
def test_killed_under_traffic(fragile: RouterLab, service: str) -> None:
    control = fragile.control()
    pids, counts = control.pids(), control.counts()
    limit_s = longest_outage_s()
    far = fragile.topology.address("host2")
    with (
        Stream(fragile, "host1", "host2", far, 10_000_000) as stream,
        Pinger(fragile, "host1", str(far), INTERVAL_S) as pinger,
    ):
        pinger.wait_for_replies(10)
        stream.wait_for_bytes(1_000_000)
        control.kill(service)
        pinger.wait_for_replies(20)
        stream.wait_for_bytes(1_000_000)
        stream.finish()
        assert pinger.lost() * INTERVAL_S <= limit_s
    now = control.pids()
    assert {name for name in pids if pids[name] != now[name]} == {service}
    # what a service has counted outlives its process
    grown = control.counts()
    for counter in ("RX_FRAMES", "FORWARDED", "HANDED", "TAKEN"):
        for interface in ("eth0", "eth1"):
            assert grown.get(counter, interface) > counts.get(counter, interface), (counter, interface)


def test_all_killed_at_once(fragile: RouterLab) -> None:
    control = fragile.control()
    before = control.pids()
    with Pinger(fragile, "host1", "192.168.0.2", INTERVAL_S) as pinger:
        pinger.wait_for_replies(5)
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)
        wait_for("all services run again", lambda: all_replaced(before, control.pids()), 60.0)
        control.wait_until_ready(60.0)
        pinger.wait_for_replies(20)


def test_fork_server_killed(fragile: RouterLab) -> None:
    """The services go on; the next one starts those that are killed after it."""
    control, launcher = fragile.control(), fragile.hopwire_pid("router")
    before, server = control.pids(), fork_server_of(launcher)
    assert server is not None
    with Pinger(fragile, "host1", "192.168.0.2", INTERVAL_S) as pinger:
        pinger.wait_for_replies(5)
        os.kill(server, signal.SIGKILL)
        successor = wait_for("a new fork server", lambda: {fork_server_of(launcher)} - {server, None}, 30.0)
        pinger.wait_for_replies(20)
    assert control.pids() == before
    control.kill("arp")
    now = control.pids()
    assert {name for name in now if now[name] != before[name]} == {"arp"}
    assert {fork_server_of(launcher)} == successor


def test_fork_server_and_services_killed_at_once(fragile: RouterLab) -> None:
    control, launcher = fragile.control(), fragile.hopwire_pid("router")
    before, server = control.pids(), fork_server_of(launcher)
    assert server is not None
    for pid in (server, *before.values()):
        os.kill(pid, signal.SIGKILL)
    wait_for("all services run again", lambda: all_replaced(before, control.pids()), 60.0)
    control.wait_until_ready(60.0)


@pytest.mark.parametrize("victim", ["arp", "forwarder"])
def test_frames_queued_for_arp_are_accounted_for_when_either_end_is_killed(fragile: RouterLab, victim: str) -> None:
    """arp stands still while frames to silent next hops come, so that they lie in its queue."""
    control = fragile.control()
    before = control.counts()
    arp, killed = control.pids()["arp"], control.pids()[victim]
    with Wire(fragile, "host1") as near:
        os.kill(arp, signal.SIGSTOP)
        try:
            ether = Ether(src=near.mac, dst=control.mac("eth0"))
            for number in range(200):
                near.send(bytes(ether / IP(src="192.168.1.2", dst=f"192.168.0.{20 + number}", ttl=64) / UDP(dport=9)))
            # a stopped arp is not "up"; the forwarder's own count needs no report of it
            wait_for("frames for arp", lambda: handed(control) >= before.get("HANDED_ARP", "-") + 200)
            os.kill(killed, signal.SIGKILL)
        finally:
            os.kill(arp, signal.SIGCONT)
    wait_for(f"{victim} runs again", lambda: control.pids().get(victim, killed) != killed, 30.0)
    control.wait_until_ready(30.0)
    control.settle()
    if victim == "arp":
        assert control.counts().since(before)["DROP_RESTARTED"] >= 100  # ARP frames of the hosts are taken, too


def handed(control: Control) -> int:
    """Return how many frames the forwarder has handed to arp."""
    return int(control.ask("counters")["services"]["forwarder"].get("-", {}).get("HANDED_ARP", 0))


def all_replaced(before: dict[str, int], after: dict[str, int]) -> bool:
    return before.keys() == after.keys() and not set(before.values()) & set(after.values())
