"""The methods `neigh.*` of control's RPC: permanent entries are control's own, the others arp's."""

import errno
import os
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeVar

from pydantic import BaseModel, TypeAdapter

from services.common.bus import RpcRefusedError
from services.common.errors import HopwireError
from services.common.messages import Address, InterfaceIndex, Mac, RpcError
from services.common.parameters import PermanentNeighbour
from services.common.wire.ethernet import is_group, mac_text
from services.common.wire.ipv4 import address_text, names_single_host
from services.control.permanent import Key, PermanentNeighbours
from services.control.rib import Rib
from services.control.rpc_params import FlushParams, NeighbourFilter, NeighbourParams, NeighbourSpec, checked

_PERMANENT: Final = "PERMANENT"
T = TypeVar("T")


class _ArpNeighbour(BaseModel):
    """One of what arp answers to `neigh.show`."""

    dst: Address
    interface: InterfaceIndex
    lladdr: Mac | None
    state: str
    age_s: float
    waiting_frames: int
    waiting_bytes: int


NEIGHBOURS: TypeAdapter[list[_ArpNeighbour]] = TypeAdapter(list[_ArpNeighbour])
_NOTHING: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])


class Ask(Protocol):
    """Asks another service."""

    def __call__(self, service: str, method: str, params: dict[str, Any], answer: TypeAdapter[T]) -> T:
        """Return the service's answer.

        :raises RpcRefusedError: the service's own error, or it does not answer.
        """
        ...


class NeighbourMethods:
    """Answers `neigh.*`."""

    def __init__(self, rib: Rib, permanent: PermanentNeighbours, ask: Ask) -> None:
        self._rib = rib
        self._permanent = permanent
        self._ask = ask

    def show(self, params: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the neighbours; a permanent one also before arp has heard of it."""
        wanted = checked(NeighbourFilter, params)
        told = {
            (self._rib.interface_name(each.interface), address_text(each.dst)): each
            for each in self._ask("arp", "neigh.show", {}, NEIGHBOURS)
        }
        permanent = {(each.interface, each.address): each for each in self._permanent.all()}
        shown = {
            key: _shown(key, each) for key, each in told.items() if each.state != _PERMANENT and key not in permanent
        }
        for key, neighbour in permanent.items():
            shown[key] = _shown_permanent(neighbour, told.get(key))
        return [
            one
            for (dev, dst), one in shown.items()
            if wanted.dev in (None, dev) and (wanted.dst is None or str(wanted.dst) == dst)
        ]

    def add(self, params: dict[str, Any]) -> dict[str, Any]:
        """Make a permanent entry where there is none of any kind."""
        spec = checked(NeighbourSpec, params)
        key = self._key(spec)
        if self._permanent.get(key) or self._is_known_to_arp(key):
            raise _refusal(errno.EEXIST, f"{key[1]} dev {key[0]}; use replace")
        return self._put(spec)

    def replace(self, params: dict[str, Any]) -> dict[str, Any]:
        """Make an entry permanent, whatever there is."""
        spec = checked(NeighbourSpec, params)
        self._refuse_configured(self._key(spec))
        return self._put(spec)

    def delete(self, params: dict[str, Any]) -> dict[str, Any]:
        """Remove an entry of any kind."""
        spec = checked(NeighbourParams, params)
        key = self._key(spec)
        self._refuse_configured(key)
        if self._permanent.get(key):
            _kept(lambda: self._permanent.remove(key))
            return {}
        try:
            return self._ask("arp", "neigh.del", self._numbers(spec), _NOTHING)
        except RpcRefusedError as refused:
            if refused.error.code != "refused":
                raise
            raise _refusal(errno.ENOENT, f"{spec.dst} dev {spec.dev}") from refused

    def flush(self, params: dict[str, Any]) -> dict[str, Any]:
        """Remove all entries that are not permanent."""
        wanted = checked(FlushParams, params)
        numbers = {} if wanted.dev is None else {"interface": self._index(wanted.dev)}
        return self._ask("arp", "neigh.flush", numbers, _NOTHING)

    def probe(self, params: dict[str, Any]) -> dict[str, Any]:
        """Have arp ask a neighbour now; `neigh.show` tells what came of it."""
        spec = checked(NeighbourParams, params)
        if self._permanent.get(self._key(spec)):
            raise _refusal(errno.EPERM, f"{spec.dst} dev {spec.dev} is permanent, and is not asked")
        return self._ask("arp", "neigh.probe", self._numbers(spec), _NOTHING)

    def _put(self, spec: NeighbourSpec) -> dict[str, Any]:
        if is_group(spec.lladdr) or not any(spec.lladdr):
            raise _refusal(errno.EINVAL, f"lladdr {mac_text(spec.lladdr)} is no single station's")
        neighbour = PermanentNeighbour(interface=spec.dev, address=str(spec.dst), mac=mac_text(spec.lladdr))
        _kept(lambda: self._permanent.put(neighbour))
        return {}

    def _key(self, spec: NeighbourParams) -> Key:
        self._index(spec.dev)
        if not names_single_host(int(spec.dst)):
            raise _refusal(errno.EINVAL, f"{spec.dst} is no single host's address")
        return spec.dev, str(spec.dst)

    def _numbers(self, spec: NeighbourParams) -> dict[str, int]:
        return {"interface": self._index(spec.dev), "dst": int(spec.dst)}

    def _index(self, name: str) -> int:
        for link in self._rib.links.values():
            if link.name == name and link.is_routed:
                return link.index
        existing = ", ".join(sorted(link.name for link in self._rib.links.values() if link.is_routed))
        raise _refusal(errno.ENODEV, f"{name}; there are: {existing}")

    def _refuse_configured(self, key: Key) -> None:
        if self._permanent.is_configured(key):
            raise _refusal(errno.EPERM, f"{key[1]} dev {key[0]} is in the configuration; change it there")

    def _is_known_to_arp(self, key: Key) -> bool:
        """Tell whether there is an entry of another kind; an arp that is away knows of none."""
        try:
            told = self._ask("arp", "neigh.show", {}, NEIGHBOURS)
        except RpcRefusedError as refused:
            if refused.error.code != "unavailable":
                raise
            return False
        return any(
            key == (self._rib.interface_name(each.interface), address_text(each.dst)) and each.state != _PERMANENT
            for each in told
        )


def _shown(key: Key, told: _ArpNeighbour) -> dict[str, Any]:
    mac = {"lladdr": mac_text(told.lladdr)} if told.lladdr else {}
    return {"dst": key[1], "dev": key[0], **mac, "state": [told.state], **_figures(told)}


def _shown_permanent(neighbour: PermanentNeighbour, told: _ArpNeighbour | None) -> dict[str, Any]:
    mac = neighbour.mac.lower()
    key = {"dst": neighbour.address, "dev": neighbour.interface}
    return {**key, "lladdr": mac, "state": [_PERMANENT], **_figures(told)}


def _figures(told: _ArpNeighbour | None) -> Mapping[str, Any]:
    if told is None:
        return {"age_s": 0.0, "waiting_frames": 0, "waiting_bytes": 0}
    return {"age_s": told.age_s, "waiting_frames": told.waiting_frames, "waiting_bytes": told.waiting_bytes}


def _kept(change: Callable[[], None]) -> None:
    try:
        change()
    except HopwireError as error:
        raise RpcRefusedError(RpcError(code="refused", message=error.message)) from error


def _refusal(number: int, details: str) -> RpcRefusedError:
    return RpcRefusedError(RpcError(code="refused", message=f"{os.strerror(number)}: {details}"))
