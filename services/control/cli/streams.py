"""The verbs that show frames as they come, `capture` and `trace`: their options, and running them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from services.control.cli.grammar import Request, usage_of
from services.control.cli.insight_verbs import CAPTURE, TRACE
from services.control.cli.verb import HELP
from services.control.cli.vocabulary import VERSION
from services.control.cli.words import UsageError


class Stream(NamedTuple):
    """What belongs to these verbs."""

    target: str | None = None
    """Where `capture` writes to."""
    most: int | None = None
    """Frames."""


def check_stream(request: Request, stream: Stream) -> None:
    """Check the options of these verbs: they mean nothing to others.

    :raises UsageError: they do not fit the verb.
    """
    usage = "OBJECT [VERB] ..." if request.method in (HELP, VERSION) else usage_of(request.method)
    if request.method == CAPTURE and not stream.target:
        raise UsageError("capture", None, 'a file to write to is expected after "-w"; - is standard output', usage)
    if request.method != CAPTURE and stream.target is not None:
        raise UsageError("", "-w", "only capture writes to a file", usage)
    if request.method not in (CAPTURE, TRACE) and stream.most is not None:
        raise UsageError("", "-c", "only capture and trace count frames", usage)


def show_frames(
    run_dir: Path,
    request: Request,
    timeout_s: float,
    ask: Callable[[Request], Any],
    stream: Stream,
    *,
    as_json: bool,
    write: Callable[[str], int],
) -> int:
    """Run one of these verbs and return the exit status.

    :raises HopwireError: as `ask`; or the target cannot be written.
    """
    if request.method == CAPTURE:
        from services.control.cli.capture import capture  # noqa: PLC0415 - as all that only one verb needs

        return capture(run_dir, request.params, timeout_s, ask, stream.target or "", stream.most)
    from services.control.cli.trace import trace  # noqa: PLC0415

    return trace(run_dir, request.params, timeout_s, ask, as_json, write, stream.most or 1)
