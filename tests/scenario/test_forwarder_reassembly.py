"""Echo requests in fragments to the router: RFC 791 section 3.2, conformance row 13."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from forwarder_network import ETH0, ETH1, FAR, HOST1, ICMP, UDP, Network, checksum, datagram

from services.common.counters import Counter
from services.common.parameters import IcmpParameters
from services.forwarder.slowpath import SLOW_BUDGET_US, SlowPath

MF = 0x2000
ROUTER = "192.168.1.1"
DATA = bytes(number * 11 % 253 for number in range(4000))


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    network = Network(tmp_path)
    yield network
    network.check_balance()


def request(data: bytes = DATA, *, icmp_type: int = 8) -> bytes:
    head = bytes((icmp_type, 0, 0, 0)) + bytes.fromhex("1234 0001")
    return head[:2] + checksum(head + data).to_bytes(2, "big") + head[4:] + data


def parts(message: bytes, *, source: str = HOST1, options: bytes = b"", protocol: int = ICMP) -> list[bytes]:
    """A message to the router as its sender's kernel cuts it for an MTU of 1500."""
    return [
        datagram(
            source,
            ROUTER,
            message[at : at + 1480],
            protocol=protocol,
            word=at // 8 | (MF if at + 1480 < len(message) else 0),
            options=b"" if at else options,
        )
        for at in range(0, len(message), 1480)
    ]


def test_a_ping_of_4000_bytes(network: Network) -> None:
    """The reply leaves in fragments, each as long as the link takes."""
    network.receive(*parts(request()))
    replies = [each.datagram for each in network.sent]
    assert [len(one) for one in replies] == [1500, 1500, 1068]
    assert [one[6:8] for one in replies] == [b"\x20\x00", b"\x20\xb9", b"\x01\x72"]
    message = b"".join(one[20:] for one in replies)
    assert (message[:2], message[8:]) == (b"\0\0", DATA)
    assert checksum(message) == 0
    assert network.counted() == {"REASSEMBLED": 2, "ECHO_ANSWERED": 1, "GENERATED": 3, "GENERATED_SENT": 3}


def test_fragments_wait_for_the_rest_over_many_batches_and_interfaces(network: Network) -> None:
    first, second, third = parts(request())
    network.receive(third)
    network.now += 10.0
    network.receive(first, on=ETH1)
    assert network.counters.get(Counter.WAITING, ETH0) == network.counters.get(Counter.WAITING, ETH1) == 1
    network.receive(second)
    assert len(network.sent) == 3
    assert network.counters.total(Counter.WAITING) == 0


def test_record_route_of_a_long_ping(network: Network) -> None:
    network.receive(*parts(request(), options=bytes.fromhex("07 0b 04 00000000 00000000 00")))
    assert network.sent[0].datagram[20:32] == bytes.fromhex("07 0b 0c c0a80101 c0a80101 00")


def test_a_wrong_checksum_is_not_answered(network: Network) -> None:
    network.receive(*parts(request()[:-1] + b"?"))
    assert network.sent == []
    assert network.counted() == {"REASSEMBLED": 2, "DROP_ICMP_CHECKSUM": 1}


@pytest.mark.parametrize("icmp_type", [0, 3, 200])
def test_what_is_no_echo_request_is_the_kernels(network: Network, icmp_type: int) -> None:
    """The kernel has fragments of its own of it: of an answer to its own ping, say."""
    network.receive(*parts(request(icmp_type=icmp_type)))
    assert network.sent == []
    assert network.counted() == {"REASSEMBLED": 2, "LOCAL": 1}


def test_fragments_of_other_protocols_are_the_kernels(network: Network) -> None:
    network.receive(*parts(request(), protocol=UDP))
    assert network.counted() == {"LOCAL": 3}


def test_the_time_runs_out(network: Network) -> None:
    """The kernel, which has the fragments too, sends the error 11/1; a second one would be one too many."""
    network.receive(*parts(request())[:2])
    network.now += 29.9
    network.slow_path.expire(network.now)
    assert network.counted() == {"WAITING": 2}
    network.now += 0.1
    network.slow_path.expire(network.now)
    assert network.sent == []
    assert network.counted() == {"DROP_REASSEMBLY_TIMEOUT": 2}


def test_what_a_killed_forwarder_held_is_written_off(network: Network) -> None:
    network.receive(*parts(request())[:2])
    network.slow_path = SlowPath(network.tables, network.counters, IcmpParameters(), network.now, lambda: 0.0)
    assert network.counted() == {"DROP_RESTARTED": 2}
    network.receive(*parts(request()))
    assert len(network.sent) == 3


def test_a_requester_behind_a_smaller_mtu(network: Network) -> None:
    network.receive(*parts(request(), source=FAR))
    assert [len(each.datagram) for each in network.sent] == [1276, 1276, 1276, 20 + 4008 - 3 * 1256]


def test_the_longest_ping_stays_within_the_budget(network: Network) -> None:
    network.receive(*parts(request(bytes(65_507))))
    assert len(network.sent) == 45
    assert network.cost_us < SLOW_BUDGET_US
