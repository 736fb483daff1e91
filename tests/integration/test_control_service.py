"""The control process in a network namespace, spoken to over its real sockets; the other services are played."""

import json
import os
import signal
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq
from control_harness import HAS_IP, ControlProcess, Namespace, Router, namespace, router, run_to_end, wait_for

from services.common import netns
from services.common.bus import RpcRefusedError, RpcServer, StatePublisher, connected
from services.common.counters import Counter, CounterBlock
from services.common.endpoints import prepare_run_dir
from services.common.messages import Neighbour, NeighbourState, Report, encode
from services.common.runtime import clock

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


def refusal(running: Router, method: str, **params: Any) -> tuple[str, str]:
    with pytest.raises(RpcRefusedError) as caught:
        running.ask(method, **params)
    return caught.value.error.code, caught.value.error.message


class PlayedService:
    """Sends reports as a service would, while the test lets it."""

    def __init__(self, running: Router, service: str, instance: str, *interfaces: int) -> None:
        self._socket = connected(running.context, zmq.PUSH, running.endpoints.control_reports)
        self._fields: dict[str, Any] = {
            "service": service,
            "instance": instance,
            "pid": 4711,
            "ready": True,
            "interfaces": list(interfaces),
            "counters": {},
        }

    def report(self, **changes: Any) -> None:
        self._fields |= changes
        self._socket.send(encode(Report.model_validate(self._fields)))

    def close(self) -> None:
        self._socket.close()


# --- State ------------------------------------------------------------------------------------------------------------


def test_subscribers_get_the_kernels_state_and_each_change(space: Namespace, running: Router) -> None:
    eth0 = space.index("eth0")
    table = running.follower.table()
    assert table["10.0.0.0/24"] == ("unicast", ((eth0, "0.0.0.0", 1),), 0)
    assert table["10.0.0.1/32"] == ("local", (), 0)
    assert running.follower.parameters is not None
    assert {one.name for one in running.follower.interfaces.values()} == {"eth0", "far0", "eth1", "far1"}
    space.kernel.route("add", dst="10.2.0.0/16", gateway="10.0.0.9")
    running.wait_until(lambda follower: "10.2.0.0/16" in follower.routes, "a new route")
    assert running.follower.snapshots == 1
    space.down("far0")
    running.wait_until(lambda follower: "10.2.0.0/16" not in follower.routes, "no route without carrier")
    assert not running.follower.interfaces[eth0].up


def test_subscribers_are_in_step_again_after_control_was_killed(space: Namespace, running: Router) -> None:
    space.kernel.route("add", dst="10.2.0.0/16", gateway="10.0.0.9")
    running.wait_until(lambda follower: "10.2.0.0/16" in follower.routes, "a new route")
    running.control.stop(signal.SIGKILL)
    space.kernel.route("del", dst="10.2.0.0/16")
    space.kernel.route("add", dst="10.3.0.0/16", gateway="10.0.0.9")
    running.start()
    running.wait_until(
        lambda follower: "10.3.0.0/16" in follower.routes and "10.2.0.0/16" not in follower.routes, "the new state"
    )
    assert running.follower.snapshots == 2
    space.kernel.route("add", dst="10.4.0.0/16", gateway="10.0.0.9")
    running.wait_until(lambda follower: "10.4.0.0/16" in follower.routes, "a change after the restart")


def test_what_is_there_at_once_is_published_at_once(space: Namespace, running: Router) -> None:
    running.control.process.send_signal(signal.SIGSTOP)
    for number in range(100):
        space.kernel.route("add", dst=f"10.100.{number}.0/24", gateway="10.0.0.9")
    running.control.process.send_signal(signal.SIGCONT)
    running.wait_until(lambda follower: "10.100.99.0/24" in follower.routes, "all routes")
    assert running.follower.changes <= 2


# --- RPC --------------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("method", "params", "code", "message"),
    [
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
    ],
)
def test_refusals(running: Router, method: str, params: dict[str, Any], code: str, message: str) -> None:
    refused_code, refused_message = refusal(running, method, **params)
    assert refused_code == code
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
            }
            assert running.ask("neigh.show") == [expected]
            assert running.ask("neigh.show", dev="eth1") == []
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


# --- Health, counters, metrics ----------------------------------------------------------------------------------------


