"""Services started by hand, as containers would: an ingress that shares no memory with the forwarder."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from router_lab import PREFIX, Control, RouterLab, wait_for

from services.launcher.lab import measure
from services.launcher.lab.topologies import PAIR

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

START_LIMIT_S = 30.0
FRAMES, ARP, REPORTS = "tcp://127.0.0.1:7001", "tcp://127.0.0.1:7002", "tcp://127.0.0.1:7003"


@pytest.fixture(scope="module")
def place() -> Iterator[RouterLab]:
    """The pair's namespaces; the tests start the services in them."""
    with RouterLab(PAIR, prefix=f"{PREFIX}n-") as lab:
        yield lab


@contextmanager
def services(lab: RouterLab, run_dir: Path, ingresses: Sequence[Sequence[str]]) -> Iterator[Control]:
    """Run control, arp, a forwarder and these ingresses; all must end with status 0."""
    shared = ["--run-dir", str(run_dir)]
    commands = [
        ["control", *shared, "--metrics-listen", "off", "--listen", REPORTS],
        ["arp", *shared, "--listen", ARP],
        ["forwarder", *shared, "--listen", FRAMES],
        *(["ingress", "--transport", "inline", *options] for options in ingresses),
    ]
    programs: list[subprocess.Popen[str]] = []
    try:
        for service, *options in commands:
            programs.append(lab.popen("router", [sys.executable, "-m", f"services.{service}", *options]))
        control = Control(run_dir)
        wait_for("the router is ready", control.is_ready, START_LIMIT_S)
        yield control
        control.settle()
        for program in reversed(programs):
            program.send_signal(signal.SIGTERM)
        assert [program.wait(10.0) for program in programs] == [0] * len(programs)
    finally:
        for program in programs:
            lab.end(program)


def check_traffic(lab: RouterLab, control: Control) -> None:
    for host, other in (("host1", "host2"), ("host2", "host1")):
        report = measure.ping(lab, host, lab.topology.address(other), "--count", "5", "--interval", "0.02", "-W", "5")
        assert (report["received"], report["duplicates"], report["wrong"]) == (5, 0, 0)
    options = ("--count", "3", "--interval", "0.02", "--size", "1472", "--dont-fragment", "--timeout", "5")
    assert measure.ping(lab, "host1", IPv4Address("192.168.0.2"), *options)["received"] == 3
    for sender, receiver in (("host1", "host2"), ("host2", "host1")):
        assert measure.transfer(lab, sender, receiver, 20_000_000)["intact"]
    # not one frame went through shared memory
    assert not list((control.run_dir / "rings").glob("*"))
    assert control.counts().get("BELLS") == 0


def test_over_ipc(place: RouterLab, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    ingresses = [["--run-dir", str(run_dir), "--interface", name] for name in ("eth0", "eth1")]
    with services(place, run_dir, ingresses) as control:
        check_traffic(place, control)


def test_over_tcp(place: RouterLab, tmp_path: Path) -> None:
    """Each ingress has a run directory of its own, and finds its interface by address or subnet."""
    elsewhere = ["--forwarder", FRAMES, "--arp", ARP, "--control", REPORTS]
    ingresses = [
        ["--run-dir", str(tmp_path / "first"), "--interface", "192.168.1.0/24", *elsewhere],
        ["--run-dir", str(tmp_path / "second"), "--interface", "192.168.0.1", *elsewhere],
    ]
    with services(place, tmp_path / "run", ingresses) as control:
        check_traffic(place, control)
