"""Interfaces that come, go, and go down and up while the router runs."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address

import pytest
from pyroute2 import IPRoute
from pyroute2 import netns as pyroute2_netns
from router_lab import PREFIX, Control, RouterLab, kernel, wait_for
from router_traffic import Pinger

from services.launcher.lab import measure

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

LATE = f"{PREFIX}late"
LATE_ADDRESS = "10.77.0.2"
APPEARS_LIMIT_S = 10.0


def make_interface(lab: RouterLab, name: str) -> None:
    """Join the router and the late host by a veth pair, all configured."""
    with kernel(lab, "router") as router:
        router.link("add", kind="veth", ifname=name, peer={"ifname": "eth0", "net_ns_fd": LATE})
        (index,) = router.link_lookup(ifname=name)
        router.addr("add", index=index, address="10.77.0.1", prefixlen=24)
        router.link("set", index=index, state="up")
    with IPRoute(netns=LATE, flags=0) as host:
        (index,) = host.link_lookup(ifname="eth0")
        host.addr("add", index=index, address=LATE_ADDRESS, prefixlen=24)
        host.link("set", index=index, state="up")
        host.route("add", dst="default", gateway="10.77.0.1")


def remove_interface(lab: RouterLab, name: str) -> None:
    with kernel(lab, "router") as router:
        for index in router.link_lookup(ifname=name):
            router.link("del", index=index)


def set_link(lab: RouterLab, node: str, interface: str, state: str) -> None:
    with kernel(lab, node) as netlink:
        (index,) = netlink.link_lookup(ifname=interface)
        netlink.link("set", index=index, state=state)


@contextmanager
def late_host() -> Iterator[None]:
    pyroute2_netns.create(LATE)
    try:
        yield
    finally:
        pyroute2_netns.remove(LATE)


def answers(lab: RouterLab, destination: str) -> bool:
    report = measure.ping(lab, "host1", IPv4Address(destination), "--count", "1", "--timeout", "0.5")
    return report["received"] == 1


def instances(control: Control) -> set[str]:
    return set(control.pids())


class TestComingAndGoing:
    def test_one_that_comes_forwards_and_one_that_goes_is_let_go(self, pair: RouterLab) -> None:
        control = pair.control()
        before = control.pids()
        with late_host():
            make_interface(pair, "late0")
            wait_for("the new host answers", lambda: answers(pair, LATE_ADDRESS), APPEARS_LIMIT_S)
            control.wait_until_ready()
            assert instances(control) == before.keys() | {"ingress-late0"}
            remove_interface(pair, "late0")
            wait_for("its ingress is gone", lambda: instances(control) == before.keys())
            control.wait_until_ready()
            assert answers(pair, "192.168.0.2")
            assert [one["name"] for one in control.ask("status")["interfaces"]] == ["eth0", "eth1"]
            # another one of the same name is another interface
            make_interface(pair, "late0")
            wait_for("the new host answers again", lambda: answers(pair, LATE_ADDRESS), APPEARS_LIMIT_S)
            remove_interface(pair, "late0")
            wait_for("its ingress is gone", lambda: instances(control) == before.keys())
        control.wait_until_ready()
        assert control.pids() == before
        assert not (control.run_dir / "rings" / "late0.ring").exists()


class TestDownAndUp:
    def test_by_netlink(self, pair: RouterLab) -> None:
        """The ingress of the interface outlives it, so that frames pass as soon as it is up again."""
        control = pair.control()
        before = control.pids()
        with Pinger(pair, "host1", "192.168.0.2") as pinger:
            pinger.wait_for_replies(5)
            set_link(pair, "router", "eth1", "down")
            wait_for("no route", lambda: control.route_kind("192.168.0.2") != "unicast")
            control.wait_until_ready()
            set_link(pair, "router", "eth1", "up")
            pinger.wait_for_replies(5)
        control.wait_until_ready()
        assert control.pids() == before

    def test_an_ingress_that_ends_meanwhile(self, pair: RouterLab) -> None:
        """It starts again when its interface is up."""
        control = pair.control()
        set_link(pair, "router", "eth1", "down")
        wait_for("no route", lambda: control.route_kind("192.168.0.2") != "unicast")
        os.kill(control.pids()["ingress-eth1"], signal.SIGKILL)
        wait_for("it is gone", lambda: "ingress-eth1" not in instances(control))
        set_link(pair, "router", "eth1", "up")
        wait_for("host2 answers", lambda: answers(pair, "192.168.0.2"), APPEARS_LIMIT_S)
        control.wait_until_ready()

    def test_the_senders_side(self, pair: RouterLab) -> None:
        """The interface that frames come in by; host1 loses its route when its own link goes, so it pings anew."""
        set_link(pair, "router", "eth0", "down")
        wait_for("eth0 is down", lambda: pair.control().route_kind("192.168.1.2") != "unicast")
        set_link(pair, "router", "eth0", "up")
        wait_for("host2 answers", lambda: answers(pair, "192.168.0.2"))
        pair.control().wait_until_ready()

    def test_carrier(self, pair: RouterLab) -> None:
        """The far end goes down: the interface is still up, but without a carrier, and comes back by itself."""
        set_link(pair, "host2", "eth0", "down")
        wait_for("the router knows", lambda: pair.control().route_kind("192.168.0.2") != "unicast")
        assert not answers(pair, "192.168.0.2")
        set_link(pair, "host2", "eth0", "up")
        with kernel(pair, "host2") as host2:
            host2.route("replace", dst="default", gateway="192.168.0.1")
        wait_for("host2 answers", lambda: answers(pair, "192.168.0.2"))

    def test_flapping(self, pair: RouterLab) -> None:
        for _ in range(10):
            set_link(pair, "router", "eth1", "down")
            set_link(pair, "router", "eth1", "up")
        wait_for("host2 answers", lambda: answers(pair, "192.168.0.2"), 30.0)
        pair.control().wait_until_ready(30.0)
