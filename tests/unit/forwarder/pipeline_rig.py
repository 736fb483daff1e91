"""The fast path on a bench: frames laid by hand into memory as a ring holds them, and what became of them."""

import collections
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

import numpy as np

from services.common.counters import BY_COLUMN, COLUMNS, Counter
from services.common.messages import (
    Interface,
    InterfaceAddress,
    Neighbour,
    NeighbourState,
    NextHop,
    Path,
    RouterState,
)
from services.common.observer import unobserved
from services.common.parameters import InterfacePolicy
from services.forwarder.pipeline import forward_batch, make_batch, make_queues
from services.forwarder.resolution import NO_SLOT
from services.forwarder.tables import ForwardingTables
from tests.oracle.router import Answer, Arrival, Router

SLOW = {
    "HANDED",
    "FRAGMENTED",
    "OPTIONS_FILLED",
    "ECHO_ANSWERED",
    "WAITING",
    "DROP_TTL_EXCEEDED",
    "DROP_NO_ROUTE",
    "DROP_UNREACHABLE",
    "DROP_PROHIBITED",
    "DROP_MTU_EXCEEDED",
}
"""What the slow path carries out and counts."""
REDIRECTS = 2
"""Of the frames of a batch that have left by where they came in, so many go to the slow path as well."""
AREA_BYTES = 1 << 20
SLOTS = 512
UNTOUCHED = 0xA5


def route_records(routes: Sequence[tuple[int, int, int]]) -> bytes:
    """The bus's packed routes: prefix, prefix length, path id, in native order without gaps."""
    return b"".join(struct.pack("=IBI", *route) for route in routes)


def router_state(router: Router, *, full: bool = True) -> RouterState:
    """The bus's words for a router of the oracle; the path of each route has the route's number."""
    return RouterState(
        full=full,
        interfaces=[
            Interface(
                index=index,
                name=f"eth{index}",
                mac=link.mac,
                mtu=link.mtu,
                up=link.up,
                addresses=[],
                policy=InterfacePolicy(
                    reverse_path=link.reverse_path,  # type: ignore[arg-type]  # a Literal
                    martians=link.martians,  # type: ignore[arg-type]
                    directed_broadcast=link.directed_broadcast,
                    redirects=link.redirects,
                ),
            )
            for index, link in router.links.items()
        ],
        paths=[
            Path(
                id=number,
                kind=route.kind,  # type: ignore[arg-type]  # a Literal
                next_hops=[
                    NextHop(interface=hop.interface, gateway=int(hop.gateway or 0), weight=hop.weight)
                    for hop in route.hops
                ],
                mtu=route.mtu,
            )
            for number, route in enumerate(router.routes, 1)
        ],
        routes=route_records(
            [
                (int(route.prefix.network_address), route.prefix.prefixlen, number)
                for number, route in enumerate(router.routes, 1)
            ]
        ),
    )


def neighbour_state(router: Router) -> NeighbourState:
    """The bus's words for its neighbours."""
    return NeighbourState(
        full=True,
        neighbours=[
            Neighbour(interface=interface, address=int(address), mac=mac)
            for (interface, address), mac in router.neighbours.items()
        ],
    )


def interface(index: int, *addresses: tuple[str, int], mac: str = "020000000001", mtu: int = 1500) -> Interface:
    """An interface that is up."""
    return Interface(
        index=index,
        name=f"eth{index}",
        mac=bytes.fromhex(mac),
        mtu=mtu,
        up=True,
        addresses=[
            InterfaceAddress(address=int(IPv4Address(text)), prefix_length=length) for text, length in addresses
        ],
    )


@dataclass
class Laid:
    """Frames in memory, with descriptors that point at them."""

    area: np.ndarray
    descriptors: np.ndarray
    places: list[int]


@dataclass
class Fate:
    """What the fast path made of a batch."""

    answers: list[Answer]
    counters: dict[str, int]
    untouched_outside: bool
    slow: list[int]
    sent_order: dict[int, list[int]]
    """By interface index: the numbers of the frames in its transmit queue, in order."""

    def check_that_each_frame_has_one(self, hairpins: Sequence[int] = ()) -> None:
        """A frame is in one transmit queue, or goes to the slow path, or is counted once; nothing else is.

        :param hairpins: the numbers of the frames that left by where they came in.
        """
        sent: dict[int, list[int]] = {}
        slow = list(hairpins[:REDIRECTS])
        counted = collections.Counter({"TAKEN": len(self.answers)})
        for number, answer in enumerate(self.answers):
            if answer.verdict == "FORWARDED":
                assert answer.interface is not None
                sent.setdefault(answer.interface, []).append(number)
            elif answer.verdict in SLOW:
                slow.append(number)
            else:
                counted[answer.verdict] += 1
        assert self.sent_order == sent
        assert self.slow == sorted(slow)
        assert self.counters == counted


