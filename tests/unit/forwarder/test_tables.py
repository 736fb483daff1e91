"""The forwarder's tables: what control and arp have said, in whatever order, is what a lookup answers."""

import random

import pytest
from pipeline_rig import Bench, interface, route_records
from table_states import (
    BASIC,
    ETH0,
    ETH1,
    ETH2,
    HOST_MAC,
    MAC0,
    MAC1,
    NEW_MAC,
    TWO_LINKS,
    apply,
    datagram,
    found,
    ip,
    neighbour,
    route,
    tables_with,
    unicast,
)

from services.common.messages import MessageError, Neighbour, NeighbourState, Path, RouteKind, RouterState
from services.forwarder.questions import route_get

KINDS: tuple[RouteKind, ...] = ("local", "broadcast", "multicast", "blackhole", "unreachable", "prohibit")


# --- Routes and neighbours --------------------------------------------------------------------------------------------


def test_a_gateway_a_connected_prefix_and_the_router_itself() -> None:
    tables = tables_with(
        BASIC, NeighbourState(neighbours=[neighbour(ETH0, "10.0.0.2"), neighbour(ETH1, "10.0.1.9", NEW_MAC)])
    )
    assert found(tables, "10.0.0.2") == ("unicast", ETH0, "10.0.0.2", HOST_MAC)
    assert found(tables, "10.0.0.3") == ("unicast", ETH0, "10.0.0.3", None)
    assert found(tables, "203.0.113.5") == ("unicast", ETH1, "10.0.1.9", NEW_MAC)
    assert found(tables, "10.0.0.1") == ("local", None, None, None)
    assert len(tables) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_the_kinds_of_routes(kind: RouteKind) -> None:
    tables = tables_with(
        RouterState(paths=[Path(id=1, kind=kind, next_hops=[])], routes=route_records([route("10.0.0.0/8", 1)]))
    )
    assert route_get(tables, ip("10.1.2.3"))["kind"] == ("broadcast" if kind == "multicast" else kind)
    assert route_get(tables, ip("11.1.2.3"))["kind"] == "none"


def test_a_neighbour_may_come_before_its_interface() -> None:
    tables = tables_with(NeighbourState(full=True, neighbours=[neighbour(ETH0, "10.0.0.2")]), BASIC)
    assert found(tables, "10.0.0.2") == ("unicast", ETH0, "10.0.0.2", HOST_MAC)
    resolution = tables.resolve(ip("10.0.0.2"))
    assert tables.rewrite_for(resolution.slot, ip("10.0.0.2")) == HOST_MAC + bytes.fromhex(MAC0)


def test_a_neighbour_that_went_before_its_interface_came_is_not_known() -> None:
    early = NeighbourState(neighbours=[neighbour(ETH0, "10.0.0.2"), neighbour(ETH0, "10.0.0.3")])
    for gone in (NeighbourState(gone=[(ETH0, ip("10.0.0.2"))]), NeighbourState(full=True)):
        tables = tables_with(early, gone, BASIC)
        assert found(tables, "10.0.0.2")[3] is None
        assert found(tables, "10.0.0.3")[3] == (None if gone.full else HOST_MAC)


def test_a_neighbours_mac_changes_it_goes_and_comes_back() -> None:
    tables = tables_with(BASIC, NeighbourState(neighbours=[neighbour(ETH0, "10.0.0.2")]))
    apply(tables, NeighbourState(neighbours=[neighbour(ETH0, "10.0.0.2", NEW_MAC)]))
    assert found(tables, "10.0.0.2")[3] == NEW_MAC
    apply(tables, NeighbourState(gone=[(ETH0, ip("10.0.0.2")), (ETH0, ip("10.0.0.77")), (99, 1)]))
    assert found(tables, "10.0.0.2")[3] is None
    apply(tables, NeighbourState(neighbours=[neighbour(ETH0, "10.0.0.2")]))
    assert found(tables, "10.0.0.2")[3] == HOST_MAC
    apply(tables, NeighbourState(full=True, neighbours=[neighbour(ETH0, "10.0.0.3")]))
    assert [owner for owner, _ in tables.neighbours()] == [(ETH0, ip("10.0.0.3"))]
    assert found(tables, "10.0.0.2")[3] is None


