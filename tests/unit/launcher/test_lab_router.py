"""Starting and stopping what stands in for hopwire in a router: readiness, death, deafness."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.common.errors import HopwireError
from services.launcher.lab import router
from services.launcher.lab.router import RouterProcess, stop_all, up_command

Start = Callable[[str], RouterProcess]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Start]:
    """Start a program in place of `hopwire up`; all are ended afterwards."""
    started: dict[str, RouterProcess] = {}

    def start_program(program: str) -> RouterProcess:
        monkeypatch.setattr(router, "up_command", lambda _namespace, _directory: [sys.executable, "-c", program])
        name = f"router{len(started)}"
        started[name] = RouterProcess(name, "no-namespace", tmp_path / name)
        return started[name]

    yield start_program
    for process in started.values():
        if process.process.poll() is None:
            process.process.kill()
            process.process.wait()


def test_command_names_namespace_and_run_directory() -> None:
    assert up_command("hw-router", Path("/run/x/router"))[1:] == [
        *("-m", "services.launcher", "up", "--netns", "hw-router", "--run-dir", "/run/x/router")
    ]


def test_ready_line_is_waited_for_and_termination_is_clean(start: Start) -> None:
    process = start(
        "import signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        "print('starting', flush=True)\n"
        "print('hopwire: ready, 2 interfaces forward', flush=True)\n"
        "while True: signal.pause()\n"
    )
    assert process.wait_until_ready() > 0
    process.check()
    assert stop_all({"router": process}) == {"router": 0}


def test_already_is_not_ready(start: Start) -> None:
    process = start("print('already here', flush=True)")
    with pytest.raises(HopwireError, match="ended with status 0"):
        process.wait_until_ready()


def test_death_before_ready_shows_what_it_said(start: Start) -> None:
    process = start("import sys; sys.exit('eth0: no such interface')")
    with pytest.raises(HopwireError, match="router0 ended with status 1; it wrote to stderr: eth0: no such interface"):
        process.wait_until_ready()


def test_only_the_end_of_a_long_story_is_shown(start: Start) -> None:
    process = start("import sys; [print('line', n, file=sys.stderr) for n in range(100)]; sys.exit(3)")
    with pytest.raises(HopwireError) as caught:
        process.wait_until_ready()
    assert "line 79" not in caught.value.message
    assert caught.value.message.endswith("line 98\nline 99")


def test_never_ready(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router, "_READY_LIMIT_S", 0.1)
    process = start("import signal; signal.pause()")
    with pytest.raises(HopwireError, match="was not ready within 0 s; it wrote to stderr: nothing"):
        process.wait_until_ready()


def test_deaf_router_and_its_services_are_killed(start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(router, "_STOP_LIMIT_S", 0.1)
    child_file = tmp_path / "child"
    process = start(
        "import pathlib, signal, subprocess, sys\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(child_file)!r}).write_text(str(child.pid))\n"
        "print('ready', flush=True)\n"
        "while True: signal.pause()\n"
    )
    process.wait_until_ready()
    assert stop_all({"router": process}) == {"router": -9}
    child_status = Path("/proc", child_file.read_text(), "stat")
    while child_status.exists() and child_status.read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)  # pytest's timeout bounds the wait
