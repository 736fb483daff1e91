"""`make demo`: a router between two hosts, and proof that traffic passes, in a quarter of a minute."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from rich.console import Console
from rich.text import Text

from services.common.errors import HopwireError
from services.launcher.lab import measure
from services.launcher.lab.lab import Lab
from services.launcher.lab.signals import Stopped, stop_signals
from services.launcher.lab.topologies import PAIR
from services.launcher.probes import ping, traceroute, transfer

_PREFIX: Final = "hw-demo-"
"""Not the lab's: a demo may run beside one."""
_ROUTER: Final = "router"
_PINGS: Final = 5
_PING_INTERVAL_S: Final = 0.1
_TRANSFER_BYTES: Final = 100_000_000
_PATH: Final = (IPv4Address("192.168.1.1"), IPv4Address("192.168.0.2"))
"""What a traceroute from host1 to host2 passes: the router's side towards host1, and host2."""
_TRACEROUTE_OPTIONS: Final = ("--max-hops", "3", "--timeout", "1")
"""One hop more than there are, so that a longer path shows, and a dead one soon ends."""
_TRANSFER_OPTIONS: Final = ("--timeout", "5")
_CLI_LIMIT_S: Final = 15.0
_AT_REST_LIMIT_S: Final = 5.0


@dataclass(frozen=True)
class Outcome:
    """How a step ended: in a line for people, with more lines below it where there is more to see."""

    passed: bool
    text: str
    details: str = ""


def run_demo() -> int:
    """Run the demo and return its exit status: 0 only if every step passed, 128 + N after signal N."""
    if os.geteuid() != 0:
        print("hopwire demo: making network namespaces needs root; run: sudo make demo", file=sys.stderr)
        return 1
    console = Console(markup=False, highlight=False, emoji=False, soft_wrap=True)
    try:
        with stop_signals():
            console.print(PAIR.picture)
            with Lab(PAIR, prefix=_PREFIX) as lab:
                passed = _steps(console, lab)
    except Stopped as stop:
        console.print("interrupted; everything is taken down")
        return stop.exit_status
    except HopwireError as error:
        _show(console, "the demo", Outcome(passed=False, text=error.message))
        return 1
    console.print("everything is taken down" if passed else "not everything worked; everything is taken down")
    return 0 if passed else 1


def _steps(console: Console, lab: Lab) -> bool:
    """Run all steps in a lab, and return whether all passed. Without a router the rest is left out."""
    if not _step(console, "router with no configuration", lambda: _start(lab)):
        return False
    steps: Sequence[tuple[str, Callable[[], Outcome]]] = (
        ("ping host1 -> host2", lambda: _ping(lab, "host1", "host2")),
        ("ping host2 -> host1", lambda: _ping(lab, "host2", "host1")),
        ("traceroute host1 -> host2", lambda: _traceroute(lab)),
        ("TCP host1 -> host2", lambda: _transfer(lab)),
        ("the router's counters", lambda: _counters(lab, console.width)),
        ("router stopped", lambda: _stop(lab)),
    )
    passed = [_step(console, title, action) for title, action in steps]
    return all(passed)


def _step(console: Console, title: str, action: Callable[[], Outcome]) -> bool:
    try:
        with console.status(title):
            outcome = action()
    except HopwireError as error:
        outcome = Outcome(passed=False, text=error.message)
    _show(console, title, outcome)
    return outcome.passed


def _show(console: Console, title: str, outcome: Outcome) -> None:
    tick, cross = ("OK  ", "FAIL") if console.options.ascii_only else ("✓", "✗")
    mark = (tick, "bold green") if outcome.passed else (cross, "bold red")
    console.print(Text.assemble(mark, " ", (title, "bold"), f": {outcome.text}"))
    if outcome.details:
        console.print(outcome.details)


def _start(lab: Lab) -> Outcome:
    return Outcome(passed=True, text=f"ready after {lab.start_routers()[_ROUTER]:.1f} s")


def _ping(lab: Lab, source: str, destination: str) -> Outcome:
    options = ("--count", str(_PINGS), "--interval", str(_PING_INTERVAL_S))
    return judge_ping(measure.ping(lab, source, lab.topology.address(destination), *options), _PINGS)


def judge_ping(report: ping.PingReport, count: int) -> Outcome:
    """Pass if all of `count` requests were answered, once and unchanged, and nobody complained."""
    passed = report["received"] == report["sent"] == count
    passed = passed and not (report["duplicates"] or report["wrong"] or report["errors"])
    complaints = {f"{error['name']} from {error['source']}" for error in report["errors"]}
    complaints |= {f"not sent: {error['reason']}" for error in report["send_errors"]}
    return Outcome(passed, "; ".join([ping.summary(report), *sorted(complaints)]))


def _traceroute(lab: Lab) -> Outcome:
    report = measure.traceroute(lab, "host1", lab.topology.address("host2"), *_TRACEROUTE_OPTIONS)
    return judge_traceroute(report, _PATH)


def judge_traceroute(report: traceroute.TracerouteReport, path: Sequence[IPv4Address]) -> Outcome:
    """Pass if every probe was answered, and by the addresses of `path` in their order."""
    seen = [{answer and answer["source"] for answer in hop["answers"]} for hop in report["hops"]]
    passed = report["reached"] and seen == [{str(address)} for address in path]
    details = "\n".join(f"    {traceroute.line(hop)}" for hop in report["hops"])
    wanted = " ".join(str(address) for address in path)
    return Outcome(passed, f"{len(seen)} hops" if passed else f"not the path {wanted}", details)


def _transfer(lab: Lab) -> Outcome:
    report = measure.transfer(lab, "host1", "host2", _TRANSFER_BYTES, *_TRANSFER_OPTIONS)
    return Outcome(report["intact"], transfer.summary(report))


def _counters(lab: Lab, width: int) -> Outcome:
    """Show the counters when all frames have a fate: the services report theirs four times a second."""
    deadline = time.monotonic() + _AT_REST_LIMIT_S
    while True:
        try:
            done = _ask_counters(lab, width)
        except subprocess.TimeoutExpired:
            return Outcome(passed=False, text=f"control-cli gave no answer within {_CLI_LIMIT_S:.0f} s")
        if done.returncode != 0:
            text = f"control-cli counters ended with status {done.returncode}"
            return Outcome(passed=False, text=text, details=done.stdout + done.stderr)
        table = done.stdout.rstrip()
        balanced = table.endswith(": balanced")
        if balanced or time.monotonic() > deadline:
            return Outcome(passed=balanced, text="control-cli counters", details=table)


def _ask_counters(lab: Lab, width: int) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "services.control.cli", "--run-dir", str(lab.run_directory(_ROUTER)), "counters"]
    return subprocess.run(
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_CLI_LIMIT_S,
        env={**os.environ, "COLUMNS": str(width)},
    )


def _stop(lab: Lab) -> Outcome:
    status = lab.stop_routers()[_ROUTER]
    return Outcome(status == 0, "ended cleanly" if status == 0 else f"ended with status {status}")
