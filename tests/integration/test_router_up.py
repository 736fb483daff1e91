"""`hopwire up` from the outside: what it says, what it refuses, and what it leaves behind."""

import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, Self

import pytest
from pyroute2.nftables.main import NFTables
from router_lab import PREFIX, Control, RouterLab, fork_server_of, hopwire, inside, wait_for

from services.common.endpoints import Endpoints
from services.launcher.lab import measure
from services.launcher.lab.topologies import PAIR

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

READY_LINE = re.compile(r"hopwire ready: eth0 192\.168\.1\.1/24, eth1 192\.168\.0\.1/24 \(2 routes\) in \d+\.\d s\n")
START_LIMIT_S: Final = 30.0
STOP_LIMIT_S: Final = 15.0
NETDEV: Final = 5  # linux/netfilter.h, NFPROTO_NETDEV
NOBODY: Final = 65_534


@pytest.fixture(scope="module")
def place() -> Iterator[RouterLab]:
    """The pair's namespaces; the tests start and stop the router in them."""
    with RouterLab(PAIR, prefix=f"{PREFIX}u-") as lab:
        yield lab


class Up:
    """One `hopwire up`."""

    def __init__(self, lab: RouterLab, run_dir: Path, *options: str) -> None:
        self.run_dir = run_dir
        self.control = Control(run_dir)
        self._errors = run_dir.parent / f"{run_dir.name}.err"
        self._output = run_dir.parent / f"{run_dir.name}.out"
        with self._output.open("wb") as output, self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [hopwire(), "up", "--netns", lab.namespace("router"), "--run-dir", str(run_dir), *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    @property
    def output(self) -> str:
        return self._output.read_text(encoding="utf-8")

    @property
    def errors(self) -> str:
        return self._errors.read_text(encoding="utf-8")

    def wait_until_ready(self) -> Self:
        wait_for("the ready line", lambda: "ready" in self.output or self.process.poll() is not None, START_LIMIT_S)
        assert self.process.poll() is None, self.errors
        return self

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(STOP_LIMIT_S)


def refused(*options: str) -> str:
    """Run a `hopwire up` that must not start, and return the one line that says why."""
    done = subprocess.run(
        [hopwire(), "up", *options], capture_output=True, text=True, timeout=START_LIMIT_S, check=False
    )
    assert (done.returncode, done.stdout) == (1, ""), options
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def kernel_settings(lab: RouterLab) -> dict[str, str]:
    """Return all network settings of the router's namespace that can be read."""

    def read() -> dict[str, str]:
        files = [file for file in Path("/proc/sys/net").rglob("*") if file.is_file() and os.access(file, os.R_OK)]
        settings = {}
        for file in files:
            try:
                settings[str(file)] = file.read_text(encoding="utf-8", errors="replace")
            except OSError:  # one that can only be written
                continue
        return settings

    return inside(lab, "router", read)


def nftables(lab: RouterLab) -> set[str]:
    """Return the names of all tables of the router's namespace."""

    def read() -> set[str]:
        with NFTables(nfgen_family=0) as nft:
            return {table.get("NFTA_TABLE_NAME") for table in nft.get_tables()}

    return inside(lab, "router", read)


def processes_with(text: str) -> list[int]:
    """Return the ids of all processes with a text in their command line, but for this one."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes()
        except OSError:  # it ended
            continue
        if text.encode() in words and int(process.name) != os.getpid():
            found.append(int(process.name))
    return found


def is_fork_server(pid: int) -> bool:
    """Tell whether a process is a fork server that has not ended."""
    try:
        return b"services.launcher.up.fork_server" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


class TestStartAndStop:
    def test_leaves_all_as_it_was(self, place: RouterLab, tmp_path: Path) -> None:
        settings, tables = kernel_settings(place), nftables(place)
        run_dir = tmp_path / "run"
        with Up(place, run_dir).wait_until_ready() as up:
            assert READY_LINE.fullmatch(up.output)
            assert nftables(place) == tables | {"hopwire"}
            changed = kernel_settings(place)
            assert changed["/proc/sys/net/ipv4/icmp_echo_ignore_all"] == "1\n"
            assert changed["/proc/sys/net/ipv4/conf/eth0/arp_ignore"] == "8\n"
            report = measure.ping(place, "host1", IPv4Address("192.168.0.2"), "--count", "3", "--interval", "0.05")
            assert report["received"] == 3
            up.control.settle()
            server = fork_server_of(up.process.pid)
            assert up.stop() == 0
            assert server is not None
            assert not Path(f"/proc/{server}").exists()
            assert READY_LINE.fullmatch(up.output)  # nothing more
        assert differences(settings, kernel_settings(place)) == {}
        assert nftables(place) == tables
        assert not run_dir.exists()  # nor was it there before
        assert processes_with(str(run_dir)) == []

    def test_leaves_what_others_have_set(self, place: RouterLab, tmp_path: Path) -> None:
        """Not the kernel's defaults, but what was there before; files of others in the run directory as well."""
        run_dir = tmp_path / "run"
        run_dir.mkdir(mode=0o750)
        (run_dir / "mine").write_text("keep me")
        own = {"ip_forward": "1", "conf/eth1/arp_ignore": "2", "conf/eth0/forwarding": "0"}
        inside(place, "router", lambda: [Path("/proc/sys/net/ipv4", name).write_text(own[name]) for name in own])
        settings = kernel_settings(place)
        try:
            with Up(place, run_dir).wait_until_ready() as up:
                assert kernel_settings(place)["/proc/sys/net/ipv4/ip_forward"] == "0\n"
                assert up.stop(signal.SIGINT) == 0
            assert differences(settings, kernel_settings(place)) == {}
        finally:
            back = {"conf/eth1/arp_ignore": "0", "ip_forward": "0"}
            inside(place, "router", lambda: [Path("/proc/sys/net/ipv4", name).write_text(back[name]) for name in back])
        assert [file.name for file in run_dir.iterdir()] == ["mine"]

    def test_stopped_before_it_is_ready(self, place: RouterLab, tmp_path: Path) -> None:
        settings = kernel_settings(place)
        run_dir = tmp_path / "run"
        with Up(place, run_dir) as up:
            wait_for("control runs", lambda: Endpoints(run_dir).lock("control").exists(), START_LIMIT_S)
            assert up.stop() == 0
        assert "Traceback" not in up.errors
        assert differences(settings, kernel_settings(place)) == {}
        assert not run_dir.exists()
        assert processes_with(str(run_dir)) == []


def differences(before: dict[str, str], after: dict[str, str]) -> dict[str, tuple[str | None, str | None]]:
    return {
        name: (before.get(name), after.get(name))
        for name in before.keys() | after.keys()
        if before.get(name) != after.get(name)
    }


def test_killed(place: RouterLab, tmp_path: Path) -> None:
    """First the launcher alone, then all at once: what it changed is put back, at the latest by the next run."""
    settings, tables = kernel_settings(place), nftables(place)
    run_dir = tmp_path / "run"
    with Up(place, run_dir).wait_until_ready() as up:
        server = fork_server_of(up.process.pid)
        assert server is not None
        up.stop(signal.SIGKILL)
        wait_for("all children have ended", lambda: not processes_with(str(run_dir)))
        wait_for("the fork server has ended", lambda: not is_fork_server(server))
    assert differences(settings, kernel_settings(place)) == {}
    assert nftables(place) == tables
    with Up(place, run_dir).wait_until_ready() as up:  # what is left in the run directory is no obstacle
        everybody = [up.process.pid, *up.control.pids().values()]
        for number in (signal.SIGSTOP, signal.SIGKILL):  # so that none sees another one end
            for pid in everybody:
                os.kill(pid, number)
        up.process.wait()
        wait_for("all have ended", lambda: not processes_with(str(run_dir)))
    assert differences(settings, kernel_settings(place)) != {}
    with Up(place, run_dir).wait_until_ready() as up:
        report = measure.ping(place, "host1", IPv4Address("192.168.0.2"), "--count", "1", "--timeout", "5")
        assert report["received"] == 1
        up.control.settle()
        assert up.stop() == 0
    assert differences(settings, kernel_settings(place)) == {}
    assert nftables(place) == tables
    assert list(run_dir.iterdir()) == []


class TestSecond:
    """Beside a router that runs."""

    def test_on_the_same_run_directory(self, pair: RouterLab) -> None:
        control = pair.control()
        line = refused("--netns", pair.namespace("host1"), "--run-dir", str(control.run_dir))
        (holder,) = re.findall(rf"launcher already runs on {control.run_dir} \(process (\d+)\)", line)
        assert b"services.launcher\0up\0" in Path(f"/proc/{holder}/cmdline").read_bytes()
        assert control.is_ready()

    def test_in_the_same_namespace(self, pair: RouterLab, tmp_path: Path) -> None:
        line = refused("--netns", pair.namespace("router"), "--run-dir", str(tmp_path / "run"))
        assert line.startswith("hopwire: another `hopwire up` routes in this network namespace")
        assert not (tmp_path / "run").exists()
        assert pair.control().is_ready()


class TestRefusals:
    def test_unknown_namespace(self, tmp_path: Path) -> None:
        line = refused("--netns", f"{PREFIX}nowhere", "--run-dir", str(tmp_path / "run"))
        assert line.startswith(f"hopwire: network namespace '{PREFIX}nowhere' does not exist")
        assert not (tmp_path / "run").exists()

    def test_unusable_run_directory(self, place: RouterLab, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        for run_dir in (tmp_path / "file" / "run", tmp_path / "file", Path("/proc/hopwire"), tmp_path / ("x" * 100)):
            line = refused("--netns", place.namespace("router"), "--run-dir", str(run_dir))
            assert line.startswith(f"hopwire: run directory {run_dir}")
            assert "--run-dir" in line
        assert [file.name for file in tmp_path.iterdir()] == ["file"]

    def test_unknown_configuration_key(self, place: RouterLab, tmp_path: Path) -> None:
        settings = kernel_settings(place)
        config = tmp_path / "hopwire.yaml"
        config.write_text("parameters:\n  arp:\n    max_neighbors: 5\n")
        with Up(place, tmp_path / "run", "--config", str(config)) as up:
            assert up.process.wait(START_LIMIT_S) == 1
        assert up.output == ""
        said = [line for line in up.errors.splitlines() if not line.startswith("{")]  # not the log
        assert len(said) == 1
        assert said[0].startswith(f"hopwire control: {config}:3:5: unknown key 'parameters.arp.max_neighbors'")
        assert said[0].endswith("did you mean 'max_neighbours'?")
        assert differences(settings, kernel_settings(place)) == {}
        assert not (tmp_path / "run").exists()
        assert processes_with(str(tmp_path)) == []

    def test_without_root(self, place: RouterLab, tmp_path: Path) -> None:
        """As nobody, with what is needed imported before, since its files may be out of nobody's reach."""
        program = textwrap.dedent(f"""
            import codecs, os, sys
            import pyroute2, zmq, structlog, typer
            import services.launcher.up.run, services.common.runtime
            from services.launcher.main import main
            codecs.lookup("ascii")
            os.setgroups([])
            os.setgid({NOBODY})
            os.setuid({NOBODY})
            sys.argv = ["hopwire", "up", "--run-dir", {str(tmp_path / "run")!r}]
            main()
        """)
        done = place.run("router", [sys.executable, "-c", program], limit_s=START_LIMIT_S)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("hopwire: CAP_NET_ADMIN and CAP_NET_RAW missing; run it as root")
        assert done.stderr.count("\n") == 1

    def test_wrong_command_line(self) -> None:
        done = subprocess.run(
            [hopwire(), "up", "--nets", "x"], capture_output=True, text=True, timeout=START_LIMIT_S, check=False
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("hopwire: ")
        assert "--netns" in done.stderr
