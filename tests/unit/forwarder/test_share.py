"""The time that exceptions may take."""

from services.forwarder.share import BURST_S, DEBT_S, SHARE, SlowShare


def test_while_nothing_else_waits_exceptions_may_take_all_the_time() -> None:
    share = SlowShare(0.0)
    for second in range(10):
        assert share.allows(float(second), others_wait=False)
        share.spend(1.0)


def test_a_burst_and_then_the_share() -> None:
    share = SlowShare(100.0)
    assert share.allows(100.0, others_wait=True)
    share.spend(BURST_S)
    assert not share.allows(100.0, others_wait=True)
    assert share.allows(100.001, others_wait=True)


def test_under_a_flood_the_rest_of_the_time_is_the_fast_paths() -> None:
    share = SlowShare(0.0)
    now = spent = 0.0
    while now < 10.0:
        if share.allows(now, others_wait=True):
            share.spend(0.001)
            spent += 0.001
            now += 0.001
        now += 0.0005
    assert SHARE * 9.0 < spent < SHARE * 10.0 + BURST_S + 0.001


def test_little_is_owed_for_what_was_spent_while_nobody_waited() -> None:
    share = SlowShare(0.0)
    share.spend(60.0)
    assert not share.allows(0.9 * DEBT_S / SHARE, others_wait=True)
    assert share.allows(1.1 * DEBT_S / SHARE, others_wait=True)


def test_a_quiet_time_saves_no_more_than_a_burst() -> None:
    share = SlowShare(0.0)
    assert share.allows(1000.0, others_wait=True)
    share.spend(BURST_S)
    assert not share.allows(1000.0, others_wait=True)
