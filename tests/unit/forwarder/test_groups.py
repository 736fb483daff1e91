"""Groups of next hops: shares by weight, who moves when one leaves, and who does not. Conformance row 34."""

import random

import numpy as np
import pytest
from pipeline_rig import Bench, interface, route_records
from table_states import ETH0, ETH1, ETH2, TWO_LINKS, apply, datagram, found, ip, neighbour, route, tables_with, unicast

from services.common.messages import NeighbourState, RouterState
from services.forwarder.groups import BUCKETS, spread
from services.forwarder.questions import route_get
from services.forwarder.tables import ForwardingTables

A, B, C = (ETH0 << 32 | address for address in (0x0A000008, 0x0A000009, 0x0A00000A))
FLOWS = range(3000)


@pytest.mark.parametrize("weights", [[1, 1], [2, 1], [11, 45], [1] * 7, [255, 1], [10, 20, 30, 40]])
def test_shares_of_buckets_are_those_of_the_weights(weights: list[int]) -> None:
    for first in (1, 1 << 32 | 0x0A000002, 200 << 32 | 0xC0A80001):
        owners = spread([(first + number, weight) for number, weight in enumerate(weights)])
        assert owners.shape == (BUCKETS,)
        for number, weight in enumerate(weights):
            share = np.count_nonzero(owners == first + number) / BUCKETS
            fair = weight / sum(weights)
            # four standard deviations of as many draws as there are buckets
            assert share == pytest.approx(fair, abs=4 * (fair * (1 - fair) / BUCKETS) ** 0.5)


@pytest.mark.parametrize("weights", [[1, 65_535], [1, 128], [1] * 1000, [1] + [65_535] * 50])
def test_each_next_hop_has_a_place_however_small_its_weight(weights: list[int]) -> None:
    owners = spread([(number + 1, weight) for number, weight in enumerate(weights)])
    assert set(owners.tolist()) == set(range(1, len(weights) + 1))


def test_only_the_flows_of_a_next_hop_that_leaves_move() -> None:
    members = [(A, 1), (B, 3), (C, 2)]
    before = spread(members)
    for gone in (A, B, C):
        after = spread([member for member in members if member[0] != gone])
        assert (after[before != gone] == before[before != gone]).all()
        assert gone not in after
        assert (spread(members) == before).all()  # and come back when it does


def test_the_order_in_which_next_hops_are_told_does_not_matter() -> None:
    assert (spread([(A, 1), (B, 3), (C, 2)]) == spread([(C, 2), (A, 1), (B, 3)])).all()


# --- In the tables ----------------------------------------------------------------------------------------------------


def group_of(*hops: tuple[int, str, int]) -> RouterState:
    return RouterState(
        full=True,
        interfaces=TWO_LINKS,
        paths=[unicast(1, *hops)],
        routes=route_records([route("203.0.113.0/24", 1)]),
    )


THREE = ((ETH0, "10.0.0.8", 1), (ETH0, "10.0.0.9", 1), (ETH1, "10.0.1.8", 1))


def ways(tables: ForwardingTables) -> list[str | None]:
    return [found(tables, "203.0.113.1", flow)[2] for flow in FLOWS]


def test_a_next_hop_that_does_not_answer_leaves_the_group_and_comes_back() -> None:
    tables = tables_with(group_of(*THREE))
    before = ways(tables)
    tables.next_hop_failed(ETH0, ip("10.0.0.9"))
    after = ways(tables)
    assert set(after) == {"10.0.0.8", "10.0.1.8"}
    assert all(now == then for now, then in zip(after, before, strict=True) if then != "10.0.0.9")
    assert tables.take_used() == [(ETH0, ip("10.0.0.9"))]  # arp is asked for it again
    assert [hop["silent"] for hop in route_get(tables, ip("203.0.113.1"))["next_hops"]] == [False, True, False]
    apply(tables, NeighbourState(neighbours=[neighbour(ETH0, "10.0.0.9")]))
    assert ways(tables) == before
    assert tables.take_used() == []


def test_a_neighbour_that_arp_withdraws_leaves_the_group() -> None:
    tables = tables_with(group_of(*THREE), NeighbourState(neighbours=[neighbour(ETH0, "10.0.0.9")]))
    apply(tables, NeighbourState(gone=[(ETH0, ip("10.0.0.9"))]))
    assert "10.0.0.9" not in ways(tables)


def test_where_nobody_answers_all_are_tried() -> None:
    tables = tables_with(group_of(*THREE))
    before = ways(tables)
    for index, gateway, _ in THREE:
        tables.next_hop_failed(index, ip(gateway))
    assert ways(tables) == before


def test_a_path_with_one_next_hop_keeps_it() -> None:
    tables = tables_with(group_of((ETH0, "10.0.0.9", 1)))
    tables.next_hop_failed(ETH0, ip("10.0.0.9"))
    assert set(ways(tables)) == {"10.0.0.9"}
    assert tables.take_used() == []


def test_flows_stay_when_control_publishes_the_route_without_one_of_its_next_hops() -> None:
    tables = tables_with(group_of(*THREE))
    before = ways(tables)
    changed = RouterState(
        paths=[unicast(2, THREE[0], THREE[2])], routes=route_records([route("203.0.113.0/24", 2)]), paths_gone=[1]
    )
    apply(tables, changed)
    after = ways(tables)
    assert all(now == then for now, then in zip(after, before, strict=True) if then != "10.0.0.9")
    assert set(after) == {"10.0.0.8", "10.0.1.8"}


def test_an_interface_that_goes_takes_its_next_hops_out_of_the_group() -> None:
    tables = tables_with(group_of(*THREE))
    apply(tables, RouterState(interfaces_gone=[ETH1], interfaces=[interface(ETH2)]))
    assert set(ways(tables)) == {"10.0.0.8", "10.0.0.9"}
    apply(tables, RouterState(interfaces_gone=[ETH0]))
    assert not tables.resolve(ip("203.0.113.1")).slot


def test_many_groups_come_and_go() -> None:
    pick = random.Random(3)
    tables = tables_with(group_of(*THREE))
    for round_number in range(3):
        paths = [unicast(number, *pick.sample(THREE, 2)) for number in range(2, 40)]
        routes = [route(f"198.51.{number}.0/24", number) for number in range(2, 40)]
        apply(tables, RouterState(paths=paths, routes=route_records(routes)))
        for path in paths:
            wanted = {str(ip_text) for ip_text in (THREE[0][1], THREE[1][1], THREE[2][1])} & {
                f"10.0.{hop.gateway >> 8 & 0xFF}.{hop.gateway & 0xFF}" for hop in path.next_hops
            }
            chosen = {found(tables, f"198.51.{path.id}.1", flow)[2] for flow in range(0, BUCKETS, 7)}
            assert chosen == wanted, round_number


def test_another_seed_gives_flows_other_ways() -> None:
    arrivals = [datagram(0x64000000 + number, ip("203.0.113.1"), b"\0\7\0\7") for number in range(256)]

    def chosen(seed: int) -> list[object]:
        tables = ForwardingTables(seed)
        tables.apply_router_state(group_of(*THREE))
        return [answer.next_hop for answer in Bench(tables).forward(arrivals, ETH1).answers]

    assert chosen(5) == chosen(5)
    moved = sum(one != other for one, other in zip(chosen(5), chosen(2**63 - 1), strict=True))
    assert 100 < moved < 240  # two of three, on average
