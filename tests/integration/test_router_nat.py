"""Address translation with real programs: the remote host has no route to the inside, and sees only the router."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from nat_lab import (
    INSIDE,
    INSIDE2,
    OUT,
    REMOTE,
    PassiveFtpServer,
    UdpEcho,
    fetch_by_ftp,
    nat_lab,
    sessions,
    udp_ask,
    wait_until_translating,
)
from router_lab import RouterLab, inside, second_address, started, wait_for
from router_traffic import Stream, Wire

from services.launcher.lab.topologies import NAT

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

RST = 0x04


@pytest.fixture(scope="module")
def lab() -> Iterator[RouterLab]:
    with nat_lab() as made:
        yield made


def run(lab: RouterLab, node: str, *words: str) -> str:
    done = lab.run(node, [*words], limit_s=60.0)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return str(done.stdout)


def datagram_socket(lab: RouterLab, node: str, address: str, port: int = 0) -> socket.socket:
    made = inside(lab, node, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    made.bind((address, port))
    return made


@pytest.mark.parametrize("size", ["56", "4000"])
def test_ping(lab: RouterLab, size: str) -> None:
    """Echo by its identifier; 4,000 bytes are three fragments each way."""
    assert " 0% packet loss" in run(lab, "host1", "ping", "-c", "5", "-i", "0.2", "-W", "5", "-s", size, REMOTE)
    kinds = {(one["protocol"], one["original"]["src"], one["reply"]["dst"]) for one in sessions(lab.control())}
    assert ("icmp", INSIDE, OUT) in kinds


def test_curl(lab: RouterLab, tmp_path: Path) -> None:
    """A page, whose server sees the outside address."""
    assert shutil.which("curl")
    command = [sys.executable, "-u", "-m", "http.server", "--bind", REMOTE, "8000"]
    with (tmp_path / "log").open("w") as log:
        server = lab.popen("host2", command, stdout=subprocess.DEVNULL, stderr=log)
        wait_for("the server listens", lambda: ":8000" in _listening(lab), 20.0)
        page = f"http://{REMOTE}:8000/"
        assert run(lab, "host1", "curl", "-s", "-m", "20", "-o", "/dev/null", "-w", "%{http_code}", page) == "200"
        lab.end(server)
    assert (tmp_path / "log").read_text().startswith(f"{OUT} - - ")


def _listening(lab: RouterLab) -> str:
    return lab.run("host2", ["ss", "-ltn"], limit_s=20.0).stdout


@pytest.mark.parametrize("method", ["-I", "-U"])
def test_traceroute(lab: RouterLab, method: str) -> None:
    """By ICMP and by UDP: the router, then the remote host, whose error quotes what was translated."""
    program = shutil.which("traceroute")
    assert program, "apt-get install traceroute, as .ci/run does"
    seen = run(lab, "host1", program, "-n", method, "-q", "1", "-w", "5", REMOTE)
    hops = re.findall(r"^ *\d+ +([0-9.]+) ", seen, re.MULTILINE)
    assert hops == ["192.168.1.1", REMOTE], seen


def test_ftp_in_passive_mode(lab: RouterLab) -> None:
    content = os.urandom(300_000)
    with PassiveFtpServer(lab, "host2", REMOTE, content):
        assert fetch_by_ftp(lab, "host1", REMOTE) == content


def test_tcp_with_offloads(lab: RouterLab) -> None:
    """Super-frames with unfinished checksums both ways, and the router's kernel resets nothing."""
    with Wire(lab, "host2") as wire:
        for sender in ("host1", "host0"):
            with Stream(lab, sender, "host2", IPv4Address(REMOTE), 50_000_000) as stream:
                stream.wait_for_bytes(30_000_000)
                stream.finish()
        wire.listen()
        assert not [
            h
            for h in wire.heard
            if h.frame[23] == 6 and h.frame[26:30] == bytes((192, 168, 0, 1)) and h.frame[47] & RST
        ]


@pytest.mark.parametrize("options", [(), ("--reverse",), ("--udp", "--bitrate", "20M")])
def test_iperf3(lab: RouterLab, options: tuple[str, ...]) -> None:
    """A connection for control and one for data, which the inside host opens; data out, back, and by UDP."""
    program = shutil.which("iperf3")
    assert program, "apt-get install iperf3, as .ci/run does"
    server = lab.popen("host2", [program, "--server", "--one-off"], stdout=subprocess.DEVNULL)
    wait_for("the server listens", lambda: ":5201" in _listening(lab), 20.0)
    report = json.loads(run(lab, "host1", program, "--client", REMOTE, "--time", "1", "--json", *options))
    assert report["end"]["sum" if "--udp" in options else "sum_received"]["bytes"] > 1_000_000
    assert report["start"]["connected"][0]["local_host"] == INSIDE
    server.wait(60.0)
    lab.end(server)


def test_a_mapping_is_seen_from_everywhere(lab: RouterLab) -> None:
    """RFC 4787 REQ-1, REQ-3, REQ-8 with real sockets; fragments out and back."""
    with (
        second_address(lab, "host2", "192.168.0.3/24") as other,
        UdpEcho(lab, "host2", REMOTE, 7000),
        UdpEcho(lab, "host2", str(other), 7000),
        datagram_socket(lab, "host1", INSIDE, 30_123) as first,
        datagram_socket(lab, "host0", INSIDE2, 30_123) as second,
    ):
        assert udp_ask(first, (REMOTE, 7000)) == (OUT, 30_123, 1)
        assert udp_ask(first, (str(other), 7000)) == (OUT, 30_123, 1)
        address, port, length = udp_ask(second, (REMOTE, 7000), bytes(4000))
        assert (address, length) == (OUT, 4000)
        assert port != 30_123
        assert port % 2 == 1


