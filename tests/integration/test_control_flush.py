"""Choosing routes and addresses by what they have, and removing them, over control's RPC in a network namespace."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from control_harness import HAS_IP, Namespace, PlayedService, Router, namespace, refusal, router, wait_for
from test_control_rpc import answering

from services.common.endpoints import prepare_run_dir

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]


@pytest.fixture
def space() -> Iterator[Namespace]:
    with namespace(f"cg{os.getpid()}") as made:
        yield made


@pytest.fixture
def running(space: Namespace, tmp_path: Path) -> Iterator[Router]:
    with router(space, prepare_run_dir(tmp_path / "run").run_dir) as made:
        made.wait_until_mirrored()
        yield made


def destinations(running: Router, **wanted: Any) -> list[str]:
    return [route["dst"] for route in running.ask("route.show", **wanted)]


def add_routes(running: Router) -> None:
    for dst in ("default", "10.2.0.0/16", "10.2.3.0/24", "10.3.0.0/16"):
        running.ask("route.add", dst=dst, via="10.0.0.9", proto="bgp")
    running.ask("route.add", dst="10.2.3.4", type="blackhole", proto="static")
    running.ask("route.add", dst="10.2.0.0/16", via="10.1.0.9", metric=7, proto="bgp")


def test_selectors(running: Router) -> None:
    add_routes(running)
    assert destinations(running, root="10.2.0.0/16") == ["10.2.0.0/16", "10.2.0.0/16", "10.2.3.0/24", "10.2.3.4"]
    assert destinations(running, match="10.2.3.0/24") == ["default", "10.2.0.0/16", "10.2.0.0/16", "10.2.3.0/24"]
    assert destinations(running, match="10.2.3.4", root="10.2.0.0/17") == ["10.2.3.0/24", "10.2.3.4"]
    assert destinations(running, match="10.2.3.4", dst="10.3.0.0/16") == []
    assert destinations(running, type="blackhole") == ["10.2.3.4"]
    assert destinations(running, scope="link") == ["10.0.0.0/24", "10.1.0.0/24"]
    assert destinations(running, scope=0, root="10.3.0.0/16") == ["10.3.0.0/16"]
    assert refusal(running, "route.show", type="odd")[0] == "usage"
    assert refusal(running, "route.show", scope="odd")[0] == "usage"


def test_flush_removes_what_show_shows_and_nothing_else(running: Router) -> None:
    add_routes(running)
    running.ask("route.add", dst="10.4.0.0/16", nexthops=[{"via": "10.0.0.9", "weight": 2}, {"via": "10.1.0.9"}])
    assert running.ask("route.flush", dst="10.2.0.0/16", dev="eth1") == {"removed": 1, "more": False}
    assert [one["gateway"] for one in running.ask("route.show", dst="10.2.0.0/16")] == ["10.0.0.9"]
    assert running.ask("route.flush", root="10.2.0.0/16", proto="bgp") == {"removed": 2, "more": False}
    assert destinations(running, root="10.2.0.0/16") == ["10.2.3.4"]
    assert running.ask("route.flush", via="10.1.0.9")["removed"] == 1
    assert destinations(running, root="10.4.0.0/16") == []
    assert running.ask("route.flush", type="blackhole")["removed"] == 1
    assert running.ask("route.flush", dst="10.99.0.0/16")["removed"] == 0
    running.ask("route.flush", table="main")
    assert destinations(running) == []
    assert destinations(running, table="local")
    running.wait_until(lambda follower: "0.0.0.0/0" not in follower.routes, "the removal is published")


@pytest.mark.skipif(not HAS_IP, reason="needs ip(8) of iproute2")
def test_flush_takes_just_the_route_among_others_of_its_prefix(space: Namespace, running: Router) -> None:
    for words in (
        "nexthop add id 7 via 10.0.0.9 dev eth0",
        "route add 10.6.0.0/16 nhid 7",
        "route append 10.7.0.0/16 via 10.0.0.7",
        "route append 10.7.0.0/16 via 10.0.0.8",
        "route append 10.7.0.0/16 via 10.0.0.9",
        "route add 10.7.0.0/16 via 10.0.0.8 tos 0x10",
        "route add 10.7.0.0/16 via 10.0.0.8 metric 5 proto 77 src 10.0.0.1",
    ):
        space.ip(*words.split())
    running.wait_until(lambda follower: "10.6.0.0/16" in follower.routes, "the first route")
    assert running.ask("route.flush", dst="10.7.0.0/16", via="10.0.0.8")["removed"] == 3
    assert [one["gateway"] for one in running.ask("route.show", dst="10.7.0.0/16")] == ["10.0.0.7", "10.0.0.9"]
    assert running.ask("route.flush", via="10.0.0.9")["removed"] == 2
    assert destinations(running, root="10.6.0.0/15") == ["10.7.0.0/16"]


@pytest.mark.skipif(not HAS_IP, reason="needs ip(8) of iproute2")
def test_flush_of_more_than_one_request_takes(space: Namespace, running: Router, tmp_path: Path) -> None:
    batch = tmp_path / "batch"
    prefixes = [f"10.{128 + number // 256}.{number % 256}.0/24" for number in range(10_500)]
    batch.write_text("".join(f"route add {prefix} dev eth0 proto 99\n" for prefix in prefixes))
    subprocess.run(["ip", "-n", space.name, "-batch", str(batch)], check=True, timeout=60)
    wait_for(lambda: len(destinations(running, proto=99)) == len(prefixes), "all routes are mirrored")
    assert running.ask("route.flush", proto=99) == {"removed": 10_000, "more": True}
    assert running.ask("route.flush", proto=99) == {"removed": 500, "more": False}
    assert destinations(running, proto=99) == []


def test_flush_without_a_selector_is_refused(running: Router) -> None:
    before = destinations(running)
    for method in ("route.flush", "addr.flush"):
        code, message = refusal(running, method)
        assert code == "usage"
        assert message.endswith("nothing is removed without")
    assert destinations(running) == before


def test_addresses_replaced_and_flushed(running: Router) -> None:
    def shown(dev: str) -> list[str]:
        (link,) = running.ask("addr.show", dev=dev)
        return [f"{one['local']}/{one['prefixlen']}" for one in link["addr_info"]]

    for verb in ("add", "replace", "change"):
        running.ask(f"addr.{verb}", address="10.5.0.1/24", dev="eth0")
    running.ask("addr.replace", address="10.5.0.2/24", dev="eth0")
    assert shown("eth0") == ["10.0.0.1/24", "10.5.0.1/24", "10.5.0.2/24"]
    assert running.ask("addr.flush", to="10.5.0.0/24") == {"removed": 2}
    assert shown("eth0") == ["10.0.0.1/24"]
    assert running.ask("addr.flush", scope="link") == {"removed": 0}
    assert running.ask("addr.flush", dev="eth0") == {"removed": 1}
    assert (shown("eth0"), shown("eth1")) == ([], ["10.1.0.1/24"])
    assert refusal(running, "addr.flush", dev="eth9")[1].startswith("No such device: eth9; there are: ")


def test_route_get_of_a_datagram_and_the_fib(space: Namespace, running: Router) -> None:
    eth0, eth1 = space.index("eth0"), space.index("eth1")
    played = PlayedService(running, "forwarder", "forwarder", eth0)
    asked: list[dict[str, Any]] = []
    route = {
        "prefix": 0x0A020000,
        "prefix_length": 16,
        "kind": "unicast",
        "next_hops": [{"interface": eth0, "gateway": 0x0A000009, "weight": 1, "silent": False}],
        "chosen": {"interface": eth0, "next_hop": 0x0A000009},
        "mac": None,
        "mtu": 1500,
        "interface": eth1,
        "verdict": "HANDED",
    }

    def forwarder(method: str, params: dict[str, Any]) -> Any:
        asked.append(params)
        return {"generation": 3, "routes": 9} if method == "fib" else route

    try:
        played.report()
        wait_for(lambda: any(one["up"] for one in running.ask("status")["services"]), "it is heard")
        with answering(running, running.endpoints.forwarder_rpc, forwarder):
            shown = running.ask("route.get", dst="10.2.3.4", src="10.1.0.7", iif="eth1")
            assert asked == [{"dst": 0x0A020304, "src": 0x0A010007, "interface": eth1}]
            assert (shown["from"], shown["iif"], shown["gateway"]) == ("10.1.0.7", "eth1", "10.0.0.9")
            assert "prefsrc" not in shown
            route["verdict"] = "DROP_REVERSE_PATH"
            code, message = refusal(running, "route.get", dst="10.2.3.4", src="10.9.0.7", iif="eth1")
            assert code == "refused"
            assert message.startswith("Invalid cross-device link: from 10.9.0.7 by eth1: ")
            assert message.endswith("(DROP_REVERSE_PATH)")
            assert refusal(running, "route.get", dst="10.2.3.4", src="10.9.0.7", iif="eth9")[1].startswith(
                "No such device: eth9; there are: "
            )
            assert refusal(running, "route.get", dst="10.2.3.4", iif="eth1")[0] == "usage"
            fib = running.ask("fib")
            assert (fib["generation"], fib["routes"]) == (3, 9)
            assert fib["control_generation"] >= 1
    finally:
        played.close()


def test_counters_of_one_interface(space: Namespace, running: Router) -> None:
    eth0, eth1 = space.index("eth0"), space.index("eth1")
    played = PlayedService(running, "forwarder", "forwarder", eth0)
    try:
        played.report(counters={eth0: {"DROP_NO_ROUTE": 2}, eth1: {"FORWARDED": 5}})
        wait_for(lambda: running.ask("counters")["interfaces"], "the report is there")
        one = running.ask("counters", dev="eth0")
        assert one["interfaces"] == {"eth0": {"DROP_NO_ROUTE": 2}}
        assert one["services"] == {"forwarder": {"eth0": {"DROP_NO_ROUTE": 2}}}
        assert "balance" not in one
        assert running.ask("counters", dev="far0")["interfaces"] == {"far0": {}}
        assert refusal(running, "counters", dev="eth9")[1].startswith("No such device: eth9; there are: ")
    finally:
        played.close()
