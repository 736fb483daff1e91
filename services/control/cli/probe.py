"""`neigh probe`: arp is told to ask, and then looked at until it has an answer or has given up."""

import time
from collections.abc import Mapping
from typing import Any, Final

from services.control.cli.grammar import Request
from services.control.cli.router import Place, ask

PROBE: Final = "neigh.probe"
_LOOK_INTERVAL_S: Final = 0.1
_UNDER_WAY: Final = ("INCOMPLETE", "PROBE")
_ANSWERED: Final = ("REACHABLE", "STALE", "DELAY")


def watch_probe(place: Place, request: Request, timeout_s: float) -> Mapping[str, Any] | None:
    """Return the neighbour as it is when its probe is over, or the time; None where there is no entry left.

    :raises HopwireError: as `ask`.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        shown = ask(place, Request("neigh.show", request.params), timeout_s)
        neighbour: Mapping[str, Any] | None = shown[0] if shown else None
        if neighbour is None or neighbour["state"][0] not in _UNDER_WAY or time.monotonic() > deadline:
            return neighbour
        time.sleep(_LOOK_INTERVAL_S)


def has_answered(neighbour: Mapping[str, Any]) -> bool:
    """Tell whether the state of a neighbour that was probed says that it answered."""
    return neighbour["state"][0] in _ANSWERED
