"""The methods of control's RPC: see docs/bus.md."""

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, Final, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from services.common.bus import RpcClient, RpcRefusedError
from services.common.messages import Address, InterfaceIndex, Mac, PrefixLength, RpcError
from services.common.wire.ethernet import mac_text
from services.common.wire.ipv4 import address_text, prefix_text
from services.control import show
from services.control.config import Config
from services.control.kernel_changes import KernelChanges
from services.control.kernel_types import Link, route_key
from services.control.mirror import KernelMirror
from services.control.rib import Rib
from services.control.route_table import TABLES
from services.control.rpc_params import (
    AddressParams,
    DestinationParams,
    DeviceFilter,
    LinkParams,
    NoParams,
    RouteFilter,
    RouteSpec,
    checked,
)
from services.control.view import RouterView

ASK_TIMEOUT_S: Final = 0.25
"""How long another service is waited for: control does nothing else meanwhile."""
MAX_SHOWN_ROUTES: Final = 100_000
"""Routes in one answer, which must be one message of `MAX_MESSAGE_BYTES`."""


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


class _ArpNeighbour(BaseModel):
    """One of what arp answers to `neigh.show`."""

    dst: Address
    interface: InterfaceIndex
    lladdr: Mac | None
    state: str
    age_s: float
    waiting_frames: int


AnswerT = TypeVar("AnswerT")
_ROUTE: TypeAdapter[_ForwarderRoute] = TypeAdapter(_ForwarderRoute)
_NEIGHBOURS: TypeAdapter[list[_ArpNeighbour]] = TypeAdapter(list[_ArpNeighbour])


