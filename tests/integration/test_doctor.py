"""`hopwire doctor` in real namespaces, whole and with one thing wrong at a time."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyroute2 import IPRoute
from pyroute2 import netns as pyroute2_netns

from services.common import netns
from services.common.kernel_settings import KernelOwnership, record_path
from services.launcher.environment import own_namespace

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

NAMESPACE = f"doct{os.getpid()}"
LIMIT_S = 30.0


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    """A run directory, and a namespace with d0 (10.9.0.1/24), which is up."""
    pyroute2_netns.create(NAMESPACE)
    try:
        with IPRoute(netns=NAMESPACE, flags=0) as kernel:
            kernel.link("add", index=10, kind="veth", ifname="d0", peer="d1")
            kernel.addr("add", index=10, address="10.9.0.1", prefixlen=24)
            kernel.link("set", index=10, state="up")
        yield tmp_path
    finally:
        pyroute2_netns.remove(NAMESPACE)


def doctor(run_dir: Path, *before: str) -> tuple[int, dict[str, list[str]]]:
    """Its exit status, and what it found by mark; each finding is followed by how to mend it."""
    command = [*before, sys.executable, "-m", "services.launcher", "doctor"]
    done = subprocess.run(
        [*command, "--netns", NAMESPACE, "--run-dir", str(run_dir)],
        capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    *lines, verdict = done.stdout.splitlines()
    found: dict[str, list[str]] = {"✓": [], "!": [], "✗": []}
    for line in "\n".join(lines).replace("\n    ", " -> ").splitlines():
        mark, _, text = line.partition(" ")
        found[mark].append(text)
    count = len(found["✗"])
    assert verdict == (f"Wrong: {count}, marked with ✗." if count else "Nothing is wrong.")
    return done.returncode, found


def in_namespace(name: str, value: str) -> None:
    with netns.inside(NAMESPACE):
        Path("/proc/sys/net/ipv4", name).write_text(value)


def test_finds_nothing_wrong_and_leaves_nothing(run_dir: Path) -> None:
    status, found = doctor(run_dir / "not-made-yet")
    assert (status, found["✗"]) == (0, [])
    assert "d0 10.9.0.1/24 is up" in found["✓"]
    assert f"no router runs on {run_dir / 'not-made-yet'}: nothing is in the way of `hopwire up`" in found["✓"]
    assert list(run_dir.iterdir()) == []


def test_an_unknown_namespace_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "services.launcher", "doctor", "--netns", "no-such-namespace"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1


def test_strict_reverse_path_filters_are_noted(run_dir: Path) -> None:
    in_namespace("conf/all/rp_filter", "0")
    in_namespace("conf/d0/rp_filter", "1")
    status, found = doctor(run_dir)
    assert status == 0
    assert any(note.startswith("rp_filter is strict on d0:") and "rp_filter=2" in note for note in found["!"])
    in_namespace("conf/all/rp_filter", "2")
    assert not any(note.startswith("rp_filter") for note in doctor(run_dir)[1]["!"])


def test_no_interface_is_wrong(run_dir: Path) -> None:
    with IPRoute(netns=NAMESPACE, flags=0) as kernel:
        kernel.link("set", index=10, state="down")
    status, found = doctor(run_dir)
    assert status == 1
    assert found["✗"] == ["no Ethernet interface is up -> bring one up: ip link set NAME up"]
    assert "d0 10.9.0.1/24 is down -> bring it up: ip link set d0 up" in found["!"]


def test_what_a_crash_has_left_is_wrong(run_dir: Path) -> None:
    with netns.inside(NAMESPACE):
        KernelOwnership(record_path(run_dir)).take(["d0"])
    status, found = doctor(run_dir)
    assert status == 1
    (finding,) = found["✗"]
    assert finding.startswith("a router crashed here and has left the kernel's settings changed -> start `hopwire up`")


def test_a_router_beside_a_kernel_that_forwards_too_is_wrong(run_dir: Path) -> None:
    """A control that holds its lock, and does nothing: neither does it answer, nor has it taken anything."""
    in_namespace("ip_forward", "1")
    with (run_dir / "control.lock").open("w") as lock:
        lock.write("4711")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        status, found = doctor(run_dir)
    assert status == 1
    assert f"a router runs on {run_dir}: control (process 4711)" in found["✓"]
    begins = [finding.partition(" should be ")[0] for finding in found["✗"]]
    assert begins[:3] == [
        "net.ipv4.ip_forward, net.ipv4.conf.d0.forwarding",
        "net.ipv4.icmp_echo_ignore_all",
        "net.ipv4.conf.d0.arp_ignore",
    ]
    assert found["✗"][-1].startswith("control does not answer -> ")


def test_a_router_on_another_run_directory_is_wrong(run_dir: Path) -> None:
    with netns.inside(NAMESPACE):
        owner = own_namespace()
    with owner:
        status, found = doctor(run_dir)
    assert status == 1
    (finding,) = found["✗"]
    assert finding.startswith(f"a hopwire routes in this namespace, but not on {run_dir} -> ")
    assert doctor(run_dir)[0] == 0


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv of util-linux takes the capabilities away")
def test_missing_capabilities_are_wrong(run_dir: Path) -> None:
    status, found = doctor(run_dir, "setpriv", "--bounding-set=-net_raw,-net_admin")
    assert status == 1
    assert found["✗"][0].startswith("CAP_NET_ADMIN and CAP_NET_RAW missing -> run it as root")
    assert found["✗"][1].startswith("no packet socket: Operation not permitted -> run it as root")
    assert any("only root can ask" in note for note in found["!"])


@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare of util-linux makes /proc/sys read-only")
def test_settings_that_cannot_be_changed_are_wrong(run_dir: Path) -> None:
    in_namespace("ip_forward", "1")
    script = 'mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$@"'
    status, found = doctor(run_dir, "unshare", "--mount", "sh", "-c", script, "sh")
    assert status == 1
    assert found["✗"][0].startswith("net.ipv4.ip_forward, net.ipv4.conf.d0.forwarding should be 0: otherwise")
