"""Token buckets on a virtual clock."""

import pytest

from services.common.parameters import IcmpParameters
from services.common.token_bucket import TokenBucket
from services.forwarder.limiter import MAX_DESTINATIONS, IcmpLimiter, RedirectLimiter

HOST = 0x0A000002


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = TokenBucket(per_second=10, burst=3, tokens=3, filled_at=100.0)
    assert [bucket.take(100.0) for _ in range(5)] == [True, True, True, False, False]
    assert not bucket.take(100.0625)
    assert bucket.take(100.125)
    assert not bucket.take(100.125)
    assert sum(bucket.take(100.125 + step / 64) for step in range(1, 65)) == 10


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    bucket = TokenBucket(per_second=1000, burst=2, tokens=0, filled_at=0.0)
    assert [bucket.take(86_400.0) for _ in range(3)] == [True, True, False]


def test_failed_attempts_do_not_slow_it_down() -> None:
    bucket = TokenBucket(per_second=1, burst=1, tokens=0, filled_at=0.0)
    assert sum(bucket.take(step / 16) for step in range(16 * 10 + 1)) == 10


LIMITS = IcmpParameters(
    errors_per_second=1000, errors_burst=10_000, per_destination_per_second=2, per_destination_burst=3
)


def test_each_destination_has_its_own_bucket() -> None:
    limiter = IcmpLimiter(LIMITS, 0.0)
    for destination in range(500):
        assert [limiter.allow(destination, 0.0) for _ in range(4)] == [True, True, True, False]
    assert [limiter.allow(7, 0.5), limiter.allow(7, 0.5), limiter.allow(8, 0.5)] == [True, False, True]


def test_the_bucket_for_all_counts_too() -> None:
    limiter = IcmpLimiter(LIMITS.model_copy(update={"errors_burst": 5}), 0.0)
    assert sum(limiter.allow(destination, 0.0) for destination in range(100)) == 5


def test_a_host_over_its_own_limit_takes_nothing_from_the_others() -> None:
    limiter = IcmpLimiter(LIMITS.model_copy(update={"errors_burst": 10}), 0.0)
    assert sum(limiter.allow(1, 0.0) for _ in range(1000)) == 3
    assert sum(limiter.allow(destination, 0.0) for destination in range(2, 50)) == 7


def test_the_bucket_unused_for_longest_is_forgotten_and_the_table_does_not_grow() -> None:
    limiter = IcmpLimiter(LIMITS, 0.0)
    for destination in range(MAX_DESTINATIONS):
        for _ in range(3):
            assert limiter.allow(destination, 0.0)
    assert not limiter.allow(0, 0.0)  # used again: not the oldest any more
    assert limiter.allow(1_000_000, 0.0)
    assert limiter.allow(1, 0.0)  # forgotten, so it has a full bucket
    assert not limiter.allow(0, 0.0)
    assert not limiter.allow(MAX_DESTINATIONS - 1, 0.0)


@pytest.mark.parametrize("parameters", [LIMITS, IcmpParameters()])
def test_ten_thousand_at_once_to_one_host_are_a_burst(parameters: IcmpParameters) -> None:
    limiter = IcmpLimiter(parameters, 5.0)
    assert sum(limiter.allow(1, 5.0) for _ in range(10_000)) == parameters.per_destination_burst


class TestRedirects:
    """As Linux limits them: ip_rt_send_redirect() in net/ipv4/route.c."""

    def test_the_wait_doubles(self) -> None:
        limiter = RedirectLimiter()
        allowed = [now for now in range(40_000) if limiter.allow(HOST, 1000.0 + now / 1000)]
        # 20 ms times 2, 4, 8, ... after each, and after nine no more
        expected = [0, 40, 120, 280, 600, 1240, 2520, 5080, 10_200]
        assert len(allowed) == len(expected)
        assert all(0 <= actual - wanted <= 9 for actual, wanted in zip(allowed, expected, strict=True))

    def test_silence_begins_anew(self) -> None:
        limiter = RedirectLimiter()
        assert sum(limiter.allow(HOST, 1000.0 + number) for number in range(100)) == 9
        assert not limiter.allow(HOST, 1099.0 + 20.4)
        assert limiter.allow(HOST, 1119.4 + 20.5)

    def test_each_host_for_itself(self) -> None:
        limiter = RedirectLimiter()
        assert all(limiter.allow(host, 1000.0) for host in range(3000))
        assert not limiter.allow(2999, 1000.0)
        assert limiter.allow(0, 1000.0)  # long forgotten: the table is bounded
