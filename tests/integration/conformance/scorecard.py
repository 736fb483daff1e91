"""Runs the suite for hopwire and for the kernel, and prints which rows hold: `python -m conformance.scorecard`.

The exit status is 0 if every row holds on hopwire, and on the kernel all but those where Linux is known to differ.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from conformance.rows import ROWS

ROUTERS: Final = ("hopwire", "kernel")
PASS, FAIL, DIFFERS, UNTESTED = "pass", "fail", "differs", "untested"
_HEAD: Final = ("row", "requirement", "source", *ROUTERS)

Results = Iterable[Mapping[str, str]]
"""Of each test the `row` it is named after, and its `outcome`: passed, failed, skipped or differs."""


def verdicts(results: Results) -> dict[str, str]:
    """Return what became of each row: one failed test fails it, one that differs makes it differ."""
    outcomes: dict[str, set[str]] = {}
    for result in results:
        outcomes.setdefault(result["row"], set()).add(result["outcome"])
    return {row.number: _verdict(outcomes.get(row.number, set())) for row in ROWS}


def _verdict(outcomes: set[str]) -> str:
    if "failed" in outcomes:
        return FAIL
    if "differs" in outcomes:
        return DIFFERS
    return PASS if outcomes == {"passed"} else UNTESTED


def table(by_router: Mapping[str, Mapping[str, str]]) -> list[Sequence[str]]:
    """Return the lines of the scorecard, in cells: a head, a line a row, a total."""
    lines: list[Sequence[str]] = [_HEAD]
    lines += [(*row, *(by_router[router][row.number] for router in ROUTERS)) for row in ROWS]
    totals = (_total(list(by_router[router].values())) for router in ROUTERS)
    return [*lines, ("", f"{len(ROWS)} rows", "", *totals)]


def _total(values: list[str]) -> str:
    others = [f"{values.count(kind)} {kind}" for kind in (DIFFERS, FAIL, UNTESTED) if kind in values]
    return ", ".join([f"{values.count(PASS)} pass", *others])


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
    """Tell whether all rows pass on hopwire, and none fails or is missing on the kernel."""
    return set(by_router["hopwire"].values()) == {PASS} and set(by_router["kernel"].values()) <= {PASS, DIFFERS}


def _run(router: str, *, with_load: bool) -> dict[str, str]:
    """Run the suite, its output on stderr, and return the verdicts."""
    with tempfile.TemporaryDirectory() as directory:
        results = Path(directory, "results.json")
        command = [sys.executable, "-m", "pytest", str(Path(__file__).parent), "--quiet"]
        command += ["--router", router, "--results", str(results), *(["--with-load"] if with_load else [])]
        status = subprocess.run(command, stdout=sys.stderr, check=False).returncode
        if not results.exists():
            sys.exit(f"scorecard: pytest ended with status {status} before any test of {router}; see above")
        return verdicts(json.loads(results.read_text(encoding="utf-8")))


def main() -> None:
    """Read the arguments, run, print."""
    parser = argparse.ArgumentParser(prog="scorecard", description="Which rows of the conformance table hold.")
    parser.add_argument("--with-load", action="store_true", help="with 20,000 datagrams a second beside the tests")
    parser.add_argument("--markdown", action="store_true", help="print the table as docs/conformance.md has it")
    options = parser.parse_args()
    by_router = {router: _run(router, with_load=options.with_load) for router in ROUTERS}
    print((as_markdown if options.markdown else as_text)(table(by_router)))
    sys.exit(0 if holds(by_router) else 1)


if __name__ == "__main__":
    main()
