"""The man page: it is current, and man and groff read it as it is meant."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from services.control.cli.grammar import usage_lines
from services.control.cli.manual import page

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "control-cli.1"
SECTIONS = [
    *("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "VERBS", "EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES"),
    "SEE ALSO",
]  # in the order of man-pages(7), with VERBS of its own


def test_the_committed_page_is_current() -> None:
    assert PAGE.read_text(encoding="ascii") == page(), "run: make man"


def test_its_structure_is_that_of_a_man_page() -> None:
    lines = page().splitlines()
    assert lines[0].startswith(".TH CONTROL-CLI 1 ")
    assert [line[4:] for line in lines if line.startswith(".SH ")] == SECTIONS
    assert {line.split()[0] for line in lines if line.startswith(".")} == {".TH", ".SH", ".TP", ".B", ".BR", ".br"}
    assert not any(line.startswith("'") or not line for line in lines)
    for place, line in enumerate(lines):
        if line == ".TP":
            assert lines[place + 1].startswith(".B ")
            assert re.match(r"[^.]|\.\.\.", lines[place + 2]), lines[place + 1]


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff")
def test_it_is_formatted_without_a_warning_and_shows_every_verb_and_option() -> None:
    command = ["groff", "-man", "-Tascii", "-P-c", "-ww", "-rLL=500n", str(PAGE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    text = re.sub(r".\x08", "", done.stdout)
    for usage in usage_lines():
        assert usage in text
    for option in ("--watch [SECONDS]", "--json", "--run-dir DIR", "--timeout SECONDS", "--install-completion"):
        assert option in text


@pytest.mark.skipif(shutil.which("man") is None, reason="needs man")
def test_man_shows_it() -> None:
    done = subprocess.run(["man", "-l", str(PAGE)], capture_output=True, text=True, timeout=60, check=False)
    if "has been minimized" in done.stdout:
        pytest.skip("man is a stub here")
    assert done.returncode == 0
    assert "CONTROL-CLI(1)" in re.sub(r".\x08", "", done.stdout)
