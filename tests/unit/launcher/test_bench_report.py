"""What the benchmark makes of its samples: medians, ratios, lower bounds, the table and the notes beside it."""

import io

import pytest
from rich.console import Console

from services.launcher.bench import report
from services.launcher.bench.run import Run, middle


def sample(**changes: float) -> dict[str, float]:
    values = {
        "packets_60": 100_000.0,
        "packets_60_bound": 0.0,
        "offered_60": 500_000.0,
        "packets_1514": 90_000.0,
        "offered_1514": 150_000.0,
        "tcp_forth": 10.0,
        "tcp_back": 8.0,
        "flood_rtt": 10.0,
        "idle_rtt": 50.0,
        "cpu_60": 3.0,
        "others_cpu": 0.5,
    }
    return values | changes


SAMPLES = {
    "kernel": [sample(), sample(packets_60=300_000.0), sample(packets_60=200_000.0)],
    "hopwire": [sample(packets_60=150_000.0, flood_rtt=100.0, idle_cpu=1.25)] * 3,
}


def lines(samples: report.Samples) -> dict[str, list[str]]:
    """Return the table's cells by their row's title."""
    out = io.StringIO()
    Console(file=out, width=160).print(report.table(samples, list(samples), "hopwire"))
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.getvalue().splitlines() if "│" in line]
    return {row[0]: row[1:] for row in rows}


def test_medians_spreads_and_ratios() -> None:
    assert report.medians(SAMPLES)["kernel"]["packets_60"] == 200_000.0
    assert report.spreads(SAMPLES)["kernel"]["packets_60"] == (100_000.0, 300_000.0)
    ratios = report.ratios(SAMPLES, "hopwire", "kernel")
    assert ratios["packets_60"] == pytest.approx(0.75)
    assert ratios["flood_rtt"] == pytest.approx(10.0)
    assert "idle_cpu" not in ratios  # the kernel has no processes to measure
    assert "offered_60" not in ratios


def test_there_is_no_ratio_to_nothing() -> None:
    samples = {"kernel": [sample(cpu_60=-0.1)], "hopwire": [sample()]}
    assert "cpu_60" not in report.ratios(samples, "hopwire", "kernel")
    assert lines(samples)["CPU a 60-byte frame, µs"] == ["-0.10", "3.00", "-"]


def test_the_table_shows_median_spread_and_ratio() -> None:
    table = lines(SAMPLES)
    assert table["60-byte frames, k/s"] == ["200 (100-300)", "150 (150-150)", "0.75"]
    assert table["CPU with no traffic, % of a core"] == ["-", "1.25 (1.25-1.25)", "-"]
    assert not [title for title in table if "loss-free" in title or "load" in title]


def test_the_table_shows_what_was_measured_beyond() -> None:
    more = {"loss_free": 70_000.0, "lossy": 72_000.0, "loss_free_share": 0.7, "rtt_10_p50": 30.0, "rtt_10_p99": 80.0}
    table = lines({mode: [sample(**more)] for mode in ("kernel", "hopwire")})
    assert table["60-byte frames, loss-free, k/s"] == ["70", "70", "1.00"]
    assert table["the same, of its full rate"] == ["0.70", "0.70", "-"]
    assert table["RTT at 10 % load, median, µs"] == ["30", "30", "1.00"]
    assert table["RTT at 10 % load, 99th percentile, µs"] == ["80", "80", "1.00"]


def test_what_most_rounds_call_a_lower_bound_is_one() -> None:
    samples = {
        "kernel": [sample(packets_60_bound=1.0), sample(packets_60_bound=1.0), sample()],
        "hopwire": [sample(packets_60_bound=1.0), sample(loss_free_bound=1.0), sample()],
    }
    assert report.lower_bounds(samples) == {"kernel": ["packets_60"], "hopwire": []}
    assert lines(samples)["60-byte frames, k/s"][:2] == ["≥ 100 (100-100)", "100 (100-100)"]


@pytest.mark.parametrize(("received", "is_bound"), [(100_000, True), (99_000, True), (98_999, False)])
def test_a_rate_with_hardly_any_loss_is_a_lower_bound(received: int, is_bound: bool) -> None:
    assert Run(sent=100_000, received=received, seconds=1.0, machine_s=1.0).is_bound is is_bound


def test_the_middle_one_of_the_runs_without_a_router() -> None:
    runs = [Run(sent=1000, received=0, seconds=1.0, machine_s=cost) for cost in (9.0, 2.0, 3.0)]
    assert middle(runs) is runs[2]
    assert middle(runs[:2]) is runs[1]


def test_cpu_of_a_frame_is_what_the_router_adds() -> None:
    alone = Run(sent=1_000_000, received=0, seconds=1.0, machine_s=1.0)
    # 500,000 frames cost 0.5 s to send; 1.1 s were spent, on 300,000 forwarded frames.
    run = Run(sent=500_000, received=300_000, seconds=2.0, machine_s=1.1)
    assert run.cpu_us(alone) == pytest.approx(2.0)
    assert (run.offered, run.forwarded, run.lost) == (250_000, 150_000, 200_000)


def test_nothing_to_note() -> None:
    assert (
        list(report.notes({"kernel": [sample()], "hopwire": [sample()]}, {"kernel": 0, "hopwire": 0}, "kernel")) == []
    )


def test_notes() -> None:
    samples = {
        "kernel": [sample(packets_60_bound=1.0)],
        "hopwire": [sample(rtt_50_lost=0.5, rtt_90_lost=12.0, others_cpu=31.0)],
    }
    bound, repeated, lost, busy = report.notes(samples, {"kernel": 0, "hopwire": 2}, "kernel")
    assert bound.startswith("≥: a lower bound")
    assert "were made again: kernel 0, hopwire 2." in repeated
    assert lost == "hopwire lost 12 % of the pings at 90 % load; its RTTs are of the others."
    assert busy == "This machine was not quiet: with no traffic, other work took 31 % of a core."
