"""The figures of `hopwire bench --nat`: medians, and hopwire with translation against the others."""

from services.launcher.bench import nat


def sample(value: float) -> dict[str, float]:
    return {"new": value, "packets_60": 2 * value, "packets_1514": 3 * value, "tcp": value / 1000}


SAMPLES = {
    "hopwire": [sample(200_000), sample(100_000), sample(300_000)],
    "hopwire+NAT": [sample(180_000), sample(190_000), sample(10_000)],
    "kernel": [sample(90_000)] * 3,
    "kernel+masquerade": [sample(60_000)] * 3,
}


def test_medians_against_the_others() -> None:
    ratios = nat.ratios(SAMPLES)
    assert set(ratios) == {"hopwire", "kernel", "kernel+masquerade"}
    assert ratios["hopwire"] == {"new": 0.9, "packets_60": 0.9, "packets_1514": 0.9, "tcp": 0.9}
    assert ratios["kernel+masquerade"]["packets_60"] == 3.0


def test_the_table_has_a_column_for_each() -> None:
    assert [str(column.header) for column in nat.table(SAMPLES).columns] == [
        "",
        *nat.MODES,
        *(f"hopwire+NAT / {mode}" for mode in ("hopwire", "kernel", "kernel+masquerade")),
    ]


def test_a_full_table_in_a_sentence() -> None:
    measured = {
        "sessions": 1_000_000,
        "run_directory_mb": 134.22,
        "memory_mb": 188.97,
        "pauses": 3907,
        "longest_pause_ms": 0.354,
        "median_pause_ms": 0.0921,
    }
    assert nat.sentence(measured) == (
        "1,000,000 sessions take 134 MB in the run directory and 189 MB of memory. "
        "While all of them ended, the longest of 3,907 pauses took 0.35 ms of CPU, the median 0.09 ms."
    )
