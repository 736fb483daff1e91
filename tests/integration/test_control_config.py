"""The configuration file applied to a real kernel by the real programs: what comes, what stays, what is refused."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from config_rig import ConfiguredRouter, configured, kernel_addresses, kernel_link, kernel_routes
from control_harness import HAS_IP, LIMIT_S, Namespace, namespace, wait_for

from services.common import netns
from services.common.endpoints import prepare_run_dir

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0 or not HAS_IP, reason="network namespaces need root and ip(8)"),
]

WHOLE = """
links:
  eth0: {up: true, mtu: 1400}
addresses:
  eth0: [10.5.0.1/24, 10.5.0.2/24]
routes:
  - {dst: 10.20.0.0/16, via: 10.5.0.9, metric: 20, mtu: 1300, src: 10.5.0.1}
  - dst: 10.21.0.0/16
    nexthops: [{via: 10.0.0.8, weight: 3}, {via: 10.1.0.8, dev: eth1}]
  - {dst: 10.22.0.0/16, type: blackhole}
  - {dst: 10.23.0.0/16, type: unreachable}
  - {dst: 10.24.0.0/16, type: prohibit}
  - {dst: 10.25.0.0/16, via: 172.16.0.1, dev: eth1, onlink: true}
  - {dst: 10.26.0.0/16, via: 10.26.255.1}
  - {dst: 10.26.255.0/24, dev: eth1}
parameters:
  icmp: {errors_burst: 9}
interfaces:
  eth0: {reverse_path: loose}
"""


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


def everything(space: Namespace) -> Any:
    """Return all that the kernel has, less what counts or ages."""
    links = [(one["ifname"], sorted(one["flags"]), one["mtu"]) for one in space.ip("link", "show")]
    addresses = [(name, kernel_addresses(space, name)) for name in ("eth0", "eth1")]
    routes = space.ip("-N", "route", "show", "table", "all")
    return links, addresses, sorted(map(str, routes))


def test_a_whole_file_comes_into_force_and_goes_again(space: Namespace, running: ConfiguredRouter) -> None:
    before = everything(space)
    running.apply(WHOLE)
    routes = kernel_routes(space)
    assert {one["protocol"] for one in routes.values()} == {"201"}
    assert set(routes) == {
        *("10.20.0.0/16 20", "10.21.0.0/16 0", "10.22.0.0/16 0", "10.23.0.0/16 0", "10.24.0.0/16 0", "10.25.0.0/16 0"),
        *("10.26.0.0/16 0", "10.26.255.0/24 0"),
    }
    detailed = routes["10.20.0.0/16 20"]
    assert (detailed["gateway"], detailed["dev"], detailed["prefsrc"]) == ("10.5.0.9", "eth0", "10.5.0.1")
    assert detailed["metrics"] == [{"mtu": 1300}]
    hops = routes["10.21.0.0/16 0"]["nexthops"]
    assert [(hop["gateway"], hop["dev"], hop["weight"]) for hop in hops] == [
        ("10.0.0.8", "eth0", 3),
        ("10.1.0.8", "eth1", 1),
    ]
    kinds = [routes[f"10.{number}.0.0/16 0"].get("type") for number in (22, 23, 24)]
    assert kinds == ["blackhole", "unreachable", "prohibit"]
    assert routes["10.25.0.0/16 0"]["flags"] == ["onlink"]
    assert kernel_addresses(space, "eth0") == ["10.0.0.1/24", "10.5.0.1/24", "10.5.0.2/24"]
    assert kernel_link(space, "eth0") == (True, 1400)
    running.wait_until(lambda one: "10.20.0.0/16" in one.routes, "the route is published")
    assert running.follower.parameters is not None
    assert running.follower.parameters.icmp.errors_burst == 9
    (published,) = [one for one in running.follower.interfaces.values() if one.name == "eth0"]
    assert published.policy.reverse_path == "loose"
    shown = running.shown("config", "show")
    assert shown["links"] == {"eth0": {"up": True, "mtu": 1400}}
    assert shown["routes"][2] == {
        "dst": "10.22.0.0/16",
        "type": "blackhole",
        "via": None,
        "dev": None,
        "metric": None,
        "mtu": None,
        "src": None,
        "onlink": False,
        "nexthops": [],
    }
    assert running.cli("config", "diff", running.file(WHOLE)).stdout == ""
    running.apply("")
    assert everything(space) == before
    running.wait_until(lambda one: "10.20.0.0/16" not in one.routes, "the route is withdrawn")
    assert running.follower.parameters.icmp.errors_burst == 50


def test_what_others_have_stays(space: Namespace, running: ConfiguredRouter) -> None:
    space.ip("route", "add", "10.30.0.0/16", "via", "10.0.0.7")
    space.ip("route", "add", "10.31.0.0/16", "via", "10.0.0.7", "proto", "bird")
    space.ip("addr", "add", "10.6.0.1/24", "dev", "eth1")
    running.change("route", "add", "10.32.0.0/16", "via", "10.0.0.7")
    before = everything(space)
    running.apply("addresses: {eth1: [10.6.0.1/24]}\nroutes: [{dst: 10.33.0.0/16, via: 10.0.0.7}]")
    assert set(kernel_routes(space)) == {f"10.{number}.0.0/16 0" for number in (30, 31, 32, 33)}
    running.apply("")
    assert everything(space) == before, "an address that was there already stays"


def test_a_place_that_is_taken_is_refused_with_its_owner(space: Namespace, running: ConfiguredRouter) -> None:
    space.ip("route", "add", "10.31.0.0/16", "via", "10.0.0.7", "proto", "bird")
    before = everything(space)
    file = running.file("addresses: {eth1: [10.6.0.1/24]}\nroutes: [{dst: 10.31.0.0/16, via: 10.0.0.9}]")
    said = "File exists: 10.31.0.0/16 via 10.0.0.9 dev eth0: there is a route of that metric by bird"
    assert running.refused("config", "diff", file).startswith(said)
    assert running.refused("config", "apply", file).startswith(said)
    assert everything(space) == before
    space.ip("route", "add", "10.31.0.0/16", "via", "10.0.0.7", "metric", "9")
    running.apply("routes: [{dst: 10.31.0.0/16, via: 10.0.0.9, metric: 5}]")
    assert set(kernel_routes(space)) == {f"10.31.0.0/16 {metric}" for metric in (0, 5, 9)}


LAST_IS_REFUSED = """
links:
  eth0: {mtu: 1400}
  eth1: {mtu: 70000}
