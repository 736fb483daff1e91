"""From the kernel's routes to what is published, case by case."""

import pytest
from rib_builders import (
    DOWN,
    NO_CARRIER,
    Subscriber,
    Treatment,
    address,
    came,
    dump,
    hop,
    info,
    link,
    number,
    went,
)

from services.common.parameters import Parameters
from services.control.kernel_types import (
    RT_TABLE_DEFAULT,
    RT_TABLE_LOCAL,
    RTNH_F_DEAD,
    RTNH_F_LINKDOWN,
    AddressChanged,
    AddressGone,
    KernelNextHop,
    LinkChanged,
    LinkGone,
    NextHopObjectGone,
    Placement,
    RouteInfo,
    RouteType,
    Unsettled,
)
from services.control.rib import KernelDump, Rib

ETH2, ETH3, TUN = 2, 3, 4
LINKS = (link(1, name="lo", link_type=772), link(ETH2), link(ETH3), link(TUN, name="tun0", link_type=65_534))
GATEWAY = number("10.0.0.9")
TO_GATEWAY = info(hop(ETH2, "10.0.0.9"))
FORWARDED: Treatment = ("unicast", ((ETH2, GATEWAY, 1),), 0)


def local(source: str) -> RouteInfo:
    return info(hop(ETH2), type=RouteType.LOCAL, source=number(source))


def started(*routes: object, given: KernelDump | None = None) -> tuple[Rib, Subscriber]:
    rib = Rib()
    rib.adopt(given or dump(LINKS, routes))  # type: ignore[arg-type]
    subscriber = Subscriber()
    subscriber.apply(rib.take_changes())
    return rib, subscriber


def published(*routes: object) -> dict[str, Treatment]:
    return started(*routes)[1].table()


# --- What becomes of a route ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("route_type", "kind"),
    [
        (RouteType.LOCAL, "local"),
        (RouteType.ANYCAST, "local"),
        (RouteType.MULTICAST, "multicast"),
        (RouteType.BLACKHOLE, "blackhole"),
        (RouteType.UNREACHABLE, "unreachable"),
        (RouteType.PROHIBIT, "prohibit"),
    ],
)
def test_types_without_next_hop(route_type: RouteType, kind: str) -> None:
    assert published(came("10.1.0.0/16", info(hop(ETH2), type=route_type))) == {"10.1.0.0/16": (kind, (), 0)}


def test_a_broadcast_names_the_interface_of_its_network() -> None:
    assert published(came("10.0.0.255/32", info(hop(ETH2), type=RouteType.BROADCAST))) == {
        "10.0.0.255/32": ("broadcast", ((ETH2, 0, 1),), 0)
    }


def test_unicast_by_gateway_on_link_and_with_an_mtu() -> None:
    assert published(
        came("10.0.0.0/24", info(hop(ETH2))),
        came("10.1.0.0/16", TO_GATEWAY),
        came("0.0.0.0/0", TO_GATEWAY._replace(mtu=1400)),
    ) == {
        "10.0.0.0/24": ("unicast", ((ETH2, 0, 1),), 0),
        "10.1.0.0/16": FORWARDED,
        "0.0.0.0/0": ("unicast", ((ETH2, GATEWAY, 1),), 1400),
    }


def test_multipath_keeps_order_and_weights() -> None:
    several = info(hop(ETH3, "10.3.0.1", weight=256), hop(ETH2, "10.0.0.9"))
    assert published(came("10.1.0.0/16", several)) == {
        "10.1.0.0/16": ("unicast", ((ETH3, number("10.3.0.1"), 256), (ETH2, GATEWAY, 1)), 0)
    }


@pytest.mark.parametrize("flag", [RTNH_F_DEAD, RTNH_F_LINKDOWN, RTNH_F_DEAD | RTNH_F_LINKDOWN])
def test_next_hops_that_are_dead_are_not_used(flag: int) -> None:
    several = info(hop(ETH3, "10.3.0.1", flags=flag), hop(ETH2, "10.0.0.9"))
    assert published(came("10.1.0.0/16", several)) == {"10.1.0.0/16": FORWARDED}
    assert published(came("10.1.0.0/16", info(hop(ETH2, "10.0.0.9", flags=flag)))) == {}


@pytest.mark.parametrize("flags", [DOWN, NO_CARRIER])
def test_next_hops_by_interfaces_that_are_down_are_not_used(flags: int) -> None:
    links = (link(ETH2), link(ETH3, flags=flags))
    several = info(hop(ETH3, "10.3.0.1"), hop(ETH2, "10.0.0.9"))
    _, subscriber = started(given=dump(links, [came("10.1.0.0/16", several), came("10.3.0.0/24", info(hop(ETH3)))]))
    assert subscriber.table() == {"10.1.0.0/16": FORWARDED}
    assert not subscriber.interfaces[ETH3].up


