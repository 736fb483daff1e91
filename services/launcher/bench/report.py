"""From samples to medians, ratios and a table. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from rich.table import Table


@dataclass(frozen=True)
class Row:
    """One measured value."""

    name: str
    title: str
    unit: str
    divisor: float
    digits: int
    more_is_better: bool


ROWS: Final = (
    Row("packets_60", "60-byte frames", "k/s", 1e3, 0, more_is_better=True),
    Row("packets_1514", "1514-byte frames", "k/s", 1e3, 0, more_is_better=True),
    Row("tcp_forth", "TCP host1 -> host2", "Gbit/s", 1, 2, more_is_better=True),
    Row("tcp_back", "TCP host2 -> host1", "Gbit/s", 1, 2, more_is_better=True),
    Row("flood_rtt", "flood-ping RTT", "µs", 1, 0, more_is_better=False),
    Row("idle_rtt", "idle ping RTT", "µs", 1, 0, more_is_better=False),
)

Samples = Mapping[str, Sequence[Mapping[str, float]]]
"""By mode: one mapping a round, from a row's name to its value."""


def medians(samples: Samples) -> dict[str, dict[str, float]]:
    """Return each mode's median of each value."""
    return {mode: {name: median(one[name] for one in rounds) for name in rounds[0]} for mode, rounds in samples.items()}


def ratios(samples: Samples, subject: str, baseline: str) -> dict[str, float]:
    """Return the subject's medians as multiples of the baseline's."""
    middle = medians(samples)
    return {row.name: middle[subject][row.name] / middle[baseline][row.name] for row in ROWS}


def table(samples: Samples, modes: Sequence[str], subject: str) -> Table:
    """Return the table for people: medians (with the spread of the rounds), and the subject's ratios."""
    middle = medians(samples)
    baselines = [mode for mode in modes if mode != subject]
    result = Table()
    result.add_column("")
    for mode in modes:
        result.add_column(mode, justify="right")
    for baseline in baselines:
        result.add_column(f"{subject} / {baseline}", justify="right")
    for row in ROWS:
        cells = []
        for mode in modes:
            values = [one[row.name] / row.divisor for one in samples[mode]]
            spread = f" ({min(values):,.{row.digits}f}-{max(values):,.{row.digits}f})" if len(values) > 1 else ""
            cells.append(f"{middle[mode][row.name] / row.divisor:,.{row.digits}f}{spread}")
        cells += [f"{ratios(samples, subject, baseline)[row.name]:.2f}" for baseline in baselines]
        result.add_row(f"{row.title}, {row.unit}", *cells)
    return result
