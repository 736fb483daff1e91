"""Next hops by weight and flow, and the MTU of a path: conformance row 34."""

import random

import pytest
from pipeline_rig import Bench, interface, route_records
from table_states import ETH0, ETH1, TWO_LINKS, datagram, ip, route, tables_with, unicast

from services.common.messages import RouterState
from tests.oracle.router import Arrival


@pytest.mark.parametrize(
    ("of_interface", "of_path", "expected"),
    [
        (1500, 0, 1500),
        (1500, 1280, 1280),
        (1500, 9000, 1500),
        (9000, 1500, 1500),
        (65_535, 0, 65_535),
        (2**31 - 1, 2**31 - 1, 65_535),  # no datagram is longer
        (1500, 1, 68),  # every link carries 68 bytes: RFC 791
    ],
)
def test_the_smaller_of_the_interfaces_and_the_paths_mtu_counts(of_interface: int, of_path: int, expected: int) -> None:
    links = [interface(ETH0, mtu=of_interface)]
    paths = [unicast(1, (ETH0, "0.0.0.0"), mtu=of_path)]
    tables = tables_with(
        RouterState(full=True, interfaces=links, paths=paths, routes=route_records([route("10.0.0.0/8", 1)]))
    )
    assert tables.resolve(ip("10.1.1.1")).mtu == expected


def spread(weights: list[int], arrivals: list[Arrival]) -> list[int]:
    """Return how many of the frames each of several next hops with weights is given."""
    hops = [(ETH0, f"10.0.0.{number + 10}", weight) for number, weight in enumerate(weights)]
    tables = tables_with(
        RouterState(
            full=True,
            interfaces=TWO_LINKS,
            paths=[unicast(1, *hops)],
            routes=route_records([route("203.0.113.0/24", 1)]),
        )
    )
    bench = Bench(tables)
    chosen: dict[str, int] = {}
    for first in range(0, len(arrivals), 256):
        for answer in bench.forward(arrivals[first : first + 256], ETH1).answers:
            assert answer.verdict == "HANDED"
            chosen[str(answer.next_hop)] = chosen.get(str(answer.next_hop), 0) + 1
    return [chosen.get(hop[1], 0) for hop in hops]


def flows(kind: str) -> list[Arrival]:
    """Flows as they come: at random, from one host's consecutive ports, from one network's hosts with the same port."""
    pick = random.Random(kind)
    if kind == "random":
        return [
            datagram(0x64000000 + pick.getrandbits(20), ip("203.0.113.0") + pick.randrange(256), pick.randbytes(4))
            for _ in range(8000)
        ]
    if kind == "consecutive ports":
        return [
            datagram(ip("198.51.100.7"), ip("203.0.113.9"), (32_768 + number).to_bytes(2, "big") + b"\x01\xbb", 6)
            for number in range(8000)
        ]
    return [datagram(0x64400000 + number, ip("203.0.113.9"), b"\x00\x7b\x00\x7b") for number in range(8000)]


@pytest.mark.parametrize("weights", [[1, 1], [2, 1], [11, 45], [1, 1, 1], [300, 100], [1] * 7])
@pytest.mark.parametrize("kind", ["random", "consecutive ports", "consecutive hosts"])
def test_next_hops_get_the_share_of_flows_that_their_weights_say(weights: list[int], kind: str) -> None:
    """Conformance row 34: within 15 %."""
    shares = spread(weights, flows(kind))
    for share, weight in zip(shares, weights, strict=True):
        assert share == pytest.approx(8000 * weight / sum(weights), rel=0.15)


def test_a_flow_stays_with_its_next_hop_whatever_else_its_datagrams_say() -> None:
    for protocol in (6, 17, 1, 89):
        for seed in range(50):
            pick = random.Random(seed)
            source, ports = 0x64000000 + pick.getrandbits(20), pick.randbytes(4)
            if protocol in (1, 89):  # no ports: what stands in their place does not count
                same = [datagram(source, ip("203.0.113.1"), pick.randbytes(4), protocol) for _ in range(20)]
            else:
                same = [
                    datagram(source, ip("203.0.113.1"), ports, protocol, 0x4000 * (number % 2), pick.randbytes(number))
                    for number in range(20)
                ]
            assert sorted(spread([1, 1, 1, 1], same)) == [0, 0, 0, 20]


def test_all_fragments_of_a_datagram_take_the_same_way() -> None:
    for seed in range(50):
        pick = random.Random(seed)
        source, ports = 0x64000000 + pick.getrandbits(20), pick.randbytes(4)
        first = datagram(source, ip("203.0.113.1"), ports, 17, 0x2000)
        others = [datagram(source, ip("203.0.113.1"), pick.randbytes(4), 17, word) for word in (0x2001, 0x2002, 3)]
        assert sorted(spread([1, 1, 1, 1], [first, *others])) == [0, 0, 0, 4]
