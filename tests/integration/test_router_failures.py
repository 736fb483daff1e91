"""Services killed one by one, and all at once, while traffic runs: it resumes, and every frame is accounted for."""

import os
import signal
from collections.abc import Iterator

import pytest
from router_lab import Pinger, RouterLab, Stream, started, wait_for

from services.launcher.lab.topologies import PAIR

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

SERVICES = ["ingress-eth0", "ingress-eth1", "forwarder", "arp", "control"]
INTERVAL_S = 0.05
MOST_LOST = 60
"""3 s of pings."""


@pytest.fixture(scope="module")
def fragile() -> Iterator[RouterLab]:
    with started(PAIR, "f") as lab:
        yield lab


@pytest.mark.parametrize("service", SERVICES)
def test_killed_while_pings_run(fragile: RouterLab, service: str) -> None:
    control = fragile.control()
    before = control.pids()
    with Pinger(fragile, "host1", "192.168.0.2", INTERVAL_S) as pinger:
        pinger.wait_for_replies(10)
        control.kill(service)
        pinger.wait_for_replies(20)
        assert pinger.lost() <= MOST_LOST
    after = control.pids()
    assert {name for name in before if before[name] != after[name]} == {service}


@pytest.mark.parametrize("service", SERVICES)
def test_killed_while_tcp_runs(fragile: RouterLab, service: str) -> None:
    control = fragile.control()
    with Stream(fragile, "host1", "host2", fragile.topology.address("host2"), 30_000_000) as stream:
        stream.wait_for_bytes(2_000_000)
        control.kill(service)
        stream.wait_for_bytes(2_000_000)
        stream.finish()


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


def all_replaced(before: dict[str, int], after: dict[str, int]) -> bool:
    return before.keys() == after.keys() and not set(before.values()) & set(after.values())


def test_counters_outlive_the_processes(fragile: RouterLab) -> None:
    control = fragile.control()
    with Pinger(fragile, "host1", "192.168.0.2", INTERVAL_S) as pinger:
        pinger.wait_for_replies(5)
    before = control.counts()
    for service in ("forwarder", "ingress-eth0"):
        control.kill(service)
    after = control.counts()
    for counter in ("RX_FRAMES", "FORWARDED", "GENERATED_SENT"):
        assert after.get(counter) >= before.get(counter) > 0
