"""control-cli, the real program, on a running router: what it changes is proved with traffic."""

import os
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from router_lab import Control, RouterLab, far_address, kernel, second_address, wait_for
from router_traffic import Pinger

from services.launcher.lab import measure

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

FAR = "10.9.0.1"
"""An address of host2 that the router has no route to."""
PREFIX = "10.9.0.0/24"
HOST2 = IPv4Address("192.168.0.2")


@pytest.fixture(scope="module", autouse=True)
def network_behind_host2(pair: RouterLab) -> Iterator[None]:
    with far_address(pair, "host2", FAR):
        yield


@pytest.fixture
def control(pair: RouterLab) -> Control:
    return pair.control()


def answers(lab: RouterLab, destination: str, host: str = "host1") -> bool:
    report = measure.ping(lab, host, IPv4Address(destination), "--count", "1", "--timeout", "2")
    return report["received"] == 1


def kernel_routes(lab: RouterLab, prefix: str) -> list[tuple[str | None, int]]:
    """Return gateway and metric of the kernel's own routes to a prefix."""
    with kernel(lab, "router") as router:
        address, _, length = prefix.partition("/")
        routes = [one for one in router.get_routes(family=2, table=254) if one.get("dst") == address]
        return [(one.get("gateway"), one.get("priority") or 0) for one in routes if one["dst_len"] == int(length)]


class TestRoutes:
    def test_add_replace_and_delete(self, pair: RouterLab, control: Control) -> None:
        assert not answers(pair, FAR)
        control.change("route", "add", PREFIX, "via", "192.168.0.2")
        assert kernel_routes(pair, PREFIX) == [("192.168.0.2", 0)]
        assert answers(pair, FAR)
        control.change("r", "r", PREFIX, "via", "192.168.1.2")
        assert kernel_routes(pair, PREFIX) == [("192.168.1.2", 0)]
        assert not answers(pair, FAR)
        control.change("route", "replace", PREFIX, "via", "192.168.0.2", "dev", "eth1")
        assert answers(pair, FAR)
        control.change("route", "del", PREFIX)
        assert kernel_routes(pair, PREFIX) == []
        assert not answers(pair, FAR)

    def test_show(self, pair: RouterLab, control: Control) -> None:
        control.change("route", "add", PREFIX, "via", "192.168.0.2", "metric", "7", "mtu", "1400")
        (route,) = control.show("route", "show", PREFIX)
        assert route["dst"] == PREFIX
        assert (route["gateway"], route["dev"], route["metric"]) == ("192.168.0.2", "eth1", 7)
        destinations = {one["dst"] for one in control.show("route", "show")}
        assert destinations == {PREFIX, "192.168.0.0/24", "192.168.1.0/24"}
        table = control.cli("route", "show")
        assert table.returncode == 0
        (line,) = [line for line in table.stdout.splitlines() if line.startswith(PREFIX)]
        assert "192.168.0.2" in line
        assert "eth1" in line
        control.change("route", "del", PREFIX, "metric", "7")

    def test_get(self, pair: RouterLab, control: Control) -> None:
        control.change("route", "add", PREFIX, "via", "192.168.0.2")
        assert answers(pair, FAR)
        (route,) = control.show("route", "get", FAR)
        with kernel(pair, "host2") as host2:
            (link,) = host2.get_links(ifname="eth0")
        assert route["dst"] == FAR
        assert (route["gateway"], route["dev"], route["prefix"], route["mtu"]) == ("192.168.0.2", "eth1", PREFIX, 1500)
        assert (route["lladdr"], route["neighbour"]) == (link.get("address"), "resolved")
        (silent,) = control.show("route", "get", "192.168.0.99")
        assert (silent["prefix"], silent["lladdr"], silent["neighbour"]) == ("192.168.0.0/24", None, "unresolved")
        assert "gateway" not in silent
        (own,) = control.show("route", "get", "192.168.0.1")
        assert own["type"] == "local"
        control.change("route", "del", PREFIX)

    def test_mtu_of_a_route(self, pair: RouterLab, control: Control) -> None:
        control.change("route", "add", PREFIX, "via", "192.168.0.2", "mtu", "1280")
        options = ("--count", "1", "--size", "1400", "--dont-fragment")
        (error,) = measure.ping(pair, "host1", IPv4Address(FAR), *options)["errors"]
        assert (error["type"], error["code"], error["mtu"]) == (3, 4, 1280)
        control.change("route", "del", PREFIX)

    def test_several_next_hops(self, pair: RouterLab, control: Control) -> None:
        with second_address(pair, "host2", "192.168.0.3/24"):
            hops = ["nexthop", "via", "192.168.0.2", "nexthop", "via", "192.168.0.3", "weight", "3"]
            control.change("route", "add", PREFIX, *hops)
            (route,) = control.show("route", "show", PREFIX)
            assert [(hop["gateway"], hop["weight"]) for hop in route["nexthops"]] == [
                ("192.168.0.2", 1),
                ("192.168.0.3", 3),
            ]
            assert answers(pair, FAR)
            control.change("route", "del", PREFIX)