def test_a_forwarded_port_and_hairpinning(lab: RouterLab) -> None:
    """The remote host and another inside one reach a server by the outside address."""
    control = lab.control()
    control.ask("nat.add", udp=OUT, port=8053, to=INSIDE2, to_port=53)
    wait_until_translating(control, 2)
    try:
        with (
            UdpEcho(lab, "host0", INSIDE2, 53),
            datagram_socket(lab, "host2", REMOTE, 5353) as remote,
            datagram_socket(lab, "host1", INSIDE, 30_200) as local,
        ):
            assert udp_ask(remote, (OUT, 8053)) == (REMOTE, 5353, 1)
            assert udp_ask(local, (OUT, 8053)) == (OUT, 30_200, 1)
    finally:
        control.ask("nat.del", udp=OUT, port=8053)
        wait_until_translating(control, 1)


def test_a_killed_forwarder_takes_the_sessions_up_again(lab: RouterLab) -> None:
    """A TCP transfer through the translator outlives it."""
    with Stream(lab, "host1", "host2", IPv4Address(REMOTE), 5_000_000) as stream:
        stream.wait_for_bytes(2_000_000)
        (before,) = [one for one in sessions(lab.control()) if one["original"]["dport"] == 5002 and one["idle_s"] < 1]
        lab.control().kill("forwarder")
        stream.wait_for_bytes(5_000_000)
        after = [one for one in sessions(lab.control()) if one["original"] == before["original"]]
        stream.finish()
    assert [one["reply"] for one in after] == [before["reply"]]
    assert after[0]["age_s"] > before["age_s"]
    assert after[0]["state"] == "tcp established"


def test_flush(lab: RouterLab) -> None:
    """All sessions end; what goes on begins new ones."""
    with UdpEcho(lab, "host2", REMOTE, 7000), datagram_socket(lab, "host1", INSIDE, 30_300) as sender:
        udp_ask(sender, (REMOTE, 7000))
        assert lab.control().ask("nat.flush")["sessions"] > 0
        assert not [one for one in sessions(lab.control()) if one["original"]["sport"] == 30_300]
        assert udp_ask(sender, (REMOTE, 7000)) == (OUT, 30_300, 1)


def test_another_configuration_and_back(lab: RouterLab) -> None:
    """`config apply` brings a rule at once, `config rollback` takes it back; what `nat add` gave stays."""
    control = lab.control()
    text = f"nat: {{forward: [{{protocol: udp, address: {OUT}, port: 8054, to: {INSIDE2}, to_port: 54}}]}}"

    def asked() -> dict[str, Any]:
        flow = {"protocol": "udp", "port": 8054}
        answer: dict[str, Any] = control.ask("why", src=REMOTE, dst=OUT, flow=flow, iif="eth1")
        return answer

    with UdpEcho(lab, "host0", INSIDE2, 54), datagram_socket(lab, "host2", REMOTE, 5354) as remote:
        control.ask("config.apply", text=text, source="with a forwarded port")
        wait_until_translating(control, 2)
        assert udp_ask(remote, (OUT, 8054)) == (REMOTE, 5354, 1)
    before = len(sessions(control))
    assert f"to {INSIDE2} port 54" in asked()["sentences"][1]
    assert len(sessions(control)) == before  # a question opens none
    control.ask("config.rollback")
    wait_until_translating(control, 1)
    wait_for("the forwarder has the rules of before", lambda: asked()["verdict"] == "LOCAL")


def test_the_lab_that_comes_with_hopwire() -> None:
    """Two hosts on a bridge, two routers, the first of which is configured to translate."""
    with started(NAT, "l") as lab:
        wait_until_translating(lab.control("router1"))
        for host in ("host0", "host1"):
            assert " 0% packet loss" in run(lab, host, "ping", "-c", "3", "-i", "0.2", "-W", "5", "192.168.2.2")
        assert {one["reply"]["dst"] for one in sessions(lab.control("router1"))} == {"192.168.0.1"}


def test_by_the_command_line(lab: RouterLab) -> None:
    control = lab.control()
    control.change("nat", "add", "one-to-one", "192.168.0.77", "to", INSIDE)
    problem = "one-to-one 192.168.0.77: no interface has this address"
    wait_for("the rule waits", lambda: control.show("nat", "show")["table"]["problems"] == [problem])
    assert "masquerade" in control.cli("nat", "show").stdout
    refused = control.cli("nat", "add", "masquerade", "eth1")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "File exists: masquerade eth1" in refused.stderr
    assert control.cli("nat", "add", "tcp", OUT).returncode == 2
    own = control.cli("nat", "add", "tcp", OUT, "port", "80", "to", OUT)
    assert (own.returncode, "the router itself" in own.stderr) == (1, True)
    control.change("nat", "del", "one-to-one", "192.168.0.77")
    assert control.cli("nat", "del", "one-to-one", "192.168.0.77").returncode == 1
    assert len(control.show("nat", "show")["rules"]) == 1
