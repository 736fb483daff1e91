"""`monitor`: subscribes to what control and arp publish, and writes each change as it comes."""

import time
from collections.abc import Callable, Iterable, Mapping
from json import dumps
from pathlib import Path
from typing import Any, Final

import zmq

from services.common.bus import StateSubscriber
from services.common.endpoints import Endpoints
from services.common.messages import NeighbourState, RouterState
from services.control.cli.changes import ADDRESS, LINK, NEIGHBOUR, ROUTE, Change, NeighbourChanges, RouterChanges, line
from services.control.cli.router import NoRouterError, check_listening

_POLL_MS: Final = 250
"""How often it is looked whether a snapshot is to be asked for."""
GONE_S: Final = 10.0
"""A control service that is away for so long is not being restarted."""
_OBJECTS: Final = (LINK, ADDRESS, ROUTE, NEIGHBOUR)


def monitor(
    run_dir: Path, wanted: Mapping[str, Any], timeout_s: float, as_json: bool, write: Callable[[str], int]
) -> int:
    """Write changes until the reader goes away; return the exit status.

    :param wanted: the objects that were named; all where none is.
    :param write: writes text, and returns an exit status other than 0 when nobody reads it any more.
    :raises NoRouterError: there is no router, or it has ended.
    """
    objects = [name for name in _OBJECTS if wanted.get(name)] if not wanted.get("all") else []
    endpoints = Endpoints(run_dir.absolute())
    check_listening(endpoints, timeout_s)
    with zmq.Context() as context:
        control = StateSubscriber(context, endpoints.control_state, endpoints.control_snapshot)
        arp = StateSubscriber(context, endpoints.arp_state, endpoints.arp_snapshot)
        try:
            return _follow(control, arp, frozenset(objects or _OBJECTS), as_json, write, Presence(run_dir, timeout_s))
        finally:
            control.close()
            arp.close()


class Presence:
    """Whether control is there; it may be away for as long as a restart takes."""

    def __init__(self, run_dir: Path, timeout_s: float) -> None:
        """Begin with a control that is there."""
        self._endpoints = Endpoints(run_dir.absolute())
        self._timeout_s = timeout_s
        self._seen_at = self._looked_at = time.monotonic()

    def check(self, now: float) -> None:
        """Look once a second.

        :raises NoRouterError: nobody has been there for `GONE_S`.
        """
        if now - self._looked_at < 1.0:
            return
        self._looked_at = now
        try:
            check_listening(self._endpoints, self._timeout_s)
            self._seen_at = now
        except NoRouterError:
            if now - self._seen_at > GONE_S:
                raise


def _follow(
    control: StateSubscriber,
    arp: StateSubscriber,
    objects: frozenset[str],
    as_json: bool,
    write: Callable[[str], int],
    presence: Presence,
) -> int:
    router, neighbours = RouterChanges(), NeighbourChanges()
    poller = zmq.Poller()
    while True:
        now = time.monotonic()
        changes: list[Change] = []
        for state in control.receive(now):
            if isinstance(state, RouterState):
                changes += router.apply(state)
        for told in arp.receive(now):
            if isinstance(told, NeighbourState):
                changes += neighbours.apply(told, router)
        text = _text((change for change in changes if change["object"] in objects), as_json)
        if text and (status := write(text)):
            return status
        presence.check(now)
        control.register(poller)
        arp.register(poller)
        poller.poll(_POLL_MS)


def _text(changes: Iterable[Change], as_json: bool) -> str:
    return "".join((dumps(change, separators=(",", ":")) if as_json else line(change)) + "\n" for change in changes)
