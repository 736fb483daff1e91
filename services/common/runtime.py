"""The shell around every service: signals, logs, one-line errors, reports to control."""

import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, Literal

import structlog
import typer
import zmq

from services.common.bus import connected, try_send
from services.common.counters import CounterBlock
from services.common.endpoints import Endpoints
from services.common.errors import HopwireError
from services.common.messages import InterfaceIndex, NatFigures, Report, encode

POLL_MS: Final = 250
"""The longest a service sleeps before it looks whether it shall stop."""
REPORT_INTERVAL_S: Final = 0.25


class StopFlag:
    """Becomes set on SIGTERM and SIGINT."""

    def __init__(self) -> None:
        """Take over both signals of this process."""
        self.is_set = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.is_set = True


def set_up_logging(service: str, level: str = "info") -> structlog.stdlib.BoundLogger:
    """Log one event a line to stderr: readable on a terminal, JSON elsewhere."""
    numeric = logging.getLevelNamesMapping().get(level.upper())
    if numeric is None:
        raise HopwireError(f"log level {level!r} is unknown; choose debug, info, warning or error")
    renderer: Any = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(numeric),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logger: structlog.stdlib.BoundLogger = structlog.get_logger().bind(service=service)
    return logger


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


class Reporter:
    """Tells control a few times a second that a service lives and what it has counted."""

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
        self._next_at = float("-inf")

    def report_when_due(
        self,
        now: float,
        *,
        ready: bool,
        interfaces: list[InterfaceIndex],
        generation: int = 0,
        nat: NatFigures | None = None,
    ) -> None:
        """Send a report when the last one is `REPORT_INTERVAL_S` old; one that cannot be sent is left out."""
        if now < self._next_at:
            return
        self._next_at = now + REPORT_INTERVAL_S
        report = Report(
            service=self._service,
            instance=self._instance,
            pid=os.getpid(),
            ready=ready,
            interfaces=interfaces,
            generation=generation,
            counters=self._counters.snapshot(),
            nat=nat,
        )
        try_send(self._socket, [encode(report)])

    def hurry(self) -> None:
        """Make the next report due at once: it says something new."""
        self._next_at = float("-inf")

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def clock() -> float:
    """Return the monotonic time in seconds: the `now` that shells hand to the cores."""
    return time.monotonic()