def test_the_same_address_on_two_links_is_two_neighbours() -> None:
    tables = tables_with(
        BASIC, NeighbourState(neighbours=[neighbour(ETH0, "10.0.1.9"), neighbour(ETH1, "10.0.1.9", NEW_MAC)])
    )
    assert found(tables, "203.0.113.5")[3] == NEW_MAC
    apply(tables, NeighbourState(gone=[(ETH1, ip("10.0.1.9"))]))
    assert found(tables, "203.0.113.5")[3] is None


def test_many_neighbours_come_and_go_without_mixing_up_their_macs() -> None:
    tables = tables_with(BASIC)
    pick = random.Random(5)
    model: dict[int, bytes] = {}
    for _ in range(20):
        came = {0x0A000000 + pick.randrange(256): pick.randbytes(6) for _ in range(60)}
        gone = pick.sample(sorted(model), len(model) // 3)
        apply(
            tables,
            NeighbourState(
                neighbours=[Neighbour(interface=ETH0, address=address, mac=mac) for address, mac in came.items()],
                gone=[(ETH0, address) for address in gone if address not in came],
            ),
        )
        model = {address: mac for address, mac in model.items() if address not in gone} | came
        assert {address: mac for (_, address), mac in tables.neighbours()} == model
        for address in range(0x0A000000, 0x0A000100):
            if address != ip("10.0.0.1"):
                assert tables.mac_of(tables.resolve(address)) == model.get(address)


# --- Interfaces -------------------------------------------------------------------------------------------------------


def test_an_interface_vanishes_and_comes_back_with_another_index() -> None:
    tables = tables_with(BASIC, NeighbourState(neighbours=[neighbour(ETH1, "10.0.1.9")]))
    apply(tables, RouterState(interfaces_gone=[ETH1], paths=[Path(id=2, kind="unreachable", next_hops=[])]))
    assert found(tables, "203.0.113.5")[0] == "unreachable"
    assert tables.neighbours() == []
    assert set(tables.interfaces) == {ETH0}

    apply(tables, RouterState(interfaces=[interface(ETH2, mac=MAC1)], paths=[unicast(2, (ETH2, "10.0.1.9"))]))
    assert found(tables, "203.0.113.5") == ("unicast", ETH2, "10.0.1.9", None)  # the old one's neighbour is not its
    apply(tables, NeighbourState(neighbours=[neighbour(ETH2, "10.0.1.9", NEW_MAC)]))
    assert found(tables, "203.0.113.5") == ("unicast", ETH2, "10.0.1.9", NEW_MAC)


def test_a_path_by_an_interface_that_vanished_does_not_lead_to_its_successor() -> None:
    tables = tables_with(BASIC)
    apply(tables, RouterState(interfaces_gone=[ETH1]))
    apply(tables, RouterState(interfaces=[interface(ETH2)]))
    apply(tables, NeighbourState(neighbours=[neighbour(ETH2, "10.0.1.9")]))
    assert found(tables, "203.0.113.5")[1] == 0
    assert found(tables, "203.0.113.5")[3] is None


def test_a_snapshot_forgets_what_it_does_not_name() -> None:
    tables = tables_with(BASIC, NeighbourState(neighbours=[neighbour(ETH1, "10.0.1.9"), neighbour(ETH0, "10.0.0.2")]))
    apply(tables, BASIC.model_copy(update={"interfaces": TWO_LINKS[:1]}))
    assert set(tables.interfaces) == set(tables.slots) == {ETH0}
    assert [owner for owner, _ in tables.neighbours()] == [(ETH0, ip("10.0.0.2"))]
    assert found(tables, "203.0.113.5")[0] == "unreachable"  # its only way is not there
    apply(tables, RouterState(full=True, interfaces=TWO_LINKS))
    assert len(tables) == 0
    assert found(tables, "10.0.0.2")[0] == "none"


def test_an_interfaces_new_mac_and_mtu_hold_for_known_neighbours() -> None:
    tables = tables_with(BASIC, NeighbourState(neighbours=[neighbour(ETH0, "10.0.0.2"), neighbour(ETH1, "10.0.1.9")]))
    apply(tables, RouterState(interfaces=[interface(ETH0, mac="0200000000ff", mtu=9000)]))
    assert tables.rewrite_for(tables.slots[ETH0], ip("10.0.0.2")) == HOST_MAC + bytes.fromhex("0200000000ff")
    assert tables.rewrite_for(tables.slots[ETH1], ip("10.0.1.9")) == HOST_MAC + bytes.fromhex(MAC1)
    assert tables.resolve(ip("10.0.0.2")).mtu == 9000


def test_a_next_hop_by_an_unknown_interface_is_left_out() -> None:
    state = BASIC.model_copy(update={"paths": [*BASIC.paths[:1], unicast(2, (99, "1.1.1.1"), (ETH1, "10.0.1.9"))]})
    state = state.model_copy(update={"routes": route_records([route("0.0.0.0/0", 2)])})
    tables = tables_with(state)
    assert {found(tables, "203.0.113.5", flow)[1:3] for flow in range(100)} == {(ETH1, "10.0.1.9")}


def test_more_interfaces_than_there_is_room_for_are_left_out() -> None:
    links = [interface(index) for index in range(1, 301)]
    tables = tables_with(RouterState(full=True, interfaces=links))
    assert len(set(tables.slots.values())) == len(tables.slots) == 255
    apply(tables, RouterState(interfaces_gone=[1], interfaces=[]))
    apply(tables, RouterState(interfaces=[interface(300)]))
    assert tables.interfaces[300].index == 300


# --- What must not come in --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"routes": route_records([route("10.9.0.0/16", 2)])[:-1]}, "record"),
        ({"routes": route_records([(ip("10.9.0.1"), 16, 2)])}, "host bits"),
        ({"routes": route_records([(0, 33, 2)])}, "longer than 32"),
        ({"routes": route_records([(ip("10.9.0.0"), 255, 2)])}, "longer than 32"),
        ({"routes": route_records([route("10.9.0.0/16", 2), (1, 0, 2)])}, "host bits"),
        ({"routes": route_records([route("10.9.0.0/16", 4)])}, "nobody has described"),
        ({"routes": route_records([route("10.9.0.0/16", 100_000)])}, "nobody has described"),
        ({"routes": route_records([route("10.9.0.0/16", 0xFFFFFFFF)])}, "out of bounds"),
        ({"paths": [Path(id=0x7FFFFFFF, kind="local", next_hops=[])]}, "path ids go up to"),
        ({"full": True, "routes": route_records([route("10.9.0.0/16", 2)])}, "nobody has described"),
    ],
)
def test_a_malformed_state_is_refused_and_changes_nothing(change: dict[str, object], reason: str) -> None:
    tables = tables_with(BASIC, NeighbourState(neighbours=[neighbour(ETH0, "10.0.0.2")]))
    before = [found(tables, probe) for probe in ("10.0.0.1", "10.0.0.2", "10.9.0.1", "203.0.113.5")]
    bad = RouterState(
        interfaces=[interface(ETH2)],
        interfaces_gone=[ETH0],
        paths_gone=[1],
    ).model_copy(update=change)
    with pytest.raises(MessageError, match=reason):
        tables.apply_router_state(bad)
    assert [found(tables, probe) for probe in ("10.0.0.1", "10.0.0.2", "10.9.0.1", "203.0.113.5")] == before
    assert set(tables.interfaces) == {ETH0, ETH1}
    assert len(tables) == 3


