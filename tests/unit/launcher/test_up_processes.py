"""Child processes by way of the fork server: like new ones, and none that outlives the launcher."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.launcher.up.fork_protocol import Order
from services.launcher.up.processes import Processes

LIMIT_S = 20.0

# A program that does what its first argument says; the second is a file to which it tells its process id.
PROGRAM = """
    import gc, json, os, random, signal, sys, time
    from pathlib import Path
    import fake.service
    does, trace = sys.argv[1], Path(sys.argv[2])
    if does == "exit":
        sys.exit(3)
    if does == "fault":
        raise ValueError("a fault")
    if does == "print":
        print("a word")
        sys.exit()
    if does == "heed":
        heard = trace.with_suffix(".heard")
        signal.signal(signal.SIGTERM, lambda *_: (heard.write_text("SIGTERM"), os._exit(0)))
    status = Path("/proc/self/status").read_text()
    facts = {
        "pid": os.getpid(), "parent": os.getppid(), "session": os.getsid(0), "group": os.getpgid(0),
        "arguments": sys.argv[1:], "name": __name__, "file": __file__, "main": sys.modules["__main__"].__name__,
        "random": random.random(), "numpy": fake.service.numpy.random.random(), "collects": gc.isenabled(),
        "threads_before": fake.service.THREADS, "threads": len(os.listdir("/proc/self/task")),
        "files": sorted(os.readlink(f"/proc/self/fd/{one}") for one in range(3)),
        "sockets": [one for one in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{one}")
                    and os.readlink(f"/proc/self/fd/{one}").startswith(("socket:", "pipe:")) and int(one) > 2],
        "signals": [line for line in status.splitlines() if line.startswith(("SigBlk", "SigIgn", "SigCgt"))],
        "loaded_by": fake.service.PID,
    }
    trace.with_suffix(".new").write_text(json.dumps(facts))
    trace.with_suffix(".new").rename(trace)
    while True:
        time.sleep(60)
"""
SERVICE = """
    import os
    import numpy, numpy.random
    PID = os.getpid()
    THREADS = len(os.listdir("/proc/self/task"))
"""


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


def command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


class Rig:
    """Processes of one package `fake`, with what has become of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes = Processes(["fake"])
        self.started: dict[str, int] = {}
        self.ended: list[tuple[str, int]] = []

    def follow(self) -> None:
        changes = self.processes.take_changes()
        self.started |= dict(changes.started)
        self.ended += changes.ended
        assert changes.refused == []

    def wait_until(self, condition: Callable[[], object]) -> None:
        def met() -> object:
            self.follow()
            return condition()

        wait_for(met)

    def trace(self, instance: str) -> Path:
        return self.folder / f"{instance}.trace"

    def start(self, instance: str, does: str = "wait") -> None:
        self.processes.start(Order(instance, "fake", (does, str(self.trace(instance)))))

    def facts(self, instance: str) -> Any:
        """What an instance tells of itself as soon as it runs."""
        self.wait_until(lambda: instance in self.started and self.trace(instance).exists())
        return json.loads(self.trace(instance).read_text())


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    (tmp_path / "fake").mkdir()
    for name, text in (("__init__", ""), ("__main__", PROGRAM), ("service", SERVICE)):
        (tmp_path / "fake" / f"{name}.py").write_text(textwrap.dedent(text))
    monkeypatch.setenv("PYTHONPATH", f"{Path.cwd()}:{tmp_path}")
    made = Rig(tmp_path)
    try:
        yield made
    finally:
        made.processes.kill_all()


def test_reports_how_a_child_ended_and_only_once(rig: Rig) -> None:
    rig.processes.start_server()
    rig.start("arp", "exit")
    rig.wait_until(lambda: rig.ended)
    assert rig.ended == [("arp", 3)]
    rig.follow()
    assert rig.ended == [("arp", 3)]


def test_a_fault_ends_in_a_traceback_of_the_program_alone(rig: Rig, capfd: pytest.CaptureFixture[str]) -> None:
    rig.processes.start_server()
    rig.start("arp", "fault")
    rig.wait_until(lambda: rig.ended)
    assert rig.ended == [("arp", 1)]
    output, errors = capfd.readouterr()
    assert output == ""
    assert errors.startswith("Traceback (most recent call last):\n")
    assert errors.endswith("ValueError: a fault\n")


def test_a_child_is_like_a_new_process(rig: Rig) -> None:
    server = rig.processes.start_server()
    for name in ("arp", "control"):
        rig.start(name)
    arp, control = rig.facts("arp"), rig.facts("control")
    pid = rig.started["arp"]
    assert (arp["pid"], arp["parent"]) == (pid, os.getpid())
    assert arp["session"] == arp["group"] == pid
    assert arp["arguments"] == ["wait", str(rig.trace("arp"))]
    assert (arp["name"], arp["main"], arp["file"]) == ("__main__", "__main__", str(rig.folder / "fake/__main__.py"))
    assert arp["random"] != control["random"]
    assert arp["numpy"] != control["numpy"]
    assert arp["collects"] is True
    assert (arp["threads_before"], arp["threads"]) == (1, 1)
    assert arp["sockets"] == [], "neither the channel nor a pipe of the server"
    assert arp["files"][0] == "/dev/null"
    assert arp["loaded_by"] == control["loaded_by"] == server, "imported once"
    code = "print(*[line for line in open('/proc/self/status') if line.startswith('Sig')], sep='')"
    new = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=LIMIT_S)
    # SIGHUP, the first bit, waits until the service is ready for it.
    blocked = new.stdout.replace("SigBlk:\t0000000000000000", "SigBlk:\t0000000000000001")
    assert set(arp["signals"]) <= set(blocked.splitlines())


