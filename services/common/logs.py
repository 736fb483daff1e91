"""The log of every service: one event a line on stderr, for a change of state and never for a packet.

What would be said again and again is held back: each event (by its text) may come EVENT_BURST times at once and then
once a second; the next one that is let through says how many were not. So a flapping link or a flood of malformed
messages cannot fill a disk.
"""

import logging
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

import structlog
import typer

from services.common.errors import HopwireError
from services.common.token_bucket import TokenBucket

EVENT_BURST: Final = 10
"""The same event so often at once, and then once a second: enough to see it, too little to fill a disk."""
EVENTS_PER_SECOND: Final = 1.0
MAX_EVENTS: Final = 256
"""Different events that are kept apart; the one that came longest ago is forgotten."""

LogFormat = Annotated[
    str,
    typer.Option(
        "--log-format",
        envvar="HOPWIRE_LOG_FORMAT",
        help="json, text, or auto: text on a terminal, JSON elsewhere.",
    ),
]
AUTO: Final = "auto"
_FORMATS: Final = (AUTO, "json", "text")


@dataclass
class _Seen:
    bucket: TokenBucket
    suppressed: int = 0


class EventLimiter:
    """A processor of structlog that drops events which come too often."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: OrderedDict[str, _Seen] = OrderedDict()

    def __call__(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Return the event, with `suppressed` where some of its kind were dropped before.

        :raises structlog.DropEvent: it comes too often.
        """
        now = self._clock()
        text = str(event.get("event", ""))
        seen = self._seen.pop(text, None) or _Seen(TokenBucket.full(EVENTS_PER_SECOND, EVENT_BURST, now))
        self._seen[text] = seen
        if len(self._seen) > MAX_EVENTS:
            self._seen.popitem(last=False)
        if not seen.bucket.take(now):
            seen.suppressed += 1
            raise structlog.DropEvent
        if seen.suppressed:
            event["suppressed"] = seen.suppressed
            seen.suppressed = 0
        return event


def set_up_logging(service: str, level: str = "info", form: str = AUTO) -> structlog.stdlib.BoundLogger:
    """Log one event a line to stderr.

    :param form: json, text, or auto: text on a terminal, JSON elsewhere.
    :raises HopwireError: no such level or form.
    """
    numeric = logging.getLevelNamesMapping().get(level.upper())
    if numeric is None:
        raise HopwireError(f"log level {level!r} is unknown; choose debug, info, warning or error")
    if form not in _FORMATS:
        raise HopwireError(f"log format {form!r} is unknown; choose {', '.join(_FORMATS[:-1])} or {_FORMATS[-1]}")
    on_terminal = sys.stderr.isatty()
    as_text = on_terminal if form == AUTO else form == "text"
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=on_terminal) if as_text else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            EventLimiter(time.monotonic),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(numeric),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logger: structlog.stdlib.BoundLogger = structlog.get_logger().bind(service=service)
    return logger
