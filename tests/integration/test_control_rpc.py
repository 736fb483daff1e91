"""Control's RPC over its real socket, in a network namespace; the other services are played."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from control_harness import (
    HAS_IP,
    REPOSITORY,
    Namespace,
    PlayedService,
    Router,
    namespace,
    refusal,
    router,
    wait_for,
)

from services.common.bus import RpcServer
from services.common.endpoints import prepare_run_dir
from services.common.messages import RpcRequest, decode
from services.common.parameters import InterfacePolicy

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]
needs_ip = pytest.mark.skipif(not HAS_IP, reason="needs ip(8) of iproute2")


@pytest.fixture
def space() -> Iterator[Namespace]:
    with namespace(f"ctls{os.getpid()}") as made:
        yield made


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return prepare_run_dir(tmp_path / "run").run_dir


@pytest.fixture
def running(space: Namespace, run_dir: Path) -> Iterator[Router]:
    with router(space, run_dir) as made:
        made.wait_until_mirrored()
        yield made


def test_routes_by_rpc(space: Namespace, running: Router) -> None:
    assert running.ask("route.add", dst="10.2.0.0/16", via="10.0.0.9") == {}
    assert running.ask("route.show", dst="10.2.0.0/16") == [
        {"dst": "10.2.0.0/16", "gateway": "10.0.0.9", "dev": "eth0", "protocol": "hopwire", "flags": []}
    ], "what was changed is shown at once"
    running.wait_until(lambda follower: "10.2.0.0/16" in follower.routes, "the route is published")
    running.ask("route.replace", dst="10.2.0.0/16", via="10.1.0.9", metric=0, mtu=1300, proto="static", src="10.1.0.1")
    running.ask("route.add", dst="10.2.0.0/16", type="blackhole", metric=7)
    running.ask("route.add", dst="default", dev="eth1", proto=77)
    running.ask("route.add", dst="10.3.0.0/16", via="172.16.0.1", dev="eth0", onlink=True)
    hops = [{"via": "10.0.0.9", "weight": 3}, {"via": "10.1.0.9", "dev": "eth1"}]
    running.ask("route.add", dst="10.4.0.0/16", nexthops=hops)
    shown = running.ask("route.show")
    assert [route for route in shown if route.get("protocol") != "kernel"] == [
        {"dst": "default", "dev": "eth1", "protocol": "77", "scope": "link", "flags": []},
        {
            "dst": "10.2.0.0/16",
            "gateway": "10.1.0.9",
            "dev": "eth1",
            "protocol": "static",
            "prefsrc": "10.1.0.1",
            "metrics": [{"mtu": 1300}],
            "flags": [],
        },
        {"type": "blackhole", "dst": "10.2.0.0/16", "protocol": "hopwire", "metric": 7, "flags": []},
        {"dst": "10.3.0.0/16", "gateway": "172.16.0.1", "dev": "eth0", "protocol": "hopwire", "flags": ["onlink"]},
        {
            "dst": "10.4.0.0/16",
            "protocol": "hopwire",
            "nexthops": [
                {"gateway": "10.0.0.9", "dev": "eth0", "weight": 3, "flags": []},
                {"gateway": "10.1.0.9", "dev": "eth1", "weight": 1, "flags": []},
            ],
            "flags": [],
        },
    ]
    assert [route["dst"] for route in running.ask("route.show", proto="hopwire", dev="eth0")] == [
        "10.3.0.0/16",
        "10.4.0.0/16",
    ]
    assert [route["dst"] for route in running.ask("route.show", via="10.1.0.9")] == ["10.2.0.0/16", "10.4.0.0/16"]
    assert running.ask("route.show", dev="none0") == []
    running.ask("route.del", dst="10.2.0.0/16", type="blackhole")
    running.ask("route.del", dst="10.2.0.0/16", via="10.1.0.9")
    running.ask("route.del", dst="default")
    assert running.ask("route.show", dst="10.2.0.0/16") == []
    assert running.ask("route.show", dst="default") == []
    (local,) = running.ask("route.show", dst="10.0.0.1", table="local")
    assert (local["type"], local["scope"]) == ("local", "host")
    assert {route["table"] for route in running.ask("route.show", table="all")} == {"main", "local"}


@needs_ip
def test_what_is_shown_is_what_ip_shows(space: Namespace, running: Router) -> None:
    space.kernel.addr("add", index=space.index("eth0"), address="10.9.0.1", prefixlen=30, broadcast="10.9.0.3")
    space.kernel.addr("add", index=space.index("eth0"), address="10.0.0.2", prefixlen=24)
    space.down("far1")
    space.kernel.route("add", dst="10.2.0.0/16", gateway="10.0.0.9", priority=5, metrics={"mtu": 1400})
    space.kernel.route("add", dst="10.3.0.0/16", type="prohibit", proto=4)
    space.kernel.route("add", dst="10.5.0.0/16", gateway="10.0.0.9", tos=0x10)
    hops = [{"gateway": "10.0.0.9", "oif": space.index("eth0"), "hops": 2}, {"oif": space.index("far0")}]
    space.kernel.route("add", dst="10.4.0.0/16", multipath=hops)
    running.wait_until(lambda follower: "10.4.0.0/16" in follower.routes, "the last route")

    def comparable(routes: list[dict[str, Any]]) -> list[str]:
        return sorted(json.dumps(route, sort_keys=True) for route in routes)

    for table in ("main", "local"):
        ours = running.ask("route.show", table=table)
        assert comparable(ours) == comparable(space.ip("-4", "route", "show", "table", table))
    theirs = {link["ifname"]: link for link in space.ip("link", "show")}
    for ours in running.ask("link.show"):
        his = theirs[ours["ifname"]]
        his["flags"] = [flag for flag in his["flags"] if flag != "M-DOWN"]  # ip's own finding about the peer
        assert ("policy" in ours) == (ours["link_type"] == "ether")
        ours.pop("policy", None)  # hopwire's own
        assert ours == {key: his[key] for key in ours}
    theirs = {link["ifname"]: link for link in space.ip("-4", "addr", "show")}
    for ours in running.ask("addr.show"):
        if ours["ifname"] in theirs:
            assert ours["addr_info"] == theirs[ours["ifname"]]["addr_info"]
        else:
            assert ours["addr_info"] == []


def test_addresses_and_links_by_rpc(space: Namespace, running: Router) -> None:
    running.ask("addr.add", address="10.5.0.1/24", dev="eth0")
    (shown,) = running.ask("addr.show", dev="eth0")
    assert [f"{one['local']}/{one['prefixlen']}" for one in shown["addr_info"]] == ["10.0.0.1/24", "10.5.0.1/24"]
    running.ask("addr.del", address="10.5.0.1/24", dev="eth0")
    (shown,) = running.ask("addr.show", dev="eth0")
    assert [one["local"] for one in shown["addr_info"]] == ["10.0.0.1"]
    running.ask("link.set", dev="eth0", up=False, mtu=1400, address="02:00:00:00:00:07")
    (shown,) = running.ask("link.show", dev="eth0")
    assert (shown["mtu"], shown["address"]) == (1400, "02:00:00:00:00:07")
    assert "UP" not in shown["flags"]
    running.ask("link.set", dev="eth0", up=True)
    (shown,) = running.ask("link.show", dev="eth0")
    assert {"UP", "LOWER_UP"} <= set(shown["flags"])
    assert shown["mtu"] == 1400


REFUSALS: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "route.add",
        {"dst": "10.0.0.0/24", "dev": "eth0", "src": "10.0.0.1"},
        "refused",
        "File exists: 10.0.0.0/24 is there already; use `route replace`",
    ),
    ("route.add", {"dst": "10.2.0.0/16", "via": "10.9.0.9"}, "refused", "Network is unreachable: "),
    ("route.del", {"dst": "10.2.0.0/16"}, "refused", "No such process: "),
    (
        "route.add",
        {"dst": "10.2.0.0/16", "dev": "eth9"},
        "refused",
        "No such device: eth9; there are: lo, far0, eth0, far1, eth1",
    ),
    ("addr.add", {"address": "10.0.0.1/24", "dev": "eth0"}, "refused", "File exists: "),
    ("addr.del", {"address": "10.0.0.7/24", "dev": "eth0"}, "refused", "Cannot assign requested address: "),
    ("link.set", {"dev": "eth0", "mtu": 1}, "refused", "Invalid argument: "),
    ("link.show", {"dev": "eth9"}, "refused", "No such device: eth9; there are: "),
    ("route.get", {"dst": "10.2.0.1"}, "unavailable", "forwarder is not there; see `status`"),
    ("neigh.show", {}, "unavailable", "arp is not there; see `status`"),
    ("route.add", {"dst": "10.2.0.1/16"}, "usage", "dst: '10.2.0.1/16' has host bits set; the prefix is 10.2.0.0"),
    ("route.fly", {}, "unknown-method", "control has no method 'route.fly'; there are: status, counters, "),
]


def test_refusals(running: Router) -> None:
    for method, params, code, message in REFUSALS:
        refused_code, refused_message = refusal(running, method, **params)
        assert refused_code == code, method
        assert refused_message.startswith(message)


@contextmanager
def answering(running: Router, endpoint: str, handler: Callable[[str, dict[str, Any]], Any]) -> Iterator[None]:
    """Play the answering end of another service."""
    stop = threading.Event()
    server = RpcServer(running.context, endpoint, handler)

    def serve() -> None:
        while not stop.is_set():
            server.socket.poll(20)
            server.serve()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        server.close()


def test_what_other_services_know(space: Namespace, running: Router) -> None:
    eth0 = space.index("eth0")
    played = [PlayedService(running, name, name, eth0) for name in ("forwarder", "arp")]
    asked: list[tuple[str, dict[str, Any]]] = []
    route = {
        "prefix": 0x0A020000,
        "prefix_length": 16,
        "kind": "unicast",
        "next_hops": [{"interface": eth0, "gateway": 0x0A000009, "weight": 1}],
        "chosen": {"interface": eth0, "next_hop": 0x0A000009},
        "mac": bytes.fromhex("020000000009"),
        "mtu": 1500,
    }

    def forwarder(method: str, params: dict[str, Any]) -> Any:
        asked.append((method, params))
        return route

    neighbour: dict[str, Any] = {
        "dst": 0x0A000009,
        "interface": eth0,
        "lladdr": None,
        "state": "INCOMPLETE",
        "age_s": 0.5,
        "waiting_frames": 3,
        "waiting_bytes": 300,
    }
    try:
        for one in played:
            one.report()
        wait_for(lambda: all(one["up"] for one in running.ask("status")["services"]), "both are heard")
        with answering(running, running.endpoints.forwarder_rpc, forwarder):
            shown = running.ask("route.get", dst="10.2.3.4")
            assert shown == {
                "dst": "10.2.3.4",
                "gateway": "10.0.0.9",
                "dev": "eth0",
                "prefsrc": "10.0.0.1",
                "prefix": "10.2.0.0/16",
                "mtu": 1500,
                "lladdr": "02:00:00:00:00:09",
                "neighbour": "resolved",
            }
            assert asked == [("route.get", {"dst": 0x0A020304})]
            route |= {"mac": None}
            assert running.ask("route.get", dst="10.2.3.4")["neighbour"] == "unresolved"
            route |= {"kind": "local", "chosen": None, "mtu": None}
            shown = running.ask("route.get", dst="10.2.3.4")
            assert (shown["type"], shown["neighbour"], "dev" in shown) == ("local", None, False)
            route |= {"kind": "none", "prefix": None, "prefix_length": None}
            assert refusal(running, "route.get", dst="10.2.3.4") == (
                "refused",
                "Network is unreachable: no route to 10.2.3.4",
            )
            route.clear()
            assert refusal(running, "route.get", dst="10.2.3.4")[0] == "unavailable"
        with answering(running, running.endpoints.arp_rpc, lambda *_: [neighbour]):
            expected = {
                "dst": "10.0.0.9",
                "dev": "eth0",
                "state": ["INCOMPLETE"],
                "age_s": 0.5,
                "waiting_frames": 3,
                "waiting_bytes": 300,
            }
            assert running.ask("neigh.show") == [expected]
            assert running.ask("neigh.show", dev="eth1") == []
            assert running.ask("neigh.show", dst="10.0.0.9") == [expected]
            assert running.ask("neigh.show", dst="10.0.0.8") == []
            assert refusal(running, "neigh.add", dst="10.0.0.9", dev="eth0", lladdr="02:00:00:00:00:07") == (
                "refused",
                "File exists: 10.0.0.9 dev eth0; use replace",
            )
            neighbour |= {"lladdr": bytes.fromhex("020000000009")}
            assert running.ask("neigh.show", dev="eth0") == [expected | {"lladdr": "02:00:00:00:00:09"}]
        for one in played:
            one.report()
        assert refusal(running, "route.get", dst="10.2.3.4") == ("unavailable", "forwarder: no answer within 0.25 s")
    finally:
        for one in played:
            one.close()


def test_configuration_in_force(space: Namespace, run_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("log_level: error\nparameters: {arp: {max_neighbours: 7}}\n", encoding="utf-8")
    with router(space, run_dir, "--config", str(file), "--log-level", "warning") as running:
        running.wait_until_mirrored()
        shown = running.ask("config.show")
        assert shown["log_level"] == "warning"
        assert shown["metrics_listen"] == "off"
        assert shown["parameters"]["arp"]["max_neighbours"] == 7
        assert running.follower.parameters is not None
        assert running.follower.parameters.arp.max_neighbours == 7


def test_the_client_in_the_documentation_works(running: Router, tmp_path: Path) -> None:
    text = (REPOSITORY / "docs" / "bus.md").read_text(encoding="utf-8")
    (client,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert "services" not in client
    file = tmp_path / "client.py"
    file.write_text(client, encoding="utf-8")
    running.ask("route.add", dst="10.2.0.0/16", via="10.0.0.9")
    command = [sys.executable, str(file), str(running.endpoints.run_dir)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "10.2.0.0/16 10.0.0.9 eth0\n", "")


def test_the_bytes_in_the_documentation_are_a_request() -> None:
    text = (REPOSITORY / "docs" / "bus.md").read_text(encoding="utf-8")
    dump = next(block for block in text.split("```") if block.startswith("\n01 "))
    columns = [line[:52] for line in dump.strip().splitlines()]
    data = bytes.fromhex("".join(re.findall(r"\b[0-9a-f]{2,}\b", " ".join(columns))))
    assert decode(data) == RpcRequest(id=7, method="route.get", params={"dst": "10.2.3.4"})


def test_policies_as_configured_and_as_changed(space: Namespace, run_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "hopwire.yml"
    file.write_text('interfaces: {eth0: {reverse_path: strict}, "*": {martians: linux}, eth9: {}}')
    with router(space, run_dir, "--config", str(file)) as running:
        running.wait_until_mirrored()

        def published(name: str) -> InterfacePolicy:
            return next(one.policy for one in running.follower.interfaces.values() if one.name == name)

        assert published("eth0") == InterfacePolicy(reverse_path="strict", martians="linux")
        assert published("eth1") == InterfacePolicy(martians="linux")
        running.ask("link.set", dev="eth1", directed_broadcast=True, mtu=1400)
        changed = InterfacePolicy(martians="linux", directed_broadcast=True)
        running.wait_until(lambda _: published("eth1") == changed, "the new policy")
        (shown,) = running.ask("link.show", dev="eth1")
        assert (shown["policy"], shown["mtu"]) == (changed.model_dump(), 1400)
        assert refusal(running, "link.set", dev="lo", redirects=False) == (
            "refused",
            "lo is no Ethernet interface of the router's, or a port of another one",
        )
        assert refusal(running, "link.set", dev="eth1", reverse_path="on") == (
            "usage",
            "reverse_path: should be 'off', 'loose' or 'strict'",
        )
