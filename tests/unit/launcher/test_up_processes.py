"""Child processes: sessions of their own, and none that outlives the launcher."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.launcher.up.processes import Processes

LIMIT_S = 20.0
SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def lives(pid: int) -> bool:
    """Whether a process runs: neither gone nor a zombie that nobody has asked for yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def processes() -> Iterator[Processes]:
    children = Processes()
    try:
        yield children
    finally:
        children.kill_all()


def reaped(processes: Processes) -> list[tuple[str, int]]:
    ended: list[tuple[str, int]] = []

    def someone() -> bool:
        ended.extend(processes.reap())
        return bool(ended)

    wait_for(someone)
    return ended


def test_reports_how_a_child_ended_and_only_once(processes: Processes) -> None:
    processes.start("arp", [sys.executable, "-c", "raise SystemExit(3)"])
    assert reaped(processes) == [("arp", 3)]
    assert processes.reap() == []


def test_a_child_has_a_session_of_its_own(processes: Processes) -> None:
    pid = processes.start("arp", SLEEPER)
    assert os.getsid(pid) == os.getpgid(pid) == pid


def test_signals_reach_a_child(processes: Processes) -> None:
    processes.start("arp", SLEEPER)
    processes.send("arp", signal.SIGKILL)
    assert reaped(processes) == [("arp", -signal.SIGKILL)]


def test_kill_all_leaves_nobody(processes: Processes) -> None:
    pids = [processes.start(name, SLEEPER) for name in ("arp", "control")]
    processes.kill_all()
    assert [lives(pid) for pid in pids] == [False, False]
    assert processes.reap() == []


def test_what_a_child_prints_goes_to_stderr(capfd: pytest.CaptureFixture[str], processes: Processes) -> None:
    processes.start("arp", [sys.executable, "-c", "print('a word')"])
    reaped(processes)
    assert capfd.readouterr() == ("", "a word\n")


def test_children_get_sigterm_when_the_launcher_is_killed(tmp_path: Path) -> None:
    heard = tmp_path / "heard"
    ready = tmp_path / "ready"
    child = f"""
        import os, pathlib, signal, time
        signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path({str(heard)!r}).write_text("SIGTERM"), os._exit(0)))
        pathlib.Path({str(ready)!r}).write_text(str(os.getpid()))
        time.sleep(60)
    """
    launcher = f"""
        import sys, time
        from services.launcher.up.processes import Processes
        Processes().start("arp", [sys.executable, "-c", {textwrap.dedent(child)!r}])
        time.sleep(60)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(launcher)])
    try:
        wait_for(lambda: ready.exists() and ready.read_text())
    finally:
        parent.kill()
        parent.wait()
    wait_for(lambda: not lives(int(ready.read_text())))
    assert heard.read_text() == "SIGTERM"


def test_a_child_whose_launcher_died_before_it_could_ask_never_runs(tmp_path: Path) -> None:
    """A parent that is not the expected one stands for one that has died between fork and the question."""
    trace = tmp_path / "ran"
    code = f"""
        import os, subprocess, sys
        from services.launcher.up.processes import _begin_under
        command = [sys.executable, "-c", "open({str(trace)!r}, 'w')"]
        try:
            print(subprocess.Popen(command, preexec_fn=_begin_under(os.getpid() + 1)).wait())
        except OSError as error:
            print(error)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=LIMIT_S)
    assert not trace.exists()
