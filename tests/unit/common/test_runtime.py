"""What every entry point does: exit statuses, one line for the person at the keyboard, reports."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from services.common.bus import bound
from services.common.counters import Counter, CounterBlock
from services.common.endpoints import Endpoints
from services.common.errors import HopwireError
from services.common.messages import Report, decode
from services.common.meters import Histogram, Meter
from services.common.runtime import REPORT_INTERVAL_S, ProcessMeters, Reporter, run_to_exit

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
def context() -> Iterator[zmq.Context[Any]]:
    context: zmq.Context[Any] = zmq.Context()
    yield context
    context.destroy(linger=0)


def test_reports_come_a_few_times_a_second(context: zmq.Context[Any], tmp_path: Path) -> None:
    endpoints = Endpoints(tmp_path)
    counters = CounterBlock(endpoints.counters("arp"))
    counters.add(Counter.ARP_HANDLED, 2, 7)
    reporter = Reporter(context, endpoints, "arp", "arp", counters)
    counters.meters.observe(Histogram.RESOLVE_FRAMES, 3)
    reports = bound(context, zmq.PULL, endpoints.control_reports)
    now = 0.0
    while not reports.poll(10):  # until it is connected, reports are left out
        now += REPORT_INTERVAL_S
        reporter.report_when_due(now, ready=False, interfaces=[])
        assert now < 10_000
    reports.recv()
    reporter.report_when_due(now + 0.9 * REPORT_INTERVAL_S, ready=True, interfaces=[7], generation=4)
    reporter.report_when_due(
        now + REPORT_INTERVAL_S, ready=True, interfaces=[7], generation=5, gauges=lambda: {7: {"WAITING_BYTES": 90}}
    )
    assert reports.poll(LIMIT_MS)
    report = decode(reports.recv())
    assert isinstance(report, Report)
    assert (report.service, report.ready, report.interfaces, report.generation) == ("arp", True, [7], 5)
    assert report.counters == {7: {"ARP_HANDLED": 2}}
    assert report.histograms == {"RESOLVE_FRAMES": [3, 0, 0, 1]}
    assert report.meters["STARTS"] == 1
    assert report.gauges[7] == {"WAITING_BYTES": 90}
    assert 2**20 < report.gauges[0]["RESIDENT_BYTES"] < 2**40


def test_cpu_time_goes_on_where_a_predecessor_ended(tmp_path: Path) -> None:
    counters = CounterBlock(tmp_path / "arp.bin")
    counters.meters.set(Meter.CPU_NS, 10**15)
    assert ProcessMeters(counters).snapshot().meters["CPU_NS"] > 10**15
    again = ProcessMeters(counters)
    before = again.snapshot().meters["CPU_NS"]
    while again.snapshot().meters["CPU_NS"] == before:
        pass  # it works, so its time goes on
    assert counters.meters.get(Meter.STARTS) == 2
