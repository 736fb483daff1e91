"""Draws what `hopwire bench --output FILE` wrote: `python -m services.launcher.bench.picture FILE > bench.svg`.

Bars of how hopwire compares with both baselines, in an SVG of its own: light where its viewer prefers light, dark where
dark. All bars mean "longer is better": one of a time, or of CPU, is as long as the baseline's share of hopwire's.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from services.common.errors import HopwireError
from services.common.runtime import run_to_exit
from services.launcher.bench.options import Document
from services.launcher.bench.report import ROWS, Row

_DRAWN: Final = ("packets_60", "packets_1514", "loss_free", "tcp_forth", "tcp_back", "flood_rtt", "idle_rtt", "cpu_60")
_WIDTH: Final = 760
_LEFT: Final = 200
"""Where bars begin; their titles end before."""
_RIGHT: Final = 120
"""Kept free for the numbers behind the bars."""
_TOP: Final = 86
_BAR: Final = 14
_ROW: Final = 2 * _BAR + 16
_BOTTOM: Final = 40
_LEAST_SCALE: Final = 1.2
"""The scale reaches this far at least, so that the line of what is equal is inside."""
_GRID_STEP: Final = 0.5
_BASELINES: Final = ("kernel", "kernel+RPS")
_STYLE: Final = """\
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.small { font-size: 12px; fill: #59636e }
.title { font-size: 16px; font-weight: 600 }
.label { font-size: 12px; paint-order: stroke; stroke: #ffffff; stroke-width: 4px }
.card { fill: #ffffff; stroke: #d1d9e0 }
.grid { stroke: #d1d9e0 }
.equal { stroke: #59636e; stroke-dasharray: 4 3 }
.bar0 { fill: #0969da }
.bar1 { fill: #8250df }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc }
  .small { fill: #9198a1 }
  .label { stroke: #0d1117 }
  .card { fill: #0d1117; stroke: #3d444d }
  .grid { stroke: #3d444d }
  .equal { stroke: #9198a1 }
  .bar0 { fill: #4493f8 }
  .bar1 { fill: #ab7df8 }
}"""


def draw(document: Document) -> str:
    """Return the picture.

    :raises HopwireError: the document is not one of the comparison.
    """
    ratios = document.get("ratios", {})
    if not all(baseline in ratios for baseline in _BASELINES):
        raise HopwireError(
            "there are no ratios to the kernel's forwarding; make a file with: hopwire bench --output FILE"
        )
    rows = [row for row in ROWS if row.name in _DRAWN and all(row.name in ratios[baseline] for baseline in _BASELINES)]
    lengths = {
        (row.name, baseline): _length(row, ratios[baseline][row.name]) for row in rows for baseline in _BASELINES
    }
    scale = (_WIDTH - _LEFT - _RIGHT) / max(_LEAST_SCALE, *lengths.values())
    height = _TOP + len(rows) * _ROW + _BOTTOM
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title">',
        '<title id="title">hopwire against the kernel\'s own forwarding</title>',
        f"<style>\n{_STYLE}\n</style>",
        f'<rect class="card" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{height - 1}" rx="8"/>',
        _text(20, 30, "hopwire against the kernel's own forwarding: longer is better", "title"),
        *_legend(),
        *_grid(scale, height),
    ]
    for place, row in enumerate(rows):
        top = _TOP + place * _ROW
        parts.append(_text(_LEFT - 10, top + _BAR + 5, row.title.replace("->", "→"), anchor="end"))
        for number, baseline in enumerate(_BASELINES):
            width = lengths[row.name, baseline] * scale
            y = top + number * _BAR
            parts.append(f'<rect class="bar{number}" x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR - 1}"/>')
            label = _label(row, ratios[baseline][row.name])
            parts.append(_text(_LEFT + width + 6, y + _BAR - 3, label, "label"))
    parts += [_text(20, height - 16, _conditions(document), "small"), "</svg>"]
    return "\n".join(parts) + "\n"


def _length(row: Row, ratio: float) -> float:
    return ratio if row.more_is_better else 1 / ratio if ratio > 0 else 0.0


def _label(row: Row, ratio: float) -> str:
    if row.more_is_better:
        return f"{ratio:.2f}"
    return f"{ratio:.1f} times the {'time' if row.name.endswith('rtt') else 'CPU'}"


def _legend() -> Iterator[str]:
    x = 20
    for number, baseline in enumerate(_BASELINES):
        title = f"against {'Linux by default' if baseline == 'kernel' else 'Linux tuned (RPS on the other cores)'}"
        yield f'<rect class="bar{number}" x="{x}" y="46" width="12" height="12"/>'
        yield _text(x + 18, 57, title, "small")
        x += 180


def _grid(scale: float, height: int) -> Iterator[str]:
    bottom = height - _BOTTOM + 2
    steps = int((_WIDTH - _LEFT - _RIGHT) / scale / _GRID_STEP)
    for step in range(steps + 1):
        value = step * _GRID_STEP
        x = _LEFT + value * scale
        kind = "equal" if value == 1 else "grid"
        yield f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 6}" y2="{bottom - 6}"/>'
        yield _text(x, _TOP - 10, f"{value:g}", "small", anchor="middle")


def _text(x: float, y: float, text: str, kind: str = "", *, anchor: str = "start") -> str:
    """Return a text of the picture, at its baseline."""
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _conditions(document: Document) -> str:
    machine = document["machine"]
    rounds = len(next(iter(document["samples"].values())))
    linux = str(machine["kernel"]).partition("-")[0]
    routes = f", {document['routes']:,} routes" if document.get("routes") else ""
    where = f"{machine['cpus']} cores ({machine['cpu']}), Linux {linux}"
    return f"Medians of {rounds} rounds on {where}{routes}. hopwire bench"


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the file that the command line names, and print the picture; return the exit status."""
    parser = argparse.ArgumentParser(prog="picture", description="Draw what `hopwire bench --output FILE` wrote.")
    parser.add_argument("file", type=Path, metavar="FILE")
    file: Path = parser.parse_args(arguments).file

    def run() -> None:
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise HopwireError(f"cannot read {file}: {error}; make it with: hopwire bench --output {file}") from error
        print(draw(document), end="")

    return run_to_exit("picture", run)


if __name__ == "__main__":
    sys.exit(main())
