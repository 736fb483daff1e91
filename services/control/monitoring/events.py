"""The events of control's log: one for each change of the router's state. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple


class Event(NamedTuple):
    """A line of the log."""

    level: Literal["info", "warning"]
    text: str
    fields: Mapping[str, Any] = {}


class EventLog:
    """Compares what `status` says with what it said last."""

    def __init__(self) -> None:
        """Nothing is known: the first status tells of what is there."""
        self._warnings: set[str] = set()
        self._ready: bool | None = None
        self._interfaces: dict[str, bool] = {}
        self._services: dict[str, bool] = {}
        self._dumps = 1
        """The first one is no event."""
        self._accounted = True

    def on_status(self, status: Mapping[str, Any], *, dumps: int, dump_reason: str, unaccounted: int) -> list[Event]:
        """Return what is new.

        :param dumps: of the kernel's tables so far, and `dump_reason` why the last one was made.
        :param unaccounted: what the audit of the frame balance says.
        """
        return [
            *self._new_warnings(set(status["warnings"])),
            *self._interface_changes({one["name"]: one["up"] for one in status["interfaces"]}),
            *self._service_changes({one["instance"]: one["up"] for one in status["services"]}),
            *self._resyncs(dumps, dump_reason),
            *self._balance(unaccounted),
            *self._readiness(status),
        ]

    def _new_warnings(self, warnings: set[str]) -> Iterator[Event]:
        for warning in sorted(warnings - self._warnings):
            yield Event("warning", warning)
        self._warnings = warnings

    def _interface_changes(self, interfaces: dict[str, bool]) -> Iterator[Event]:
        for name, up in interfaces.items():
            if self._interfaces.get(name) is not up:
                yield Event("info", "interface up" if up else "interface down", {"interface": name})
        for name in self._interfaces.keys() - interfaces.keys():
            yield Event("info", "interface gone", {"interface": name})
        self._interfaces = interfaces

    def _service_changes(self, services: dict[str, bool]) -> Iterator[Event]:
        for instance, up in services.items():
            if self._services.get(instance) is not up:
                yield Event("info" if up else "warning", "service up" if up else "service down", {"instance": instance})
        for instance in self._services.keys() - services.keys():
            yield Event("info", "service not missed any more", {"instance": instance})
        self._services = services

    def _resyncs(self, dumps: int, reason: str) -> Iterator[Event]:
        if dumps > self._dumps:
            yield Event("info", "the kernel's tables were read again", {"reason": reason, "times": dumps - self._dumps})
        self._dumps = max(dumps, self._dumps)

    def _balance(self, unaccounted: int) -> Iterator[Event]:
        accounted = unaccounted == 0
        if accounted is not self._accounted:
            self._accounted = accounted
            if accounted:
                yield Event("info", "every frame is accounted for")
            else:
                yield Event("warning", "frames are not accounted for", {"frames": unaccounted})

    def _readiness(self, status: Mapping[str, Any]) -> Iterator[Event]:
        if status["ready"] != self._ready:
            self._ready = status["ready"]
            waiting = {} if self._ready else {"waiting_for": status["waiting_for"]}
            yield Event("info", "ready" if self._ready else "not ready", waiting)
