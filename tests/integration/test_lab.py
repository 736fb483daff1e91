"""Labs and probes on real namespaces, with the kernel as the router: what a later router is compared with."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import netns as pyroute2_netns

from services.common import netns
from services.common.errors import HopwireError
from services.launcher.lab import builder, measure
from services.launcher.lab.lab import Lab
from services.launcher.lab.run import description, enter_command
from services.launcher.lab.signals import Stopped, stop_signals
from services.launcher.lab.topologies import PAIR, THREE_ROUTERS
from services.launcher.probes import traceroute

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

PREFIX = f"t{os.getpid()}-"
FAST = ("--count", "3", "--interval", "0.01")


DOWN = f"{PREFIX}d-"
"""For labs that a test takes down itself."""


def namespaces_of(prefix: str) -> list[str]:
    return [name for name in netns.names() if name.startswith(prefix)]


@pytest.fixture(autouse=True, scope="module")
def nothing_left() -> Iterator[None]:
    yield
    assert namespaces_of(PREFIX) == []


def no_rate_limit(lab: Lab) -> Lab:
    """Let the kernels of a lab send every ICMP error; by default it is one a second to a host, after the first few.

    The mask, not the rate: a rate of 0 would empty the bucket that "network unreachable" takes from as well.
    """
    for node in lab.topology.nodes:
        with netns.inside(lab.namespace(node.name)):
            Path("/proc/sys/net/ipv4/icmp_ratemask").write_text("0\n")
    return lab


@pytest.fixture(scope="module")
def pair() -> Iterator[Lab]:
    with Lab(PAIR, prefix=f"{PREFIX}p-", kernel_forwarding=True) as lab:
        yield no_rate_limit(lab)


@pytest.fixture(scope="module")
def three_routers() -> Iterator[Lab]:
    with Lab(THREE_ROUTERS, prefix=f"{PREFIX}t-", kernel_forwarding=True) as lab:
        yield no_rate_limit(lab)


@pytest.fixture(scope="module")
def narrow() -> Iterator[Lab]:
    """A pair whose second link has a smaller MTU than the first."""
    topology = PAIR.with_mtu("router", "host2", 1280)
    with Lab(topology, prefix=f"{PREFIX}m-", kernel_forwarding=True) as lab:
        yield no_rate_limit(lab)


class TestPair:
    @pytest.mark.parametrize(
        ("source", "destination", "ttl"),
        [
            ("host1", "192.168.0.2", 63),
            ("host2", "192.168.1.2", 63),
            ("host1", "192.168.1.1", 64),
            ("host1", "192.168.0.1", 64),
            ("host1", "192.168.1.2", 64),
        ],
    )
    def test_ping(self, pair: Lab, source: str, destination: str, ttl: int) -> None:
        report = measure.ping(pair, source, IPv4Address(destination), *FAST)
        assert (report["sent"], report["received"], report["duplicates"], report["wrong"]) == (3, 3, 0, 0)
        assert [reply["ttl"] for reply in report["replies"]] == [ttl] * 3
        assert [reply["sequence"] for reply in report["replies"]] == [1, 2, 3]
        assert report["rtt_us"] is not None
        assert 0 < report["rtt_us"]["min"] <= report["rtt_us"]["median"] <= report["rtt_us"]["max"]
        assert (report["errors"], report["send_errors"]) == ([], [])

    def test_flood_ping(self, pair: Lab) -> None:
        report = measure.ping(pair, "host1", IPv4Address("192.168.0.2"), "--flood", "--count", "500")
        assert (report["sent"], report["received"]) == (500, 500)

    @pytest.mark.parametrize("size", [0, 1472, 1473, 65_507])
    def test_ping_sizes(self, pair: Lab, size: int) -> None:
        report = measure.ping(pair, "host1", IPv4Address("192.168.0.2"), *FAST, "--size", str(size))
        assert (report["received"], report["wrong"]) == (3, 0)

    def test_ttl_that_ends_on_the_way(self, pair: Lab) -> None:
        report = measure.ping(pair, "host1", IPv4Address("192.168.0.2"), "--count", "1", "--ttl", "1")
        assert report["received"] == 0
        (error,) = report["errors"]
        assert (error["sequence"], error["source"]) == (1, "192.168.1.1")
        assert (error["type"], error["code"], error["name"], error["mtu"]) == (11, 0, "time exceeded", None)

    def test_network_without_route(self, pair: Lab) -> None:
        report = measure.ping(pair, "host1", IPv4Address("203.0.113.1"), "--count", "1")
        (error,) = report["errors"]
        assert (error["source"], error["type"], error["code"]) == ("192.168.1.1", 3, 0)

    def test_too_long_for_the_hosts_own_link(self, pair: Lab) -> None:
        options = ("--count", "1", "--dont-fragment", "--size", "1473")
        report = measure.ping(pair, "host1", IPv4Address("192.168.0.2"), *options)
        assert report["sent"] == 0
        assert report["send_errors"] == [{"sequence": 1, "reason": "Message too long"}]

    def test_traceroute(self, pair: Lab) -> None:
        report = measure.traceroute(pair, "host1", IPv4Address("192.168.0.2"))
        assert report["reached"]
        assert [[answer and answer["source"] for answer in hop["answers"]] for hop in report["hops"]] == [
            ["192.168.1.1"] * 3,
            ["192.168.0.2"] * 3,
        ]
        assert all(answer and traceroute.is_usual(answer) for hop in report["hops"] for answer in hop["answers"])

    def test_traceroute_to_nowhere(self, pair: Lab) -> None:
        report = measure.traceroute(pair, "host1", IPv4Address("203.0.113.1"), "--probes", "1")
        assert not report["reached"]
        (hop,) = report["hops"]
        (answer,) = hop["answers"]
        assert answer is not None
        assert (answer["source"], answer["name"]) == ("192.168.1.1", "network unreachable")

    @pytest.mark.parametrize(("sender", "receiver"), [("host1", "host2"), ("host2", "host1")])
    def test_transfer(self, pair: Lab, sender: str, receiver: str) -> None:
        report = measure.transfer(pair, sender, receiver, 20_000_001)
        assert report["bytes"] == 20_000_001
        assert report["intact"]
        assert report["received_sha256"] == report["sent_sha256"]
        assert report["gbit_per_s"] > 0

    def test_transfer_to_a_port_in_use(self, pair: Lab) -> None:
        command = [sys.executable, "-m", "services.launcher.probes.transfer", "server", "192.168.0.2"]
        blocker = pair.popen("host2", command, stdout=subprocess.PIPE)
        assert blocker.stdout is not None
        assert blocker.stdout.readline() == "listening on 192.168.0.2 port 5001\n"
        with pytest.raises(HopwireError, match=r"on host2: transfer: .*Address already in use"):
            measure.transfer(pair, "host1", "host2", 1000)
        pair.end(blocker)
        assert measure.transfer(pair, "host1", "host2", 1000)["intact"]

    def test_output_for_people(self, pair: Lab) -> None:
        command = [sys.executable, "-m", "services.launcher.probes.ping", "192.168.0.2", "--count", "1"]
        done = pair.run("host1", command, limit_s=30)
        first, last = done.stdout.splitlines()
        assert first.startswith("reply to 1: ttl 63, ")
        assert last.startswith("1 sent, 1 received, 0 lost, RTT min/avg/median/max ")

    def test_netns_option_enters_the_namespace(self, pair: Lab) -> None:
        command = [sys.executable, "-m", "services.launcher.probes.ping", "192.168.0.1", "--count", "1"]
        inside = subprocess.run([*command, "--netns", pair.namespace("host2")], capture_output=True, check=False)
        assert inside.returncode == 0

    def test_program_that_does_not_end(self, pair: Lab) -> None:
        with pytest.raises(HopwireError, match="did not end within 0 s on host1"):
            pair.run("host1", ["sleep", "600"], limit_s=0.1)

    def test_no_ipv6_at_all(self, pair: Lab) -> None:
        for node in ("host1", "router", "host2"):
            done = pair.run(node, ["cat", "/proc/thread-self/net/if_inet6"], limit_s=30)
            assert done.stdout == ""

    def test_inside_returns_to_where_it_was(self, pair: Lab) -> None:
        def here() -> int:
            return Path("/proc/thread-self/ns/net").stat().st_ino

        before = here()
        with netns.inside(pair.namespace("host1")):
            host1 = here()
            with netns.inside(pair.namespace("host2")):
                host2 = here()
            assert here() == host1
        assert here() == before
        assert host1 == netns.path(pair.namespace("host1")).stat().st_ino
        assert len({before, host1, host2}) == 3

    def test_description_gives_commands_that_work(self, pair: Lab) -> None:
        text = description(pair, {"router": 1.23}, {})
        command = enter_command(pair.namespace("host1"))
        assert f"192.168.1.2  {command}\n" in text
        assert f"--run-dir {pair.run_directory('router')} counters" in text
        shell = [*shlex.split(command), "-c", "stat -L -c %i /proc/self/ns/net"]
        entered = subprocess.run(shell, capture_output=True, text=True, check=True)
        assert int(entered.stdout) == netns.path(pair.namespace("host1")).stat().st_ino


class TestThreeRouters:
    @pytest.mark.parametrize(
        ("source", "destination", "routers"),
        [("host1", "host2", 2), ("host1", "host3", 2), ("host2", "host3", 3), ("host3", "host1", 2)],
    )
    def test_ping(self, three_routers: Lab, source: str, destination: str, routers: int) -> None:
        report = measure.ping(three_routers, source, three_routers.topology.address(destination), *FAST)
        assert report["received"] == 3
        assert {reply["ttl"] for reply in report["replies"]} == {64 - routers}

    def test_traceroute(self, three_routers: Lab) -> None:
        report = measure.traceroute(three_routers, "host2", IPv4Address("192.168.4.2"), "--probes", "1")
        sources = [answer and answer["source"] for hop in report["hops"] for answer in hop["answers"]]
        assert sources == ["192.168.2.1", "192.168.0.1", "192.168.3.2", "192.168.4.2"]
        assert report["reached"]

    def test_transfer(self, three_routers: Lab) -> None:
        assert measure.transfer(three_routers, "host3", "host2", 5_000_000)["intact"]


class TestMtu:
    def test_fragmentation_needed(self, narrow: Lab) -> None:
        options = ("--count", "2", "--interval", "0.05", "--dont-fragment", "--size", "1253")
        report = measure.ping(narrow, "host1", IPv4Address("192.168.0.2"), *options)
        assert (report["sent"], report["received"]) == (2, 0)
        told = [(e["source"], e["type"], e["code"], e["mtu"], e["name"]) for e in report["errors"]]
        assert told == [("192.168.1.1", 3, 4, 1280, "fragmentation needed")] * 2

    def test_fits_exactly(self, narrow: Lab) -> None:
        report = measure.ping(narrow, "host1", IPv4Address("192.168.0.2"), *FAST, "--dont-fragment", "--size", "1252")
        assert (report["received"], report["errors"]) == (3, [])

    def test_fragmented_without_df(self, narrow: Lab) -> None:
        report = measure.ping(narrow, "host1", IPv4Address("192.168.0.2"), *FAST, "--size", "1253")
        assert (report["received"], report["wrong"], report["errors"]) == (3, 0, [])

    def test_jumbo_frames(self) -> None:
        topology = PAIR.with_mtu("router", "host2", 9000).with_mtu("host1", "router", 9000)
        with Lab(topology, prefix=f"{PREFIX}j-", kernel_forwarding=True) as lab:
            options = (*FAST, "--dont-fragment", "--size", "8972")
            assert measure.ping(lab, "host1", IPv4Address("192.168.0.2"), *options)["received"] == 3


def test_kernel_does_not_forward_unless_told() -> None:
    with Lab(PAIR, prefix=f"{PREFIX}n-") as lab:
        options = ("--count", "1", "--timeout", "0.3")
        assert measure.ping(lab, "host1", IPv4Address("192.168.0.2"), *options)["received"] == 0
        assert measure.ping(lab, "host1", IPv4Address("192.168.1.1"), *options)["received"] == 1
        for _ in range(2):  # a server that the first had left would be in the second's way
            with pytest.raises(HopwireError, match=r"the transfer to 192\.168\.0\.2 port 5001 failed: .*timed out"):
                measure.transfer(lab, "host1", "host2", 1000, "--timeout", "0.3")


def test_two_labs_side_by_side() -> None:
    with (
        Lab(PAIR, prefix=f"{PREFIX}x-", kernel_forwarding=True) as one,
        Lab(PAIR, prefix=f"{PREFIX}y-", kernel_forwarding=True) as other,
    ):
        for lab in (one, other):
            assert measure.ping(lab, "host1", IPv4Address("192.168.0.2"), *FAST)["received"] == 3


class TestCollision:
    def test_error_names_what_is_there_and_touches_nothing(self) -> None:
        prefix = f"{PREFIX}c-"
        with Lab(PAIR, prefix=prefix, kernel_forwarding=True) as lab:
            with pytest.raises(HopwireError) as caught, Lab(PAIR, prefix=prefix):
                pytest.fail("built twice")
            assert f"network namespace {prefix}host1, {prefix}host2, {prefix}router exists" in caught.value.message
            assert len(caught.value.message.splitlines()) == 1
            assert measure.ping(lab, "host1", IPv4Address("192.168.0.2"), *FAST)["received"] == 3

    @pytest.mark.parametrize("with_iproute2", [True, False])
    def test_the_advice_works(self, monkeypatch: pytest.MonkeyPatch, with_iproute2: bool) -> None:
        if not with_iproute2:
            monkeypatch.setattr("shutil.which", lambda _name: None)
        elif shutil.which("ip") is None:
            pytest.skip("no iproute2 here")
        prefix = f"{PREFIX}a-"
        pyroute2_netns.create(f"{prefix}router")
        with netns.inside(f"{prefix}router"):
            left_over = subprocess.Popen(["sleep", "600"])
        try:
            with pytest.raises(HopwireError) as caught, Lab(PAIR, prefix=prefix):
                pytest.fail("built over a namespace that was there")
            assert namespaces_of(prefix) == [f"{prefix}router"]
            advice = caught.value.message.partition("left of one with: ")[2]
            subprocess.run(["sh", "-c", advice], check=True)
            assert namespaces_of(prefix) == []
            assert left_over.wait(10) == -signal.SIGTERM
        finally:
            left_over.kill()
            left_over.wait()
            for name in namespaces_of(prefix):
                pyroute2_netns.remove(name)


@pytest.mark.parametrize("prefix", ["a/", "../", "-x", "a b", ".hidden"])
def test_prefix_that_names_no_file(prefix: str) -> None:
    with pytest.raises(HopwireError, match="namespace prefix"), Lab(PAIR, prefix=prefix):
        pytest.fail("built")


def test_not_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(HopwireError, match="needs root"), Lab(PAIR, prefix=PREFIX):
        pytest.fail("built")


class TestTakingDown:
    def test_failure_while_building(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_arguments: Any) -> None:
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr(builder, "_make_links", refuse)
        with pytest.raises(HopwireError, match=r"refuses to build topology pair: .*Operation not supported"):
            Lab(PAIR, prefix=DOWN).__enter__()
        assert namespaces_of(DOWN) == []

    def test_signal_while_building(self, monkeypatch: pytest.MonkeyPatch) -> None:
        make_links = builder._make_links

        def make_links_when_told_to_stop(*arguments: Any) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            make_links(*arguments)

        monkeypatch.setattr(builder, "_make_links", make_links_when_told_to_stop)
        with pytest.raises(Stopped), stop_signals():
            Lab(PAIR, prefix=DOWN).__enter__()
        assert namespaces_of(DOWN) == []

    def test_permission_refused_by_the_kernel(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_arguments: Any) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(pyroute2_netns, "create", refuse)
        with pytest.raises(HopwireError, match="CAP_SYS_ADMIN and CAP_NET_ADMIN"):
            Lab(PAIR, prefix=DOWN).__enter__()

    def test_failure_inside(self) -> None:
        seen: dict[str, Any] = {}

        def fail(lab: Lab) -> None:
            seen["directory"] = lab.run_directory("router").parent
            assert seen["directory"].is_dir()
            seen["program"] = lab.popen("host1", ["sleep", "600"])
            # says that it is deaf to SIGTERM, and so is the sleep that it starts
            deaf = lab.popen("host2", ["sh", "-c", "trap '' TERM; echo deaf; sleep 600"], stdout=subprocess.PIPE)
            assert deaf.stdout is not None
            assert deaf.stdout.readline() == "deaf\n"
            seen["deaf"] = deaf
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError), Lab(PAIR, prefix=DOWN) as lab:
            fail(lab)
        assert namespaces_of(DOWN) == []
        assert not seen["directory"].exists()
        assert seen["program"].returncode == -signal.SIGTERM
        assert seen["deaf"].returncode == -signal.SIGKILL

    def test_namespace_that_somebody_removed_meanwhile(self) -> None:
        with Lab(PAIR, prefix=DOWN) as lab:
            pyroute2_netns.remove(lab.namespace("host1"))
        assert namespaces_of(DOWN) == []

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=str)
    def test_signal(self, number: int) -> None:
        program = textwrap.dedent(f"""
            import signal
            from services.launcher.lab.lab import Lab
            from services.launcher.lab.signals import Stopped, stop_signals
            from services.launcher.lab.topologies import PAIR
            try:
                with stop_signals(), Lab(PAIR, prefix={DOWN!r}) as lab:
                    sleeper = lab.popen("host1", ["sleep", "600"])
                    print(sleeper.pid, lab.run_directory("router").parent, flush=True)
                    while True:
                        signal.pause()
            except Stopped as stop:
                raise SystemExit(stop.exit_status)
        """)
        process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        with process:
            assert process.stdout is not None
            sleeper, directory = process.stdout.readline().split()
            assert namespaces_of(DOWN)
            process.send_signal(number)
            assert process.wait(30) == 128 + number
        assert namespaces_of(DOWN) == []
        assert not Path(directory).exists()
        assert not Path("/proc", sleeper).exists()
