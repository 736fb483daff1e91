"""How many ICMP errors go out: RFC 1812 section 4.3.2.8, conformance row 21."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from forwarder_network import ETH0, ETH1, FAR, HOST1, HOST2, Network, datagram

from services.common.parameters import IcmpParameters

LIMITS = IcmpParameters(errors_per_second=100, errors_burst=20, per_destination_per_second=10, per_destination_burst=6)


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    network = Network(tmp_path, LIMITS)
    yield network
    network.check_balance()


def test_ten_thousand_dying_datagrams_bring_a_bounded_number_of_errors(network: Network) -> None:
    """Within 10 s, 1,000 a second: the burst, and 10 a second to this host. The rest is counted."""
    for _ in range(100):
        network.receive(*[datagram(ttl=1)] * 100)
        network.now += 0.1
    errors = len(network.take_icmp())
    assert 6 + 9.9 * 10 - 1 <= errors <= 6 + 9.9 * 10
    assert network.counted() == {
        "DROP_TTL_EXCEEDED": 10_000,
        "ICMP_ERRORS": errors,
        "ICMP_SUPPRESSED": 10_000 - errors,
        "GENERATED": errors,
        "GENERATED_SENT": errors,
    }


def test_forwarding_is_unaffected(network: Network) -> None:
    network.receive(*[datagram(ttl=ttl) for ttl in (1, 64) for _ in range(100)])
    assert network.counted()["FORWARDED"] == 100
    assert network.counted()["ICMP_ERRORS"] == 6


def test_one_host_does_not_silence_the_errors_to_another(network: Network) -> None:
    network.receive(*[datagram(ttl=1)] * 200)
    network.receive(datagram(HOST2, HOST1, ttl=1), on=ETH1)
    assert Counter(each.destination for each in network.take_icmp()) == {HOST1: 6, HOST2: 1}


def test_all_hosts_together_have_a_limit(network: Network) -> None:
    for last in range(1, 201):
        network.learn(ETH0, f"192.168.1.{last + 1}", bytes(6))
        network.receive(datagram(f"192.168.1.{last + 1}", ttl=1))
    assert len(network.take_icmp()) == 20
    network.now += 0.0625
    for last in range(1, 201):
        network.receive(datagram(f"192.168.1.{last + 1}", ttl=1))
    assert len(network.take_icmp()) == 6  # 100 a second


def test_what_is_forbidden_or_impossible_takes_no_token(network: Network) -> None:
    network.receive(*[datagram(ttl=1, word=1)] * 50)
    network.receive(*[datagram("100.64.0.1", ttl=1)] * 50)
    network.receive(*[datagram(ttl=1)] * 50)
    assert len(network.take_icmp()) == 6


def test_the_limit_is_for_all_errors_together_and_not_for_echo(network: Network) -> None:
    network.receive(datagram(ttl=1), datagram(destination="100.64.0.1"), datagram(destination="203.0.113.65"))
    network.receive(*[datagram(destination=FAR, payload=bytes(1300), word=0x4000)] * 50)
    assert len(network.take_icmp()) == 6
    echo = datagram(destination="192.168.1.1", payload=bytes.fromhex("0800 f7ff 0000 0000"), protocol=1)
    network.receive(*[echo] * 100)
    assert len(network.take_icmp()) == 100


def test_other_limits_hold_at_once(network: Network) -> None:
    network.receive(*[datagram(ttl=1)] * 10)
    assert len(network.take_icmp()) == 6
    more = LIMITS.model_copy(update={"per_destination_burst": 9})
    network.slow_path.set_parameters(more, network.now)
    network.receive(*[datagram(ttl=1)] * 10)
    assert len(network.take_icmp()) == 9
