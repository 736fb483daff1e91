"""control-cli drops, trace and why on a running router: what they say is held against what happens."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from typing import Any

import pytest
from router_lab import Control, RouterLab, far_address, hopwire, second_address, wait_for
from test_router_control_cli import FAR, HOST2, PREFIX, answers

from services.common.endpoints import Endpoints
from services.launcher.lab import measure

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

LIMIT_S = 30.0
HOST1 = "192.168.1.2"
NOWHERE = "10.9.0.77"
LOOPBACK = "127.0.0.0/8 is loopback, and never on a wire (RFC 1122 3.2.1.3)"


@pytest.fixture(scope="module", autouse=True)
def network_behind_host2(pair: RouterLab) -> Iterator[None]:
    with far_address(pair, "host2", FAR):
        yield


@pytest.fixture
def control(pair: RouterLab) -> Control:
    return pair.control()


def ping(lab: RouterLab, destination: str, *options: str) -> Any:
    return measure.ping(lab, "host1", IPv4Address(destination), "--count", "1", "--timeout", "1", *options)


class TestDrops:
    def test_the_last_frames_of_a_reason(self, pair: RouterLab, control: Control) -> None:
        for _ in range(2):
            ping(pair, NOWHERE)
        *_, before, last = control.show("drops", "no-route")
        assert {one["reason"] for one in (before, last)} == {"DROP_NO_ROUTE"}
        assert (last["dev"], last["instance"], last["length"]) == ("eth0", "forwarder", 98)
        assert (last["fields"]["src"], last["fields"]["dst"], last["fields"]["icmp_type"]) == (HOST1, NOWHERE, 8)
        assert bytes.fromhex(last["frame"])[26:34] == IPv4Address(HOST1).packed + IPv4Address(NOWHERE).packed
        assert before["time_ns"] < last["time_ns"]
        table = control.cli("drops", "DROP_NO_ROUTE", "dev", "eth0")
        assert table.returncode == 0
        assert f"{HOST1} > {NOWHERE} icmp echo request 8/0, ttl 64, 98 bytes" in table.stdout.splitlines()[-1]
        assert control.show("drops", "no-route", "dev", "eth1") == []

    def test_they_outlive_a_killed_forwarder(self, pair: RouterLab, control: Control) -> None:
        ping(pair, NOWHERE)
        before = control.show("drops", "no-route")
        control.kill("forwarder")
        assert control.show("drops", "no-route")[: len(before)] == before

    def test_what_arp_gives_up(self, pair: RouterLab, control: Control) -> None:
        measure.ping(pair, "host1", IPv4Address("192.168.0.98"), "--count", "1", "--timeout", "5")
        found = wait_for("the frame is there", lambda: control.show("drops", "host-unreachable"))
        assert found[-1]["fields"]["dst"] == "192.168.0.98"

    def test_an_unknown_reason_and_interface(self, control: Control) -> None:
        done = control.cli("drops", "nonsense")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith('control-cli: drops: "nonsense": a drop reason')
        assert control.show("drops", "vlan") == []
        assert control.cli("drops", "vlan").stdout == "no frame was dropped\n"

    def test_a_damaged_recording_is_passed_over(self, pair: RouterLab, control: Control) -> None:
        ping(pair, NOWHERE)
        strange = Endpoints(control.run_dir).drops("strange")
        strange.write_bytes(b"nothing of ours")
        try:
            assert control.show("drops", "no-route")
        finally:
            strange.unlink()


@contextmanager
def tracing(control: Control, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """Run `trace`; it has begun when the forwarder has its tap."""
    command = [hopwire("control-cli"), "--run-dir", str(control.run_dir), *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    folder = Endpoints(control.run_dir).taps("forwarder")

    def is_attached() -> bool:
        return any(path.read_bytes()[64:72] != bytes(8) for path in folder.glob("*.tap"))

    try:
        wait_for("the forwarder shows its frames", is_attached)
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(LIMIT_S)


class TestTrace:
    def test_the_way_of_a_frame_that_is_forwarded(self, pair: RouterLab, control: Control) -> None:
        assert answers(pair, str(HOST2))
        with tracing(control, "-j", "trace", "src", HOST1, "and", "icmp") as process:
            assert answers(pair, str(HOST2))
            way = json.loads(process.communicate(timeout=LIMIT_S)[0])
        assert (way["dev"], way["verdict"], way["route"]) == ("eth0", "FORWARDED", "192.168.0.0/24")
        assert (way["next_hop"], way["out"], way["mtu"]) == (str(HOST2), "eth1", 1500)
        assert {step["result"] for step in way["steps"]} == {"passed"}
        assert [(one["dev"], one["length"]) for one in way["sent"]] == [("eth1", 98)]
        assert min(way["ingress_us"], way["decision_us"], way["sending_us"], way["batch"], way["batch_frames"]) > 0
        assert len(way["lladdr"]) == 17

    def test_for_people_step_by_step(self, pair: RouterLab, control: Control) -> None:
        with tracing(control, "trace", "dst", NOWHERE) as process:
            ping(pair, NOWHERE)
            text = process.communicate(timeout=LIMIT_S)[0]
        lines = text.splitlines()
        assert lines[0] == f"eth0: {HOST1} > {NOWHERE} icmp echo request 8/0, ttl 64, 98 bytes"
        assert "  ttl           ok: 2 or more (RFC 1812 5.3.1)" in lines
        assert "  route         stops: no route to the destination (ICMP 3/0)" in lines
        assert lines[-1] == "  verdict       DROP_NO_ROUTE: no route to the destination (ICMP 3/0)"

    def test_a_frame_that_waits_for_arp(self, pair: RouterLab, control: Control) -> None:
        with (
            second_address(pair, "host2", "192.168.0.44/24"),
            tracing(control, "-j", "trace", "dst", "192.168.0.44", "and", "icmp") as process,
        ):
            assert answers(pair, "192.168.0.44")
            way = json.loads(process.communicate(timeout=LIMIT_S)[0])
        assert way["verdict"] == "HANDED"
        assert [one["dev"] for one in way["sent"]] == ["eth1"]
        assert way["steps"][-2] == {
            "name": "neighbour",
            "result": "stopped",
            "text": "frames handed to another service",
        }

    def test_several(self, pair: RouterLab, control: Control) -> None:
        with tracing(control, "-j", "trace", "icmp", "-c", "4") as process:
            assert answers(pair, str(HOST2))
            assert answers(pair, str(HOST2))
            shown = process.communicate(timeout=LIMIT_S)[0].splitlines()
        assert sorted(json.loads(line)["dev"] for line in shown) == ["eth0", "eth0", "eth1", "eth1"]
        assert process.returncode == 0

    def test_a_filter_that_does_not_parse(self, control: Control) -> None:
        done = control.cli("trace", "host", "x")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith('control-cli: trace: "x": an IPv4 address is expected after "host"\nusage: ')


class TestWhy:
    def test_it_agrees_with_what_happens_and_the_command_mends_it(self, pair: RouterLab, control: Control) -> None:
        assert not answers(pair, FAR)
        said = control.show("why", HOST1, FAR)
        assert said["verdict"] == "DROP_NO_ROUTE"
        assert "control-cli route add 10.9.0.1/32 via GATEWAY" in said["commands"]
        control.change("route", "add", "10.9.0.1/32", "via", str(HOST2))
        try:
            assert answers(pair, FAR)
            said = control.show("why", HOST1, FAR, "tcp/443", "iif", "eth0")
            assert (said["verdict"], said["prefix"], said["dev"]) == ("FORWARDED", "10.9.0.1/32", "eth1")
            assert said["sentences"][1] == "The route 10.9.0.1/32 matches: via 192.168.0.2 dev eth1."
        finally:
            control.change("route", "del", "10.9.0.1/32")

    def test_for_people(self, control: Control) -> None:
        done = control.cli("why", "127.0.0.1", str(HOST2), "iif", "eth0")
        assert done.returncode == 0
        assert done.stdout.splitlines() == [
            "A datagram from 127.0.0.1 to 192.168.0.2 (icmp, 84 bytes, TTL 64) comes in by eth0.",
            f"Its source is a martian: {LOOPBACK}. It is dropped, without ICMP (RFC 1812 5.3.7).",
            "",
            "No command changes it.",
        ]

    def test_reverse_path_mtu_and_ttl(self, control: Control) -> None:
        control.change("link", "set", "eth1", "reverse-path", "strict")
        try:

            def verdict() -> bool:
                said = control.show("why", HOST1, "192.168.0.2", "iif", "eth1")
                return bool(said["verdict"] == "DROP_REVERSE_PATH")

            wait_for("the forwarder checks", verdict)
        finally:
            control.change("link", "set", "eth1", "reverse-path", "off")
        control.change("route", "add", PREFIX, "via", str(HOST2), "mtu", "1280")
        try:
            large = control.show("why", HOST1, FAR, "udp/53", "size", "4000")
            assert (
                "more than the MTU of the route 10.9.0.0/24, 1280: it is cut into 4 fragments" in large["sentences"][2]
            )
        finally:
            control.change("route", "del", PREFIX)
        assert control.show("why", HOST1, str(HOST2), "ttl", "1")["verdict"] == "DROP_TTL_EXCEEDED"

    def test_nothing_is_counted_sent_or_recorded(self, control: Control) -> None:
        before = control.counts()
        recorded = control.show("drops")
        for words in ((HOST1, NOWHERE), ("127.0.0.1", HOST1, "iif", "eth0"), (HOST1, str(HOST2))):
            control.show("why", *words)
        grown = control.counts().since(before, "DROP_")
        assert not grown
        assert control.show("drops") == recorded

    @pytest.mark.parametrize(
        ("words", "status", "error"),
        [
            ((HOST1,), 2, "an IPv4 address is expected"),
            ((HOST1, "x"), 2, '"x": an IPv4 address is expected'),
            ((HOST1, NOWHERE, "sctp/1"), 2, '"sctp/1": icmp, tcp or udp'),
            ((HOST1, NOWHERE, "tcp/70000"), 2, '"tcp/70000": icmp, tcp or udp'),
            ((HOST1, NOWHERE, "size", "27"), 2, '"27": a number of bytes of 28 to 65535 is expected'),
            ((HOST1, NOWHERE, "tcp", "size", "30"), 2, "a TCP datagram has 40 bytes at least"),
            ((HOST1, NOWHERE, "iif", "nosuch"), 1, "No such device: nosuch; there are: eth0, eth1"),
            ((HOST1, NOWHERE, "udp", "more"), 2, '"more": iif, size or ttl is expected'),
        ],
    )
    def test_bad_input(self, control: Control, words: tuple[str, ...], status: int, error: str) -> None:
        done = control.cli("why", *words)
        assert (done.returncode, done.stdout) == (status, "")
        assert error in done.stderr