class TestRefusals:
    def test_what_the_kernel_refuses(self, control: Control) -> None:
        control.change("route", "add", PREFIX, "via", "192.168.0.2")
        again = control.cli("route", "add", PREFIX, "via", "192.168.0.2")
        assert (again.returncode, again.stdout) == (1, "")
        assert again.stderr.startswith("control-cli: File exists: ")
        assert again.stderr.count("\n") == 1
        control.change("route", "del", PREFIX)
        gone = control.cli("route", "del", PREFIX)
        assert gone.returncode == 1
        assert gone.stderr.startswith("control-cli: No such process: ")
        off_link = control.cli("route", "add", PREFIX, "via", "172.16.0.1")
        assert off_link.returncode == 1
        assert off_link.stderr.count("\n") == 1

    @pytest.mark.parametrize(
        "words",
        [
            ("route", "add", "10.9.0.0/33", "via", "192.168.0.2"),
            ("route", "add", PREFIX, "through", "192.168.0.2"),
            ("route", "frobnicate"),
            ("addr", "add", "10.5.0.1/24"),
            ("link", "set", "eth0", "mtu", "many"),
        ],
        ids=" ".join,
    )
    def test_wrong_usage(self, control: Control, words: tuple[str, ...]) -> None:
        done = control.cli(*words)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("control-cli: ")
        assert "Traceback" not in done.stderr

    def test_interface_that_is_not_there(self, control: Control) -> None:
        done = control.cli("addr", "add", "10.5.0.1/24", "dev", "eth7")
        assert done.returncode in (1, 2)
        assert "eth7" in done.stderr

    def test_no_router(self, tmp_path: Path) -> None:
        done = Control(tmp_path).cli("status")
        assert (done.returncode, done.stdout) == (3, "")
        assert str(tmp_path) in done.stderr
        assert done.stderr.count("\n") == 1


class TestAddresses:
    def test_add_and_delete(self, pair: RouterLab, control: Control) -> None:
        with second_address(pair, "host1", "10.5.0.2/24"):
            control.change("addr", "add", "10.5.0.1/24", "dev", "eth0")
            assert answers(pair, "10.5.0.1")
            (shown,) = control.show("addr", "show", "eth0")
            assert [(one["local"], one["prefixlen"]) for one in shown["addr_info"]] == [
                ("192.168.1.1", 24),
                ("10.5.0.1", 24),
            ]
            # a connected network comes with it: host2 reaches host1's second address
            assert answers(pair, "10.5.0.2", "host2")
            control.change("addr", "del", "10.5.0.1/24", "dev", "eth0")
            assert not answers(pair, "10.5.0.1")
            assert not answers(pair, "10.5.0.2", "host2")
        refused = control.cli("addr", "del", "10.5.0.1/24", "dev", "eth0")
        assert refused.returncode == 1


class TestLinks:
    def test_down_and_up_under_traffic(self, pair: RouterLab, control: Control) -> None:
        with Pinger(pair, "host1", str(HOST2)) as pinger:
            pinger.wait_for_replies(5)
            control.change("link", "set", "eth1", "down")
            (link,) = control.show("link", "show", "eth1")
            assert "UP" not in link["flags"]
            report = measure.ping(pair, "host1", HOST2, "--count", "1", "--timeout", "2")
            assert report["received"] == 0
            assert [(error["type"], error["code"]) for error in report["errors"]] in ([(3, 0)], [])  # or rate-limited
            control.change("link", "set", "eth1", "up")
            control.wait_until_ready()
            pinger.wait_for_replies(5)
        (link,) = control.show("link", "show", "eth1")
        assert "UP" in link["flags"]

    def test_new_mac(self, pair: RouterLab, control: Control) -> None:
        old = control.mac("eth1")
        with Pinger(pair, "host1", str(HOST2)) as pinger:
            pinger.wait_for_replies(5)
            control.change("link", "set", "eth1", "address", "02:00:00:00:11:11")
            wait_for("the new MAC", lambda: control.mac("eth1") == "02:00:00:00:11:11")
            pinger.wait_for_replies(20)
            control.change("link", "set", "eth1", "address", old)
            pinger.wait_for_replies(20)

    def test_show(self, control: Control) -> None:
        links = {one["ifname"]: one for one in control.show("link", "show")}
        assert set(links) == {"lo", "eth0", "eth1"}
        assert (links["eth0"]["mtu"], links["eth0"]["address"]) == (1500, control.mac("eth0"))


class TestWhatItShows:
    def test_neighbours(self, pair: RouterLab, control: Control) -> None:
        assert answers(pair, str(HOST2))
        neighbours = {one["dst"]: one for one in control.show("neigh", "show")}
        assert neighbours["192.168.0.2"]["dev"] == "eth1"
        assert neighbours["192.168.0.2"]["state"] in (["REACHABLE"], ["DELAY"], ["PROBE"], ["STALE"])
        assert neighbours["192.168.0.2"]["waiting_frames"] == 0
        assert {one["dev"] for one in control.show("neigh", "show", "dev", "eth0")} == {"eth0"}

    def test_status(self, control: Control) -> None:
        status = control.show("status")
        assert status["ready"] is True
        assert status["waiting_for"] == status["warnings"] == []
        assert [(one["name"], one["forwarding"]) for one in status["interfaces"]] == [("eth0", True), ("eth1", True)]
        assert {one["instance"] for one in status["services"] if one["up"]} == {
            "arp",
            "forwarder",
            "ingress-eth0",
            "ingress-eth1",
        }

    def test_counters(self, pair: RouterLab, control: Control) -> None:
        before = control.counts()
        report = measure.ping(pair, "host1", HOST2, "--count", "10", "--interval", "0.01", "--timeout", "5")
        assert report["received"] == 10
        after = control.counts()
        assert after.get("FORWARDED", "eth1") - before.get("FORWARDED", "eth1") == 10
        assert after.get("FORWARDED", "eth0") - before.get("FORWARDED", "eth0") == 10
        control.settle()
        shown = control.show("counters")
        assert shown["services"].keys() >= {"arp", "control", "forwarder", "ingress-eth0", "ingress-eth1"}
        assert shown["interfaces"]["eth0"]["RX_FRAMES"] == shown["services"]["ingress-eth0"]["eth0"]["RX_FRAMES"]
        table = control.cli("counters")
        assert (table.returncode, table.stderr) == (0, "")
        assert "balance: " in table.stdout
