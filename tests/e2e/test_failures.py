"""Containers die under load, their namespace is replaced: traffic comes back, and every frame has a fate."""

from collections.abc import Callable

import pytest
from lab import PATIENCE, SERVICES, ComposeLab, wait_for
from load import load

BACK_LIMIT_S = 5.0 * PATIENCE
HOLDER_BACK_LIMIT_S = 15.0 * PATIENCE


@pytest.mark.parametrize("service", SERVICES)
def test_a_killed_container_is_back_within_five_seconds(lab: ComposeLab, service: str) -> None:
    before = lab.container(service)
    restarts = before.attrs["RestartCount"]
    with load(lab) as pinger:
        lab.kill(service)
        wait_for("the engine has started it again", lambda: lab.container(service).attrs["RestartCount"] > restarts)
        lab.wait_healthy()
        pinger.wait_for_more()
        silence = pinger.longest_silence()
    lab.figures[f"traffic after {service} was killed"] = f"back after {silence:.1f} s"
    assert lab.container(service).id == before.id
    assert silence < BACK_LIMIT_S
    lab.wait_balanced()


def _restart(lab: ComposeLab) -> None:
    lab.container("router").restart(timeout=5)


def _kill(lab: ComposeLab) -> None:
    lab.kill("router")


def _compose_restart(lab: ComposeLab) -> None:
    lab.run("docker", "compose", "restart", "router")


@pytest.mark.parametrize("again", [_restart, _kill, _compose_restart])
def test_services_follow_the_holder_into_its_new_namespace(
    lab: ComposeLab, again: Callable[[ComposeLab], None]
) -> None:
    containers = {service: lab.container(service).id for service in SERVICES}
    old = lab.namespace("router")
    with load(lab) as pinger:
        again(lab)
        new = wait_for("the holder has a new namespace", lambda: lab.namespace("router").replace(old, ""))
        wait_for(
            "all are in the new namespace and well",
            lambda: (
                all(lab.health(service) == "healthy" for service in SERVICES)
                and all(lab.namespace(service) == new for service in SERVICES)
            ),
        )
        pinger.wait_for_more()
        silence = pinger.longest_silence()
    name = again.__name__.strip("_").replace("_", " ")
    lab.figures[f"traffic after {name} of the holder"] = f"back after {silence:.1f} s"
    assert silence < HOLDER_BACK_LIMIT_S
    assert {service: lab.container(service).id for service in SERVICES} == containers
    assert lab.control("status")["warnings"] == []
    lab.wait_balanced()


def test_a_service_waits_while_the_holder_is_away(lab: ComposeLab) -> None:
    router = lab.container("router")
    router.stop(timeout=5)
    try:
        wait_for(
            "all say what they wait for",
            lambda: all("does not run; waiting for it" in lab.last_probe(service) for service in SERVICES),
        )
        lab.kill_child("arp")  # what dies meanwhile must not take its container with it
        assert all(lab.container(service).attrs["State"]["Running"] for service in SERVICES)
    finally:
        router.start()
    lab.wait_healthy()
    assert "3 received" in lab.execute("host1", "ping", "-c", "3", "-i", "0.2", "10.0.11.20")


def test_a_service_that_dies_in_its_container_is_started_again_there(lab: ComposeLab) -> None:
    before = lab.container("forwarder").attrs["State"]["StartedAt"]
    with load(lab) as pinger:
        lab.kill_child("forwarder")
        pinger.wait_for_more(100)
        lab.wait_healthy(SERVICES)
    assert lab.container("forwarder").attrs["State"]["StartedAt"] == before
    lab.wait_balanced()
