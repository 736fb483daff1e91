"""The counters for people: what each interface did, every drop with its reason, and whether the sums agree. Pure."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from services.common.counters import Counter, Kind
from services.control.cli.tables import Column, Section, table

_NO_INTERFACE: Final = "-"
_TOTAL: Final = "total"
_ENTRY_COLUMNS: Final = (
    Column("INTERFACE", "interface"),
    Column("COUNT", "count", right=True),
    Column("MEANING", "text"),
)
_DROP_COLUMNS: Final = (Column("DROPPED", "name"), *_ENTRY_COLUMNS)
_DETAIL_COLUMNS: Final = (Column("DETAIL", "name"), *_ENTRY_COLUMNS)

_BY_KIND: Final = (Kind.RECEIVED, Kind.GENERATED, Kind.DELIVERED, Kind.CONSUMED, Kind.DROPPED, Kind.WAITING)
_SINGLE: Final = (Counter.FORWARDED, Counter.RX_BYTES, Counter.TX_BYTES)
_COLUMNS: Final = (
    Column("INTERFACE", "interface"),
    Column("RECEIVED", "received", right=True),
    Column("FORWARDED", "FORWARDED", right=True),
    Column("GENERATED", "generated", right=True),
    Column("DELIVERED", "delivered", right=True),
    Column("CONSUMED", "consumed", right=True),
    Column("DROPPED", "dropped", right=True),
    Column("WAITING", "waiting", right=True),
    Column("RX BYTES", "RX_BYTES", right=True),
    Column("TX BYTES", "TX_BYTES", right=True),
)
_IN_COLUMNS: Final = frozenset(
    counter.name
    for counter in Counter
    if counter in _SINGLE or (counter.kind in _BY_KIND and [other.kind for other in Counter].count(counter.kind) == 1)
)
"""Counters that a column of the first table shows by themselves; the others are listed one by one."""

Counted = Mapping[str, int]


def counters(result: Mapping[str, Any]) -> list[Section]:
    """Return the view of the RPC `counters`: interfaces, drops, details and the balance."""
    interfaces: dict[str, Counted] = dict(sorted(result["interfaces"].items(), key=lambda item: _order(item[0])))
    rows = [_sums(name, counted) for name, counted in interfaces.items()]
    if len(rows) > 1:
        rows.append({**_totals(rows), "interface": _TOTAL})
    entries = list(_entries(interfaces))
    return [
        table(_COLUMNS, rows),
        table(_DROP_COLUMNS, (entry for entry in entries if entry["dropped"])),
        table(_DETAIL_COLUMNS, (entry for entry in entries if not entry["dropped"])),
        *([balance_line(result["balance"])] if "balance" in result else []),
    ]


def balance_line(balance: Counted) -> str:
    """Return the equation of `services.common.counters` with its figures, and whether it holds."""
    verdict = _verdict(balance["in_flight"], balance.get("unaccounted", 0))
    inputs = " + ".join(f"{key} {balance[key]}" for key in ("received", "generated"))
    fates = " + ".join(f"{key} {balance[key]}" for key in ("sent", "delivered", "consumed", "dropped", "waiting"))
    return f"balance: {inputs} = {fates}: {verdict}"


def _verdict(in_flight: int, unaccounted: int) -> str:
    """Return what the audit of control says (`monitoring.audit`), else whether the figures agree at this moment."""
    if unaccounted > 0:
        return f"{unaccounted} UNACCOUNTED FOR: they came in, and have no fate"
    if unaccounted < 0:
        return f"{-unaccounted} COUNTED TWICE: they have a fate, and never came in"
    return f"{abs(in_flight)} under way" if in_flight else "balanced"


def _order(interface: str) -> tuple[bool, list[tuple[int, str]]]:
    """Order names as people do: eth2 before eth10, and what belongs to no interface last."""
    parts = re.findall(r"([0-9]+)|([^0-9]+)", interface)
    return interface == _NO_INTERFACE, [(int(digits) if digits else -1, text) for digits, text in parts]


def _sums(interface: str, counted: Counted) -> dict[str, Any]:
    row: dict[str, Any] = {"interface": interface}
    row |= {kind.value: sum(counted.get(c.name, 0) for c in Counter if c.kind is kind) for kind in _BY_KIND}
    row |= {counter.name: counted.get(counter.name, 0) for counter in _SINGLE}
    return row


def _totals(rows: list[dict[str, Any]]) -> dict[str, int]:
    return {key: sum(row[key] for row in rows) for key in rows[0] if key != "interface"}


def _entries(interfaces: Mapping[str, Counted]) -> Iterator[dict[str, Any]]:
    """Yield what is not zero and stands in no column by itself, in the order of `Counter`."""
    for counter in Counter:
        if counter.name in _IN_COLUMNS:
            continue
        for interface, counted in interfaces.items():
            if count := counted.get(counter.name, 0):
                yield {
                    "name": counter.name,
                    "interface": interface,
                    "count": count,
                    "text": counter.text,
                    "dropped": counter.kind is Kind.DROPPED,
                }