addresses:
  eth0: [10.5.0.1/24]
"""
HALF_WAY = """
links:
  eth0: {mtu: 1400}
addresses:
  eth0: [10.5.0.1/24]
routes:
  - {dst: 10.40.0.0/16, via: 10.5.0.9}
  - {dst: 10.41.0.0/16, via: 10.1.0.9}
  - {dst: 10.42.0.0/16, via: 203.0.113.1}
"""


@pytest.mark.parametrize(
    ("text", "phrase"),
    [(LAST_IS_REFUSED, "Invalid argument: "), (HALF_WAY, "Network is unreachable: ")],
    ids=["a link", "a route"],
)
def test_a_refusal_half_way_leaves_all_as_it_was(
    space: Namespace, running: ConfiguredRouter, text: str, phrase: str
) -> None:
    running.apply("routes: [{dst: 10.40.0.0/16, via: 10.0.0.9}, {dst: 10.43.0.0/16, type: blackhole}]")
    space.ip("route", "add", "10.30.0.0/16", "via", "10.0.0.7")
    before, config = everything(space), running.shown("config", "show")
    said = running.refused("config", "apply", running.file(text + "parameters: {icmp: {errors_burst: 9}}\n"))
    assert said.startswith(phrase)
    assert said.endswith("; nothing was changed")
    assert everything(space) == before
    assert running.shown("config", "show") == config
    assert len(running.shown("config", "history")) == 2


def test_a_refusal_behind_a_link_that_went_down_brings_others_routes_back(
    space: Namespace, running: ConfiguredRouter
) -> None:
    """far0 goes down first, by the order of interfaces; eth1's MTU cannot be had."""
    space.ip("addr", "add", "10.7.0.1/24", "dev", "far0")
    for number in (1, 2):
        space.ip("route", "add", f"10.5{number}.0.0/16", "via", "10.7.0.9", "proto", "bird")
    before = everything(space)
    said = running.refused("config", "apply", running.file("links: {far0: {up: false}, eth1: {up: false, mtu: 70000}}"))
    assert said.endswith("; nothing was changed")
    assert kernel_link(space, "far0")[0]
    assert everything(space) == before


def test_a_primary_address_goes_while_a_secondary_one_stays(space: Namespace, running: ConfiguredRouter) -> None:
    for promote in ("0", "1"):
        with netns.inside(space.name):
            Path("/proc/sys/net/ipv4/conf/eth1/promote_secondaries").write_text(promote, encoding="ascii")
        space.ip("addr", "flush", "dev", "eth1")
        running.apply("addresses: {eth1: [10.8.0.1/24, 10.8.0.2/24]}")
        space.ip("route", "add", "10.60.0.0/16", "via", "10.8.0.9")
        running.apply("addresses: {eth1: [10.8.0.2/24]}\nroutes: [{dst: 10.61.0.0/16, via: 10.8.0.9, src: 10.8.0.2}]")
        assert kernel_addresses(space, "eth1") == ["10.8.0.2/24"]
        assert {"10.60.0.0/16 0", "10.61.0.0/16 0"} <= set(kernel_routes(space)), "nothing is lost with the address"
        running.apply("addresses: {eth1: [10.8.0.3/24]}")
        assert kernel_addresses(space, "eth1") == ["10.8.0.3/24"]
        assert set(kernel_routes(space)) == {"10.60.0.0/16 0"}
        running.apply("")
        assert kernel_addresses(space, "eth1") == []


class Monitor:
    """`ip monitor` of a namespace."""

    def __init__(self, space: Namespace, log: Path) -> None:
        self._space = space
        self._log = log
        self._marks = 0
        command = ["ip", "-n", space.name, "monitor", "link", "address", "route"]
        with log.open("wb") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL)
        wait_for(self._sees_a_mark, "the monitor listens")

    def _sees_a_mark(self) -> bool:
        self._marks += 1
        self._space.ip("route", "add", "blackhole", f"198.18.0.{self._marks}")
        return f"198.18.0.{self._marks} " in self._log.read_text(encoding="utf-8")

    def lines(self) -> list[str]:
        """Return all that was announced so far, less our own marks."""
        wait_for(self._sees_a_mark, "all that came before")
        return [line for line in self._log.read_text(encoding="utf-8").splitlines() if "198.18.0." not in line]

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(LIMIT_S)


def test_what_stays_is_not_touched(space: Namespace, running: ConfiguredRouter, tmp_path: Path) -> None:
    running.apply(WHOLE)
    monitor = Monitor(space, tmp_path / "monitor")
    try:
        running.apply(WHOLE)
        assert monitor.lines() == []
        running.apply(WHOLE.replace("10.22.0.0/16", "10.27.0.0/16"))
        said = [line.split(" proto")[0] for line in monitor.lines()]
        assert said == ["blackhole 10.27.0.0/16", "Deleted blackhole 10.22.0.0/16"]
    finally:
        monitor.close()
