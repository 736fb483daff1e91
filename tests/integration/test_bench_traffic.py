"""The benchmark's traffic: all senders begin together, host2's count is exact, and what fails says so."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from services.common import netns
from services.common.errors import HopwireError
from services.launcher.bench import rig, traffic
from services.launcher.bench.traffic import Traffic
from services.launcher.lab import measure
from services.launcher.lab.lab import Lab

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

RATE = 500
"""So few frames a second that nothing loses any."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Two senders, and a router whose kernel forwards."""
    with Lab(rig.topology(2), prefix=f"t{os.getpid()}-") as lab:
        rig.prepare(lab)
        with rig.mode(lab, rig.KERNEL):
            rig.resolve_neighbours(lab)
            yield lab


@pytest.mark.parametrize("senders", [("host1",), ("host1", "host3")])
def test_what_all_send_is_received_and_counted(lab: Lab, senders: tuple[str, ...]) -> None:
    run = traffic.offer(lab, Traffic(senders), 0.4, RATE)
    assert run.sent > 0
    assert run.received == run.sent
    assert run.router_s == 0  # hopwire does not run
    assert run.offered == pytest.approx(run.sent / run.seconds)


def test_a_neighbours_question_is_not_counted(lab: Lab) -> None:
    with netns.inside(lab.namespace("router")), IPRoute() as kernel:
        (far,) = kernel.link_lookup(ifname="eth1")
        kernel.neigh("del", dst=str(lab.topology.address("host2")), ifindex=far)
    before = traffic.received(lab)
    with traffic.Receiver(lab) as receiver:
        report = measure.ping(lab, "host1", lab.topology.address("host2"), "--count", "3", "--interval", "0.05")
        assert report["received"] == 3
        assert receiver.count() == 3
        assert receiver.settled(3) == 3
    assert traffic.received(lab) - before > 3


def test_destinations_in_a_file(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "addresses"
    file.write_bytes(bytes.fromhex("c6120001c6130002"))
    run = traffic.offer(lab, Traffic(addresses=file), 0.2, RATE)
    assert 0 < run.received == run.sent


def test_what_no_router_forwards_is_lost(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "addresses"
    file.write_bytes(bytes.fromhex("cb007101"))  # 203.0.113.1, which nothing routes
    run = traffic.offer(lab, Traffic(addresses=file), 0.2, RATE)
    assert (run.received, run.lost) == (0, run.sent)


def test_generators_end_when_they_are_told_to(lab: Lab) -> None:
    with traffic.sending(lab, Traffic(("host1", "host3")), 600.0, RATE) as generators:
        measure.ping(lab, "host1", lab.topology.address("host2"), "--count", "3", "--interval", "0.05")
        generators.stop()
        results = generators.wait(60.0)
    assert len(results) == 2
    assert all(result.sent > 0 and 0 < result.seconds < 600 for result in results)


def test_a_generator_that_fails(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(HopwireError, match=r"a generator failed: generator: .*No such file or directory"):
        traffic.offer(lab, Traffic(addresses=tmp_path / "nothing"), 0.2)