class ControlMethods:
    """Answers requests; an object of this class is the handler of an `RpcServer`."""

    def __init__(
        self,
        *,
        rib: Rib,
        mirror: KernelMirror,
        changes: KernelChanges,
        view: RouterView,
        config: Config,
        forwarder: RpcClient,
        arp: RpcClient,
        clock: Callable[[], float],
    ) -> None:
        self._rib = rib
        self._mirror = mirror
        self._changes = changes
        self._view = view
        self._config = config
        self._clients = {"forwarder": forwarder, "arp": arp}
        self._clock = clock
        self._methods: Mapping[str, Callable[[dict[str, Any]], Any]] = {
            "status": self._status,
            "counters": self._counters,
            "config.show": self._config_show,
            "route.add": lambda params: self._change_route("add", params),
            "route.replace": lambda params: self._change_route("replace", params),
            "route.del": lambda params: self._change_route("del", params),
            "route.show": self._route_show,
            "route.get": self._route_get,
            "addr.add": lambda params: self._change_address("add", params),
            "addr.del": lambda params: self._change_address("del", params),
            "addr.show": self._addr_show,
            "link.show": self._link_show,
            "link.set": self._link_set,
            "neigh.show": self._neigh_show,
        }

    def __call__(self, method: str, params: dict[str, Any]) -> Any:
        """Return the result of a method.

        :raises RpcRefusedError: with the codes of docs/bus.md.
        """
        answer = self._methods.get(method)
        if answer is None:
            raise _error("unknown-method", f"control has no method {method!r}; there are: {', '.join(self._methods)}")
        return answer(params)

    # --- The router ---------------------------------------------------------------------------------------------------

    def _status(self, params: dict[str, Any]) -> dict[str, Any]:
        checked(NoParams, params)
        return self._view.status(self._clock())

    def _counters(self, params: dict[str, Any]) -> dict[str, Any]:
        checked(NoParams, params)
        return self._view.counters()

    def _config_show(self, params: dict[str, Any]) -> dict[str, Any]:
        checked(NoParams, params)
        return self._config.model_dump(mode="json")

    # --- Changes: the kernel's, and mirrored before the answer goes out -----------------------------------------------

    def _change_route(self, verb: str, params: dict[str, Any]) -> dict[str, Any]:
        self._changes.change_route(verb, checked(RouteSpec, params), self._rib.links)
        self._mirror.follow()
        return {}

    def _change_address(self, verb: str, params: dict[str, Any]) -> dict[str, Any]:
        self._changes.change_address(verb, checked(AddressParams, params), self._rib.links)
        self._mirror.follow()
        return {}

    def _link_set(self, params: dict[str, Any]) -> dict[str, Any]:
        self._changes.change_link(checked(LinkParams, params), self._rib.links)
        self._mirror.follow()
        return {}

    # --- What there is ------------------------------------------------------------------------------------------------

    def _route_show(self, params: dict[str, Any]) -> list[dict[str, Any]]:
        shown = list(islice(show.routes(self._rib, checked(RouteFilter, params)), MAX_SHOWN_ROUTES + 1))
        if len(shown) > MAX_SHOWN_ROUTES:
            raise _error("refused", f"more than {MAX_SHOWN_ROUTES} routes; narrow them with dst, dev, via or proto")
        return shown

    def _addr_show(self, params: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            show.addresses(link, self._rib.addresses.get(link.index, []), self._rib.interface_name)
            for link in self._links(params)
        ]

    def _link_show(self, params: dict[str, Any]) -> list[dict[str, Any]]:
        return [show.link(link, self._rib.interface_name) for link in self._links(params)]

    def _links(self, params: dict[str, Any]) -> list[Link]:
        name = checked(DeviceFilter, params).dev
        links = [self._rib.links[index] for index in sorted(self._rib.links)]
        if name is None:
            return links
        named = [link for link in links if link.name == name]
        if not named:
            existing = ", ".join(link.name for link in links)
            raise _error("refused", f"No such device: {name}; there are: {existing}")
        return named

    # --- What other services know -------------------------------------------------------------------------------------

    def _route_get(self, params: dict[str, Any]) -> dict[str, Any]:
        destination = int(checked(DestinationParams, params).dst)
        route = self._ask("forwarder", "route.get", {"dst": destination}, _ROUTE)
        if route.kind == "none":
            raise _error("refused", f"Network is unreachable: no route to {address_text(destination)}")
        shown: dict[str, Any] = {"type": route.kind} if route.kind != "unicast" else {}
        shown["dst"] = address_text(destination)
        if route.chosen is not None:
            if route.chosen.next_hop != destination:
                shown["gateway"] = address_text(route.chosen.next_hop)
            shown["dev"] = self._rib.interface_name(route.chosen.interface)
        source = self._source(route)
        if source:
            shown["prefsrc"] = address_text(source)
        matched = route.prefix is not None and route.prefix_length is not None
        return shown | {
            "prefix": prefix_text(route.prefix or 0, route.prefix_length or 0) if matched else None,
            "mtu": route.mtu,
            "lladdr": mac_text(route.mac) if route.mac else None,
            "neighbour": None if route.chosen is None else "resolved" if route.mac else "unresolved",
        }

    def _source(self, route: _ForwarderRoute) -> int:
        """Return the source address that the router's own datagrams take on this route; 0 for none."""
        if route.prefix is not None and route.prefix_length is not None:
            key = route_key(route.prefix, route.prefix_length)
            for info in (info for table in TABLES for info in self._rib.tables.candidates(table, key)):
                if info.source:
                    return info.source
        own = self._rib.addresses.get(route.chosen.interface) if route.chosen is not None else None
        return own[0].address if own else 0

    def _neigh_show(self, params: dict[str, Any]) -> list[dict[str, Any]]:
        wanted = checked(DeviceFilter, params).dev
        shown = []
        for neighbour in self._ask("arp", "neigh.show", {}, _NEIGHBOURS):
            name = self._rib.interface_name(neighbour.interface)
            if wanted in (None, name):
                mac = {"lladdr": mac_text(neighbour.lladdr)} if neighbour.lladdr else {}
                shown.append(
                    {"dst": address_text(neighbour.dst), "dev": name}
                    | mac
                    | {
                        "state": [neighbour.state],
                        "age_s": neighbour.age_s,
                        "waiting_frames": neighbour.waiting_frames,
                    }
                )
        return shown

    def _ask(self, service: str, method: str, params: dict[str, Any], answer: TypeAdapter[AnswerT]) -> AnswerT:
        if not self._view.is_up(service, self._clock()):
            raise _error("unavailable", f"{service} is not there; see `status`")
        try:
            return answer.validate_python(self._clients[service].call(method, params, ASK_TIMEOUT_S))
        except RpcRefusedError as refused:
            raise _error(refused.error.code, f"{service}: {refused.error.message}") from refused
        except ValidationError as error:
            raise _error("unavailable", f"{service} answers in another way; is it of another version?") from error


def _error(code: Any, message: str) -> RpcRefusedError:
    return RpcRefusedError(RpcError(code=code, message=message))
