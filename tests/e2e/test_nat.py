"""Address translation in the lab: what host2 sees is the router, and users' programs do not notice."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import ComposeLab, wait_for

HOST1, HOST2, OUTSIDE = "10.0.10.10", "10.0.11.20", "10.0.11.10"
HTTP_PORT, FTP_PORT = 8000, 2121
FILE_BYTES = 3_000_000
FTP_SERVER = Path(__file__).with_name("ftp_server.py").read_text()


@pytest.fixture
def translating(lab: ComposeLab) -> Iterator[ComposeLab]:
    """The lab, in which all that leaves towards host2 bears the router's address."""
    addresses = lab.control("addr", "show")
    (outside,) = [one["ifname"] for one in addresses if OUTSIDE in [own["local"] for own in one["addr_info"]]]
    lab.execute("control", "control-cli", "nat", "add", "masquerade", outside)
    try:
        wait_for("the forwarder translates", lambda: lab.control("nat", "show")["table"]["in_use"])
        yield lab
    finally:
        lab.execute("control", "control-cli", "nat", "del", "masquerade", outside)
        lab.execute("control", "control-cli", "nat", "flush")


def sessions(lab: ComposeLab) -> set[tuple[str, str, str]]:
    """Return of each session the protocol, the inside host and the address that the outside sees."""
    shown = lab.control("nat", "sessions")["sessions"]
    return {(one["protocol"], one["original"]["src"], one["reply"]["dst"]) for one in shown}


def serve(lab: ComposeLab, log: str, *command: str) -> None:
    """Start a server on host2 that writes to /tmp/`log`; it ends with the test's client, or with the container."""
    words = ["sh", "-c", f'exec "$@" >/tmp/{log} 2>&1', "serve", *command]
    lab.container("host2").exec_run(words, detach=True)


def listens(lab: ComposeLab, port: int) -> bool:
    return f":{port}" in lab.execute("host2", "ss", "-ltn")


def test_ping_and_traceroute(translating: ComposeLab) -> None:
    assert "3 received" in translating.execute("host1", "ping", "-c", "3", "-i", "0.2", HOST2)
    for method in ("-I", "-U"):
        hops = translating.execute("host1", "traceroute", "-n", method, "-q", "1", HOST2).splitlines()[1:]
        assert [line.split()[1] for line in hops] == ["10.0.10.20", HOST2], method
    assert {("icmp", HOST1, OUTSIDE), ("udp", HOST1, OUTSIDE)} <= sessions(translating)


def test_curl_by_http(translating: ComposeLab) -> None:
    server = ("python3", "-u", "-m", "http.server", "--bind", HOST2, "--directory", "/etc", str(HTTP_PORT))
    serve(translating, "http", "timeout", "60", *server)
    wait_for("the web server listens", lambda: listens(translating, HTTP_PORT))
    page = translating.execute("host1", "curl", "-sSf", "-m", "20", f"http://{HOST2}:{HTTP_PORT}/hostname")
    assert page == translating.execute("host2", "cat", "/etc/hostname")
    log = wait_for("the server has written", lambda: translating.execute("host2", "cat", "/tmp/http"))
    assert f"{OUTSIDE} - - " in log
    assert HOST1 not in log


def test_curl_by_ftp_in_passive_mode(translating: ComposeLab) -> None:
    serve(translating, "ftp", "timeout", "60", "python3", "-c", FTP_SERVER, HOST2, str(FTP_PORT), str(FILE_BYTES))
    wait_for("the FTP server listens", lambda: listens(translating, FTP_PORT))
    url = f"ftp://{HOST2}:{FTP_PORT}/file"
    size = translating.execute("host1", "curl", "-sSf", "-m", "30", "-o", "/dev/null", "-w", "%{size_download}", url)
    assert int(size) == FILE_BYTES
    wait_for("the client's address", lambda: translating.execute("host2", "cat", "/tmp/ftp").strip() == OUTSIDE)


def test_iperf3(translating: ComposeLab) -> None:
    """Both ways on connections that host1 opens, the second with super-frames towards it."""
    for options in ((), ("--reverse",)):
        report = json.loads(
            translating.execute("host1", "iperf3", "--client", HOST2, "--time", "2", "--json", *options)
        )
        received = report["end"]["sum_received"]
        rate = f"{received['bits_per_second'] / 1e9:.1f} Gbit/s"
        translating.figures[f"iperf3 through translation{' back' if options else ''}"] = rate
        assert received["bytes"] > 0
    assert ("tcp", HOST1, OUTSIDE) in sessions(translating)
    translating.wait_balanced()


def test_a_killed_forwarder_keeps_the_sessions(translating: ComposeLab) -> None:
    """The table lies in the run directory that the containers share."""
    assert "1 received" in translating.execute("host1", "ping", "-c", "1", HOST2)
    before = sessions(translating)
    assert before
    translating.kill_child("forwarder")
    translating.wait_healthy()
    control = ("docker", "compose", "exec", "--no-TTY", "control", "control-cli", "nat", "sessions")
    wait_for("the forwarder answers again", lambda: translating.run(*control, check=False))
    wait_for("the sessions are there again", lambda: before <= sessions(translating))
