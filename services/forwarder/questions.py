"""Answers from the forwarder's own tables: what the fast path would do, and because of what."""

import resource
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from services.common.bus import RpcRefusedError
from services.common.counters import BY_COLUMN, COLUMNS, Counter
from services.common.messages import RpcError
from services.common.wire import ethernet, ipv4, virtio_net
from services.common.wire.checksum import internet_checksum
from services.forwarder.nat.layout import UNUSED
from services.forwarder.paths import FORWARD, KIND_NAMES, NO_GROUP, NO_ROUTE
from services.forwarder.pipeline import forward_batch, make_batch, make_queues
from services.forwarder.resolution import NO_SLOT, Resolution
from services.forwarder.tables import ForwardingTables

_TTL: Final = 64
_PAGE_BYTES: Final = resource.getpagesize()


def answer(tables: ForwardingTables, generation: int, method: str, params: dict[str, Any]) -> Any:
    """Return the result of a method of the forwarder's RPC.

    :param generation: the last sequence number of control's state that the tables hold.
    :raises RpcRefusedError: with the codes of docs/bus.md.
    """
    if method == "fib":
        return fib(tables, generation)
    if method != "route.get":
        raise _error("unknown-method", f"the forwarder has no method {method}; there are: route.get, fib")
    source = _number(params, "src") if "src" in params else None
    return route_get(
        tables, _number(params, "dst"), source, _number(params, "interface") if "interface" in params else 0
    )


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
        probed = _probe(tables, destination, source, interface)
        answered |= {"interface": probed.interface, "verdict": probed.verdict.name}
        if probed.way is not None:
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


class _Probed(NamedTuple):
    """What became of a datagram that was never received."""

    verdict: Counter
    interface: int
    """Index of the interface that it was taken to come in by; 0 for none."""
    way: dict[str, int] | None
    """Slot, next hop, MTU and neighbour's row, where it would leave."""


def _probe(tables: ForwardingTables, destination: int, source: int, interface: int) -> _Probed:
    """Let the fast path decide about an empty datagram (of ICMP, so without ports), and send nothing."""
    back: Resolution = tables.resolve(source)
    in_slot = tables.slots.get(interface, NO_SLOT) if interface else back.slot if back.kind == FORWARD else NO_SLOT
    header = bytearray((0x45, 0, 0, ipv4.HEADER_BYTES, 0, 0, 0, 0, _TTL, ipv4.PROTOCOL_ICMP, 0, 0))
    header += source.to_bytes(4, "big") + destination.to_bytes(4, "big")
    header[ipv4.CHECKSUM : ipv4.CHECKSUM + 2] = internet_checksum(bytes(header)).to_bytes(2, "big")
    frame = bytes(12) + b"\x08\x00" + header
    area = np.frombuffer(bytearray(bytes(virtio_net.HEADER_BYTES) + frame + bytes(64)), np.uint8)
    descriptors = np.array([(0, len(frame), ethernet.PACKET_HOST, 0)], np.int64)
    batch = make_batch()
    unmarked = tables.arrays._replace(used=tables.arrays.used.copy(), nat=UNUSED)  # nothing is sent, no session begins
    counters = np.zeros(COLUMNS, np.int64)
    forward_batch(area, area.ctypes.data, descriptors, 0, 1, in_slot, unmarked, batch, make_queues(), counters)
    verdict = BY_COLUMN[int(batch.verdict[0])]
    leaves = verdict in (Counter.FORWARDED, Counter.HANDED)
    way = {name: int(getattr(batch, name)[0]) for name in ("slot", "next_hop", "mtu", "row")} if leaves else None
    return _Probed(verdict, tables.index_of_slot[in_slot], way)


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
        "resident_bytes": _resident_bytes(),
    }


def _resident_bytes() -> int:
    """Return the memory that this process has in use (proc(5), statm)."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE_BYTES
