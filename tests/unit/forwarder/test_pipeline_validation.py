"""Which frames the fast path takes for datagrams at all: RFC 1812 section 5.2.2, conformance rows 1 to 3 and 26."""

import struct
from ipaddress import IPv4Address

import numpy as np
import pytest
from pipeline_rig import SLOTS, Bench, interface, lie, route_records

from services.common.counters import COLUMNS, Counter
from services.common.messages import Neighbour, NeighbourState, NextHop, Path, RouterState
from services.common.observer import unobserved
from services.forwarder.pipeline import BATCH, forward_batch, make_batch, make_queues
from services.forwarder.tables import ForwardingTables
from tests.oracle.router import Arrival, with_checksum

ETH0, ETH1 = 3, 4
ROUTER_MAC = bytes.fromhex("02 00 00 00 01 01")  # of ETH1
HOST_MAC = bytes.fromhex("02 00 00 00 01 c7")
ETHERNET = bytes.fromhex("020000000001 020000000099 0800")
# A header whose checksum is known: 192.168.0.1 -> 192.168.0.199, UDP, 115 bytes, DF, TTL 64, checksum b861
HEADER = bytes.fromhex("4500 0073 0000 4000 4011 b861 c0a80001 c0a800c7")
HEADER_LATER = bytes.fromhex("4500 0073 0000 4000 3f11 b961 c0a80001 c0a800c7")
PAYLOAD = bytes(range(95))
OTHERHOST = 3


@pytest.fixture
def bench() -> Bench:
    tables = ForwardingTables()
    tables.apply_router_state(
        RouterState(
            full=True,
            interfaces=[interface(ETH0), interface(ETH1, mac=ROUTER_MAC.hex())],
            paths=[Path(id=1, kind="unicast", next_hops=[NextHop(interface=ETH1, gateway=0)])],
            routes=route_records([(int(IPv4Address("192.168.0.0")), 24, 1)]),
        )
    )
    known = [Neighbour(interface=ETH1, address=int(IPv4Address("192.168.0.199")), mac=HOST_MAC)]
    tables.apply_neighbour_state(NeighbourState(neighbours=known))
    return Bench(tables)


def test_a_good_datagram_leaves_with_new_macs_and_one_hop_less(bench: Bench) -> None:
    answer = bench.one(ETHERNET + HEADER + PAYLOAD, ETH0)
    assert answer.verdict == "FORWARDED"
    assert answer.frame == HOST_MAC + ROUTER_MAC + b"\x08\x00" + HEADER_LATER + PAYLOAD
    assert (answer.interface, str(answer.next_hop), answer.mtu) == (ETH1, "192.168.0.199", 1500)


def changed(at: int, value: int, packet: bytes = HEADER + PAYLOAD) -> bytes:
    """A datagram with another byte, and a checksum that says so."""
    return with_checksum(packet[:at] + bytes((value,)) + packet[at + 1 :])


MUTANTS = {
    "no byte of IPv4": (b"", "DROP_IP_SHORT"),
    "19 bytes of IPv4": (HEADER[:19], "DROP_IP_SHORT"),
    "version 6": (changed(0, 0x65), "DROP_IP_VERSION"),
    "version 0": (changed(0, 0x05), "DROP_IP_VERSION"),
    "header length 16": (changed(0, 0x44), "DROP_IP_HEADER_LENGTH"),
    "header length 0": (changed(0, 0x40), "DROP_IP_HEADER_LENGTH"),
    "header longer than the frame": (changed(0, 0x4F)[:59], "DROP_IP_HEADER_LENGTH"),
    "checksum one too high": (HEADER[:10] + b"\xb8\x62" + HEADER[12:] + PAYLOAD, "DROP_IP_CHECKSUM"),
    "checksum 0": (HEADER[:10] + b"\0\0" + HEADER[12:] + PAYLOAD, "DROP_IP_CHECKSUM"),
    "checksum of ones": (HEADER[:10] + b"\xff\xff" + HEADER[12:] + PAYLOAD, "DROP_IP_CHECKSUM"),
    "a bit of the destination flipped": (HEADER[:19] + b"\xc6" + PAYLOAD, "DROP_IP_CHECKSUM"),
    "total length 19": (changed(3, 19), "DROP_IP_TOTAL_LENGTH"),
    "total length 0": (changed(3, 0), "DROP_IP_TOTAL_LENGTH"),
    "total length less than a header with options": (changed(3, 23, changed(0, 0x46)), "DROP_IP_TOTAL_LENGTH"),
    "total length one more than the frame": (changed(3, 116), "DROP_IP_TRUNCATED"),
    "total length 65535": (with_checksum(HEADER[:2] + b"\xff\xff" + HEADER[4:] + PAYLOAD), "DROP_IP_TRUNCATED"),
}  # fmt: skip


