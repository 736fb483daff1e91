"""Draws docs/demo.svg: runs `hopwire demo` and draws what it prints. `make picture`, as root."""

import io
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH = 116
PROMPT = "$ sudo make demo"


def draw(output: str, target: Path) -> None:
    """Write a picture of a terminal that shows `output`."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), color_system="truecolor")
    text = Text(f"{PROMPT}\n{output}")
    text.highlight_regex(re.compile(r"^\$ .*$", re.MULTILINE), "bold")
    text.highlight_regex(re.compile(r"^✓", re.MULTILINE), "bold green")
    text.highlight_regex(re.compile(r"^✗.*$", re.MULTILINE), "bold red")
    text.highlight_regex(re.compile(r"^[A-Z ]+ (INTERFACE|RECEIVED) .*$", re.MULTILINE), "cyan")
    text.highlight_regex(r"balance: .*", "green")
    console.print(text, soft_wrap=True)
    console.save_svg(str(target), title="hopwire")


def main() -> int:
    """Run the demo and draw it; the demo's exit status."""
    command = [sys.executable, "-m", "services.launcher", "demo"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    draw(done.stdout, Path(__file__).with_name("demo.svg"))
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