def test_a_way_out_that_is_no_ethernet_is_unreachable_and_said() -> None:
    rib, subscriber = started(
        came("10.8.0.0/16", info(hop(TUN))),
        came("10.9.0.0/16", info(hop(TUN))),
        came("10.7.0.0/16", info(hop(1))),
        came("10.6.0.0/16", info(hop(TUN), hop(ETH2, "10.0.0.9"))),
    )
    unreachable: Treatment = ("unreachable", (), 0)
    assert subscriber.table() == {
        "10.8.0.0/16": unreachable,
        "10.9.0.0/16": unreachable,
        "10.7.0.0/16": unreachable,
        "10.6.0.0/16": FORWARDED,
    }
    assert sorted(rib.deviations()) == [
        "1 route not followed: it leaves by lo, which is no Ethernet interface (answered as unreachable)",
        "1 route not followed: it leaves by tun0, which is no Ethernet interface (its other next hops are used)",
        "2 routes not followed: it leaves by tun0, which is no Ethernet interface (answered as unreachable)",
    ]
    assert set(subscriber.interfaces) == {ETH2, ETH3}


def test_a_port_of_a_bridge_is_no_interface_of_the_router() -> None:
    links = (link(ETH2), link(ETH3, master=9), link(9, name="br0"))
    rib, subscriber = started(given=dump(links, [came("10.1.0.0/16", info(hop(ETH3)))]))
    assert set(subscriber.interfaces) == {ETH2, 9}
    assert subscriber.table() == {"10.1.0.0/16": ("unreachable", (), 0)}
    assert rib.deviations() == ["1 route not followed: it leaves by eth3, a port of br0 (answered as unreachable)"]


def test_what_cannot_be_followed_is_said() -> None:
    odd = KernelNextHop(ETH2, 0, 1, 0, "it encapsulates")
    rib, subscriber = started(
        given=dump(
            LINKS,
            [
                came("10.1.0.0/16", info(odd)),
                came("10.2.0.0/16", info(type=RouteType.THROW)),
                came("10.3.0.0/16", TO_GATEWAY._replace(tos=0x10)),
            ],
            foreign_rules=2,
        )
    )
    assert subscriber.table() == {"10.1.0.0/16": ("unreachable", (), 0), "10.2.0.0/16": ("unreachable", (), 0)}
    assert rib.deviations() == [
        "1 route not followed: it encapsulates (answered as unreachable)",
        "1 route not followed: it holds for one type of service only (left out)",
        "1 route not followed: its type is throw (answered as unreachable)",
        "2 routing rules not followed (see `ip rule`): all traffic takes the tables local, main and default",
    ]


# --- Which route is the best ------------------------------------------------------------------------------------------


def test_the_lowest_metric_wins_whatever_came_first() -> None:
    far = info(hop(ETH3, "10.3.0.1"), metric=100)
    near = TO_GATEWAY._replace(metric=5)
    rib, subscriber = started()
    rib.apply(came("10.1.0.0/16", far))
    rib.apply(came("10.1.0.0/16", near))
    subscriber.apply(rib.take_changes())
    assert subscriber.table() == {"10.1.0.0/16": FORWARDED}
    rib.apply(went("10.1.0.0/16", near))
    subscriber.apply(rib.take_changes())
    assert subscriber.table() == {"10.1.0.0/16": ("unicast", ((ETH3, number("10.3.0.1"), 1),), 0)}


def test_a_route_that_cannot_be_used_gives_way_to_a_worse_one() -> None:
    dead = info(hop(ETH3, "10.3.0.1", flags=RTNH_F_DEAD), metric=1)
    of_service = TO_GATEWAY._replace(tos=4, mtu=9)
    assert published(
        came("10.1.0.0/16", of_service), came("10.1.0.0/16", dead), came("10.1.0.0/16", TO_GATEWAY._replace(metric=5))
    ) == {"10.1.0.0/16": FORWARDED}


def test_a_route_is_replaced_in_place() -> None:
    rib, subscriber = started(came("10.1.0.0/16", info(hop(ETH3, "10.3.0.1"))))
    rib.apply(came("10.1.0.0/16", TO_GATEWAY, placement=Placement.REPLACE))
    subscriber.apply(rib.take_changes())
    assert subscriber.table() == {"10.1.0.0/16": FORWARDED}
    rib.apply(went("10.1.0.0/16", TO_GATEWAY))
    subscriber.apply(rib.take_changes())
    assert subscriber.table() == {}