def test_a_withdrawal_of_what_is_not_there_and_paths_that_go_twice_do_no_harm() -> None:
    tables = tables_with(BASIC)
    apply(tables, RouterState(routes=route_records([route("99.0.0.0/8", 0)]), paths_gone=[77, 5_000_000]))
    apply(tables, RouterState(interfaces_gone=[55]))
    assert len(tables) == 3
    assert found(tables, "203.0.113.5")[:2] == ("unicast", ETH1)


def test_path_numbers_beyond_the_first_ones_find_room() -> None:
    tables = tables_with(BASIC)
    apply(
        tables,
        RouterState(paths=[unicast(1000, (ETH0, "10.0.0.7"))], routes=route_records([route("99.0.0.0/8", 1000)])),
    )
    assert found(tables, "99.1.1.1") == ("unicast", ETH0, "10.0.0.7", None)
    assert found(tables, "203.0.113.5")[:3] == ("unicast", ETH1, "10.0.1.9")  # what was there before has moved along


# --- Use of neighbours ------------------------------------------------------------------------------------------------


def test_neighbours_that_frames_went_to_are_named_once() -> None:
    tables = tables_with(
        BASIC,
        NeighbourState(
            neighbours=[neighbour(ETH0, "10.0.0.2"), neighbour(ETH0, "10.0.0.3"), neighbour(ETH1, "10.0.1.9")]
        ),
    )
    bench = Bench(tables)
    arrivals = [datagram(ip("198.51.100.7"), ip(to), bytes(4)) for to in ("10.0.0.2", "10.0.0.2", "203.0.113.1")]
    assert {answer.verdict for answer in bench.forward(arrivals, ETH0).answers} == {"FORWARDED"}
    assert sorted(tables.take_used()) == [(ETH0, ip("10.0.0.2")), (ETH1, ip("10.0.1.9"))]
    assert tables.take_used() == []