def test_ready_when_the_services_are(space: Namespace, running: Router) -> None:
    space.down("eth1")
    interfaces = [space.index(name) for name in ("eth0", "far0")]
    ingresses = [PlayedService(running, "ingress", f"ingress-{index}", index) for index in interfaces]
    forwarder = PlayedService(running, "forwarder", "forwarder", *interfaces)
    arp = PlayedService(running, "arp", "arp", *interfaces)
    everybody = [*ingresses, forwarder, arp]
    try:
        status = running.ask("status")
        assert not status["ready"]
        assert status["waiting_for"][:2] == ["forwarder: not heard of yet", "arp: not heard of yet"]

        def told(*silent: PlayedService) -> dict[str, Any]:
            for one in everybody:
                if one not in silent:
                    one.report(generation=running.ask("status")["generation"])
            answer: dict[str, Any] = running.ask("status")
            return answer

        def told_until(is_ready: bool, *silent: PlayedService) -> dict[str, Any]:
            return wait_for(
                lambda: status if (status := told(*silent))["ready"] is is_ready else {}, f"ready is {is_ready}"
            )

        ready = told_until(True)
        assert ready["waiting_for"] == []
        assert {one["name"]: one["forwarding"] for one in ready["interfaces"]} == {
            "eth0": True,
            "far0": True,
            "eth1": False,
            "far1": False,
        }
        (eth0,) = [one for one in ready["interfaces"] if one["name"] == "eth0"]
        assert eth0["addresses"] == ["10.0.0.1/24"]
        assert {one["instance"] for one in ready["services"] if one["up"] and one["ready"]} == {
            "arp",
            "forwarder",
            *(f"ingress-{index}" for index in interfaces),
        }
        assert told_until(False, arp)["waiting_for"][0].startswith("arp: silent for ")
        told_until(True)
        space.up("eth1")
        assert set(told_until(False)["waiting_for"]) == {
            f"{name}: not served by ingress and forwarder and arp yet" for name in ("eth1", "far1")
        }
    finally:
        for one in everybody:
            one.close()


def test_counters_add_up_and_outlive_control_and_the_services(space: Namespace, run_dir: Path) -> None:
    eth0 = space.index("eth0")
    gone = CounterBlock(prepare_run_dir(run_dir).counters("ingress-gone0"))
    gone.add(Counter.RX_FRAMES, 5, 4711)
    gone.close()
    with router(space, run_dir) as running:
        forwarder = PlayedService(running, "forwarder", "forwarder", eth0)
        try:
            forwarder.report(counters={eth0: {"FORWARDED": 3, "DROP_NO_ROUTE": 1}, 0: {"GENERATED": 1}})
            counted = wait_for(
                lambda: (seen := running.ask("counters"))["services"].get("forwarder") and seen, "its counters"
            )
            assert counted["services"]["forwarder"] == {
                "eth0": {"FORWARDED": 3, "DROP_NO_ROUTE": 1},
                "-": {"GENERATED": 1},
            }
            assert counted["services"]["ingress-gone0"] == {"if4711": {"RX_FRAMES": 5}}
            assert counted["interfaces"]["eth0"] == {"FORWARDED": 3, "DROP_NO_ROUTE": 1}
            assert counted["balance"] == {
                "received": 5,
                "generated": 1,
                "sent": 3,
                "delivered": 0,
                "consumed": 0,
                "dropped": 1,
                "waiting": 0,
                "in_flight": 2,
            }
        finally:
            forwarder.close()


def test_malformed_messages_are_counted_and_nothing_else(running: Router) -> None:
    endpoints = running.endpoints
    report = connected(running.context, zmq.PUSH, endpoints.control_reports)
    request = connected(running.context, zmq.DEALER, endpoints.control_rpc)
    snapshot = connected(running.context, zmq.DEALER, endpoints.control_snapshot)
    sockets = (report, request, snapshot)
    garbage = (b"", b"\x01", b"\x02\x80", os.urandom(100), encode(NeighbourState()))
    try:
        for socket in sockets:
            for message in garbage:
                socket.send(message)
        expected = len(sockets) * len(garbage)

        def counted() -> bool:
            own = running.ask("counters")["services"].get("control", {}).get("-", {})
            return bool(own.get("BAD_MESSAGES") == expected)

        wait_for(counted, f"{expected} malformed messages are counted")
    finally:
        for socket in sockets:
            socket.close()


