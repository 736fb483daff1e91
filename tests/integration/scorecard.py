"""Conformance suites: their rows, what test outcomes make of them, and the table that is printed.

A suite is a folder of tests, each named after the row that it tests. It runs for hopwire and for the kernel.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

ROUTERS: Final = ("hopwire", "kernel")
PASS, FAIL, DIFFERS, UNTESTED, EXEMPT = "pass", "fail", "differs", "untested", "n/a"
_HEAD: Final = ("row", "requirement", "source", *ROUTERS)

Results = Iterable[Mapping[str, str]]
"""Of each test the `row` it is named after, and its `outcome`: passed, failed, skipped or differs."""


class Row(NamedTuple):
    """One requirement."""

    number: str
    requirement: str
    source: str
    exempt: str = ""
    """Why it does not apply to this router, in a word; empty where it does."""

    @property
    def exemption(self) -> str:
        """What the table says in the place of a verdict, where the row does not apply."""
        return f"{EXEMPT}: {self.exempt}"


@dataclass(frozen=True)
class Suite:
    """A folder of tests and its rows."""

    title: str
    directory: Path
    rows: Sequence[Row]
    row_of: Callable[[str], str | None]
    """Returns the number of the row that a test is named after; None where it is named after none."""
    takes_load: bool = False
    """Whether it can run with a stream of datagrams beside the tests."""
    needs_nft: bool = False
    """Whether nft(8) tells the kernel what to do."""


def verdicts(rows: Sequence[Row], results: Results) -> dict[str, str]:
    """Return what became of each row: one failed test fails it, one that differs makes it differ."""
    outcomes: dict[str, set[str]] = {}
    for result in results:
        outcomes.setdefault(result["row"], set()).add(result["outcome"])
    return {row.number: row.exemption if row.exempt else _verdict(outcomes.get(row.number, set())) for row in rows}


def _verdict(outcomes: set[str]) -> str:
    if "failed" in outcomes:
        return FAIL
    if "differs" in outcomes:
        return DIFFERS
    return PASS if outcomes == {"passed"} else UNTESTED


def table(rows: Sequence[Row], by_router: Mapping[str, Mapping[str, str]]) -> list[Sequence[str]]:
    """Return the lines of the scorecard, in cells: a head, a line a row, a total."""
    lines: list[Sequence[str]] = [_HEAD]
    for row in rows:
        found = (by_router[router][row.number] for router in ROUTERS)
        lines.append((row.number, row.requirement, row.source, *found))
    totals = (_total(list(by_router[router].values())) for router in ROUTERS)
    return [*lines, ("", f"{len(rows)} rows", "", *totals)]


def _total(values: list[str]) -> str:
    kinds = [value.partition(":")[0] for value in values]
    others = [f"{kinds.count(kind)} {kind}" for kind in (DIFFERS, FAIL, UNTESTED, EXEMPT) if kind in kinds]
    return ", ".join([f"{kinds.count(PASS)} pass", *others])


def as_text(lines: Sequence[Sequence[str]]) -> str:
    """Return the table in columns, for a terminal."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    rows = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    rule = "-" * max(map(len, rows))
    return "\n".join([rows[0], rule, *rows[1:-1], rule, rows[-1]])


def as_markdown(lines: Sequence[Sequence[str]]) -> str:
    """Return the table for a document."""
    rows = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([rows[0], "|---" * len(_HEAD) + "|", *rows[1:]])


def holds(by_router: Mapping[str, Mapping[str, str]]) -> bool:
    """Tell whether all rows that apply pass on hopwire, and none fails or is missing on the kernel."""
    kinds = {router: {value.partition(":")[0] for value in values.values()} for router, values in by_router.items()}
    return kinds["hopwire"] <= {PASS, EXEMPT} and kinds["kernel"] <= {PASS, DIFFERS, EXEMPT}


def run(suite: Suite, router: str, *, with_load: bool) -> dict[str, str]:
    """Run a suite for a router, its output on stderr, and return the verdicts."""
    with tempfile.TemporaryDirectory() as directory:
        results = Path(directory, "results.json")
        command = [sys.executable, "-m", "pytest", str(suite.directory), "--quiet"]
        command += ["--router", router, "--results", str(results)]
        command += ["--with-load"] if with_load and suite.takes_load else []
        status = subprocess.run(command, stdout=sys.stderr, check=False).returncode
        if not results.exists():
            sys.exit(f"scorecard: pytest ended with status {status} before any test of {router}; see above")
        return verdicts(suite.rows, json.loads(results.read_text(encoding="utf-8")))
