"""Answers from the forwarder's own tables: what the fast path would do, and because of what."""

from typing import Any

import numpy as np

from services.common.bus import RpcRefusedError
from services.common.counters import Counter
from services.common.messages import RpcError
from services.common.meters import resident_bytes
from services.common.wire import ipv4
from services.forwarder.nat.layout import UNUSED
from services.forwarder.paths import FORWARD, KIND_NAMES, NO_GROUP, NO_ROUTE
from services.forwarder.probing import Probe, probe
from services.forwarder.tables import ForwardingTables
from services.forwarder.why import why


def answer(tables: ForwardingTables, generation: int, method: str, params: dict[str, Any]) -> Any:
    """Return the result of a method of the forwarder's RPC.

    :param generation: the last sequence number of control's state that the tables hold.
    :raises RpcRefusedError: with the codes of docs/bus.md.
    """
    if method == "fib":
        return fib(tables, generation)
    if method == "why":
        return why(tables, _datagram(params))
    if method != "route.get":
        raise _error("unknown-method", f"the forwarder has no method {method}; there are: route.get, why, fib")
    source = _number(params, "src") if "src" in params else None
    return route_get(
        tables, _number(params, "dst"), source, _number(params, "interface") if "interface" in params else 0
    )


def _datagram(params: dict[str, Any]) -> Probe:
    numbers = {name: _number(params, name) for name in ("src", "dst", "interface", "protocol", "sport", "dport", "ttl")}
    size = _number(params, "size")
    fits = numbers["protocol"] <= 0xFF and numbers["ttl"] <= 0xFF and ipv4.HEADER_BYTES <= size <= ipv4.MAX_BYTES
    if not fits or max(numbers["sport"], numbers["dport"]) > 0xFFFF:
        raise _error("usage", "protocol and ttl have 8 bits, ports 16, and a datagram has 20 to 65535 bytes")
    source, destination, *rest = numbers.values()
    interface, protocol, source_port, destination_port, ttl = rest
    payload_bytes = size - ipv4.HEADER_BYTES
    return Probe(source, destination, interface, protocol, source_port, destination_port, payload_bytes, ttl)


def _number(params: dict[str, Any], name: str) -> int:
    value = params.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 0xFFFF_FFFF:
        raise _error("usage", f"{name} must be a number of 32 bits, an IPv4 address or an interface's index")
    return value


def _error(code: Any, message: str) -> RpcRefusedError:
    return RpcRefusedError(RpcError(code=code, message=message))


def route_get(
    tables: ForwardingTables, destination: int, source: int | None = None, interface: int = 0
) -> dict[str, Any]:
    """Say where a datagram to `destination` goes. The keys are those of `route.get` in docs/bus.md.

    :param source: where it comes from; the answer is then that of the fast path for this very datagram.
    :param interface: the index of the interface it comes in by; 0: the one that leads back to its source.
    """
    resolution = tables.resolve(destination)
    prefix = tables.matched_prefix(destination)
    answered: dict[str, Any] = {
        "prefix": prefix[0] if prefix else None,
        "prefix_length": prefix[1] if prefix else None,
        "kind": KIND_NAMES[resolution.kind],
        "next_hops": [],
        "chosen": None,
        "mac": None,
        "mtu": None,
    }
    if source is not None:
        probed = probe(tables, Probe(source, destination, interface), UNUSED)  # of no protocol that has sessions
        answered |= {"interface": probed.interface, "verdict": probed.verdict.name}
        if probed.way is not None and probed.verdict in (Counter.FORWARDED, Counter.HANDED):
            resolution = resolution._replace(**probed.way)
    if resolution.kind == FORWARD:
        answered["next_hops"] = [
            {"interface": index, "gateway": gateway, "weight": weight, "silent": silent}
            for index, gateway, weight, silent in tables.next_hops(resolution.path)
        ]
        answered["chosen"] = {
            "interface": tables.index_of_slot[resolution.slot],
            "next_hop": resolution.next_hop,
        }
        answered["mac"] = tables.mac_of(resolution)
        answered["mtu"] = resolution.mtu
    return answered


def fib(tables: ForwardingTables, generation: int) -> dict[str, int]:
    """Say how large the tables are. The keys are those of `fib` in docs/bus.md."""
    arrays = tables.arrays
    used = arrays.path_kind != NO_ROUTE
    parts = (*arrays.fib, *(part for part in arrays[1:] if isinstance(part, np.ndarray)))
    return {
        "generation": generation,
        "routes": len(tables),
        "paths": int(np.count_nonzero(used)),
        "groups": int(np.count_nonzero(arrays.path_group[used] != NO_GROUP)),
        "neighbours": len(tables.neighbours()),
        "table_bytes": sum(part.nbytes for part in parts),
        "resident_bytes": resident_bytes(),
    }
