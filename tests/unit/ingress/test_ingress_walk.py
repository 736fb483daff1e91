"""The walk over a receive ring made by hand: where each frame goes, and how it is counted."""

from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from receive_ring import (
    CHECKSUM_NOT_READY,
    CHECKSUM_VALID,
    KERNEL,
    LOSING,
    NOW_NS,
    USER,
    VLAN_TPID_VALID,
    VLAN_VALID,
    Received,
    ReceiveRing,
    frame,
)

from services.common.counters import BY_COLUMN, COLUMNS
from services.common.frame_ring import STALE_NS, PrivateRing
from services.common.observer import unobserved
from services.ingress.ring import ARP_BYTES, ARP_FRAMES, ARP_STRIDE, Target, Walk, walk

SLEEPS: Final = 48
TAIL: Final = 32
HEAD: Final = 16

ARP = frame(bytes.fromhex("0001 0800 06 04 0001 02000000000a c0a80701 000000000000 c0a80702"), 0x0806)
GSO = bytes.fromhex("01 01 4200 a805 2200 1000")


INTERFACE = 3


class Ingress:
    """The arrays that a walk works on."""

    def __init__(self, receive: ReceiveRing | None = None, slots: int = 16, area_bytes: int = 16_384) -> None:
        self.receive = receive or ReceiveRing()
        self.ring = PrivateRing(slots, area_bytes)
        self.ring.area[:] = 0xA5
        self.ends = np.zeros(2, np.int64)
        self.arp_bytes = np.full(ARP_FRAMES * ARP_STRIDE, 0xA5, np.uint8)
        self.arp_fields = np.full((ARP_FRAMES, 2), -1, np.int64)
        self.counters = np.zeros(COLUMNS, np.int64)
        self.observer = unobserved()
        self.slot = 0

    def put(self, *received: Received | bytes, first: int = 0) -> None:
        for number, one in enumerate(received):
            self.receive.put(
                (first + number) % self.receive.geometry.slots, one if isinstance(one, Received) else Received(one)
            )

    def walk(self, budget: int = 256, now_ns: int = NOW_NS) -> Walk:
        done: Walk = walk(
            self.receive.memory,
            self.receive.statuses,
            self.receive.geometry,
            self.slot,
            budget,
            now_ns,
            Target(
                self.ring.words,
                self.ring.descriptors,
                self.ring.area,
                self.ends,
                self.arp_bytes,
                self.arp_fields,
                self.counters,
                INTERFACE,
                self.observer,
            ),
        )
        self.slot = done.slot
        return done

    def counted(self) -> dict[str, int]:
        return {counter.name: count for counter, count in zip(BY_COLUMN, self.counters.tolist(), strict=True) if count}

    def handed(self) -> list[tuple[bytes, int, int]]:
        """Return what the consumer finds: bytes behind the virtio header and before, packet type, time."""
        frames = []
        for number in range(int(self.ring.words[TAIL]), int(self.ring.words[HEAD])):
            position, length, packet_type, seen_ns = self.ring.descriptors[number % len(self.ring.descriptors)].tolist()
            place = position % len(self.ring.area)
            frames.append((self.ring.area[place : place + 10 + length].tobytes(), packet_type, seen_ns))
        return frames

    def arps(self, count: int) -> list[tuple[bytes, int]]:
        return [
            (self.arp_bytes[number * ARP_STRIDE :][: 10 + length].tobytes(), packet_type)
            for number, (length, packet_type) in enumerate(self.arp_fields[:count].tolist())
        ]


def test_nothing_is_there() -> None:
    ingress = Ingress()
    assert ingress.walk() == Walk(slot=0, taken=0, arp=0, must_wake=False, blocked=False)
    assert ingress.counted() == {}


def test_a_frame_is_handed_over_with_its_virtio_header() -> None:
    ingress = Ingress()
    sent = frame(b"x" * 46)
    ingress.put(Received(sent, virtio=GSO, age_ns=5, packet_type=3))
    assert ingress.walk() == Walk(slot=1, taken=1, arp=0, must_wake=False, blocked=False)
    assert ingress.handed() == [(GSO + sent, 3, NOW_NS - 5)]
    assert ingress.ring.area[70] == 0xA5, "nothing is written behind the frame"
    assert ingress.receive.status(0) == KERNEL
    assert ingress.counted() == {"RX_FRAMES": 1, "RX_BYTES": 60, "HANDED": 1}


def test_the_next_walk_goes_on() -> None:
    ingress = Ingress()
    ingress.put(frame(b"1"))
    ingress.walk()
    ingress.put(frame(b"2"), frame(b"3"), first=1)
    assert ingress.walk() == Walk(3, 2, 0, False, False)
    assert [data[24:] for data, _, _ in ingress.handed()] == [b"1", b"2", b"3"]
    assert ingress.counted() == {"RX_FRAMES": 3, "RX_BYTES": 45, "HANDED": 3}