class Bench:
    """Tables, and a batch at a time through them."""

    def __init__(self, tables: ForwardingTables, *, first: int = 0) -> None:
        self.tables = tables
        self._first = first
        self.observer = unobserved()
        self._batch = make_batch()
        self._queues = make_queues()
        for array in self._batch:  # what a step reads without writing it first shows
            array[:] = 0x5A5A5A

    @classmethod
    def of(cls, router: Router, *, first: int = 0) -> "Bench":
        """A bench whose tables say what a router of the oracle knows."""
        tables = ForwardingTables()
        tables.apply_router_state(router_state(router))
        tables.apply_neighbour_state(neighbour_state(router))
        return cls(tables, first=first)

    def allow(self, *, slow_path: int, arp: int) -> None:
        """Let so many frames of the next batches through to the slow path, and to arp."""
        self._batch.allowance[:] = slow_path, arp

    def lay(self, arrivals: Sequence[Arrival]) -> Laid:
        """Lay frames 64-byte aligned as ingress does, the bytes between them marked."""
        need = sum((10 + len(arrival.frame) + 127) // 64 * 64 for arrival in arrivals)
        area = np.full(max(need, AREA_BYTES), UNTOUCHED, np.uint8)
        descriptors = np.zeros((SLOTS, 4), np.int64)
        place = 0
        places = []
        for number, arrival in enumerate(arrivals):
            data = arrival.virtio + arrival.frame
            area[place : place + len(data)] = np.frombuffer(data, np.uint8)
            row = (self._first + number) % SLOTS
            # Positions only grow: they count how often the area was gone round.
            descriptors[row] = (place + 3 * len(area), len(arrival.frame), arrival.packet_type, 0)
            if not arrival.entry_is_true:
                descriptors[row] = lie(number, len(area))
            places.append(place + 10)
            place = (place + len(data) + 63) // 64 * 64
        return Laid(area, descriptors, places)

    def forward(self, arrivals: Sequence[Arrival], in_interface: int) -> Fate:
        """Let a batch go through, and read off everything that it changed."""
        laid = self.lay(arrivals)
        before = laid.area.copy()
        counters = np.zeros(COLUMNS, np.int64)
        address = laid.area.ctypes.data
        outcome = forward_batch(
            laid.area,
            address,
            laid.descriptors,
            self._first,
            len(arrivals),
            self.tables.slots.get(in_interface, NO_SLOT),
            in_interface,
            self.tables.arrays,
            self._batch,
            self._queues,
            counters,
            self.observer,
        )
        answers = [self._answer(number, laid, arrival) for number, arrival in enumerate(arrivals)]
        for place, answer in zip(laid.places, answers, strict=True):
            laid.area[place : place + len(answer.frame)] = before[place : place + len(answer.frame)]
        return Fate(
            answers,
            {counter.name: int(counters[counter]) for counter in Counter if counters[counter]},
            bool((laid.area == before).all()),
            self._batch.slow[: outcome.slow].tolist(),
            self._take_queues(outcome.touched, laid, address),
        )

    def one(self, frame: bytes, in_interface: int, packet_type: int = 0, virtio: bytes = bytes(10)) -> Answer:
        """Let one frame go through."""
        return self.forward([Arrival(frame, packet_type, virtio)], in_interface).answers[0]

    def _answer(self, number: int, laid: Laid, arrival: Arrival) -> Answer:
        batch, place = self._batch, laid.places[number]
        verdict = BY_COLUMN[batch.verdict[number]].name
        if verdict == "DROP_RING_ENTRY":
            return Answer(verdict, arrival.frame)
        assert batch.start[number] == place
        assert batch.packet_type[number] == arrival.packet_type
        data = laid.area[place : place + int(batch.length[number])].tobytes()
        if verdict not in ("FORWARDED", "HANDED", "FRAGMENTED", "OPTIONS_FILLED", "DROP_MTU_EXCEEDED"):
            return Answer(verdict, data)
        index = self.tables.index_of_slot[int(batch.slot[number])]
        return Answer(verdict, data, index, IPv4Address(int(batch.next_hop[number])), int(batch.mtu[number]))

    def _take_queues(self, touched: int, laid: Laid, address: int) -> dict[int, list[int]]:
        """Empty the transmit queues as egress does; each entry must be one whole frame, virtio header first."""
        queues = self._queues
        slots = queues.touched[:touched].tolist()
        assert len(set(slots)) == len(slots)
        assert sorted(np.flatnonzero(queues.queued).tolist()) == sorted(slots)
        order: dict[int, list[int]] = {}
        for slot in slots:
            numbers = []
            for start, length in queues.vectors[slot, : queues.queued[slot]].tolist():
                number = laid.places.index(start - address + 10)
                assert length == 10 + self._batch.length[number]
                numbers.append(number)
            order[self.tables.index_of_slot[slot]] = numbers
            queues.queued[slot] = 0
        return order


def lie(number: int, area_bytes: int) -> tuple[int, int, int, int]:
    """A ring entry that points outside its area, or at no possible frame."""
    lies = [
        (-64, 100),
        (0, 13),
        (0, 0),
        (0, -100),
        (0, 65_551),
        (0, 1 << 62),
        (area_bytes - 64, 60),
        (5 * area_bytes - 10, 60),
        (-(1 << 63), 60),
        ((1 << 42) * area_bytes - 1, 60),
    ]
    return (*lies[number % len(lies)], 0, 0)
