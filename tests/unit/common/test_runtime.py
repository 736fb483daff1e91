"""What every entry point does: exit statuses, one line for the person at the keyboard, reports."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import zmq

from services.common.bus import bound
from services.common.counters import Counter, CounterBlock
from services.common.endpoints import Endpoints
from services.common.errors import HopwireError
from services.common.messages import Report, decode
from services.common.runtime import REPORT_INTERVAL_S, Reporter, run_to_exit, set_up_logging

LIMIT_MS = 30_000


def test_the_status_of_main() -> None:
    assert run_to_exit("hopwire arp", lambda: None) == 0
    assert run_to_exit("hopwire arp", lambda: 3) == 3


def test_an_error_for_the_user_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise HopwireError("no such interface")

    assert run_to_exit("hopwire arp", main) == 1
    assert capsys.readouterr() == ("", "hopwire arp: no such interface\n")


def test_an_interrupt_has_the_shells_status(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise KeyboardInterrupt

    assert run_to_exit("hopwire arp", main) == 130
    assert capsys.readouterr() == ("", "")


def test_a_fault_of_our_own_is_not_hidden() -> None:
    def main() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_to_exit("hopwire arp", main)


@pytest.fixture
def logging_put_back() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("logging_put_back")
def test_logs_are_json_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    log = set_up_logging("arp", "warning")
    log.info("not shown")
    log.warning("shown", interface="eth0")
    event = json.loads(capsys.readouterr().err)
    assert (event["event"], event["service"], event["interface"], event["level"]) == ("shown", "arp", "eth0", "warning")


def test_an_unknown_log_level() -> None:
    with pytest.raises(HopwireError, match="log level 'loud' is unknown; choose debug, info, warning or error"):
        set_up_logging("arp", "loud")


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    context: zmq.Context[Any] = zmq.Context()
    yield context
    context.destroy(linger=0)


def test_reports_come_a_few_times_a_second(context: zmq.Context[Any], tmp_path: Path) -> None:
    endpoints = Endpoints(tmp_path)
    counters = CounterBlock(endpoints.counters("arp"))
    counters.add(Counter.ARP_HANDLED, 2, 7)
    reporter = Reporter(context, endpoints, "arp", "arp", counters)
    reports = bound(context, zmq.PULL, endpoints.control_reports)
    now = 0.0
    while not reports.poll(10):  # until it is connected, reports are left out
        now += REPORT_INTERVAL_S
        reporter.report_when_due(now, ready=False, interfaces=[])
        assert now < 10_000
    reports.recv()
    reporter.report_when_due(now + 0.9 * REPORT_INTERVAL_S, ready=True, interfaces=[7], generation=4)
    reporter.report_when_due(now + REPORT_INTERVAL_S, ready=True, interfaces=[7], generation=5)
    assert reports.poll(LIMIT_MS)
    report = decode(reports.recv())
    assert isinstance(report, Report)
    assert (report.service, report.ready, report.interfaces, report.generation) == ("arp", True, [7], 5)
    assert report.counters == {7: {"ARP_HANDLED": 2}}
