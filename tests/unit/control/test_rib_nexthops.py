"""Routes that name nexthop objects (ip-nexthop(8)): their next hops are the object's, and change with it."""

from rib_builders import Subscriber, came, dump, hop, info, link, number, went

from services.control.kernel_types import NextHopObject, NextHopObjectChanged, NextHopObjectGone
from services.control.rib import KernelDump, Rib

ETH2, ETH3 = 2, 3
LINKS = (link(ETH2), link(ETH3))
GATEWAY = number("10.0.0.9")
TO_GATEWAY = info(hop(ETH2, "10.0.0.9"))


def started(*routes: object, given: KernelDump | None = None) -> tuple[Rib, Subscriber]:
    rib = Rib()
    rib.adopt(given or dump(LINKS, routes))  # type: ignore[arg-type]
    subscriber = Subscriber()
    subscriber.apply(rib.take_changes())
    return rib, subscriber


def test_a_removed_nexthop_object_asks_for_a_dump_only_if_a_route_uses_it() -> None:
    rib, _ = started(came("10.1.0.0/16", TO_GATEWAY._replace(next_hop_object=9)))
    rib.apply(NextHopObjectGone(8))
    assert rib.unsettled == ""
    rib.apply(NextHopObjectGone(9))
    assert rib.unsettled == "nexthop object 9 changed"


def test_the_next_hops_of_a_route_are_those_of_its_object() -> None:
    objects = (
        NextHopObject(7, hop(ETH2, "10.0.0.9"), ()),
        NextHopObject(8, hop(ETH3, "10.3.0.9"), ()),
        NextHopObject(9, None, ((7, 3), (8, 1000), (99, 1))),
    )
    silent = info()._replace(next_hop_object=9)  # as with nexthop_compat_mode=0: the route names no next hop
    given = dump(LINKS, [came("10.1.0.0/16", silent)])._replace(next_hop_objects=objects)
    rib, subscriber = started(given=given)
    far = (ETH3, number("10.3.0.9"), 1000)
    assert subscriber.table() == {"10.1.0.0/16": ("unicast", ((ETH2, GATEWAY, 3), far), 0)}
    replaced = NextHopObject(7, hop(ETH2, "10.0.0.8"), ())
    rib.apply(NextHopObjectChanged(replaced, in_silence=False))
    assert rib.unsettled == ""
    subscriber.apply(rib.take_changes())
    assert subscriber.table() == {"10.1.0.0/16": ("unicast", ((ETH2, number("10.0.0.8"), 3), far), 0)}
    rib.apply(went("10.1.0.0/16", silent._replace(next_hops=(hop(ETH2, "10.0.0.8"),))))
    subscriber.apply(rib.take_changes())
    assert subscriber.table() == {}


def test_routes_whose_object_is_not_known_lack_next_hops() -> None:
    route = came("10.1.0.0/16", info()._replace(next_hop_object=9))
    rib, _ = started(route)
    assert rib.lacks_next_hops
    rib.apply(NextHopObjectChanged(NextHopObject(9, hop(ETH2, "10.0.0.9"), ()), in_silence=False))
    assert not rib.lacks_next_hops
    assert not started(came("10.1.0.0/16", TO_GATEWAY))[0].lacks_next_hops


def test_a_group_that_lost_a_member_asks_for_a_dump_only_if_a_route_uses_it() -> None:
    rib, _ = started(came("10.1.0.0/16", TO_GATEWAY._replace(next_hop_object=9)))
    rib.apply(NextHopObjectChanged(NextHopObject(10, None, ((7, 1),)), in_silence=True))
    assert rib.unsettled == ""
    rib.apply(NextHopObjectChanged(NextHopObject(9, None, ((7, 1),)), in_silence=True))
    assert rib.unsettled == "nexthop object 9 changed"
