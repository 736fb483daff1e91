"""control-cli, the real program, on a running router: what it removes, looks up and follows."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from router_lab import Control, RouterLab, hopwire, kernel, wait_for
from test_router_control_cli import HOST2, PREFIX, answers

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

LIMIT_S = 30.0


@pytest.fixture
def control(pair: RouterLab) -> Control:
    return pair.control()


def router_routes(control: Control) -> set[str]:
    return {one["dst"] for one in control.show("route", "show", "proto", "hopwire")}


def test_flush(pair: RouterLab, control: Control) -> None:
    for prefix in (PREFIX, "10.9.1.0/24", "10.8.0.0/16"):
        control.change("route", "add", prefix, "via", "192.168.0.2")
    assert [one["dst"] for one in control.show("route", "show", "match", "10.9.1.7")] == ["10.9.1.0/24"]
    refused = control.cli("route", "flush")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "usage: control-cli route flush" in refused.stderr
    control.change("route", "flush", "root", "10.9.0.0/16")
    assert router_routes(control) == {"10.8.0.0/16"}
    control.change("r", "f", "proto", "hopwire")
    assert router_routes(control) == set()
    assert answers(pair, str(HOST2)), "the connected networks are still there"


def test_route_get_with_a_source(control: Control) -> None:
    (route,) = control.show("route", "get", str(HOST2), "from", "192.168.1.2", "iif", "eth0")
    assert (route["dev"], route["from"], route["iif"], route["mtu"]) == ("eth1", "192.168.1.2", "eth0", 1500)
    (guessed,) = control.show("route", "get", str(HOST2), "from", "192.168.1.2")
    assert guessed["iif"] == "eth0"
    control.change("link", "set", "eth1", "reverse-path", "strict")

    def is_refused() -> bool:
        done = control.cli("route", "get", "192.168.1.2", "from", "192.168.1.9", "iif", "eth1")
        return done.returncode == 1 and done.stderr.startswith("control-cli: Invalid cross-device link: ")

    wait_for("the forwarder checks the reverse path", is_refused)
    control.change("link", "set", "eth1", "reverse-path", "off")
    martian = control.cli("route", "get", str(HOST2), "from", "127.0.0.1", "iif", "eth0")
    assert (martian.returncode, martian.stdout) == (1, "")
    assert martian.stderr.startswith("control-cli: Invalid argument: from 127.0.0.1 by eth0: ")


def test_addresses(control: Control) -> None:
    control.change("addr", "replace", "10.5.0.1/24", "dev", "eth0")
    control.change("addr", "replace", "10.5.0.1/24", "dev", "eth0")
    control.change("addr", "change", "10.5.0.2/24", "dev", "eth0")
    control.change("addr", "flush", "dev", "eth0", "to", "10.5.0.0/24")
    (shown,) = control.show("addr", "show", "eth0")
    assert [one["local"] for one in shown["addr_info"]] == ["192.168.1.1"]
    assert control.cli("addr", "flush").returncode == 2


def test_figures(control: Control) -> None:
    fib = control.show("show", "fib")
    assert fib["routes"] >= 4
    assert fib["generation"] >= 1
    assert 2**20 < fib["resident_bytes"] < 2**32
    names = [one["ifname"] for one in control.show("show", "interfaces")]
    assert names == ["eth0", "eth1"]
    (one,) = control.show("show", "interfaces", "eth1")
    assert (one["operstate"], one["forwarding"]) == ("UP", True)
    assert {drop["interface"] for drop in control.show("show", "drops", "eth0")} <= {"eth0"}
    assert set(control.show("counters", "eth0")["interfaces"]) == {"eth0"}
    gone = control.cli("counters", "eth9")
    assert (gone.returncode, gone.stdout) == (1, "")
    assert gone.stderr.startswith("control-cli: No such device: eth9; there are: ")
    top = control.cli("top")
    assert (top.returncode, top.stderr) == (0, "")
    assert "ingress-eth1" in top.stdout


@contextmanager
def monitoring(control: Control, *words: str) -> Iterator[Callable[[], Any]]:
    """Yield what reads the next change that `monitor` writes."""
    command = [hopwire("control-cli"), "--run-dir", str(control.run_dir), "-j", "monitor", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            out = process.stdout
            yield lambda: json.loads(out.readline())
        finally:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, errors) == (0, "")


def until(read: Callable[[], Any], is_wanted: Callable[[Any], bool]) -> Any:
    while not is_wanted(change := read()):
        pass
    return change


def flapping(control: Control) -> "subprocess.Popen[bytes]":
    """Change an MTU again and again: the first changes may come before the monitor has its snapshot."""
    program = f"{hopwire('control-cli')} --run-dir {control.run_dir}"
    script = f"while true; do {program} link set eth1 mtu 1400; {program} link set eth1 mtu 1500; done"
    return subprocess.Popen(["/bin/sh", "-c", script], start_new_session=True)


def test_monitor(pair: RouterLab, control: Control) -> None:
    with monitoring(control) as read:
        flapper = flapping(control)
        try:
            assert read()["object"] == "link"
        finally:
            os.killpg(flapper.pid, signal.SIGTERM)
            flapper.wait(LIMIT_S)
        control.change("link", "set", "eth1", "mtu", "1500")
        control.change("route", "add", PREFIX, "via", "192.168.0.2")
        added = until(read, lambda change: change["object"] == "route")
        assert added == {"object": "route", "dst": PREFIX, "gateway": "192.168.0.2", "dev": "eth1"}
        control.change("route", "flush", PREFIX)
        assert until(read, lambda change: change["object"] == "route") == {"deleted": True, **added}
        with kernel(pair, "router") as router:
            (index,) = router.link_lookup(ifname="eth0")
            router.addr("add", index=index, address="10.5.0.1", prefixlen=24)
            seen = until(read, lambda change: change["object"] == "address")
            assert seen == {"object": "address", "dev": "eth0", "local": "10.5.0.1", "prefixlen": 24}
            router.addr("del", index=index, address="10.5.0.1", prefixlen=24)
        control.change("neigh", "add", "192.168.0.77", "lladdr", "02:00:00:00:00:77", "dev", "eth1")
        told = until(read, lambda change: change["object"] == "neigh" and change["dst"] == "192.168.0.77")
        assert (told["dev"], told["lladdr"]) == ("eth1", "02:00:00:00:00:77")
        control.change("neigh", "del", "192.168.0.77", "dev", "eth1")


def test_the_forwarders_own_table_is_what_route_get_shows(pair: RouterLab, control: Control) -> None:
    assert answers(pair, str(HOST2))
    (route,) = control.show("route", "get", str(HOST2), "from", "192.168.1.2", "iif", "eth0")
    assert route["neighbour"] == "resolved"
