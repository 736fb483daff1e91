"""From samples to medians, ratios, a table and what must be said beside it. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from rich.table import Table

LOADS: Final = (10, 50, 90)
"""Latency is measured at these percents of what is forwarded at most."""
PERCENTILES: Final = (50, 90, 99)
"""Of the round-trip times under load; the table shows the first and the last."""
_LOST_PINGS_PERCENT: Final = 1.0
"""From here on, percentiles of the pings that were answered are too good."""
_OTHERS_PERCENT: Final = 5.0
"""Of a core: with more, the machine is not quiet."""
_NOTHING: Final = "-"


@dataclass(frozen=True)
class Row:
    """One measured value."""

    name: str
    title: str
    unit: str
    divisor: float
    digits: int
    more_is_better: bool
    compared: bool = True
    """Whether its ratio between two ways of forwarding says anything."""


ROWS: Final = (
    Row("packets_60", "60-byte frames", "k/s", 1e3, 0, more_is_better=True),
    Row("packets_1514", "1514-byte frames", "k/s", 1e3, 0, more_is_better=True),
    Row("loss_free", "60-byte frames, loss-free", "k/s", 1e3, 0, more_is_better=True),
    Row("loss_free_share", "the same, of its full rate", "1", 1, 2, more_is_better=True, compared=False),
    Row("tcp_forth", "TCP host1 -> host2", "Gbit/s", 1, 2, more_is_better=True),
    Row("tcp_back", "TCP host2 -> host1", "Gbit/s", 1, 2, more_is_better=True),
    Row("flood_rtt", "flood-ping RTT", "µs", 1, 0, more_is_better=False),
    Row("idle_rtt", "idle ping RTT", "µs", 1, 0, more_is_better=False),
    *(
        Row(f"rtt_{load}_p{percent}", f"RTT at {load} % load, {what}", "µs", 1, 0, more_is_better=False)
        for load in LOADS
        for percent, what in ((PERCENTILES[0], "median"), (PERCENTILES[-1], "99th percentile"))
    ),
    Row("cpu_60", "CPU a 60-byte frame", "µs", 1, 2, more_is_better=False),
    Row("cpu_1514", "CPU a 1514-byte frame", "µs", 1, 2, more_is_better=False),
    Row("router_cpu_60", "of which its processes, 60 bytes", "µs", 1, 2, more_is_better=False),
    Row("router_cpu_1514", "of which its processes, 1514 bytes", "µs", 1, 2, more_is_better=False),
    Row("idle_cpu", "CPU with no traffic", "% of a core", 1, 2, more_is_better=False),
)
"""Those that were not measured are left out."""

Samples = Mapping[str, Sequence[Mapping[str, float]]]
"""By mode: one mapping a round, from a row's name to its value."""


def medians(samples: Samples) -> dict[str, dict[str, float]]:
    """Return each mode's median of each value."""
    return {mode: {name: median(one[name] for one in rounds) for name in rounds[0]} for mode, rounds in samples.items()}


def spreads(samples: Samples) -> dict[str, dict[str, tuple[float, float]]]:
    """Return the least and the greatest of each mode's values."""
    return {
        mode: {name: (min(values), max(values)) for name in rounds[0] if (values := [one[name] for one in rounds])}
        for mode, rounds in samples.items()
    }


def ratios(samples: Samples, subject: str, baseline: str) -> dict[str, float]:
    """Return the subject's medians as multiples of the baseline's, where both have been measured, and are not 0."""
    middle = medians(samples)
    own, other = middle[subject], middle[baseline]
    return {
        row.name: own[row.name] / other[row.name]
        for row in ROWS
        if row.compared and row.name in own and other.get(row.name, 0.0) > 0
    }


def lower_bounds(samples: Samples) -> dict[str, list[str]]:
    """Return, by mode, the rows in which the generator was the bottleneck in most rounds."""
    return {
        mode: [row.name for row in ROWS if median(one.get(bound_name(row.name), 0.0) for one in rounds) > 0]
        for mode, rounds in samples.items()
    }


def bound_name(row: str) -> str:
    """Return the name of the value that is 1 where a row's is only a lower bound, and 0 where it is not."""
    return f"{row}_bound"


def table(samples: Samples, modes: Sequence[str], subject: str) -> Table:
    """Return the table for people: medians (with the spread of the rounds), and the subject's ratios."""
    bounds = lower_bounds(samples)
    against = {mode: ratios(samples, subject, mode) for mode in modes if mode != subject}
    result = Table()
    result.add_column("")
    for mode in modes:
        result.add_column(mode, justify="right")
    for baseline in against:
        result.add_column(f"{subject} / {baseline}", justify="right")
    for row in ROWS:
        if not any(row.name in samples[mode][0] for mode in modes):
            continue
        cells = [_cell(samples[mode], row, is_bound=row.name in bounds[mode]) for mode in modes]
        cells += [f"{values[row.name]:.2f}" if row.name in values else _NOTHING for values in against.values()]
        result.add_row(row.title if row.unit == "1" else f"{row.title}, {row.unit}", *cells)
    return result


def _cell(rounds: Sequence[Mapping[str, float]], row: Row, *, is_bound: bool) -> str:
    if row.name not in rounds[0]:
        return _NOTHING
    values = [one[row.name] / row.divisor for one in rounds]
    spread = f" ({min(values):,.{row.digits}f}-{max(values):,.{row.digits}f})" if len(values) > 1 else ""
    return f"{'≥ ' if is_bound else ''}{median(values):,.{row.digits}f}{spread}"


def notes(samples: Samples, repeated: Mapping[str, int], kernel: str) -> Iterator[str]:
    """Yield what must be known beside the table.

    :param repeated: by mode, how many trials of the search for the loss-free rate were made once more.
    :param kernel: the mode in which the generator's core forwards.
    """
    bounds = lower_bounds(samples)
    if any(bounds.values()):
        yield (
            "≥: a lower bound: hardly a frame was lost, so the generator was the bottleneck, not the router. "
            f"In {kernel!r} it always is: the core that sends a frame forwards it before it sends the next."
        )
    if any(repeated.values()):
        counts = ", ".join(f"{mode} {count}" for mode, count in repeated.items())
        yield f"Trials that lost at most 0.1 % of their frames, and were made again: {counts}."
    middle = medians(samples)
    for mode, values in middle.items():
        for load in LOADS:
            if (lost := values.get(f"rtt_{load}_lost", 0.0)) >= _LOST_PINGS_PERCENT:
                yield f"{mode} lost {lost:.0f} % of the pings at {load} % load; its RTTs are of the others."
    busiest = max(values.get("others_cpu", 0.0) for values in middle.values())
    if busiest > _OTHERS_PERCENT:
        yield f"This machine was not quiet: with no traffic, other work took {busiest:.0f} % of a core."