def test_slots_of_all_blocks_and_round_again() -> None:
    ingress = Ingress()
    ingress.slot = 4
    payloads = [b"%d" % number for number in range(6)]
    ingress.put(*(frame(payload) for payload in payloads), first=4)
    assert ingress.walk() == Walk(4, 6, 0, False, False)
    assert [data[24:] for data, _, _ in ingress.handed()] == payloads
    assert [ingress.receive.status(slot) for slot in range(6)] == [KERNEL] * 6


def test_a_slot_that_the_kernel_still_fills_ends_the_walk() -> None:
    ingress = Ingress()
    ingress.put(frame(b"1"), frame(b"2"), frame(b"3"))
    ingress.put(Received(frame(b"2"), status=KERNEL), first=1)
    assert ingress.walk() == Walk(1, 1, 0, False, False)
    assert ingress.receive.status(2) == USER


def test_the_budget() -> None:
    ingress = Ingress()
    ingress.put(*(frame(b"%d" % number) for number in range(5)))
    assert ingress.walk(budget=2).taken == 2
    assert ingress.walk(budget=2) == Walk(4, 2, 0, False, False)
    assert ingress.walk(budget=2) == Walk(5, 1, 0, False, False)


@pytest.mark.parametrize("status", [USER | LOSING, USER | CHECKSUM_NOT_READY, USER | CHECKSUM_VALID])
def test_other_status_bits_do_not_matter(status: int) -> None:
    ingress = Ingress()
    ingress.put(Received(frame(), status=status))
    assert ingress.walk().taken == 1
    assert ingress.receive.status(0) == KERNEL


# --- ARP --------------------------------------------------------------------------------------------------------------


def test_arp_is_sorted_out() -> None:
    ingress = Ingress()
    ingress.put(frame(b"1"), Received(ARP, packet_type=1), frame(b"2"), Received(ARP, packet_type=0))
    assert ingress.walk() == Walk(4, 4, 2, False, False)
    assert ingress.arps(2) == [(bytes(10) + ARP, 1), (bytes(10) + ARP, 0)]
    assert [data[24:] for data, _, _ in ingress.handed()] == [b"1", b"2"]
    assert ingress.counted() == {"RX_FRAMES": 4, "RX_BYTES": 30 + 84, "HANDED": 2}


@pytest.mark.parametrize(("padding", "kept"), [(18, 60), (22, 64), (23, 64), (1500, 64)])
def test_of_a_long_arp_frame_the_first_bytes_are_kept(padding: int, kept: int) -> None:
    ingress = Ingress()
    ingress.put(ARP + b"\x5a" * padding)
    assert ingress.walk().arp == 1
    assert ingress.arps(1) == [((bytes(10) + ARP + b"\x5a" * padding)[: 10 + kept], 0)]
    assert ingress.arp_bytes[ARP_STRIDE] == 0xA5, "the next one's place is untouched"
    assert ARP_BYTES == 64


def test_an_ethernet_header_alone_is_arp_too() -> None:
    ingress = Ingress()
    ingress.put(frame(b"", 0x0806))
    assert ingress.walk().arp == 1
    assert ingress.arps(1) == [(bytes(10) + frame(b"", 0x0806), 0)]


@pytest.mark.parametrize("ethertype", [0x0800, 0x86DD, 0x8035, 0x0606, 0x0808, 0x0000])
def test_all_else_is_the_forwarders(ethertype: int) -> None:
    ingress = Ingress()
    ingress.put(frame(b"x", ethertype))
    assert ingress.walk().arp == 0
    assert len(ingress.handed()) == 1


def test_a_walk_ends_when_the_room_for_arp_is_used_up() -> None:
    ingress = Ingress(ReceiveRing(blocks=2, slots_per_block=ARP_FRAMES, slot_bytes=256))
    ingress.put(*[ARP] * (ARP_FRAMES + 3))
    assert ingress.walk() == Walk(ARP_FRAMES, ARP_FRAMES, ARP_FRAMES, False, False)
    assert ingress.walk() == Walk(ARP_FRAMES + 3, 3, 3, False, False)
    assert ingress.counted() == {"RX_FRAMES": ARP_FRAMES + 3, "RX_BYTES": 42 * (ARP_FRAMES + 3)}


# --- frames that go no further ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 13])
def test_a_runt(length: int) -> None:
    ingress = Ingress()
    ingress.put(frame(b"")[:length])
    assert ingress.walk() == Walk(1, 1, 0, False, False)
    assert ingress.handed() == []
    assert ingress.receive.status(0) == KERNEL
    assert ingress.counted() == ({"RX_FRAMES": 1, "DROP_RUNT": 1} | ({"RX_BYTES": length} if length else {}))


