"""How the ingress process ends, and what it says when it cannot start."""

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ingress_rig import (
    HOST_NS,
    ROUTER_NS,
    START_LIMIT_S,
    Router,
    Sender,
    frame,
    pair,
    program,
    sending,
    set_link,
    short_run_dir,
    started,
    take,
    wait_for,
    wait_until_operational,
)
from pyroute2 import IPRoute

from services.common import netns

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]


@pytest.fixture(autouse=True)
def namespaces() -> Iterator[None]:
    with pair():
        yield


@pytest.fixture
def run_dir() -> Iterator[Path]:
    with short_run_dir() as path:
        yield path


@pytest.fixture
def host() -> Iterator[Sender]:
    with sending() as sender:
        yield sender


@pytest.fixture
def router(run_dir: Path) -> Iterator[Router]:
    with started(run_dir) as router:
        yield router


# --- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(router: Router, number: signal.Signals) -> None:
    assert router.endpoints.ring("e0").exists()
    assert router.stop(number) == 0
    assert router.complaints() == []
    assert list(router.endpoints.rings.iterdir()) == []


def test_a_killed_one_starts_again_with_its_counts_and_a_new_ring(router: Router, host: Sender) -> None:
    ring = router.ring()
    host.send(frame(b"1"))
    take(ring, 1)
    assert router.stop(signal.SIGKILL) == -signal.SIGKILL
    router.start()
    assert not ring.is_current()
    again = router.ring()
    assert again.epoch != ring.epoch
    host.send(frame(b"2"))
    assert [data for _, data, _, _ in take(again, 1)] == [frame(b"2")]
    assert router.counted()["RX_FRAMES"] == 2


def test_an_interface_that_vanishes_ends_it_with_one_line(router: Router) -> None:
    with netns.inside(HOST_NS), IPRoute() as kernel:
        kernel.link("del", index=kernel.link_lookup(ifname="h0")[0])
    assert router.wait() == 1
    assert router.complaints() == ["hopwire ingress: interface e0 vanished; start again when it is back"]
    assert list(router.endpoints.rings.iterdir()) == []


def test_an_interface_that_goes_down_and_comes_back(router: Router, host: Sender) -> None:
    ring = router.ring()
    set_link(ROUTER_NS, "e0", state="down")
    router.read_reports()
    router.report = None
    wait_for("a report while it is down", router.is_ready)
    set_link(ROUTER_NS, "e0", state="up")
    wait_until_operational()
    host.send(frame(b"back"))
    assert [data for _, data, _, _ in take(ring, 1)] == [frame(b"back")]


# --- bad input --------------------------------------------------------------------------------------------------------


def refused(run_dir: Path, *arguments: str, before: Callable[[], None] | None = None) -> tuple[int, list[str]]:
    """Run an ingress that does not start; return its exit status and the lines on stderr."""
    with netns.inside(ROUTER_NS):
        done = subprocess.run(
            program(run_dir, *arguments),
            capture_output=True,
            text=True,
            timeout=START_LIMIT_S,
            check=False,
            preexec_fn=before,
        )
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()


def drop_net_raw() -> None:
    libc = ctypes.CDLL(None)
    assert libc.prctl(24, 13, 0, 0, 0) == 0  # PR_CAPBSET_DROP, CAP_NET_RAW


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--interface", "nope"), "no interface matches 'nope'; there are: "),
        (("--interface", "10.77.0.0/16"), "no interface matches '10.77.0.0/16'; there are: "),
        (("--interface", "lo"), "interface lo is not Ethernet but the loopback interface; there are: "),
        (("--interface", "e0", "--transport", "carrier-pigeon"), "transport 'carrier-pigeon' is unknown; choose "),
        (("--interface", "e0", "--log-level", "loud"), "log level 'loud' is unknown; choose debug, info, "),
        (("--interface", "e0", "--forwarder", "tcp://127.0.0.1:1"), "--forwarder is for frames inside messages; add "),
        (("--interface", "e0", "--arp", "nonsense"), "cannot connect to 'nonsense': "),
    ],
)
def test_one_line_and_status_1(run_dir: Path, arguments: tuple[str, ...], line: str) -> None:
    status, lines = refused(run_dir, *arguments)
    assert (status, len(lines)) == (1, 1), lines
    assert lines[0].startswith(f"hopwire ingress: {line}")
    assert not list(run_dir.glob("rings/*"))


def test_an_interface_that_is_down(run_dir: Path) -> None:
    set_link(ROUTER_NS, "e0", state="down")
    status, lines = refused(run_dir, "--interface", "e0")
    assert (status, lines) == (1, ["hopwire ingress: interface e0 is down; run: ip link set e0 up"])


def test_without_the_capability(run_dir: Path) -> None:
    status, lines = refused(run_dir, "--interface", "e0", before=drop_net_raw)
    assert (status, lines) == (
        1,
        ["hopwire ingress: cannot open an AF_PACKET socket: CAP_NET_RAW is missing; run as root"],
    )
    assert not list(run_dir.glob("rings/*"))


def test_a_second_instance(router: Router, host: Sender) -> None:
    status, lines = refused(router.endpoints.run_dir, "--interface", "e0")
    run_dir = router.endpoints.run_dir
    line = f"ingress-e0 already runs on {run_dir} (process {router.pid}); stop it, or choose another --run-dir"
    assert (status, lines) == (1, [f"hopwire ingress: {line}"])
    host.send(frame(b"the first one still receives"))
    assert len(take(router.ring(), 1)) == 1


@pytest.mark.parametrize(
    "arguments",
    [(), ("--interface",), ("--interface", "e0", "--ring-mib", "0"), ("--interface", "e0", "--ring-mib", "x"), ("-z",)],
)
def test_usage_errors_have_status_2(run_dir: Path, arguments: tuple[str, ...]) -> None:
    status, lines = refused(run_dir, *arguments)
    assert status == 2
    assert any("Error" in line or "Usage" in line for line in lines)
    assert not any("Traceback" in line for line in lines)


def test_settings_from_the_environment(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOPWIRE_INTERFACE", "from-the-environment")
    monkeypatch.setenv("HOPWIRE_LOG_LEVEL", "error")
    status, lines = refused(run_dir)
    assert status == 1
    assert lines[0].startswith("hopwire ingress: no interface matches 'from-the-environment'")
