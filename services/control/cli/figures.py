"""Rates, drops and interfaces, worked out of what control's `counters` and `status` say at two times. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from services.common.counters import Counter, Kind

Result = Mapping[str, Any]
Rates = Mapping[str, Mapping[str, float]]
"""By interface and counter name: how much a second."""

_SENT: Final = tuple(counter.name for counter in Counter if counter.kind is Kind.SENT)
_DROPPED: Final = tuple(counter.name for counter in Counter if counter.kind is Kind.DROPPED)
_BITS: Final = 8


def rates(before: Result, after: Result) -> Rates:
    """Return how fast each counter grew between two answers to `counters`.

    Each service's own reports are compared, at the times they came: the time of the questions would be off by as much
    as a report's age.
    """
    found: dict[str, dict[str, float]] = {}
    for instance, interfaces in after["services"].items():
        known = before["services"].get(instance, {})
        seconds = after["heard_s"].get(instance, 0.0) - before["heard_s"].get(instance, float("inf"))
        if seconds <= 0:
            continue
        for interface, counted in interfaces.items():
            row = found.setdefault(interface, {})
            for name, value in counted.items():
                grown = value - known.get(interface, {}).get(name, 0)
                row[name] = row.get(name, 0.0) + max(0, grown) / seconds
    return found


def drops(counters: Result, growth: Rates | None = None) -> list[dict[str, Any]]:
    """Return each drop reason of each interface that has any, in the order of `Counter`; with rates where known."""
    return list(_drops(counters["interfaces"], growth))


def _drops(interfaces: Mapping[str, Mapping[str, int]], growth: Rates | None) -> Iterator[dict[str, Any]]:
    for name in _DROPPED:
        for interface, counted in sorted(interfaces.items()):
            if not counted.get(name):
                continue
            rate = {} if growth is None else {"rate": round(growth.get(interface, {}).get(name, 0.0), 1)}
            meaning = Counter[name].text
            yield {"reason": name, "interface": interface, "count": counted[name], **rate, "meaning": meaning}


def interfaces(status: Result, counters: Result, growth: Rates, only: str | None = None) -> list[dict[str, Any]]:
    """Return the state, the counts and the rates a second of each interface of the router."""
    return [
        {
            "ifindex": interface["index"],
            "ifname": interface["name"],
            "operstate": "UP" if interface["up"] else "DOWN",
            "forwarding": interface["forwarding"],
            "mtu": interface["mtu"],
            "address": interface["mac"],
            "addresses": interface["addresses"],
            "counts": {key: int(value) for key, value in _traffic(counters["interfaces"], interface["name"]).items()},
            "rates": {key: round(value, 1) for key, value in _traffic(growth, interface["name"]).items()},
        }
        for interface in status["interfaces"]
        if only in (None, interface["name"])
    ]


def _traffic(rows: Mapping[str, Mapping[str, float]], interface: str) -> dict[str, float]:
    row = rows.get(interface, {})
    return {
        "rx_frames": row.get("RX_FRAMES", 0),
        "rx_bits": row.get("RX_BYTES", 0) * _BITS,
        "tx_frames": sum(row.get(name, 0) for name in _SENT),
        "tx_bits": row.get("TX_BYTES", 0) * _BITS,
        "dropped": sum(row.get(name, 0) for name in _DROPPED),
    }


def top(status: Result, counters: Result, growth: Rates) -> dict[str, Any]:
    """Return what the screen `top` shows: the drops that happen now first."""
    return {
        "version": status["version"],
        "ready": status["ready"],
        "waiting_for": status["waiting_for"],
        "warnings": status["warnings"],
        "generation": status["generation"],
        "interfaces": interfaces(status, counters, growth),
        "drops": sorted(drops(counters, growth), key=lambda drop: (-drop["rate"], -drop["count"])),
        "services": status["services"],
    }
