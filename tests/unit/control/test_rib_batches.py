"""Changes in batches come out as the same changes one by one, whatever they are."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rib_builders import DOWN, Subscriber, dump, hop, info, link

from services.common.parameters import Parameters
from services.control.kernel_types import (
    LinkChanged,
    Placement,
    RouteBatch,
    RouteChanged,
    RouteGone,
    RouteInfo,
    RouteType,
    route_key,
)
from services.control.rib import Rib
from services.control.route_kernels import FIRST, GONE, LAST, REPLACE

LINKS = (link(2), link(3))
INFOS = (
    *(
        info(hop(interface, gateway), metric=metric)
        for interface in (2, 3)
        for gateway in ("10.0.0.1", "10.0.0.2")
        for metric in (0, 5)
    ),
    info(type=RouteType.BLACKHOLE),
    info(hop(2, "10.0.0.1", flags=1)),
    info(hop(2), tos=8),
)
OPERATIONS = {Placement.FIRST: FIRST, Placement.LAST: LAST, Placement.REPLACE: REPLACE}

changed = st.builds(
    RouteChanged,
    st.sampled_from((255, 254, 254, 254, 253)),
    st.sampled_from([route_key(prefix, length) for prefix, length in ((0, 0), (0x0A000000, 8), (0x0A010000, 16))]),
    st.sampled_from(INFOS),
    st.sampled_from(Placement),
)
gone = st.builds(lambda change: RouteGone(*change[:3]), changed)
changes = st.one_of(changed, changed, gone)


def batch(events: list[RouteChanged | RouteGone]) -> RouteBatch:
    infos: list[RouteInfo] = list(dict.fromkeys(event.info for event in events))
    return RouteBatch(
        np.array([event.table for event in events], np.uint8),
        np.array([event.key for event in events], np.int64),
        np.array([GONE if isinstance(event, RouteGone) else OPERATIONS[event.placement] for event in events], np.uint8),
        tuple(infos),
        np.array([infos.index(event.info) for event in events], np.int32),
    )


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.lists(changes, min_size=1, max_size=12), min_size=1, max_size=6), st.booleans())
def test_batches_are_many_changes(history: list[list[RouteChanged | RouteGone]], falls: bool) -> None:
    ribs = Rib(), Rib()
    subscribers = Subscriber(), Subscriber()
    for rib in ribs:
        rib.adopt(dump(LINKS))
    for number, events in enumerate(history):
        for event in events:
            ribs[0].apply(event)
        ribs[1].apply(batch(events))
        if falls and number == 1:
            for rib in ribs:
                rib.apply(LinkChanged(link(3, flags=DOWN)))
        for rib, subscriber in zip(ribs, subscribers, strict=True):
            subscriber.apply(rib.take_changes())
        assert subscribers[0].table() == subscribers[1].table()
        for table in (255, 254, 253):
            assert list(ribs[0].tables.routes(table)) == list(ribs[1].tables.routes(table))
    late = Subscriber()
    late.apply(ribs[1].full_state(Parameters()))
    assert late.table() == subscribers[0].table()
    assert ribs[0].tables.infos.keys() == ribs[1].tables.infos.keys()


def test_many_destinations_come_and_go() -> None:
    count = 100_000
    rib, subscriber = Rib(), Subscriber()
    rib.adopt(dump(LINKS))
    keys = (np.arange(count, dtype=np.int64) + 0x0A000000) << 8 | 32

    def all_of_them(operation: int, what: RouteInfo) -> RouteBatch:
        tables, operations = np.full(count, 254, np.uint8), np.full(count, operation, np.uint8)
        return RouteBatch(tables, keys, operations, (what,), np.zeros(count, np.int32))

    for what in INFOS[:2]:
        rib.apply(all_of_them(FIRST, what))
        subscriber.apply(rib.take_changes())
        assert len(subscriber.routes) == count
    assert len(rib.tables) == count, "with two routes each"
    for what in INFOS[:2]:
        rib.apply(all_of_them(GONE, what))
    subscriber.apply(rib.take_changes())
    assert (len(rib.tables), rib.tables.infos, subscriber.routes, subscriber.paths) == (0, {}, {}, {})
