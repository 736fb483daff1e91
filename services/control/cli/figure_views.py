"""Rates, drops and sizes for people. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from services.control.cli.tables import Column, Section, table

Result = Mapping[str, Any]

_DROP_COLUMNS: Final = (
    Column("DROPPED", "reason"),
    Column("INTERFACE", "interface"),
    Column("COUNT", "count", right=True),
    Column("PER SECOND", "rate", right=True, optional=True),
    Column("MEANING", "meaning"),
)
_TRAFFIC_COLUMNS: Final = (
    Column("INTERFACE", "ifname"),
    Column("STATE", "operstate"),
    Column("FORWARDS", "forwards"),
    Column("RX FRAMES/S", "rx_frames", right=True),
    Column("RX BIT/S", "rx_bits", right=True),
    Column("TX FRAMES/S", "tx_frames", right=True),
    Column("TX BIT/S", "tx_bits", right=True),
    Column("DROPS/S", "dropped", right=True),
)
_FIB_COLUMNS: Final = (Column("FIB", "name"), Column("VALUE", "value", right=True))
_MEBIBYTE: Final = 2**20
_PREFIXES: Final = ("", "k", "M", "G", "T")


def scaled(value: float) -> str:
    """Return a number with three or four digits and its SI prefix: `12.3M`."""
    prefix = 0
    while value >= 9_999.5 and prefix < len(_PREFIXES) - 1:
        value /= 1_000
        prefix += 1
    digits = 1 if prefix or value != int(value) else 0
    return f"{value:.{digits}f}{_PREFIXES[prefix]}"


def drops(result: Iterable[Result]) -> list[Section]:
    """Return the view of `show drops`."""
    rows = [{**drop, "rate": scaled(drop["rate"])} if "rate" in drop else drop for drop in result]
    return [table(_DROP_COLUMNS, rows)] if rows else ["nothing was dropped"]


def traffic(result: Iterable[Result]) -> list[Section]:
    """Return the view of `show interfaces`."""
    rows = (
        {
            **interface,
            "forwards": "yes" if interface["forwarding"] else "no",
            **{key: scaled(value) for key, value in interface["rates"].items()},
        }
        for interface in result
    )
    return [table(_TRAFFIC_COLUMNS, rows)]


def fib(result: Result) -> list[Section]:
    """Return the view of `show fib`."""
    behind = result["control_generation"] - result["generation"]
    values = {
        "generation": result["generation"],
        "generations behind control": behind,
        "routes": result["routes"],
        "paths": result["paths"],
        "groups of next hops": result["groups"],
        "neighbours": result["neighbours"],
        "tables (MiB)": f"{result['table_bytes'] / _MEBIBYTE:.1f}",
        "forwarder in memory (MiB)": f"{result['resident_bytes'] / _MEBIBYTE:.1f}",
    }
    return [table(_FIB_COLUMNS, ({"name": name, "value": value} for name, value in values.items()))]