def test_no_runt() -> None:
    ingress = Ingress()
    ingress.put(frame(b""))
    ingress.walk()
    assert ingress.counted() == {"RX_FRAMES": 1, "RX_BYTES": 14, "HANDED": 1}


def test_longer_than_its_slot() -> None:
    ingress = Ingress()
    ingress.put(Received(frame(bytes(100)), said_length=115))
    ingress.walk()
    assert ingress.handed() == []
    assert ingress.counted() == {"RX_FRAMES": 1, "RX_BYTES": 115, "DROP_SNAPPED": 1}


def test_the_longest_super_frame_and_one_byte_more() -> None:
    ingress = Ingress(ReceiveRing(blocks=1, slots_per_block=2, slot_bytes=69_632), area_bytes=1 << 18)
    longest = frame(bytes(range(256)) * 256)
    ingress.put(Received(longest, virtio=GSO), Received(longest + b"x", virtio=GSO))
    ingress.walk()
    assert [data for data, _, _ in ingress.handed()] == [GSO + longest]
    assert ingress.counted() == {"RX_FRAMES": 2, "RX_BYTES": 65_550 + 65_551, "HANDED": 1, "DROP_SNAPPED": 1}


@pytest.mark.parametrize(
    ("status", "tci", "dropped"),
    [
        (USER | VLAN_VALID, 100, True),
        (USER | VLAN_VALID | VLAN_TPID_VALID, 0x6FFF, True),
        (USER | VLAN_VALID | VLAN_TPID_VALID, 0x6000, False),  # a priority tag: IEEE 802.1Q clause 6.8
        (USER | VLAN_VALID, 0x1000, False),  # drop eligible, and no more
        (USER, 100, False),  # without the status bit the field says nothing
    ],
)
@pytest.mark.parametrize("sent", [frame(), ARP], ids=["ip", "arp"])
def test_vlan_tags(status: int, tci: int, dropped: bool, sent: bytes) -> None:
    ingress = Ingress()
    ingress.put(Received(sent, status=status, tci=tci))
    done = ingress.walk()
    assert done.taken == 1
    assert ingress.counted().get("DROP_VLAN", 0) == int(dropped)
    assert len(ingress.handed()) + done.arp == int(not dropped)


# --- a full frame ring ------------------------------------------------------------------------------------------------


def test_fresh_frames_wait_for_room() -> None:
    ingress = Ingress(slots=2)
    ingress.put(*(Received(frame(b"%d" % number), age_ns=STALE_NS - 1) for number in range(4)))
    assert ingress.walk() == Walk(2, 2, 0, False, True)
    assert ingress.counted() == {"RX_FRAMES": 2, "RX_BYTES": 30, "HANDED": 2}
    assert [ingress.receive.status(slot) for slot in range(4)] == [KERNEL, KERNEL, USER, USER]
    assert ingress.walk() == Walk(2, 0, 0, False, True)
    ingress.ring.words[TAIL] = 1
    assert ingress.walk() == Walk(3, 1, 0, False, True)
    ingress.ring.words[TAIL] = 3
    assert ingress.walk() == Walk(4, 1, 0, False, False)
    assert ingress.counted() == {"RX_FRAMES": 4, "RX_BYTES": 60, "HANDED": 4}


def test_old_frames_are_dropped_and_counted() -> None:
    ingress = Ingress(slots=2)
    ages = [STALE_NS, STALE_NS + 1, STALE_NS, 10 * STALE_NS, STALE_NS - 1, STALE_NS]
    ingress.put(*(Received(frame(b"%d" % number), age_ns=age) for number, age in enumerate(ages)))
    assert ingress.walk() == Walk(4, 4, 0, False, True)
    assert ingress.counted() == {"RX_FRAMES": 4, "RX_BYTES": 60, "HANDED": 2, "DROP_FORWARDER_FULL": 2}
    assert ingress.walk(now_ns=NOW_NS + 1) == Walk(0, 2, 0, False, False)
    assert ingress.counted() == {"RX_FRAMES": 6, "RX_BYTES": 90, "HANDED": 2, "DROP_FORWARDER_FULL": 4}
    assert [data[24:] for data, _, _ in ingress.handed()] == [b"0", b"1"], "with room, old frames go too"


def test_a_full_ring_holds_up_neither_arp_nor_drops_before_it() -> None:
    ingress = Ingress(slots=1)
    ingress.put(frame(b"1"), ARP, frame(b"")[:5], frame(b"2"), ARP)
    assert ingress.walk() == Walk(3, 3, 1, False, True)
    assert ingress.counted() == {"RX_FRAMES": 3, "RX_BYTES": 15 + 42 + 5, "HANDED": 1, "DROP_RUNT": 1}


