"""What goes on until it is ended: --watch, top and monitor, as processes of their own on a terminal and off it."""

import json
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.live import Live
from test_cli_program import LIMIT_S, PROGRAM, ROUTES, ROUTES_TEXT, Control, environment, run

from services.common.messages import RpcError
from services.control.cli.live import watch_on_screen
from services.control.cli.main import with_interval

ZEROS = dict.fromkeys(("received", "generated", "sent", "delivered", "consumed", "dropped", "waiting", "in_flight"), 0)
COUNTERS: dict[str, Any] = {
    "services": {"forwarder": {"eth0": {"DROP_NO_ROUTE": 3}}},
    "interfaces": {"eth0": {"DROP_NO_ROUTE": 3}},
    "balance": ZEROS,
    "heard_s": {"forwarder": 1.0},
}
STATUS: dict[str, Any] = {
    "version": "1",
    "ready": True,
    "waiting_for": [],
    "warnings": [],
    "generation": 4,
    "interfaces": [
        {"index": 2, "name": "eth0", "mac": "02:0", "mtu": 1500, "up": True, "addresses": [], "forwarding": True}
    ],
    "services": [{"service": "arp", "instance": "arp", "pid": 7, "age_s": 0.1, "up": True, "ready": True}],
}


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    service = Control(tmp_path)
    service.answers |= {"counters": COUNTERS, "status": STATUS, "route.show": ROUTES}
    yield service
    service.close()


def start(control: Control, *arguments: str, **pipes: Any) -> "subprocess.Popen[str]":
    command = [*PROGRAM, "--run-dir", str(control.run_dir), *arguments]
    return subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True, **pipes)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["route", "--watch"], ["route", "--watch=2.0"]),
        (["--watch", "0.5", "route"], ["--watch=0.5", "route"]),
        (["--watch", "route"], ["--watch=2.0", "route"]),
        (["--watch=3", "route"], ["--watch=3", "route"]),
        (["route", "--", "--watch"], ["route", "--", "--watch"]),
        (["route"], ["route"]),
    ],
)
def test_the_seconds_may_be_left_out(given: list[str], meant: list[str]) -> None:
    assert with_interval(given) == meant


def test_watching_goes_on_until_an_interrupt_which_is_no_error(control: Control) -> None:
    with start(control, "route", "--watch", "0.1", stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        text = "".join(process.stdout.readline() for _ in range(5))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=LIMIT_S)
    assert text == f"{ROUTES_TEXT}\n{ROUTES_TEXT}"
    assert (process.returncode, errors) == (0, "")


def test_watched_json_is_one_line_a_look(control: Control) -> None:
    with start(control, "-j", "show", "drops", "--watch", "0.1") as process:
        assert process.stdout is not None
        looks = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.stdout.close()
        status = process.wait(LIMIT_S)
    assert "rate" not in looks[0][0]
    assert looks[1][0]["rate"] == 0.0
    assert status == 128 + signal.SIGPIPE


@pytest.mark.parametrize("words", [("route", "del", "default"), ("neigh", "probe", "10.0.0.1", "dev", "e"), ("help",)])
def test_what_changes_something_is_not_done_again_and_again(control: Control, words: tuple[str, ...]) -> None:
    done = run(*words, "--watch", run_dir=control.run_dir)
    assert (done.returncode, control.requests) == (2, [])
    assert done.stderr.startswith('control-cli: "--watch": only what shows the router can be shown again and again\n')


def test_a_router_that_goes_away_while_watched_is_status_3(control: Control) -> None:
    with start(control, "route", "--watch", "0.1", stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        for path in control.run_dir.glob("*.sock"):
            path.unlink()
        _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 3
    assert "there is no control-rpc.sock" in errors


def test_a_flush_goes_on_while_control_says_that_there_is_more(control: Control) -> None:
    left = iter([True, True, False])
    control.answers["route.flush"] = lambda: {"removed": 10_000, "more": next(left)}
    done = run("route", "flush", "proto", "bgp", run_dir=control.run_dir)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert control.requests == [("route.flush", {"proto": "bgp"})] * 3


def test_what_is_refused_while_watched_is_status_1(control: Control) -> None:
    control.answers["counters"] = RpcError(code="refused", message="No such device: eth9; there are: lo")
    done = run("counters", "eth9", "--watch", run_dir=control.run_dir)
    assert (done.returncode, done.stderr) == (1, "control-cli: No such device: eth9; there are: lo\n")


def test_top_without_a_terminal_is_shown_once(control: Control) -> None:
    done = run("top", run_dir=control.run_dir)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("hopwire 1: ready, state generation 4\n")
    assert "nothing is dropped now" in done.stdout
    shown = json.loads(run("-j", "top", run_dir=control.run_dir).stdout)
    assert shown["drops"][0]["reason"] == "DROP_NO_ROUTE"


@pytest.mark.parametrize("key", ["q", None])
def test_top_on_a_terminal_ends_with_q_or_an_interrupt(control: Control, key: str | None) -> None:
    leader, follower = pty.openpty()
    command = [*PROGRAM, "--run-dir", str(control.run_dir), "top"]
    screen = environment(COLUMNS="120", LINES="40")
    try:
        with subprocess.Popen(command, env=screen, stdin=follower, stdout=follower) as process:
            seen = read_until(leader, b"eth0")
            assert b"\x1b[?1049h" in seen, "the other screen, so that the terminal is as it was afterwards"
            if key is None:
                process.send_signal(signal.SIGINT)
            else:
                os.write(leader, key.encode())
            read_until(leader, b"\x1b[?1049l")
            assert process.wait(LIMIT_S) == 0
    finally:
        os.close(leader)
        os.close(follower)


def test_an_interrupt_while_the_screen_opens_closes_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refreshed = iter([KeyboardInterrupt])

    def refresh(_: Live) -> None:
        for interrupt in refreshed:
            raise interrupt

    monkeypatch.setattr(Live, "refresh", refresh)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    with pytest.raises(KeyboardInterrupt):
        watch_on_screen(lambda: ["text"], 0.1)
    written = capsys.readouterr().out
    assert written.index("\x1b[?1049h") < written.index("\x1b[?1049l")


def read_until(leader: int, wanted: bytes) -> bytes:
    seen = b""
    deadline = time.monotonic() + LIMIT_S
    poll = select.poll()  # not select(2), which knows but 1,024 descriptors
    poll.register(leader, select.POLLIN)
    while wanted not in seen:
        assert time.monotonic() < deadline, seen
        if poll.poll(100):
            seen += os.read(leader, 65_536)
    return seen


def test_monitoring_no_router_is_status_3(tmp_path: Path) -> None:
    done = run("monitor", run_dir=tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert "there is no control-rpc.sock" in done.stderr
