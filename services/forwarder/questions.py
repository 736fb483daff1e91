"""Answers from the forwarder's own tables: what the fast path would do, and because of what."""

from typing import Any

from services.forwarder.paths import FORWARD, KIND_NAMES
from services.forwarder.tables import ForwardingTables


def route_get(tables: ForwardingTables, destination: int) -> dict[str, Any]:
    """Say where a datagram to `destination` goes. The keys are those of `route.get` in docs/bus.md."""
    resolution = tables.resolve(destination)
    prefix = tables.matched_prefix(destination)
    answer: dict[str, Any] = {
        "prefix": prefix[0] if prefix else None,
        "prefix_length": prefix[1] if prefix else None,
        "kind": KIND_NAMES[resolution.kind],
        "next_hops": [],
        "chosen": None,
        "mac": None,
        "mtu": None,
    }
    if resolution.kind == FORWARD:
        answer["next_hops"] = [
            {"interface": index, "gateway": gateway, "weight": weight, "silent": silent}
            for index, gateway, weight, silent in tables.next_hops(resolution.path)
        ]
        answer["chosen"] = {
            "interface": tables.index_of_slot[resolution.slot],
            "next_hop": resolution.next_hop,
        }
        answer["mac"] = tables.mac_of(resolution)
        answer["mtu"] = resolution.mtu
    return answer