@pytest.mark.parametrize(("datagram", "reason"), MUTANTS.values(), ids=MUTANTS)
def test_a_mutant_is_dropped_and_counted_and_nothing_of_it_is_sent(bench: Bench, datagram: bytes, reason: str) -> None:
    """Conformance rows 1 and 2. No mutant goes to the slow path: no ICMP error may follow."""
    fate = bench.forward([Arrival(ETHERNET + datagram)], ETH0)
    assert [answer.verdict for answer in fate.answers] == [reason]
    assert fate.answers[0].frame == ETHERNET + datagram
    assert fate.counters == {reason: 1, "TAKEN": 1}
    assert fate.slow == []
    assert fate.sent_order == {}


def test_400_bytes_in_a_150_byte_frame(bench: Bench) -> None:
    datagram = with_checksum(HEADER[:2] + struct.pack("!H", 400) + HEADER[4:] + bytes(116))
    assert len(ETHERNET + datagram) == 150
    assert bench.one(ETHERNET + datagram, ETH0).verdict == "DROP_IP_TRUNCATED"


@pytest.mark.parametrize("padding", [1, 26, 500])
def test_padding_does_not_leave(bench: Bench, padding: int) -> None:
    """Conformance row 3: the exact length leaves, by the queue entry too (the bench compares it)."""
    fate = bench.forward([Arrival(ETHERNET + HEADER + PAYLOAD + b"\x55" * padding)], ETH0)
    assert fate.answers[0].frame[14:] == HEADER_LATER + PAYLOAD
    assert fate.sent_order == {ETH1: [0]}
    assert fate.untouched_outside


def test_a_header_alone_is_a_datagram(bench: Bench) -> None:
    answer = bench.one(ETHERNET + changed(3, 20)[:20] + bytes(26), ETH0)
    assert answer.verdict == "FORWARDED"
    assert len(answer.frame) == 34


@pytest.mark.parametrize(
    ("ethertype", "packet_type", "verdict"),
    [
        ("86dd", 0, "NOT_IPV4"),
        ("0806", 1, "NOT_IPV4"),
        ("8100", 0, "NOT_IPV4"),
        ("0800", OTHERHOST, "DROP_FOREIGN_MAC"),
        ("86dd", OTHERHOST, "DROP_FOREIGN_MAC"),
    ],
)
def test_frames_that_are_not_ipv4_or_not_ours(bench: Bench, ethertype: str, packet_type: int, verdict: str) -> None:
    frame = ETHERNET[:12] + bytes.fromhex(ethertype) + HEADER + PAYLOAD
    fate = bench.forward([Arrival(frame, packet_type)], ETH0)
    assert fate.counters == {verdict: 1, "TAKEN": 1}
    assert fate.answers[0].frame == frame


# --- Ring entries -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(10))
def test_a_lying_ring_entry_is_dropped_and_its_neighbours_are_not(bench: Bench, number: int) -> None:
    arrivals = [Arrival(ETHERNET + HEADER + PAYLOAD, entry_is_true=at != number) for at in range(10)]
    fate = bench.forward(arrivals, ETH0)
    assert [answer.verdict for answer in fate.answers] == [
        "DROP_RING_ENTRY" if at == number else "FORWARDED" for at in range(10)
    ]
    assert fate.counters == {"DROP_RING_ENTRY": 1, "TAKEN": 10}
    assert fate.sent_order == {ETH1: [at for at in range(10) if at != number]}
    assert fate.untouched_outside


