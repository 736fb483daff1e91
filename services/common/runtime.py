"""The shell around every service: signals, logs, one-line errors, reports to control."""

import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, Literal

import typer
import zmq

from services.common.bus import connected, try_send
from services.common.counters import CounterBlock
from services.common.endpoints import Endpoints
from services.common.errors import HopwireError
from services.common.messages import InterfaceIndex, NatFigures, Report, encode
from services.common.meters import Gauge, Meter, MetersSnapshot, resident_bytes
from services.common.notify import Notifier

POLL_MS: Final = 250
"""The longest a service sleeps before it looks whether it shall stop."""
REPORT_INTERVAL_S: Final = 0.25

Gauges = dict[InterfaceIndex, dict[str, int]]
"""By interface index, not 0, and `Gauge` name."""


class StopFlag:
    """Becomes set on SIGTERM and SIGINT."""

    def __init__(self) -> None:
        """Take over both signals of this process."""
        self.is_set = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.is_set = True


class ReloadFlag:
    """Becomes set on SIGHUP: the configuration shall be applied again."""

    def __init__(self) -> None:
        """Take over the signal of this process; one that came while it was blocked counts (see `hopwire up`)."""
        self._is_set = False
        signal.signal(signal.SIGHUP, self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._is_set = True

    def take(self) -> bool:
        """Tell whether it was set since the last call."""
        was_set, self._is_set = self._is_set, False
        return was_set


def run_to_exit(program: str, main: Callable[[], int | None]) -> int:
    """Run `main` and return the exit status; an error for the user becomes one line on stderr and status 1."""
    try:
        return main() or 0
    except HopwireError as error:
        print(f"{program}: {error.message}", file=sys.stderr)  # noqa: T201 - for the person at the keyboard
        return 1
    except KeyboardInterrupt:
        return 130


def run_command_line(main: Callable[..., None]) -> None:
    """Read the command line for `main` and run it. A fault of our own ends in a plain traceback, fit for a log."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()


class ProcessMeters:
    """What a process measures of itself as a whole: its starts, and the CPU time of all its runs."""

    def __init__(self, counters: CounterBlock) -> None:
        """Count this start, and go on where a predecessor ended."""
        self._meters = counters.meters
        self._meters.add(Meter.STARTS)
        self._cpu_before_ns = self._meters.get(Meter.CPU_NS)

    def snapshot(self) -> MetersSnapshot:
        """Bring the CPU time up to date, and return all meters, and the memory in use as a gauge."""
        self._meters.set(Meter.CPU_NS, self._cpu_before_ns + time.process_time_ns())
        return self._meters.snapshot()._replace(gauges={0: {Gauge.RESIDENT_BYTES.name: resident_bytes()}})


class Reporter:
    """Tells control a few times a second that a service lives and what it has counted; its supervisor the first."""

    def __init__(
        self,
        context: zmq.Context[Any],
        endpoints: Endpoints,
        service: Literal["ingress", "forwarder", "arp"],
        instance: str,
        counters: CounterBlock,
    ) -> None:
        self._socket = connected(context, zmq.PUSH, endpoints.control_reports)
        self._service: Literal["ingress", "forwarder", "arp"] = service
        self._instance = instance
        self._counters = counters
        self._process = ProcessMeters(counters)
        self._notifier = Notifier()
        self._next_at = float("-inf")

    def report_when_due(
        self,
        now: float,
        *,
        ready: bool,
        interfaces: list[InterfaceIndex],
        generation: int = 0,
        nat: NatFigures | None = None,
        gauges: Callable[[], Gauges] | None = None,
    ) -> None:
        """Send a report when the last one is `REPORT_INTERVAL_S` old; one that cannot be sent is left out.

        :param gauges: what the service holds now, by interface index and `Gauge` name; asked only for a report.
        :param nat: what the forwarder translates.
        """
        if now < self._next_at:
            return
        self._next_at = now + REPORT_INTERVAL_S
        measured = self._process.snapshot()
        report = Report(
            service=self._service,
            instance=self._instance,
            pid=os.getpid(),
            ready=ready,
            interfaces=interfaces,
            generation=generation,
            counters=self._counters.snapshot(),
            nat=nat,
            meters=measured.meters,
            histograms=measured.histograms,
            gauges={**(gauges() if gauges is not None else {}), **measured.gauges},
        )
        try_send(self._socket, [encode(report)])
        self._notifier.tell(ready=ready)

    def hurry(self) -> None:
        """Make the next report due at once: it says something new."""
        self._next_at = float("-inf")

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def clock() -> float:
    """Return the monotonic time in seconds: the `now` that shells hand to the cores."""
    return time.monotonic()
