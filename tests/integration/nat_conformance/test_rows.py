"""The rows themselves: that none is without tests but those that do not apply, and how the tables are chosen."""

import re
from pathlib import Path

import pytest
import suites

from nat_conformance.rows import ROWS, row_of


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("test_rfc4787_req03a_ports", "4787-3a"),
        ("test_rfc5382_req10_icmp[a-b]", "5382-10"),
        ("test_bad_02_port_0", "B2"),
        ("test_row_05_ttl_1", None),
        ("test_rfc1918_req01_other", None),
    ],
)
def test_a_test_is_named_after_its_row(name: str, row: str | None) -> None:
    assert row_of(name) == row


def test_every_row_that_applies_has_a_test() -> None:
    sources = "\n".join(file.read_text(encoding="utf-8") for file in Path(__file__).parent.glob("test_*.py"))
    tested = {row_of(name) for name in re.findall(r"^def (test_(?:rfc|bad_)\w+)", sources, re.MULTILINE)}
    assert tested == {row.number for row in ROWS if not row.exempt}


def test_every_requirement_has_a_row() -> None:
    """RFC 4787 has 14, RFC 5382 and RFC 5508 have 10 and 11."""
    requirements = {re.sub("[a-z]$", "", row.number) for row in ROWS if not row.number.startswith("B")}
    last = {4787: 14, 5382: 10, 5508: 11}
    assert requirements == {f"{rfc}-{number}" for rfc in last for number in range(1, last[rfc] + 1)}


def test_a_row_belongs_to_the_suite_of_its_file() -> None:
    here = Path(__file__)
    assert suites.row_of(here, "test_bad_02_port_0") == "B2"
    assert suites.row_of(here, "test_row_05_ttl_1") is None
    assert suites.row_of(here.parent.parent / "conformance" / "test_ttl.py", "test_row_05_ttl_1") == "5"
    assert suites.row_of(here.parent.parent / "test_router_nat.py", "test_row_05_ttl_1") is None