def test_frames_of_the_slow_path_count_as_use_and_a_lookup_does_not() -> None:
    tables = tables_with(BASIC, NeighbourState(neighbours=[neighbour(ETH0, "10.0.0.2")]))
    found(tables, "10.0.0.2")
    assert tables.take_used() == []
    tables.rewrite_for(tables.slots[ETH0], ip("10.0.0.2"))
    assert tables.take_used() == [(ETH0, ip("10.0.0.2"))]


def test_a_used_neighbour_that_went_is_not_named_and_neither_is_the_one_that_has_its_place_now() -> None:
    tables = tables_with(BASIC, NeighbourState(neighbours=[neighbour(ETH0, "10.0.0.2"), neighbour(ETH0, "10.0.0.4")]))
    for address in ("10.0.0.2", "10.0.0.4"):
        tables.rewrite_for(tables.slots[ETH0], ip(address))
    apply(tables, NeighbourState(gone=[(ETH0, ip("10.0.0.4")), (ETH0, ip("10.0.0.2"))]))
    apply(tables, NeighbourState(neighbours=[neighbour(ETH0, "10.0.0.3")]))
    assert tables.take_used() == []


# --- Questions --------------------------------------------------------------------------------------------------------


def test_route_get_says_what_the_fast_path_would_do_and_because_of_what() -> None:
    paths = [unicast(1, (ETH0, "10.0.0.9", 2), (ETH1, "10.0.1.9", 1), mtu=1400)]
    tables = tables_with(
        RouterState(full=True, interfaces=TWO_LINKS, paths=paths, routes=route_records([route("10.64.0.0/10", 1)])),
        NeighbourState(neighbours=[neighbour(ETH0, "10.0.0.9")]),
    )
    assert route_get(tables, ip("10.100.1.2")) == {
        "prefix": ip("10.64.0.0"),
        "prefix_length": 10,
        "kind": "unicast",
        "next_hops": [
            {"interface": ETH0, "gateway": ip("10.0.0.9"), "weight": 2, "silent": False},
            {"interface": ETH1, "gateway": ip("10.0.1.9"), "weight": 1, "silent": False},
        ],
        "chosen": {"interface": ETH0, "next_hop": ip("10.0.0.9")},
        "mac": HOST_MAC,
        "mtu": 1400,
    }
    assert route_get(tables, ip("10.0.0.1")) == {
        "prefix": None,
        "prefix_length": None,
        "kind": "none",
        "next_hops": [],
        "chosen": None,
        "mac": None,
        "mtu": None,
    }
