"""The methods `route.*` of control's RPC: the kernel's routes, and what the forwarder makes of them."""

import errno
import os
from itertools import islice
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter

from services.common.bus import RpcRefusedError
from services.common.counters import Counter
from services.common.messages import Address, InterfaceIndex, Mac, PrefixLength, RpcError
from services.common.wire.ethernet import mac_text
from services.common.wire.ipv4 import address_text, prefix_text
from services.control import show
from services.control.kernel_changes import KernelChanges
from services.control.kernel_types import route_key
from services.control.mirror import KernelMirror
from services.control.neigh_methods import Ask
from services.control.rib import Rib
from services.control.route_table import TABLES
from services.control.rpc_params import RouteFilter, RouteFlush, RouteQuestion, RouteSpec, checked

MAX_SHOWN_ROUTES: Final = 100_000
"""Routes in one answer, which must be one message of `MAX_MESSAGE_BYTES`."""
MAX_FLUSHED_ROUTES: Final = 10_000
"""Routes removed by one request: control does nothing else meanwhile, some 20 microseconds for each."""
_FOLLOW_EVERY: Final = 512
"""The announcements of so many removals are taken in at one go: half of what `KernelMirror.follow` takes at least."""


class _ChosenHop(BaseModel):
    interface: InterfaceIndex
    next_hop: Address


class _ForwarderRoute(BaseModel):
    """What the forwarder answers to `route.get`."""

    prefix: Address | None
    prefix_length: PrefixLength | None
    kind: str
    chosen: _ChosenHop | None
    mac: Mac | None
    mtu: int | None
    interface: InterfaceIndex = 0
    verdict: str = ""
    """A counter's name; none where no source was given."""


_ROUTE: TypeAdapter[_ForwarderRoute] = TypeAdapter(_ForwarderRoute)
_NOT_LET_IN: Final = {
    Counter.DROP_REVERSE_PATH: errno.EXDEV,
    Counter.DROP_MARTIAN_SOURCE: errno.EINVAL,
    Counter.DROP_MARTIAN_DESTINATION: errno.EINVAL,
    Counter.DROP_LINK_LOCAL: errno.EINVAL,
    Counter.DROP_UNKNOWN_INTERFACE: errno.ENETDOWN,
}
"""What `ip route get ... iif` answers to such datagrams (fib_validate_source, ip_route_input_slow of Linux)."""


class RouteMethods:
    """Answers `route.*`."""

    def __init__(self, rib: Rib, mirror: KernelMirror, changes: KernelChanges, ask: Ask) -> None:
        self._rib = rib
        self._mirror = mirror
        self._changes = changes
        self._ask = ask

    def change(self, verb: str, params: dict[str, Any]) -> dict[str, Any]:
        """Add, replace or delete a route."""
        self._changes.change_route(verb, checked(RouteSpec, params), self._rib.links)
        self._mirror.follow()
        return {}

    def flush(self, params: dict[str, Any]) -> dict[str, Any]:
        """Remove the routes that a filter lets through, `MAX_FLUSHED_ROUTES` at most; `more`: ask again."""
        chosen = list(islice(show.selected(self._rib, checked(RouteFlush, params)), MAX_FLUSHED_ROUTES + 1))
        removed = 0
        for route in chosen[:MAX_FLUSHED_ROUTES]:
            removed += self._changes.remove_route(*route)
            if not removed % _FOLLOW_EVERY:
                self._mirror.follow()
        self._mirror.follow()
        return {"removed": removed, "more": removed > 0 and len(chosen) > MAX_FLUSHED_ROUTES}

    def show(self, params: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the routes that a filter lets through."""
        shown = list(islice(show.routes(self._rib, checked(RouteFilter, params)), MAX_SHOWN_ROUTES + 1))
        if len(shown) > MAX_SHOWN_ROUTES:
            raise _error("refused", f"more than {MAX_SHOWN_ROUTES} routes; narrow them with dst, dev, via or proto")
        return shown

    def get(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return where a datagram goes, from the forwarder's own table."""
        wanted = checked(RouteQuestion, params)
        destination = int(wanted.dst)
        question = {"dst": destination}
        if wanted.src is not None:
            question |= {"src": int(wanted.src)}
        if wanted.iif is not None:
            question |= {"interface": self._index(wanted.iif)}
        route = self._ask("forwarder", "route.get", question, _ROUTE)
        self._refuse_what_is_not_let_in(route, wanted)
        if route.kind == "none":
            raise _error("refused", f"Network is unreachable: no route to {address_text(destination)}")
        shown: dict[str, Any] = {"type": route.kind} if route.kind != "unicast" else {}
        shown["dst"] = address_text(destination)
        if route.chosen is not None:
            if route.chosen.next_hop != destination:
                shown["gateway"] = address_text(route.chosen.next_hop)
            shown["dev"] = self._rib.interface_name(route.chosen.interface)
        if wanted.src is not None:
            shown |= {"from": str(wanted.src), "iif": self._rib.interface_name(route.interface)}
        source = self._source(route) if wanted.src is None else 0
        if source:
            shown["prefsrc"] = address_text(source)
        matched = route.prefix is not None and route.prefix_length is not None
        return shown | {
            "prefix": prefix_text(route.prefix or 0, route.prefix_length or 0) if matched else None,
            "mtu": route.mtu,
            "lladdr": mac_text(route.mac) if route.mac else None,
            "neighbour": None if route.chosen is None else "resolved" if route.mac else "unresolved",
        }

    def _index(self, name: str) -> int:
        for link in self._rib.links.values():
            if link.name == name and link.is_routed:
                return link.index
        existing = ", ".join(sorted(link.name for link in self._rib.links.values() if link.is_routed))
        raise _error("refused", f"{os.strerror(errno.ENODEV)}: {name}; there are: {existing}")

    def _refuse_what_is_not_let_in(self, route: _ForwarderRoute, wanted: RouteQuestion) -> None:
        verdict = Counter.__members__.get(route.verdict)
        number = _NOT_LET_IN.get(verdict) if verdict is not None else None
        if verdict is None or number is None:
            return
        if not route.interface:
            raise _error("refused", f"{os.strerror(number)}: no interface leads to {wanted.src}; name one with iif")
        name = self._rib.interface_name(route.interface)
        raise _error("refused", f"{os.strerror(number)}: from {wanted.src} by {name}: {verdict.text} ({verdict.name})")

    def _source(self, route: _ForwarderRoute) -> int:
        """Return the source address that the router's own datagrams take on this route; 0 for none."""
        if route.prefix is not None and route.prefix_length is not None:
            key = route_key(route.prefix, route.prefix_length)
            for info in (info for table in TABLES for info in self._rib.tables.candidates(table, key)):
                if info.source:
                    return info.source
        own = self._rib.addresses.get(route.chosen.interface) if route.chosen is not None else None
        return own[0].address if own else 0


def _error(code: Any, message: str) -> RpcRefusedError:
    return RpcRefusedError(RpcError(code=code, message=message))
