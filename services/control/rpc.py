"""The methods of control's RPC: see docs/bus.md."""

from collections.abc import Callable, Mapping
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from services.common.bus import RpcClient, RpcRefusedError
from services.common.messages import RpcError
from services.control import show
from services.control.configuration.methods import ConfigMethods
from services.control.drop_methods import DropMethods
from services.control.kernel_changes import KernelChanges
from services.control.kernel_types import Link
from services.control.mirror import KernelMirror
from services.control.nat_methods import NatMethods
from services.control.nat_store import NatStore
from services.control.neigh_methods import NeighbourMethods
from services.control.permanent import PermanentNeighbours
from services.control.rib import Rib
from services.control.route_methods import RouteMethods
from services.control.rpc_params import (
    AddressFilter,
    AddressParams,
    DeviceFilter,
    LinkParams,
    NoParams,
    checked,
)
from services.control.view import RouterView
from services.control.why_method import WhyMethod

ASK_TIMEOUT_S: Final = 0.25
"""How long another service is waited for: control does nothing else meanwhile."""


AnswerT = TypeVar("AnswerT")
_FIB: TypeAdapter[dict[str, int]] = TypeAdapter(dict[str, int])


class ControlMethods:
    """Answers requests; an object of this class is the handler of an `RpcServer`."""

    def __init__(
        self,
        *,
        rib: Rib,
        mirror: KernelMirror,
        changes: KernelChanges,
        view: RouterView,
        configuration: ConfigMethods,
        forwarder: RpcClient,
        arp: RpcClient,
        permanent: PermanentNeighbours,
        nat: NatStore,
        clock: Callable[[], float],
        recordings: Path,
        tell: Callable[[], None],
    ) -> None:
        """Take what the methods work with.

        :param tell: tells the other services what has changed: before one of them is asked what follows from it.
        """
        self._rib = rib
        self._mirror = mirror
        self._changes = changes
        self._view = view
        self._clients = {"forwarder": forwarder, "arp": arp}
        self._clock = clock
        self._tell = tell
        neighbours = NeighbourMethods(rib, permanent, self._ask)
        routes = RouteMethods(rib, mirror, changes, self._ask)
        translation = NatMethods(rib, nat, self._ask)
        self._methods: Mapping[str, Callable[[dict[str, Any]], Any]] = {
            "status": self._status,
            "counters": self._counters,
            "fib": self._fib,
            "drops": DropMethods(rib, recordings),
            "why": WhyMethod(rib, self._ask),
            **configuration.methods,
            "route.add": lambda params: routes.change("add", params),
            "route.replace": lambda params: routes.change("replace", params),
            "route.del": lambda params: routes.change("del", params),
            "route.flush": routes.flush,
            "route.show": routes.show,
            "route.get": routes.get,
            "addr.add": lambda params: self._change_address("add", params),
            "addr.change": lambda params: self._change_address("change", params),
            "addr.replace": lambda params: self._change_address("replace", params),
            "addr.flush": self._addr_flush,
            "addr.del": lambda params: self._change_address("del", params),
            "addr.show": self._addr_show,
            "link.show": self._link_show,
            "link.set": self._link_set,
            "neigh.add": neighbours.add,
            "neigh.replace": neighbours.replace,
            "neigh.del": neighbours.delete,
            "neigh.flush": neighbours.flush,
            "neigh.show": neighbours.show,
            "neigh.probe": neighbours.probe,
            "nat.add": translation.add,
            "nat.del": translation.delete,
            "nat.show": translation.show,
            "nat.sessions": translation.sessions,
            "nat.flush": translation.flush,
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
        name = checked(DeviceFilter, params).dev
        counted = self._view.counters(self._clock())
        if name is None:
            return counted
        if name not in counted["interfaces"]:
            self._links(params)  # there is none of this name, or it has counted nothing so far
        del counted["balance"]  # of the router as a whole
        own = {instance: {name: rows[name]} for instance, rows in counted["services"].items() if name in rows}
        return counted | {"services": own, "interfaces": {name: counted["interfaces"].get(name, {})}}

    def _fib(self, params: dict[str, Any]) -> dict[str, Any]:
        checked(NoParams, params)
        return self._ask("forwarder", "fib", {}, _FIB) | {"control_generation": self._view.last_generation}

    # --- Changes: the kernel's, and mirrored before the answer goes out -----------------------------------------------

    def _change_address(self, verb: str, params: dict[str, Any]) -> dict[str, Any]:
        self._changes.change_address(verb, checked(AddressParams, params), self._rib.links)
        self._mirror.follow()
        return {}

    def _addr_flush(self, params: dict[str, Any]) -> dict[str, Any]:
        wanted = checked(AddressFilter, params)
        chosen = [
            address
            for link in self._links({} if wanted.dev is None else {"dev": wanted.dev})
            for address in reversed(self._rib.addresses.get(link.index, []))  # secondary ones before their primary
            if (wanted.to is None or IPv4Address(address.address) in wanted.to)
            and (wanted.scope is None or address.scope == wanted.scope)
        ]
        removed = sum(self._changes.remove_address(address) for address in chosen)
        self._mirror.follow()
        return {"removed": removed}

    def _link_set(self, params: dict[str, Any]) -> dict[str, Any]:
        wanted = checked(LinkParams, params)
        (link,) = self._links({"dev": wanted.dev})
        if wanted.policy and not link.is_routed:
            raise _error("refused", f"{link.name} is no Ethernet interface of the router's, or a port of another one")
        if wanted.changes_kernel:
            self._changes.change_link(wanted, self._rib.links)
        self._rib.change_policy(link.index, wanted.policy)
        self._mirror.follow()
        return {}

    # --- What there is ------------------------------------------------------------------------------------------------

    def _addr_show(self, params: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            show.addresses(link, self._rib.addresses.get(link.index, []), self._rib.interface_name)
            for link in self._links(params)
        ]

    def _link_show(self, params: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            show.link(link, self._rib.interface_name)
            | ({"policy": self._rib.policy(link).model_dump()} if link.is_routed else {})
            for link in self._links(params)
        ]

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

    def _ask(self, service: str, method: str, params: dict[str, Any], answer: TypeAdapter[AnswerT]) -> AnswerT:
        if not self._view.is_up(service, self._clock()):
            raise _error("unavailable", f"{service} is not there; see `status`")
        self._tell()
        try:
            return answer.validate_python(self._clients[service].call(method, params, ASK_TIMEOUT_S))
        except RpcRefusedError as refused:
            raise _error(refused.error.code, f"{service}: {refused.error.message}") from refused
        except ValidationError as error:
            raise _error("unavailable", f"{service} answers in another way; is it of another version?") from error


def _error(code: Any, message: str) -> RpcRefusedError:
    return RpcRefusedError(RpcError(code=code, message=message))
