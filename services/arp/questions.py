"""What others ask of arp: the methods of its RPC (docs/bus.md)."""

import errno
import os
from collections.abc import Callable, Mapping
from typing import Any

from services.arp.actions import Action
from services.arp.effects import Effects
from services.arp.resolver import Resolver
from services.common.bus import RpcRefusedError
from services.common.messages import RpcError
from services.common.runtime import clock


class Questions:
    """The handler of arp's `RpcServer`. What it changes is done, and published, before the answer goes out."""

    def __init__(self, resolver: Resolver, effects: Effects) -> None:
        self._resolver = resolver
        self._effects = effects
        self._methods: Mapping[str, Callable[[dict[str, Any]], Any]] = {
            "neigh.show": lambda _: self._resolver.show(clock()),
            "neigh.del": self._delete,
            "neigh.flush": self._flush,
            "neigh.probe": self._probe,
        }

    def __call__(self, method: str, params: dict[str, Any]) -> Any:
        """Return the result of a method.

        :raises RpcRefusedError: with the codes of docs/bus.md.
        """
        answer = self._methods.get(method)
        if answer is None:
            message = f"arp has no method {method!r}; there are: {', '.join(self._methods)}"
            raise RpcRefusedError(RpcError(code="unknown-method", message=message))
        return answer(params)

    def _delete(self, params: dict[str, Any]) -> dict[str, Any]:
        neighbour = _number(params, "interface"), _number(params, "dst")
        actions = self._resolver.on_remove(neighbour, clock())
        if actions is None:
            raise RpcRefusedError(RpcError(code="refused", message=os.strerror(errno.ENOENT)))
        return self._perform(actions)

    def _flush(self, params: dict[str, Any]) -> dict[str, Any]:
        interface = _number(params, "interface") if "interface" in params else None
        return self._perform(self._resolver.on_flush(interface, clock()))

    def _probe(self, params: dict[str, Any]) -> dict[str, Any]:
        neighbour = _number(params, "interface"), _number(params, "dst")
        actions = self._resolver.on_examine(neighbour, clock())
        if actions is None:
            message = "No buffer space available: the interface is down or has no address, or the table is full"
            raise RpcRefusedError(RpcError(code="refused", message=message))
        return self._perform(actions)

    def _perform(self, actions: list[Action]) -> dict[str, Any]:
        self._effects.perform(actions)
        self._effects.flush()
        return {}


def _number(params: dict[str, Any], name: str) -> int:
    value = params.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 0xFFFF_FFFF:
        raise RpcRefusedError(RpcError(code="usage", message=f"{name} must be a number of 32 bits"))
    return value