def test_every_lie_alone_touches_nothing(bench: Bench) -> None:
    """In an area that is hardly larger than one frame, so that a wrong step would leave it."""
    for number in range(10):
        area = np.full(256, 0xA5, np.uint8)
        descriptors = np.zeros((SLOTS, 4), np.int64)
        descriptors[0] = lie(number, 256)
        counters = np.zeros(COLUMNS, np.int64)
        slot = bench.tables.slots[ETH0]
        arrays = bench.tables.arrays
        address, batch, queues = area.ctypes.data, make_batch(), make_queues()
        forward_batch(area, address, descriptors, 0, 1, slot, ETH0, arrays, batch, queues, counters, unobserved())
        assert counters[Counter.DROP_RING_ENTRY] == 1
        assert (area == 0xA5).all()


def test_a_frame_may_end_where_the_area_ends(bench: Bench) -> None:
    frame = ETHERNET + HEADER + PAYLOAD
    area = np.full(10 + len(frame), 0, np.uint8)
    area[10:] = np.frombuffer(frame, np.uint8)
    descriptors = np.array([[0, len(frame), 0, 0]], np.int64)
    counters = np.zeros(COLUMNS, np.int64)
    batch, queues = make_batch(), make_queues()
    outcome = forward_batch(
        area,
        area.ctypes.data,
        descriptors,
        0,
        1,
        bench.tables.slots[ETH0],
        ETH0,
        bench.tables.arrays,
        batch,
        queues,
        counters,
        unobserved(),
    )
    assert outcome.touched == 1
    assert area[24:].tobytes() == HEADER_LATER + PAYLOAD


# --- Interfaces -------------------------------------------------------------------------------------------------------


def test_an_interface_that_is_not_known_or_not_up_takes_nothing(bench: Bench) -> None:
    frame = ETHERNET + HEADER + PAYLOAD
    assert bench.forward([Arrival(frame)], 99).counters == {"DROP_UNKNOWN_INTERFACE": 1, "TAKEN": 1}
    down = interface(ETH0).model_copy(update={"up": False})
    bench.tables.apply_router_state(RouterState(interfaces=[down]))
    assert bench.forward([Arrival(frame)], ETH0).counters == {"DROP_UNKNOWN_INTERFACE": 1, "TAKEN": 1}
    bench.tables.apply_router_state(RouterState(interfaces=[interface(ETH0)]))
    assert bench.one(frame, ETH0).verdict == "FORWARDED"


def test_a_way_out_that_is_down_is_unreachable(bench: Bench) -> None:
    down = interface(ETH1, mac=ROUTER_MAC.hex()).model_copy(update={"up": False})
    bench.tables.apply_router_state(RouterState(interfaces=[down]))
    assert bench.one(ETHERNET + HEADER + PAYLOAD, ETH0).verdict == "DROP_UNREACHABLE"


# --- Batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, SLOTS - 3, 10 * SLOTS + 400, 2**55 - 1])
def test_a_full_batch_goes_round_the_ring_in_order(bench: Bench, first: int) -> None:
    bench = Bench(bench.tables, first=first)
    arrivals = [
        Arrival(ETHERNET + with_checksum(HEADER[:4] + struct.pack("!H", number) + HEADER[6:] + PAYLOAD))
        for number in range(BATCH)
    ]
    fate = bench.forward(arrivals, ETH0)
    assert [answer.frame[18:20] for answer in fate.answers] == [struct.pack("!H", number) for number in range(BATCH)]
    assert fate.sent_order == {ETH1: list(range(BATCH))}
    assert fate.counters == {"TAKEN": BATCH}
    assert fate.untouched_outside


def test_an_empty_batch_does_nothing(bench: Bench) -> None:
    fate = bench.forward([], ETH0)
    assert (fate.counters, fate.slow, fate.sent_order) == ({}, [], {})