def test_table_local_comes_first_then_main_then_default() -> None:
    own = local("10.0.0.1")
    rib, subscriber = started(
        came("10.0.0.1/32", TO_GATEWAY),
        came("10.0.0.1/32", own, table=RT_TABLE_LOCAL),
        came("10.5.0.0/16", info(type=RouteType.PROHIBIT), table=RT_TABLE_DEFAULT),
    )
    assert subscriber.table() == {"10.0.0.1/32": ("local", (), 0), "10.5.0.0/16": ("prohibit", (), 0)}
    rib.apply(came("10.5.0.0/16", TO_GATEWAY))
    rib.apply(went("10.0.0.1/32", own, table=RT_TABLE_LOCAL))
    subscriber.apply(rib.take_changes())
    assert subscriber.table() == {"10.0.0.1/32": FORWARDED, "10.5.0.0/16": FORWARDED}


@pytest.mark.parametrize(
    ("short", "long"),
    [("10.0.0.0/8", "10.1.0.0/16"), ("10.0.0.0/31", "10.0.0.1/32"), ("0.0.0.0/0", "128.0.0.0/1")],
)
def test_a_short_prefix_of_an_earlier_table_hides_longer_ones_of_a_later_table(short: str, long: str) -> None:
    everything = local("10.0.0.1")
    hidden: dict[str, Treatment] = {short: ("local", (), 0), "9.1.0.0/16": FORWARDED}
    shown: dict[str, Treatment] = {long: FORWARDED, "9.1.0.0/16": FORWARDED}
    if short == "0.0.0.0/0":
        del hidden["9.1.0.0/16"]
    rib, subscriber = started(
        came(short, everything, table=RT_TABLE_LOCAL), came(long, TO_GATEWAY), came("9.1.0.0/16", TO_GATEWAY)
    )
    assert subscriber.table() == hidden
    rib.apply(went(short, everything, table=RT_TABLE_LOCAL))
    subscriber.apply(rib.take_changes())
    assert subscriber.table() == shown
    rib.apply(came(short, everything, table=RT_TABLE_LOCAL))
    subscriber.apply(rib.take_changes())
    assert subscriber.table() == hidden


def test_other_tables_are_not_looked_at() -> None:
    rib, subscriber = started()
    rib.apply(came("10.1.0.0/16", TO_GATEWAY, table=100))
    rib.apply(went("10.1.0.0/16", TO_GATEWAY, table=100))
    assert rib.take_changes() is None
    assert subscriber.table() == {}


# --- Changes ----------------------------------------------------------------------------------------------------------


def test_nothing_is_published_where_nothing_changed() -> None:
    routes = [came("10.1.0.0/16", TO_GATEWAY), came("10.0.0.0/24", info(hop(ETH2)))]
    rib, _ = started(*routes)
    rib.adopt(dump(LINKS, reversed(routes)))
    assert rib.take_changes() is None
    rib.apply(came("10.1.0.0/16", TO_GATEWAY._replace(protocol=186), placement=Placement.REPLACE))
    assert rib.take_changes() is None
    rib.apply(came("10.2.0.0/16", TO_GATEWAY))
    rib.apply(went("10.2.0.0/16", TO_GATEWAY))
    assert rib.take_changes() is None


def test_a_change_carries_only_what_changed() -> None:
    rib, subscriber = started(came("10.1.0.0/16", TO_GATEWAY), came("10.2.0.0/16", TO_GATEWAY))
    rib.apply(came("10.3.0.0/16", TO_GATEWAY))
    state = rib.take_changes()
    assert state is not None
    assert (state.interfaces, state.paths, state.paths_gone, len(state.routes)) == ([], [], [], 9)
    subscriber.apply(state)
    assert len(subscriber.table()) == 3


def test_an_announcement_that_a_dump_has_told_of_already_changes_nothing() -> None:
    rib, _ = started(came("10.1.0.0/16", TO_GATEWAY))
    for placement in Placement:
        rib.apply(came("10.1.0.0/16", TO_GATEWAY, placement=placement))
    rib.apply(went("10.9.0.0/16", TO_GATEWAY))
    assert rib.take_changes() is None
    rib.apply(went("10.1.0.0/16", TO_GATEWAY))
    assert rib.tables.candidates(254, 0x0A010000 << 8 | 16) == ()


def test_a_dump_publishes_only_the_difference() -> None:
    rib, subscriber = started(came("10.1.0.0/16", TO_GATEWAY), came("10.2.0.0/16", TO_GATEWAY))
    rib.apply(Unsettled("announcements were lost"))
    assert rib.unsettled == "announcements were lost"
    rib.adopt(dump(LINKS, [came("10.2.0.0/16", TO_GATEWAY), came("10.3.0.0/16", info(hop(ETH3)))]))
    assert rib.unsettled == ""
    state = rib.take_changes()
    assert state is not None
    assert len(state.routes) == 2 * 9
    subscriber.apply(state)
    assert subscriber.table() == {"10.2.0.0/16": FORWARDED, "10.3.0.0/16": ("unicast", ((ETH3, 0, 1),), 0)}


