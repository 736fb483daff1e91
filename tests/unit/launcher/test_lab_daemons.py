"""Routing daemons of a lab: what is started, what is said when something is missing or ends."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from services.common.errors import HopwireError
from services.launcher.lab import daemons
from services.launcher.lab.daemons import RouterDaemons, check_installed
from services.launcher.lab.topologies import BGP_ECMP, OSPF_RING, PAIR
from services.launcher.lab.topology import Daemon

BIRD = (Daemon("bird", "# no protocol\n"),)
FRR = (Daemon("zebra", ""), Daemon("ospfd", "router ospf\n"))


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs whose names are their paths, and files that belong to whom they belong."""
    monkeypatch.setattr(daemons, "find", lambda program: program)
    monkeypatch.setattr("shutil.chown", lambda *_arguments: None)


def stand_in(commands: list[list[str]], program: str) -> Callable[[list[str], Path], "subprocess.Popen[str]"]:
    """Return what starts a Python program in place of each daemon."""

    def spawn(argv: list[str], log: Path) -> "subprocess.Popen[str]":
        commands.append(argv)
        with log.open("w") as output:
            return subprocess.Popen([sys.executable, "-c", program, *argv], stdout=output, stderr=output, text=True)

    return spawn


def test_bird(installed: None, tmp_path: Path) -> None:
    commands: list[list[str]] = []
    program = f"open({str(tmp_path / 'r1' / 'bird.ctl')!r}, 'w').close(); import time; time.sleep(60)"
    running = RouterDaemons("r1", BIRD, tmp_path / "r1", stand_in(commands, program))
    try:
        folder = tmp_path / "r1"
        assert commands == [["bird", "-f", "-c", f"{folder}/bird.conf", "-s", f"{folder}/bird.ctl"]]
        assert (folder / "bird.conf").read_text() == "# no protocol\n"
        assert running.shell_command == ["birdc", "-s", f"{folder}/bird.ctl"]
        running.check()
    finally:
        end(running)
    with pytest.raises(HopwireError, match=r"bird in r1 ended with status -9; it wrote: nothing"):
        running.check()


def test_frr(installed: None, tmp_path: Path) -> None:
    commands: list[list[str]] = []
    folder = tmp_path / "r1"
    files = [str(folder / name) for name in ("zserv.api", "zebra.vty", "ospfd.vty")]
    program = f"[open(name, 'w').close() for name in {files!r}]; import time; time.sleep(60)"
    running = RouterDaemons("r1", FRR, folder, stand_in(commands, program))
    try:
        assert [command[0] for command in commands] == ["zebra", "ospfd"]
        for command in commands:
            paths = [word for word in command if word.startswith("/")]
            assert paths
            assert all(path.startswith(str(folder)) for path in paths), command
        assert (folder / "ospfd.conf").read_text() == "router ospf\n"
        assert (folder / "vtysh.conf").read_text() == "hostname r1\n"
        assert running.shell_command == ["vtysh", "--vty_socket", str(folder), "--config_dir", str(folder)]
        assert list(running.processes) == ["zebra", "ospfd"]
    finally:
        end(running)


def test_a_daemon_that_ends_is_told_with_what_it_said(installed: None, tmp_path: Path) -> None:
    program = "print('line 3: syntax error'); raise SystemExit(1)"
    with pytest.raises(HopwireError, match="bird in r1 ended with status 1; it wrote: line 3: syntax error"):
        RouterDaemons("r1", BIRD, tmp_path / "r1", stand_in([], program))


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_arguments, **_options: None)
    check_installed(PAIR)
    with pytest.raises(HopwireError) as caught:
        check_installed(OSPF_RING)
    assert caught.value.message == "FRR is not installed; run: apt-get install frr"


def test_missing_bird(monkeypatch: pytest.MonkeyPatch) -> None:
    def which(program: str, **_options: str) -> str | None:
        return None if program == "bird" else f"/usr/lib/frr/{program}"

    monkeypatch.setattr("shutil.which", which)
    with pytest.raises(HopwireError) as caught:
        check_installed(BGP_ECMP)
    assert caught.value.message == "BIRD is not installed; run: apt-get install bird2"


def end(running: RouterDaemons) -> None:
    for process in running.processes.values():
        process.kill()
        process.wait()
