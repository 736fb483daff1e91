"""The figures of `hopwire bench --observed`: each round against itself, and the table."""

from services.launcher.bench import observed

RATES = {
    observed.NOBODY: [100_000.0, 200_000.0, 300_000.0],
    observed.SCRAPED: [99_000.0, 100_000.0, 294_000.0],
    observed.CAPTURED: [90_000.0, 180_000.0, 270_000.0],
}


def test_each_round_is_compared_with_itself() -> None:
    """A machine that is three times as fast in one round says nothing of the observers."""
    assert observed.kept(RATES) == {observed.NOBODY: 1.0, observed.SCRAPED: 0.98, observed.CAPTURED: 0.9}


def test_the_table_shows_medians_and_spread() -> None:
    table = observed.table(RATES)
    rates, shares = (list(column.cells) for column in table.columns[1:])
    assert rates == ["200 (100-300)", "100 (99-294)", "180 (90-270)"]
    assert shares == ["1.00", "0.98", "0.90"]