def test_metrics_over_http(space: Namespace, run_dir: Path) -> None:
    listen = "127.0.0.1:9100"
    eth0 = space.index("eth0")

    def scrape() -> str:
        with netns.inside(space.name), urllib.request.urlopen(f"http://{listen}/metrics", timeout=10) as answer:
            text: str = answer.read().decode()
            return text

    with router(space, run_dir, metrics=listen) as running:
        running.wait_until_mirrored()
        ingress = PlayedService(running, "ingress", "ingress-eth0", eth0)
        arp = StatePublisher(
            running.context,
            running.endpoints.arp_state,
            running.endpoints.arp_snapshot,
            lambda: NeighbourState(full=True, neighbours=[Neighbour(interface=eth0, address=1, mac=bytes(6))]),
        )
        try:
            wanted = {
                'hopwire_received_frames_total{interface="eth0"} 12.0',
                'hopwire_dropped_frames_total{interface="eth0",reason="runt"} 2.0',
                'hopwire_dropped_frames_total{interface="eth1",reason="no_route"} 0.0',
                'hopwire_service_up{instance="ingress-eth0",service="ingress"} 1.0',
                'hopwire_neighbours{interface="eth0"} 1.0',
                'hopwire_routes{kind="unicast"} 2.0',
                "hopwire_in_flight_frames 10.0",
                "hopwire_ready 0.0",
            }

            def all_there() -> bool:
                ingress.report(counters={eth0: {"RX_FRAMES": 12, "DROP_RUNT": 2}})
                arp.answer_requests()
                arp.beat(clock())
                return wanted <= set(scrape().splitlines())

            wait_for(all_there, f"{wanted}")
            second = ControlProcess(space.name, prepare_run_dir(run_dir.parent / "second").run_dir, metrics=listen)
            warning = f"no metrics: cannot listen on {listen}: Address already in use"
            try:
                wait_for(lambda: warning in second.log(), "the second one warns")
                assert second.process.poll() is None
            finally:
                assert second.stop() == 0
        finally:
            ingress.close()
            arp.close()


# --- Start and stop ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_clean_stop_gives_the_kernel_back_what_was_its_own(
    space: Namespace, run_dir: Path, number: signal.Signals
) -> None:
    settings = ("ip_forward", "icmp_echo_ignore_all", "conf/eth0/arp_ignore", "conf/eth1/arp_ignore")
    before = [space.setting(name) for name in settings]
    with router(space, run_dir) as running:
        running.wait_until_mirrored()
        assert [space.setting(name) for name in settings] == ["0", "1", "8", "8"]
        space.kernel.link("add", ifname="new0", kind="veth", peer={"ifname": "new1"})
        space.up("new0")
        wait_for(lambda: space.setting("conf/new0/arp_ignore") == "8", "a new interface is taken over")
        assert running.control.stop(number) == 0
        assert [space.setting(name) for name in settings] == before
        assert "Traceback" not in running.control.log()


def test_the_kernel_is_left_alone_on_request(space: Namespace, run_dir: Path) -> None:
    with router(space, run_dir, "--no-kernel-settings") as running:
        running.wait_until_mirrored()
        assert space.setting("icmp_echo_ignore_all") == "0"
        warnings = wait_for(lambda: running.ask("status")["warnings"], "a warning")
        assert any("icmp_echo_ignore_all should be 1" in warning for warning in warnings)


def test_a_second_instance_is_refused_and_the_first_goes_on(running: Router) -> None:
    ended = run_to_end("--run-dir", str(running.endpoints.run_dir), "--metrics-listen", "off")
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"hopwire control: control already runs on {running.endpoints.run_dir} (process ")
    assert running.ask("route.show")


def test_bad_settings_end_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("parameters:\n  arp:\n    max_neighbour: 7\n", encoding="utf-8")
    unwritable = tmp_path / "file"
    unwritable.write_text("", encoding="utf-8")
    cases: list[tuple[dict[str, str], str]] = [
        ({"HOPWIRE_CONFIG": str(file)}, f"{file}:3:5: unknown key 'parameters.arp.max_neighbour'; did you mean"),
        ({"HOPWIRE_LOG_LEVEL": "loud"}, "--log-level: 'loud' should be 'debug', 'info', 'warning' or 'error'"),
        ({"HOPWIRE_METRICS_LISTEN": "9100"}, "--metrics-listen: '9100' is not ADDRESS:PORT such as 127.0.0.1:9100"),
        ({"HOPWIRE_RUN_DIR": str(unwritable / "run")}, f"run directory {unwritable / 'run'}: Not a directory; choose"),
    ]
    for variables, message in cases:
        ended = run_to_end(**({"HOPWIRE_RUN_DIR": str(tmp_path / "run")} | variables))
        assert ended.returncode == 1
        (line,) = ended.stderr.splitlines()
        assert line.startswith(f"hopwire control: {message}")
    assert not (tmp_path / "run").exists()


def test_an_unknown_flag_is_a_usage_error() -> None:
    ended = run_to_end("--no-such-flag")
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
