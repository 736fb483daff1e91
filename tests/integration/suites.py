"""The conformance suites, and the program that prints their tables: `python -m suites` (`make conformance`).

The exit status is 0 if every row holds on hopwire, and on the kernel all but those where Linux is known to differ.
"""

import argparse
import shutil
import sys
from pathlib import Path
from typing import Final

from conformance import rows as conformance
from nat_conformance import rows as nat_conformance
from scorecard import ROUTERS, Suite, as_markdown, as_text, holds, run, table

_HERE: Final = Path(__file__).parent
SUITES: Final = (
    Suite("What a router must do", _HERE / "conformance", conformance.ROWS, conformance.row_of, takes_load=True),
    Suite(
        "Address translation", _HERE / "nat_conformance", nat_conformance.ROWS, nat_conformance.row_of, needs_nft=True
    ),
)


def row_of(path: Path, test_name: str) -> str | None:
    """Return the number of the row that a test of a file is named after; None where it is of no suite, or of no row."""
    suite = next((suite for suite in SUITES if suite.directory in path.parents), None)
    return suite.row_of(test_name) if suite else None


def main() -> None:
    """Read the arguments, run, print."""
    parser = argparse.ArgumentParser(prog="suites", description="Which rows of the conformance tables hold.")
    names = {suite.directory.name: suite for suite in SUITES}
    parser.add_argument("suite", nargs="*", metavar="SUITE", help=f"of {', '.join(names)}; by default all")
    parser.add_argument("--with-load", action="store_true", help="with 20,000 datagrams a second beside the first")
    parser.add_argument("--markdown", action="store_true", help="print the tables as the documents have them")
    options = parser.parse_args()
    unknown = set(options.suite) - set(names)
    if unknown:
        parser.error(f"no such suite: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    chosen = [names[name] for name in options.suite] or SUITES
    if any(suite.needs_nft for suite in chosen) and not shutil.which("nft"):
        sys.exit("suites: the control group of address translation needs nft: apt-get install nftables")
    good = True
    for suite in chosen:
        by_router = {router: run(suite, router, with_load=options.with_load) for router in ROUTERS}
        lines = table(suite.rows, by_router)
        print(f"{suite.title}\n", as_markdown(lines) if options.markdown else as_text(lines), "", sep="\n")
        good = good and holds(by_router)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
