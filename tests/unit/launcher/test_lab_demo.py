"""What the demo lets pass."""

from ipaddress import IPv4Address

import pytest

from services.launcher import demo
from services.launcher.demo import judge_ping, judge_traceroute
from services.launcher.probes.ping import Error, PingReport, SendError
from services.launcher.probes.traceroute import Answer, TracerouteReport

ROUTER = "192.168.1.1"
HOST2 = "192.168.0.2"
PATH = (IPv4Address(ROUTER), IPv4Address(HOST2))


def report(sent: int = 5, received: int = 5, duplicates: int = 0, wrong: int = 0) -> PingReport:
    return PingReport(
        destination=HOST2,
        sent=sent,
        received=received,
        duplicates=duplicates,
        wrong=wrong,
        rtt_us=None,
        replies=[],
        errors=[],
        send_errors=[],
    )


def test_all_answered() -> None:
    assert judge_ping(report(), 5).passed


@pytest.mark.parametrize(
    "bad",
    [report(received=4), report(duplicates=1), report(wrong=1), report(sent=4, received=4), report(sent=0, received=0)],
)
def test_any_flaw_fails(bad: PingReport) -> None:
    assert not judge_ping(bad, 5).passed


def test_who_complained_is_named_once() -> None:
    bad = report(received=3)
    error = Error(sequence=1, source=ROUTER, type=3, code=0, name="network unreachable", mtu=None)
    bad["errors"] = [error, error]
    bad["send_errors"] = [SendError(sequence=3, reason="Network is down")]
    outcome = judge_ping(bad, 5)
    assert not outcome.passed
    assert outcome.text == (
        "5 sent, 3 received, 2 lost; network unreachable from 192.168.1.1; not sent: Network is down"
    )


def path(*hops: list[str | None], reached: bool = True) -> TracerouteReport:
    answers = [
        [None if source is None else Answer(source=source, type=11, code=0, name="", rtt_us=1.0) for source in hop]
        for hop in hops
    ]
    return TracerouteReport(
        destination=HOST2,
        reached=reached,
        hops=[{"ttl": number, "answers": hop} for number, hop in enumerate(answers, start=1)],
    )


def test_the_right_path() -> None:
    outcome = judge_traceroute(path([ROUTER, ROUTER], [HOST2, HOST2]), PATH)
    assert outcome.passed
    assert outcome.text == "2 hops"
    assert len(outcome.details.splitlines()) == 2


@pytest.mark.parametrize(
    "bad",
    [
        path([ROUTER], [ROUTER], [HOST2]),
        path([HOST2]),
        path([ROUTER, None], [HOST2, HOST2]),
        path(["192.168.0.1"], [HOST2]),
        path([ROUTER], [HOST2], reached=False),
    ],
)
def test_other_paths(bad: TracerouteReport) -> None:
    outcome = judge_traceroute(bad, PATH)
    assert not outcome.passed
    assert outcome.text == "not the path 192.168.1.1 192.168.0.2"


def test_without_root(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert demo.run_demo() == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert len(output.err.splitlines()) == 1
    assert "needs root" in output.err
    assert "sudo make demo" in output.err
