"""Where a measurement's result goes: to the terminal, as JSON or as a table, and into a file."""

import json
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from rich.console import Console, RenderableType

from services.common.errors import HopwireError
from services.launcher.bench.options import Document, Output

_PLAIN_WIDTH: Final = 160
"""Columns where there is no terminal."""


def check(output: Output) -> None:
    """See that the file can be written, before minutes of measuring.

    :raises HopwireError: it cannot.
    """
    if output.file is not None:
        _write(output.file, "", mode="a")


def deliver(document: Document, shown: Sequence[RenderableType], output: Output) -> None:
    """Print the document as JSON, or what is shown to people; and write the document to the file, if there is one.

    :raises HopwireError: the file cannot be written.
    """
    text = json.dumps(
        {"date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine()} | document, indent=2
    )
    if output.as_json:
        print(text)
    else:
        console = Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH, highlight=False)
        for part in shown:
            console.print(part)
    if output.file is not None:
        _write(output.file, f"{text}\n", mode="w")


def _write(file: Path, text: str, *, mode: str) -> None:
    try:
        with file.open(mode, encoding="utf-8") as opened:
            opened.write(text)
    except OSError as error:
        raise HopwireError(f"cannot write {file}: {error.strerror}; name another file with --output") from error


def machine() -> dict[str, Any]:
    """Return what was measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.machine(),
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "numba": version("numba"),
    }
