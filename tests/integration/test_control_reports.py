"""Readiness, counters and metrics of a real control process; the services that report are played."""

import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from control_harness import (
    ControlProcess,
    Namespace,
    PlayedService,
    Router,
    namespace,
    router,
    wait_for,
)

from services.common import netns
from services.common.bus import connected
from services.common.counters import Counter, CounterBlock
from services.common.endpoints import prepare_run_dir
from services.common.messages import NeighbourState, encode

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]


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
            unaccounted = counted["balance"].pop("unaccounted")
            assert unaccounted in (0, 2), "the latter once it is time"
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
        arp = PlayedService(running, "arp", "arp", eth0)
        try:
            wanted = {
                'hopwire_received_frames_total{interface="eth0"} 12.0',
                'hopwire_dropped_frames_total{interface="eth0",reason="runt"} 2.0',
                'hopwire_dropped_frames_total{interface="eth1",reason="no_route"} 0.0',
                'hopwire_service_up{process="ingress-eth0",service="ingress"} 1.0',
                'hopwire_neighbours{interface="eth0",state="reachable"} 1.0',
                'hopwire_routes{kind="unicast"} 2.0',
                'hopwire_service_restarts_total{process="ingress-eth0",service="ingress"} 2.0',
                'hopwire_stage_batch_frames_bucket{le="8.0",process="arp",stage="resolve"} 1.0',
                "hopwire_in_flight_frames 10.0",
                "hopwire_unaccounted_frames 10.0",
                "hopwire_ready 0.0",
            }

            def all_there() -> bool:
                ingress.report(counters={eth0: {"RX_FRAMES": 12, "DROP_RUNT": 2}}, meters={"STARTS": 3})
                arp.report(gauges={eth0: {"NEIGHBOURS_REACHABLE": 1}}, histograms={"RESOLVE_FRAMES": [5, 0, 0, 0, 1]})
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


def test_reports_from_an_ingress_elsewhere(space: Namespace, run_dir: Path) -> None:
    elsewhere = f"ipc://{run_dir.parent}/elsewhere.sock"
    with router(space, run_dir, "--listen", elsewhere) as running:
        running.wait_until_mirrored()
        ingress = PlayedService(running, "ingress", "ingress-remote", endpoint=elsewhere)
        try:
            wait_for(ingress.try_report, "control listens there")
            wait_for(lambda: [one["instance"] for one in running.ask("status")["services"]], "it is heard")
        finally:
            ingress.close()
