"""What the forwarder answers to `why`: its verdict on a datagram, and what it knows of all that it rests on."""

from typing import Any

from services.common.wire import ipv4
from services.forwarder.paths import FORWARD, KIND_NAMES
from services.forwarder.probing import Probe, probe
from services.forwarder.tables import ForwardingTables


def why(tables: ForwardingTables, datagram: Probe) -> dict[str, Any]:
    """Return the facts. The keys are those of the forwarder's `why` in docs/bus.md."""
    probed = probe(tables, datagram._replace(dont_fragment=False))
    unfragmented = probe(tables, datagram._replace(dont_fragment=True))
    resolution = tables.resolve(probed.destination)
    if probed.way is not None:
        resolution = resolution._replace(**probed.way)
    back = tables.resolve(datagram.source)
    return {
        "verdict": probed.verdict.name,
        "verdict_df": unfragmented.verdict.name,
        "interface": probed.interface,
        "leaving": dict(zip(("src", "sport", "dst", "dport"), probed.leaving, strict=True)),
        "length": ipv4.HEADER_BYTES + datagram.payload_bytes,
        **_route(tables, probed.destination, resolution, ""),
        **_route(tables, datagram.source, back, "back_"),
        "chosen": {"interface": tables.index_of_slot[resolution.slot], "next_hop": resolution.next_hop}
        if resolution.kind == FORWARD
        else None,
        "mac": tables.mac_of(resolution) if resolution.kind == FORWARD else None,
        "mtu": resolution.mtu if resolution.kind == FORWARD else None,
    }


def _route(tables: ForwardingTables, address: int, resolution: Any, prefix: str) -> dict[str, Any]:
    """Say what is known of the way to an address, in keys with a prefix of their own."""
    matched = tables.matched_prefix(address)
    return {
        f"{prefix}kind": KIND_NAMES[resolution.kind],
        f"{prefix}prefix": matched[0] if matched else None,
        f"{prefix}prefix_length": matched[1] if matched else None,
        f"{prefix}next_hops": [
            {"interface": index, "gateway": gateway, "weight": weight, "silent": silent}
            for index, gateway, weight, silent in (
                tables.next_hops(resolution.path) if resolution.kind == FORWARD else ()
            )
        ],
    }
