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
from router_traffic import Wire
from scapy.layers.inet import IP
from scapy.layers.l2 import Ether

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


class Running:
    """The services, started by hand."""

    def __init__(self, lab: RouterLab, run_dir: Path) -> None:
        self._lab = lab
        self.control = Control(run_dir)
        self.programs: dict[str, subprocess.Popen[str]] = {}
        self._commands: dict[str, list[str]] = {}

    def start(self, name: str, service: str, *options: str) -> None:
        self._commands[name] = [sys.executable, "-m", f"services.{service}", *options]
        self.programs[name] = self._lab.popen("router", self._commands[name])

    def replace(self, name: str) -> None:
        """Kill a program and start it again."""
        self.programs[name].kill()
        self.programs[name].wait(10.0)
        self.programs[name] = self._lab.popen("router", self._commands[name])


@contextmanager
def services(lab: RouterLab, run_dir: Path, ingresses: Sequence[Sequence[str]]) -> Iterator[Running]:
    """Run control, arp, a forwarder and these ingresses; all must end with status 0."""
    shared = ["--run-dir", str(run_dir)]
    running = Running(lab, run_dir)
    try:
        running.start("control", "control", *shared, "--metrics-listen", "off", "--listen", REPORTS)
        running.start("arp", "arp", *shared, "--listen", ARP)
        running.start("forwarder", "forwarder", *shared, "--listen", FRAMES)
        for number, options in enumerate(ingresses):
            running.start(f"ingress{number}", "ingress", "--transport", "inline", *options)
        wait_for("the router is ready", running.control.is_ready, START_LIMIT_S)
        yield running
        running.control.settle()
        for program in reversed(running.programs.values()):
            program.send_signal(signal.SIGTERM)
        assert [program.wait(10.0) for program in running.programs.values()] == [0] * len(running.programs)
    finally:
        for program in running.programs.values():
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
    with services(place, run_dir, ingresses) as running:
        check_traffic(place, running.control)


def test_over_tcp(place: RouterLab, tmp_path: Path) -> None:
    """Each ingress has a run directory of its own, and finds its interface by address or subnet."""
    elsewhere = ["--forwarder", FRAMES, "--arp", ARP, "--control", REPORTS]
    ingresses = [
        ["--run-dir", str(tmp_path / "first"), "--interface", "192.168.1.0/24", *elsewhere],
        ["--run-dir", str(tmp_path / "second"), "--interface", "192.168.0.1", *elsewhere],
    ]
    with services(place, tmp_path / "run", ingresses) as running:
        check_traffic(place, running.control)


@pytest.mark.parametrize("victim", ["forwarder", "ingress0"])
def test_frames_inside_messages_are_accounted_for_when_either_end_is_killed(
    place: RouterLab, tmp_path: Path, victim: str
) -> None:
    """The forwarder stands still while frames come, so that they lie in its queue."""
    run_dir = tmp_path / "run"
    ingresses = [["--run-dir", str(run_dir), "--interface", name] for name in ("eth0", "eth1")]
    with services(place, run_dir, ingresses) as running, Wire(place, "host1") as near:
        control = running.control
        before = control.counts()
        forwarder = running.programs["forwarder"]
        frame = bytes(Ether(src=near.mac, dst=control.mac("eth0")) / IP(src="192.168.1.2", dst="192.168.0.2", ttl=64))
        forwarder.send_signal(signal.SIGSTOP)
        try:
            for _ in range(500):
                near.send(frame)
            wait_for("frames inside messages", lambda: came(control) >= before.get("RX_FRAMES", "eth0") + 500)
            running.replace(victim)
        finally:
            if running.programs["forwarder"] is forwarder:
                forwarder.send_signal(signal.SIGCONT)
        instance = {"forwarder": "forwarder", "ingress0": "ingress-eth0"}[victim]
        wait_for("its successor", lambda: control.pids().get(instance) == running.programs[victim].pid, START_LIMIT_S)
        wait_for("the router is ready", control.is_ready, START_LIMIT_S)
        control.settle()
        if victim == "forwarder":
            assert control.counts().since(before)["DROP_RESTARTED"] > 0


def came(control: Control) -> int:
    """Return how many frames eth0's ingress has received."""
    return int(control.ask("counters")["services"]["ingress-eth0"].get("eth0", {}).get("RX_FRAMES", 0))
