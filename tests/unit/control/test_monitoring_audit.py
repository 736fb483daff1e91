"""The frame balance over time: what is only under way, and what is missing."""

from services.control.monitoring.audit import SETTLE_S, FrameAudit
from services.control.reports import Balance


def seen(received: int, sent: int, waiting: int = 0) -> Balance:
    return Balance(received, 0, sent, 0, 0, 0, waiting)


def test_at_rest_it_is_exact() -> None:
    audit = FrameAudit()
    audit.observe(seen(100, 97), 0.0)
    assert audit.unaccounted == 0, "they may be under way"
    audit.observe(seen(100, 97), SETTLE_S)
    assert audit.unaccounted == 3
    audit.observe(seen(100, 97, waiting=3), SETTLE_S + 0.25)
    assert audit.unaccounted == 0
    audit.observe(seen(100, 97, waiting=4), 2 * SETTLE_S)
    assert audit.unaccounted == 0, "one more than came in; perhaps it has just come"
    for quarter in range(5):
        audit.observe(seen(100, 101), 3 * SETTLE_S + quarter / 4)
    assert audit.unaccounted == -1


def test_under_load_reports_of_different_times_are_no_loss() -> None:
    audit = FrameAudit()
    for tick in range(40):
        now = tick / 4
        received, sent = int(240_000 * now), int(240_000 * max(0.0, now - 0.3 * (tick % 3)))
        audit.observe(seen(received, sent), now)
        assert audit.unaccounted == 0
        audit.observe(seen(int(240_000 * max(0.0, now - 0.3)), sent), now)
        assert audit.unaccounted == 0


def test_a_leak_under_load_shows_once_it_is_larger_than_what_came_meanwhile() -> None:
    audit = FrameAudit()
    for tick in range(40):
        received = 1000 * tick
        audit.observe(seen(received, received - 5000 if received > 5000 else 0), tick / 4)
    assert audit.unaccounted == 1000
