"""Asks control until the router is ready, and says so in one line on stdout."""

from collections.abc import Sequence
from typing import Any, Final

import zmq

from services.common.endpoints import Endpoints
from services.common.interfaces import InterfaceInfo
from services.launcher.status import RouterStatus, ask_status

ASK_INTERVAL_S: Final = 0.05
"""So often control is asked."""
_ASK_LIMIT_S: Final = 0.2
_EXPLAIN_INTERVAL_S: Final = 5.0
"""So often a router that is not ready says in the log what it waits for."""


class Readiness:
    """Whether the router has ever been ready."""

    def __init__(self, context: zmq.Context[Any], endpoints: Endpoints, log: Any, now: float) -> None:
        """Nobody is asked yet; `now` is when the router began to start."""
        self._context = context
        self._endpoints = endpoints
        self._log = log
        self._began_at = now
        self._explain_at = now + _EXPLAIN_INTERVAL_S
        self._waits_for_interface = False
        self.is_ready = False
        self.ask_at = now
        """When to call `ask_when_due` next."""

    def set_interfaces(self, usable: Sequence[InterfaceInfo], now: float) -> None:
        """Take note of the interfaces to route by; without any, say once that one is waited for."""
        if self.is_ready or self._waits_for_interface == (not usable):
            return
        self._waits_for_interface = not usable
        if self._waits_for_interface:
            print("hopwire waits for an Ethernet interface that is up (ip link set NAME up)", flush=True)
        else:
            self._began_at = now

    def ask_when_due(self, now: float, *, all_started: bool) -> bool:
        """Ask control if it is time to; return whether the router is ready, and say so the first time that it is.

        :param all_started: whether every service is a process. Until then nobody is asked, since an answer that does
            not come, from a control that reads a large table, would hold up the start of the others.
        """
        if self.is_ready or now < self.ask_at:
            return self.is_ready
        self.ask_at = now + ASK_INTERVAL_S
        if self._waits_for_interface:
            return False
        status = ask_status(self._context, self._endpoints, _ASK_LIMIT_S) if all_started else None
        if status is not None and status.ready and any(interface.forwarding for interface in status.interfaces):
            self.is_ready = True
            print(ready_line(status, now - self._began_at), flush=True)
        elif now >= self._explain_at:
            self._explain_at = now + _EXPLAIN_INTERVAL_S
            silence = "control's answer" if all_started else "the services' imports"
            waiting_for = (status.waiting_for or ["an interface with a carrier"]) if status else [silence]
            self._log.warning("not ready yet", waiting_for=waiting_for)
        return self.is_ready


def ready_line(status: RouterStatus, seconds: float) -> str:
    """Return the line that says that a router is ready, with the interfaces that forward."""
    interfaces = [
        " ".join((interface.name, *(interface.addresses or ["without address"])))
        for interface in status.interfaces
        if interface.forwarding
    ]
    routes = f"{status.routes} route{'' if status.routes == 1 else 's'}"
    return f"hopwire ready: {', '.join(interfaces)} ({routes}) in {seconds:.1f} s"
