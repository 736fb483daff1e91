"""Configurations in the course of time: confirmed or not, taken back, saved, applied again by SIGHUP, after a crash."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from config_rig import ConfiguredRouter, configured, kernel_addresses, kernel_link, kernel_routes
from control_harness import HAS_IP, Namespace, namespace, run_to_end, wait_for

from services.common.endpoints import prepare_run_dir
from services.control.config import load

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0 or not HAS_IP, reason="network namespaces need root and ip(8)"),
]

FIRST = "addresses: {eth0: [10.5.0.1/24]}\nroutes: [{dst: 10.20.0.0/16, via: 10.0.0.9}]\n"
SECOND = "routes: [{dst: 10.21.0.0/16, via: 10.0.0.9}]\nlinks: {eth1: {mtu: 1400}}\n"
THIRD = "routes: [{dst: 10.22.0.0/16, type: blackhole}]\n"


@pytest.fixture
def space() -> Iterator[Namespace]:
    with namespace(f"cf{os.getpid()}") as made:
        yield made


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return prepare_run_dir(tmp_path / "run").run_dir


@pytest.fixture
def running(space: Namespace, run_dir: Path) -> Iterator[ConfiguredRouter]:
    with configured(space, run_dir) as made:
        yield made


def destinations(space: Namespace) -> set[str]:
    return {one["dst"] for one in kernel_routes(space).values()}


def is_first(space: Namespace) -> bool:
    return destinations(space) == {"10.20.0.0/16"} and "10.5.0.1/24" in kernel_addresses(space, "eth0")


def test_what_is_not_confirmed_goes_back_by_itself(space: Namespace, running: ConfiguredRouter) -> None:
    running.change("route", "add", "10.21.0.0/16", "via", "10.1.0.9")
    running.apply(FIRST)
    running.apply(SECOND, "--confirm", "2")
    wait_for(lambda: "not confirmed: it went back" in running.control.log(), "it goes back")
    assert "10.20.0.0/16" in destinations(space)
    (route,) = [one for one in kernel_routes(space).values() if one["dst"] == "10.21.0.0/16"]
    assert (route["gateway"], route["protocol"]) == ("10.1.0.9", "200"), "what gave way is back"
    assert "10.5.0.1/24" in kernel_addresses(space, "eth0")
    assert kernel_link(space, "eth1") == (True, 1500)
    assert running.refused("config", "confirm").startswith("No such file or directory: no configuration waits")


def test_what_is_confirmed_stays(space: Namespace, running: ConfiguredRouter) -> None:
    running.apply(FIRST, "--confirm", "3600")
    other = running.file(SECOND, "other.yaml")
    assert running.refused("config", "apply", other).startswith("Device or resource busy: ")
    (warning,) = running.warned()
    assert re.search(r"r\.yaml goes back at \d\d:\d\d:\d\d UTC unless", warning)
    running.change("config", "confirm")
    wait_for(lambda: not running.ask("status")["warnings"], "no warning any more")
    running.change("config", "apply", other)
    assert destinations(space) == {"10.21.0.0/16"}


def test_a_rollback_of_what_waits_ends_the_waiting(space: Namespace, running: ConfiguredRouter) -> None:
    running.apply(FIRST)
    running.apply(SECOND, "--confirm", "3600")
    running.change("config", "rollback")
    assert is_first(space)
    assert [one["steps"] for one in running.shown("config", "history")] == [0, 1], "it never was"
    running.apply(THIRD)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_deadline_survives_a_restart(space: Namespace, running: ConfiguredRouter, number: signal.Signals) -> None:
    running.apply(FIRST)
    running.apply(SECOND, "--confirm", "3600")
    running.restart(number)
    assert destinations(space) == {"10.21.0.0/16"}
    running.change("config", "rollback")
    assert is_first(space)
    running.apply(SECOND, "--confirm", "3600")
    running.control.stop(number)
    record = running.endpoints.run_dir / "configuration.json"
    over, count = re.subn(r'"deadline":[0-9.]+', '"deadline":0.0', record.read_text())
    assert count == 1
    record.write_text(over)
    running.start()
    wait_for(lambda: is_first(space), "it went back at the start")
    assert kernel_link(space, "eth1") == (True, 1500)


def test_rollback_by_number_and_its_bound(space: Namespace, running: ConfiguredRouter) -> None:
    for text in (FIRST, SECOND, THIRD):
        running.apply(text)
    assert [one["steps"] for one in running.shown("config", "history")] == [0, 1, 2, 3]
    assert "r.yaml" in running.cli("config", "history").stdout
    running.change("config", "rollback", "2")
    assert is_first(space)
    running.change("config", "rollback")
    assert destinations(space) == {"10.22.0.0/16"}, "the one before that"
    running.change("config", "rollback")
    assert is_first(space)
    assert running.refused("config", "rollback", "9").startswith("No such file or directory: configuration 9 before")
    for number in range(8):
        running.ask("config.apply", text=f"routes: [{{dst: 10.9{number}.0.0/16, type: blackhole}}]", source="many")
    assert len(running.ask("config.history")) == 11
    running.change("config", "rollback", "10", "--confirm", "3600")
    running.change("config", "rollback")


def test_sighup_applies_the_file_again(space: Namespace, run_dir: Path) -> None:
    file = run_dir.parent / "own.yaml"
    file.write_text(FIRST, encoding="utf-8")
    with configured(space, run_dir, "--config", str(file)) as running:
        assert is_first(space)
        file.write_text(SECOND, encoding="utf-8")
        running.control.process.send_signal(signal.SIGHUP)
        wait_for(lambda: destinations(space) == {"10.21.0.0/16"}, "the file as it is now")
        file.write_text("rutes: []", encoding="utf-8")
        running.control.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "not applied again" in running.control.log(), "it is said what is wrong")
        assert "own.yaml:1:1: unknown key 'rutes'; did you mean 'routes'?" in running.control.log()
        assert destinations(space) == {"10.21.0.0/16"}


def test_after_a_crash_it_goes_on_and_after_an_end_it_begins_anew(space: Namespace, run_dir: Path) -> None:
    file = run_dir.parent / "own.yaml"
    file.write_text(FIRST, encoding="utf-8")
    with configured(space, run_dir, "--config", str(file)) as running:
        running.apply(SECOND)

        running.restart(signal.SIGKILL)
        assert destinations(space) == {"10.21.0.0/16"}, "after a crash: what was in force"
        running.restart(signal.SIGTERM)
        assert is_first(space), "after an end: its own file"
        assert kernel_link(space, "eth1") == (True, 1500)
        file.write_text(THIRD, encoding="utf-8")
        running.restart(signal.SIGKILL)
        assert destinations(space) == {"10.22.0.0/16"}, "after a crash with a file that has changed: the file"
        assert kernel_addresses(space, "eth0") == ["10.0.0.1/24"]
    assert destinations(space) == {"10.22.0.0/16"}, "what is configured stays without control"
    with configured(space, run_dir) as running:
        assert destinations(space) == {"10.22.0.0/16"}, "without a file of its own it leaves the kernel alone"
        running.apply("")
        assert destinations(space) == set()


def test_at_the_start_an_interface_may_come_later(space: Namespace, run_dir: Path) -> None:
    file = run_dir.parent / "own.yaml"
    file.write_text(FIRST + "links: {later: {up: true}}\n", encoding="utf-8")
    with configured(space, run_dir, "--config", str(file)) as running:
        (warning,) = running.warned()
        assert "own.yaml is not applied" in warning
        assert "No such device: later; there are: " in warning
        assert destinations(space) == set()
        space.ip("link", "add", "later", "type", "veth", "peer", "name", "far9")
        wait_for(lambda: is_first(space), "all of it")
        wait_for(lambda: kernel_link(space, "later")[0], "and the interface is up")
        wait_for(lambda: not running.ask("status")["warnings"], "no warning any more")


def test_what_is_saved_brings_about_the_same(space: Namespace, run_dir: Path) -> None:
    file = run_dir.parent / "own.yaml"
    file.write_text('interfaces: {"*": {redirects: false}}\n', encoding="utf-8")
    with configured(space, run_dir, "--config", str(file)) as running:
        running.change("addr", "add", "10.5.0.1/24", "dev", "eth0")
        running.change("route", "add", "10.20.0.0/16", "via", "10.5.0.9", "mtu", "1300")
        running.change("route", "add", "10.21.0.0/16", "nexthop", "via", "10.5.0.9", "nexthop", "via", "10.1.0.9")
        space.ip("route", "add", "10.30.0.0/16", "via", "10.0.0.7")
        running.change("link", "set", "eth1", "mtu", "1400", "reverse-path", "loose", "redirects", "on")
        running.change("neigh", "add", "10.0.0.9", "lladdr", "02:00:00:00:00:09", "dev", "eth0")
        running.change("config", "set", "icmp.errors_burst", "9")
        other = run_dir.parent / "saved.yaml"
        running.change("config", "save", str(other))
        saved = load(other)
        assert [str(route.dst) for route in saved.routes] == ["10.20.0.0/16", "10.21.0.0/16"], "none that others have"
        assert running.cli("config", "save", "/dev/stdout").stdout == other.read_text()
        assert running.shown("config", "diff", str(other)) == [
            "+ arp.permanent_neighbours eth0 10.0.0.9 02:00:00:00:00:09 ",
            *(line for number in (20, 21) for line in route_lines(number)),
        ], "the routes become the configuration's, and nothing else changes"
        running.change("config", "save")
        assert file.read_text() == other.read_text()
        assert (run_dir.parent / "own.yaml.before").read_text() == 'interfaces: {"*": {redirects: false}}\n'
        before = kernel_addresses(space, "eth0"), kernel_link(space, "eth1")
        running.control.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "applied again" in running.control.log(), "it is applied")
        assert (kernel_addresses(space, "eth0"), kernel_link(space, "eth1")) == before
        protocols = {one["dst"]: one.get("protocol") for one in kernel_routes(space).values()}
        assert protocols == {"10.20.0.0/16": "201", "10.21.0.0/16": "201", "10.30.0.0/16": None}
        policies = {one["ifname"]: one["policy"] for one in running.ask("link.show") if "policy" in one}
        assert (policies["eth1"]["reverse_path"], policies["eth1"]["redirects"]) == ("loose", True)
        assert policies["eth0"]["redirects"] is False
        assert running.ask("config.show")["parameters"]["icmp"]["errors_burst"] == 9


def route_lines(number: int) -> list[str]:
    way = {
        20: "10.20.0.0/16 via 10.5.0.9 dev eth0 mtu 1300",
        21: "10.21.0.0/16 nexthop via 10.5.0.9 dev eth0 weight 1 nexthop via 10.1.0.9 dev eth1 weight 1",
    }[number]
    return [f"- route {way} proto hopwire", f"+ route {way}"]


def test_without_a_file_of_its_own_there_is_none_to_save_to(running: ConfiguredRouter) -> None:
    assert running.refused("config", "save").startswith("control has no file of its own: start it with --config")


def test_a_file_that_is_wrong_is_refused_at_the_start_and_by_check(run_dir: Path, running: ConfiguredRouter) -> None:
    file = running.file("routes:\n  - {dst: 10.0.0.0/8, vai: 10.0.0.1}\n", "wrong.yaml")
    said = f"{file}:2:23: unknown key 'routes.0.vai'; did you mean 'via'?"
    for verb in ("check", "diff", "apply"):
        assert running.refused("config", verb, file) == said
    second = prepare_run_dir(run_dir.parent / "second").run_dir
    ended = run_to_end("--run-dir", str(second), "--config", file)
    assert (ended.returncode, ended.stderr) == (1, f"hopwire control: {said}\n")
    assert running.cli("--run-dir", "/nowhere", "config", "check", running.file(FIRST)).returncode == 0