def test_the_full_state_is_what_was_published_and_not_what_is_to_be() -> None:
    rib, subscriber = started(came("10.1.0.0/16", TO_GATEWAY))
    rib.apply(came("10.2.0.0/16", TO_GATEWAY._replace(mtu=1400)))
    rib.apply(LinkChanged(link(5)))
    late = Subscriber()
    state = rib.full_state(Parameters())
    assert state.parameters == Parameters()
    late.apply(state)
    assert late.table() == subscriber.table()
    assert late.interfaces == subscriber.interfaces
    late.apply(rib.take_changes())
    assert late.table().keys() == {"10.1.0.0/16", "10.2.0.0/16"}
    assert set(late.interfaces) == {ETH2, ETH3, 5}


# --- Interfaces and addresses -----------------------------------------------------------------------------------------


def test_an_interface_that_falls_takes_its_routes_along_at_once_and_asks_for_a_dump() -> None:
    rib, subscriber = started(
        came("10.1.0.0/16", info(hop(ETH2, "10.0.0.9"), hop(ETH3, "10.3.0.1"))), came("10.3.0.0/24", info(hop(ETH3)))
    )
    rib.apply(LinkChanged(link(ETH3, flags=NO_CARRIER)))
    assert rib.unsettled == "eth3 changed"
    subscriber.apply(rib.take_changes())
    assert subscriber.table() == {"10.1.0.0/16": FORWARDED}
    rib.apply(LinkGone(ETH2))
    subscriber.apply(rib.take_changes())
    assert subscriber.table() == {}
    assert set(subscriber.interfaces) == {ETH3}
    rib.apply(LinkGone(77))
    assert rib.take_changes() is None


def test_a_change_that_no_route_depends_on_asks_for_no_dump() -> None:
    rib, subscriber = started(came("10.1.0.0/16", TO_GATEWAY))
    rib.apply(LinkChanged(link(ETH3, flags=DOWN)))
    rib.apply(LinkChanged(link(9)))
    rib.apply(LinkChanged(link(ETH2, name="uplink")))
    rib.apply(NextHopObjectGone(7))
    assert rib.unsettled == ""
    subscriber.apply(rib.take_changes())
    assert subscriber.interfaces[ETH2].name == "uplink"
    assert set(subscriber.interfaces) == {ETH2, ETH3, 9}


def test_a_route_that_was_announced_before_its_interface() -> None:
    rib, subscriber = started(given=dump([], [came("10.1.0.0/16", TO_GATEWAY)]))
    assert subscriber.table() == {}
    rib.apply(LinkChanged(link(ETH2)))
    subscriber.apply(rib.take_changes())
    assert subscriber.table() == {"10.1.0.0/16": FORWARDED}


def test_addresses_primary_ones_first() -> None:
    rib, subscriber = started(given=dump(LINKS, addresses=[address(ETH2, "10.0.0.1/24")]))
    rib.apply(AddressChanged(address(ETH2, "10.0.0.2/24", flags=0x81)))
    rib.apply(AddressChanged(address(ETH2, "10.1.0.1/24")))
    rib.apply(AddressChanged(address(ETH2, "10.0.0.1/24")))
    subscriber.apply(rib.take_changes())
    assert [(one.address, one.prefix_length) for one in subscriber.interfaces[ETH2].addresses] == [
        (number("10.0.0.1"), 24),
        (number("10.1.0.1"), 24),
        (number("10.0.0.2"), 24),
    ]
    assert rib.unsettled == ""
    rib.apply(AddressGone(address(ETH2, "10.0.0.1/24")))
    assert rib.unsettled == "an address was removed"
    subscriber.apply(rib.take_changes())
    assert len(subscriber.interfaces[ETH2].addresses) == 2


def test_names_outlive_their_interfaces() -> None:
    rib, _ = started()
    assert rib.interface_name(ETH2) == "eth2"
    assert rib.interface_name(99) == "if99"
    rib.apply(LinkGone(ETH2))
    assert rib.interface_name(ETH2) == "eth2"
    rib.adopt(dump([link(ETH2, name="other")]))
    assert rib.interface_name(ETH2) == "other"
    assert rib.interface_name(ETH3) == "eth3"


def test_the_ethernet_interfaces_that_are_up_with_carrier_or_without() -> None:
    links = (link(2, name="b"), link(3, name="a", flags=NO_CARRIER), link(4, flags=DOWN), link(5, link_type=772))
    rib, _ = started(given=dump(links))
    assert rib.ethernet_names == ["a", "b"]


def test_destinations_are_counted_by_kind() -> None:
    rib, _ = started(
        came("10.1.0.0/16", TO_GATEWAY),
        came("10.2.0.0/16", info(hop(ETH3))),
        came("10.0.0.1/32", local("10.0.0.1"), table=RT_TABLE_LOCAL),
    )
    assert rib.routes_by_kind() == {"unicast": 2, "local": 1}