def test_the_command_line_that_others_see(rig: Rig) -> None:
    server = rig.processes.start_server()
    rig.start("arp")
    rig.facts("arp")
    python = os.fsencode(sys.executable) + b"\0-m\0"
    shown = command_line(rig.started["arp"])
    assert shown.rstrip(b"\0") == python + b"fake\0wait\0" + os.fsencode(rig.trace("arp"))
    assert command_line(server).rstrip(b"\0") == python + b"services.launcher.up.fork_server"


def test_signals_reach_a_child(rig: Rig) -> None:
    rig.processes.start_server()
    rig.start("arp")
    rig.facts("arp")
    rig.processes.send("arp", signal.SIGKILL)
    rig.wait_until(lambda: rig.ended)
    assert rig.ended == [("arp", -signal.SIGKILL)]


def test_kill_all_leaves_nobody(rig: Rig) -> None:
    server = rig.processes.start_server()
    for name in ("arp", "control"):
        rig.start(name)
        rig.facts(name)
    rig.processes.kill_all()
    assert [lives(pid) for pid in (server, *rig.started.values())] == [False] * 3
    assert rig.processes.take_changes().ended == []


def test_what_a_child_prints_goes_to_stderr(capfd: pytest.CaptureFixture[str], rig: Rig) -> None:
    rig.processes.start_server()
    rig.start("arp", "print")
    rig.wait_until(lambda: rig.ended)
    assert rig.ended == [("arp", 0)]
    assert capfd.readouterr() == ("", "a word\n")


def test_children_outlive_the_server_and_its_successor_makes_more(rig: Rig) -> None:
    first = rig.processes.start_server()
    rig.start("arp")
    arp = rig.facts("arp")["pid"]
    os.kill(first, signal.SIGKILL)
    rig.wait_until(lambda: rig.ended)
    assert rig.ended == [("fork-server", -signal.SIGKILL)]
    rig.start("control")  # it waits
    assert rig.processes.start_server() != first
    assert rig.facts("control")["parent"] == os.getpid()
    assert lives(arp)
    os.kill(arp, signal.SIGTERM)
    rig.wait_until(lambda: len(rig.ended) == 2)
    assert rig.ended[1] == ("arp", -signal.SIGTERM)


def test_an_order_that_a_killed_server_had_not_carried_out_is_the_next_ones(rig: Rig) -> None:
    first = rig.processes.start_server()
    rig.start("arp")
    rig.facts("arp")
    os.kill(first, signal.SIGSTOP)
    rig.start("control")
    os.kill(first, signal.SIGKILL)
    rig.wait_until(lambda: rig.ended)
    assert rig.ended == [("fork-server", -signal.SIGKILL)]
    rig.processes.start_server()
    assert rig.facts("control")["pid"] == rig.started["control"]


def test_who_is_to_end_before_the_server_has_loaded_never_runs(rig: Rig) -> None:
    rig.start("arp")  # without a server it waits for ever
    rig.processes.send("arp", signal.SIGTERM)
    assert rig.processes.has_changed
    rig.follow()
    assert rig.ended == [("arp", -signal.SIGTERM)]
    rig.processes.start_server()
    rig.start("control")
    rig.facts("control")
    assert not rig.trace("arp").exists()


def test_a_server_that_cannot_import_says_why(rig: Rig, capfd: pytest.CaptureFixture[str]) -> None:
    (rig.folder / "fake" / "service.py").write_text("import no_such_module")
    rig.processes.start_server()
    rig.wait_until(lambda: rig.ended)
    assert rig.ended == [("fork-server", 1)]
    assert capfd.readouterr().err.endswith("No module named 'no_such_module'\n")


@pytest.mark.parametrize("stopped", [False, True])
def test_all_end_when_the_launcher_is_killed(rig: Rig, *, stopped: bool) -> None:
    """The services are asked to; the fork server ends even if it stands still."""
    launcher = f"""
        import os, pathlib, sys, time
        from services.common.waiting import is_readable
        from services.launcher.up.fork_protocol import Order
        from services.launcher.up.processes import Processes
        processes = Processes(["fake"])
        server = processes.start_server()
        processes.start(Order("arp", "fake", ("heed", {str(rig.trace("arp"))!r})))
        while not processes.take_changes().started:
            is_readable(processes, 60)
        print(server, flush=True)
        time.sleep(60)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(launcher)], stdout=subprocess.PIPE)
    try:
        assert parent.stdout is not None
        server = int(parent.stdout.readline())
        wait_for(rig.trace("arp").exists)
        if stopped:
            os.kill(server, signal.SIGSTOP)
    finally:
        parent.kill()
        parent.communicate()
    arp = json.loads(rig.trace("arp").read_text())["pid"]
    wait_for(lambda: not lives(arp) and not lives(server))
    assert rig.trace("arp").with_suffix(".heard").read_text() == "SIGTERM"


def test_a_process_whose_parent_died_before_it_could_ask_is_killed() -> None:
    """A parent that is not the expected one stands for one that has died between fork and the question."""
    code = "import os; from services.launcher.up.lineage import end_with; end_with(os.getppid() + 1, 15); print('ran')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=LIMIT_S, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, b"")
