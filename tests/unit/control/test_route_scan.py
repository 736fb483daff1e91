"""The scan of many route messages: it says what the reader of single messages says, whatever the octets are."""

import struct
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_netlink_messages import (
    ADDRESS,
    APPENDED_ROUTE,
    ENCAPSULATING_ROUTE,
    GATEWAY_ROUTE,
    IPV6_GATEWAY_ROUTE,
    LOCAL_ROUTE,
    MULTIPATH_GONE,
    MULTIPATH_ROUTE,
    NEXT_HOP_GONE,
    NEXT_HOP_OBJECT_ROUTE,
    OTHER_TABLE_ROUTE,
    PROHIBIT_DEFAULT,
    REPLACING_ROUTE,
    RULE,
    attribute,
    told,
)

from services.control import netlink_messages
from services.control.kernel_types import (
    KernelEvent,
    Placement,
    RouteBatch,
    RouteChanged,
    RouteGone,
    Unsettled,
)
from services.control.route_kernels import FIRST, GONE, LAST, REPLACE
from services.control.route_scan import Message, RouteScanner

CAPTURES = (
    ADDRESS,
    LOCAL_ROUTE,
    GATEWAY_ROUTE,
    MULTIPATH_ROUTE,
    MULTIPATH_GONE,
    NEXT_HOP_OBJECT_ROUTE,
    IPV6_GATEWAY_ROUTE,
    ENCAPSULATING_ROUTE,
    PROHIBIT_DEFAULT,
    REPLACING_ROUTE,
    APPENDED_ROUTE,
    OTHER_TABLE_ROUTE,
    NEXT_HOP_GONE,
    RULE,
)
PLACEMENTS = {FIRST: Placement.FIRST, LAST: Placement.LAST, REPLACE: Placement.REPLACE}
UNREADABLE = Unsettled("an announcement of the kernel could not be read")


def read(scanner: RouteScanner, datagrams: Sequence[bytes]) -> list[RouteBatch | Message]:
    """What the scanner finds in datagrams that lie in a larger buffer, between octets of others."""
    data, places = bytearray(b"\xa5" * 16), []
    for datagram in datagrams:
        places.append((len(data), len(data) + len(datagram)))
        data += datagram + b"\xa5" * (-len(datagram) % 4)
    return list(scanner.read(np.frombuffer(data + b"\xa5" * 64, np.uint8), places))


def single(batch: RouteBatch) -> list[KernelEvent]:
    rows = zip(*(column.tolist() for column in (batch.tables, batch.keys, batch.operations, batch.which)), strict=True)
    return [
        RouteGone(table, key, batch.infos[which])
        if operation == GONE
        else RouteChanged(table, key, batch.infos[which], PLACEMENTS[operation])
        for table, key, operation, which in rows
    ]


def scanned(*datagrams: bytes) -> list[KernelEvent]:
    found: list[KernelEvent] = []
    try:
        for one in read(RouteScanner(), datagrams):
            if isinstance(one, RouteBatch):
                found += single(one)
            elif (event := netlink_messages.event(*one)) is not None:
                found.append(event)
    except (struct.error, ValueError):
        found.append(UNREADABLE)
    return of_followed_tables(found)


def of_followed_tables(events: list[KernelEvent]) -> list[KernelEvent]:
    return [
        event for event in events if not isinstance(event, RouteChanged | RouteGone) or event.table in (253, 254, 255)
    ]


def one_by_one(*datagrams: bytes) -> list[KernelEvent]:
    return of_followed_tables([event for datagram in datagrams for event in told(datagram)])


def test_captured_messages() -> None:
    captured = [bytes.fromhex(capture) for capture in CAPTURES]
    assert scanned(*captured) == one_by_one(*captured)
    assert scanned(b"".join(captured)) == one_by_one(*captured)
    assert scanned() == []
    assert scanned(b"") == []


def test_equal_routes_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []

    def counted(kind: int, flags: int, payload: bytes) -> RouteChanged | RouteGone | None:
        reads.append(payload)
        return netlink_messages.route_event(kind, flags, payload)

    monkeypatch.setattr("services.control.route_scan.route_event", counted)
    messages = []
    for number in range(500):
        for capture in (GATEWAY_ROUTE, MULTIPATH_ROUTE):
            message = bytearray.fromhex(capture)
            message[40:44] = (0x0B000000 + number).to_bytes(4, "big")  # behind RTA_TABLE and the header of RTA_DST
            messages.append(bytes(message))
    scanner = RouteScanner()
    for _ in range(2):
        (batch,) = read(scanner, messages)
        assert isinstance(batch, RouteBatch)
        assert [key >> 8 for key in batch.keys.tolist()] == [0x0B000000 + number for number in range(500) for _ in "ab"]
        assert len(batch.infos) == len(reads) == 2
        assert single(batch) == one_by_one(*messages)


def test_a_dump_that_was_interrupted_is_noticed() -> None:
    scanner = RouteScanner()
    message = bytearray.fromhex(GATEWAY_ROUTE)
    read(scanner, [bytes(message)])
    assert not scanner.interrupted
    message[6] |= 0x10  # NLM_F_DUMP_INTR
    read(scanner, [bytes(message)])
    assert scanner.interrupted


def test_what_is_malformed_is_not_passed_over() -> None:
    def route(*attributes: bytes, length: int = 8) -> bytes:
        body = struct.pack("=8BI", 2, length, 0, 0, 254, 3, 0, 1, 0) + b"".join(attributes)
        return struct.pack("=IHHII", 16 + len(body), 24, 0, 0, 0) + body

    destination = attribute(1, bytes((10, 0, 0, 0)))
    assert len(scanned(route(destination))) == 1
    for bad in (
        route(destination, attribute(6, b"\1\2")),
        route(attribute(1, b"\1\2")),
        route(destination, attribute(15, b"\1\2")),
        route(destination, length=33),
        route(destination)[:20],
        struct.pack("=IHHII", 0, 24, 0, 0, 0),
    ):
        assert UNREADABLE in scanned(bad)
        assert UNREADABLE in scanned(route(destination), bad, route(destination))


damage = st.tuples(st.integers(0, 150), st.integers(0, 255))
damaged = st.builds(
    lambda capture, damages, cut: _damaged(bytes.fromhex(capture), damages, cut),
    st.sampled_from(CAPTURES),
    st.lists(damage, max_size=3),
    st.one_of(st.none(), st.integers(0, 120)),
)


def _damaged(data: bytes, damages: list[tuple[int, int]], cut: int | None) -> bytes:
    changed = bytearray(data)
    for position, value in damages:
        changed[position % len(changed)] = value
    return bytes(changed[:cut])


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.lists(damaged, min_size=1, max_size=4).map(b"".join), min_size=1, max_size=6))
def test_any_octets_say_what_the_reader_of_single_messages_says(datagrams: list[bytes]) -> None:
    expected, found = one_by_one(*datagrams), scanned(*datagrams)
    if UNREADABLE not in expected:
        assert found == expected
    elif UNREADABLE in found:  # from where on all is void: a dump follows
        until = found.index(UNREADABLE)
        assert found[:until] == expected[:until]
    else:  # the malformed message was about a table that nobody asks for
        assert found == [event for event in expected if event != UNREADABLE]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.binary(max_size=120), max_size=4))
def test_garbage(datagrams: list[bytes]) -> None:
    scanned(*datagrams)
