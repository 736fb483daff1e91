"""The scorecard itself: what test outcomes make of rows, and that no row is without tests."""

import re
from pathlib import Path

import pytest
from scorecard import Row, as_markdown, as_text, holds, table, verdicts

from conformance.rows import ROWS, row_of

ALL_PASS = {row.number: "pass" for row in ROWS}


def test_rows_are_1_to_35_and_a1_to_a12() -> None:
    numbers = [str(number) for number in range(1, 36)] + [f"A{number}" for number in range(1, 13)]
    assert [row.number for row in ROWS] == numbers


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("test_row_05_ttl_1", "5"),
        ("test_row_30_link_local[a-b]", "30"),
        ("test_row_a3_order", "A3"),
        ("test_row_a12_flush", "A12"),
        ("test_rows_are", None),
        ("test_something_else", None),
    ],
)
def test_a_test_is_named_after_its_row(name: str, row: str | None) -> None:
    assert row_of(name) == row


def test_every_row_has_a_test() -> None:
    sources = "\n".join(file.read_text(encoding="utf-8") for file in Path(__file__).parent.glob("test_*.py"))
    tested = {row_of(name) for name in re.findall(r"^def (test_row_\w+)", sources, re.MULTILINE)}
    assert tested == {row.number for row in ROWS}


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        (["passed", "passed"], "pass"),
        (["passed", "failed", "differs"], "fail"),
        (["passed", "differs"], "differs"),
        (["skipped"], "untested"),
        ([], "untested"),
    ],
)
def test_verdict_of_a_row(outcomes: list[str], verdict: str) -> None:
    assert verdicts(ROWS, ({"row": "A7", "outcome": outcome} for outcome in outcomes))["A7"] == verdict


@pytest.mark.parametrize(
    ("hopwire", "kernel", "good"),
    [
        ("pass", "pass", True),
        ("pass", "differs", True),
        ("differs", "pass", False),
        ("fail", "pass", False),
        ("pass", "fail", False),
        ("untested", "pass", False),
        ("pass", "untested", False),
    ],
)
def test_the_exit_status(hopwire: str, kernel: str, good: bool) -> None:
    assert holds({"hopwire": {**ALL_PASS, "29": hopwire}, "kernel": {**ALL_PASS, "29": kernel}}) is good


def test_text() -> None:
    by_router = {"hopwire": ALL_PASS, "kernel": {**ALL_PASS, "30": "differs", "31": "fail"}}
    lines = as_text(table(ROWS, by_router)).splitlines()
    assert lines[0].split() == ["row", "requirement", "source", "hopwire", "kernel"]
    assert re.fullmatch(r"30 +169\.254/16 is not forwarded +RFC 3927 2\.7 +pass +differs", lines[31])
    assert re.fullmatch(r" +47 rows +47 pass +45 pass, 1 differs, 1 fail", lines[-1])


def test_markdown() -> None:
    lines = as_markdown(table(ROWS, {"hopwire": ALL_PASS, "kernel": ALL_PASS})).splitlines()
    assert lines[:2] == ["| row | requirement | source | hopwire | kernel |", "|---|---|---|---|---|"]
    assert lines[4] == "| 3 | Ethernet padding is no part of the datagram | RFC 894 | pass | pass |"
    assert lines[-1] == "|  | 47 rows |  | 47 pass | 47 pass |"


def test_a_row_that_does_not_apply() -> None:
    rows = (Row("1", "asked for", "RFC 1"), Row("2", "of others", "RFC 1", exempt="static"))
    found = verdicts(rows, [{"row": "1", "outcome": "passed"}])
    assert found == {"1": "pass", "2": "n/a: static"}
    assert holds({"hopwire": found, "kernel": found})
    assert table(rows, {"hopwire": found, "kernel": found})[-1][3] == "1 pass, 1 n/a"
