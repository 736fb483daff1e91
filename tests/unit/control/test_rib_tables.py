"""The store of the kernel's routes, and the numbering of paths."""

import numpy as np
from rib_builders import came, hop, info, went

from services.control.kernel_types import Placement, RouteInfo, route_key, split_key
from services.control.path_table import PathContent, PathTable
from services.control.route_table import RouteTables

MAIN = 254
KEY = route_key(0x0A010000, 16)
A, B, C = (info(hop(2, f"10.0.0.{last}")) for last in (1, 2, 3))


def in_order(tables: RouteTables) -> list[RouteInfo]:
    return list(tables.candidates(MAIN, KEY))


def inserted(*changes: tuple[RouteInfo, Placement]) -> RouteTables:
    tables = RouteTables()
    for what, placement in changes:
        tables.insert(came("10.1.0.0/16", what, placement=placement))
    return tables


def test_keys() -> None:
    assert split_key(KEY) == (0x0A010000, 16)


def test_among_equals_the_placement_decides() -> None:
    assert in_order(inserted((A, Placement.FIRST), (B, Placement.FIRST))) == [B, A]
    assert in_order(inserted((A, Placement.FIRST), (B, Placement.LAST))) == [A, B]
    assert in_order(inserted((A, Placement.FIRST), (B, Placement.LAST), (C, Placement.REPLACE))) == [C, B]


def test_unequal_ones_stand_by_type_of_service_and_metric() -> None:
    worse, of_service = A._replace(metric=9), A._replace(tos=8)
    for placement in Placement:
        assert in_order(inserted((worse, placement), (B, placement), (of_service, placement))) == [of_service, B, worse]


def test_a_known_route_is_brought_up_to_date_in_its_place() -> None:
    dead = info(hop(2, "10.0.0.1", flags=1))
    for placement in Placement:
        assert in_order(inserted((B, Placement.FIRST), (A, Placement.LAST), (dead, placement))) == [B, dead]


def test_what_no_route_uses_any_more_is_forgotten() -> None:
    tables = inserted((A, Placement.FIRST), (B, Placement.LAST), (C, Placement.REPLACE))
    assert set(tables.infos) == {B, C}
    assert tables.remove(went("10.1.0.0/16", info(hop(2, "10.0.0.2", flags=16))))  # its state does not matter
    assert not tables.remove(went("10.1.0.0/16", B))
    assert not tables.remove(went("10.9.0.0/16", C))
    assert tables.remove(went("10.1.0.0/16", C))
    assert tables.infos == {}
    assert len(tables) == 0
    assert not +tables.lengths(MAIN)


def test_infos_are_shared() -> None:
    tables = RouteTables()
    for number in range(100):
        tables.append(came(f"10.{number}.0.0/16", info(hop(2, "10.0.0.1"))))
    assert len(tables) == 100
    assert [tables.uses(number) for number in tables.infos.values()] == [100]
    assert [key for key, _ in tables.routes(MAIN)] == [
        route_key(0x0A000000 | number << 16, 16) for number in range(100)
    ]


def test_routes_within_a_prefix() -> None:
    tables = RouteTables()
    inside = ("10.128.0.0/9", "10.128.0.0/10", "10.129.0.0/16", "10.255.255.255/32")
    for prefix in (*inside, "0.0.0.0/0", "10.0.0.0/8", "10.127.0.0/16", "11.128.0.0/9", "74.128.0.0/9"):
        tables.append(came(prefix, A))
    assert [key for key, _ in tables.routes(MAIN, came(inside[0], A).key)] == [came(one, A).key for one in inside]
    assert len(list(tables.routes(MAIN, came("0.0.0.0/0", A).key))) == 9


LOCAL, UNREACHABLE = PathContent("local"), PathContent("unreachable")


def used(paths: PathTable, *counts: tuple[int, int]) -> tuple[list[int], list[int]]:
    """Set how many routes use each path; return the numbers that are announced, and those that are gone."""
    for number, count in counts:
        paths.uses[number] = count
    new, gone = paths.take_changes(np.array([0, *(number for number, _ in counts)] * 2))
    return [path.id for path in new], gone


def test_equal_paths_share_a_number() -> None:
    paths = PathTable()
    assert paths.number(LOCAL) == paths.number(LOCAL) == 1
    assert used(paths, (1, 2)) == ([1], [])
    assert [(path.id, path.kind) for path in paths.all()] == [(1, "local")]
    assert used(paths, (1, 1)) == ([], [])
    assert used(paths, (1, 0)) == ([], [1])
    assert paths.all() == []


def test_a_number_is_given_again_but_not_in_the_same_publication() -> None:
    paths = PathTable()
    used(paths, (paths.number(LOCAL), 1))
    assert paths.number(UNREACHABLE) == 2
    assert used(paths, (1, 0), (2, 1)) == ([2], [1])
    assert paths.number(PathContent("blackhole")) == 1


def test_a_path_that_is_let_go_and_taken_again_was_never_away() -> None:
    paths = PathTable()
    used(paths, (paths.number(LOCAL), 1))
    paths.uses[1] = 0
    assert paths.number(LOCAL) == 1
    assert used(paths, (1, 1)) == ([], [])


def test_a_path_that_comes_and_goes_between_two_publications_is_never_announced() -> None:
    paths = PathTable()
    assert used(paths, (paths.number(LOCAL), 0)) == ([], [])
    assert used(paths, (paths.number(UNREACHABLE), 1)) == ([2], [])
    assert paths.uses_by_kind() == {"unreachable": 1}


def test_paths_that_nobody_uses_or_refers_to_are_forgotten_once_there_are_many() -> None:
    paths = PathTable()
    for mtu in range(3000):
        number = paths.number(PathContent("unicast", ((2, mtu, 1),)))
        assert number <= 1030, "numbers are given again"
        paths.tidy(np.array([number, 1], np.int32))
    assert paths.number(PathContent("unicast", ((2, 0, 1),))) == 1, "one that is referred to stays"