def test_a_full_area_is_as_full_as_full_slots() -> None:
    ingress = Ingress(slots=16, area_bytes=4096)
    ingress.put(*[frame(bytes(1500))] * 3)
    assert ingress.walk() == Walk(2, 2, 0, False, True)
    ingress.ring.words[TAIL] = 1
    assert ingress.walk() == Walk(3, 1, 0, False, False)
    assert [len(data) for data, _, _ in ingress.handed()] == [1524, 1524]


# --- the bell ---------------------------------------------------------------------------------------------------------


def test_a_sleeping_forwarder_is_woken_once() -> None:
    ingress = Ingress()
    ingress.ring.words[SLEEPS] = 1
    ingress.put(frame(b"1"), frame(b"2"))
    assert ingress.walk(budget=1).must_wake
    assert not ingress.walk(budget=1).must_wake


def test_only_frames_for_it_wake_it() -> None:
    ingress = Ingress()
    ingress.ring.words[SLEEPS] = 1
    ingress.put(ARP, frame(b"")[:5])
    assert not ingress.walk().must_wake
    ingress.put(frame(), first=2)
    assert ingress.walk().must_wake


def test_a_full_ring_does_not_ring_again() -> None:
    ingress = Ingress(slots=1)
    ingress.put(frame(b"1"))
    ingress.walk()
    ingress.ring.words[SLEEPS] = 1
    ingress.put(Received(frame(b"2"), age_ns=STALE_NS), frame(b"3"), first=1)
    assert ingress.walk() == Walk(2, 1, 0, False, True)
    assert ingress.ring.words[SLEEPS] == 1, "the frame that finds room will ring"


# --- against a plain oracle -------------------------------------------------------------------------------------------


def expected(sent: list[Received], room: int) -> tuple[dict[str, int], list[bytes], list[bytes], bool]:
    """Return counters, frames handed over, ARP frames, and whether it is blocked, for a ring with `room` slots."""
    counters: dict[str, int] = {}
    handed: list[bytes] = []
    arps: list[bytes] = []

    def count(name: str, amount: int = 1) -> None:
        if amount:
            counters[name] = counters.get(name, 0) + amount

    for one in sent:
        length = len(one.frame) if one.said_length is None else one.said_length
        if length > len(one.frame):
            count("DROP_SNAPPED")
        elif length < 14:
            count("DROP_RUNT")
        elif one.status & VLAN_VALID and one.tci % 4096:
            count("DROP_VLAN")
        elif one.frame[12:14] == b"\x08\x06":
            arps.append(one.virtio + one.frame[:64])
        elif len(handed) < room:
            handed.append(one.virtio + one.frame)
            count("HANDED")
        elif one.age_ns < STALE_NS:
            return counters, handed, arps, True
        else:
            count("DROP_FORWARDER_FULL")
        count("RX_FRAMES")
        count("RX_BYTES", length)
    return counters, handed, arps, False


frames = st.one_of(
    st.binary(max_size=30),
    st.binary(max_size=100).map(frame),
    st.binary(max_size=100).map(lambda payload: frame(payload, 0x0806)),
)


@st.composite
def received(draw: st.DrawFn) -> Received:
    sent = draw(frames)
    return Received(
        sent,
        virtio=draw(st.binary(min_size=10, max_size=10)),
        status=draw(st.sampled_from([USER, USER | VLAN_VALID, USER | LOSING])),
        age_ns=draw(st.sampled_from([0, STALE_NS - 1, STALE_NS, 10**12])),
        packet_type=draw(st.integers(0, 4)),
        tci=draw(st.sampled_from([0, 1, 0xE000, 0xFFFF])),
        said_length=draw(st.none() | st.just(len(sent) + 1)),
    )


@given(st.lists(received(), max_size=12), st.integers(1, 8), st.integers(0, 11), st.integers(1, 12))
def test_agrees_with_the_oracle(sent: list[Received], room: int, first: int, budget: int) -> None:
    ingress = Ingress(ReceiveRing(blocks=4, slots_per_block=3, slot_bytes=256, rest=64), slots=room)
    ingress.slot = first
    ingress.put(*sent, first=first)
    arps: list[Any] = []
    taken = 0
    while True:
        done = ingress.walk(budget=budget)
        arps += ingress.arps(done.arp)
        taken += done.taken
        if done.taken < budget:
            break
    counters, handed, arp_frames, blocked = expected(sent, room)
    assert ingress.counted() == counters
    assert [data for data, _, _ in ingress.handed()] == handed
    assert [data for data, _ in arps] == arp_frames
    assert done.blocked == blocked
    assert taken == counters.get("RX_FRAMES", 0)
    assert ingress.slot == (first + taken) % 12
    left = [ingress.receive.status((first + number) % 12) for number in range(len(sent))]
    assert left == [KERNEL] * taken + [one.status for one in sent[taken:]]
