"""The fast path: a batch of frames in shared memory, decided and rewritten where it lies.

One kernel goes over the batch once for each step: validate, route, rewrite, count. Each frame ends with a verdict,
which is a column of `Counter`: FORWARDED, a drop's reason, or something for the slow path.
"""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from services.common.counters import COLUMNS, MAX_INTERFACES, Counter, CounterBlock
from services.common.frame_ring import INVALID, LENGTH, PACKET_TYPE, frame_start
from services.common.hash_table import ABSENT
from services.common.kernels import inlined, kernel, record
from services.common.memory import prefetch
from services.common.observer import OBSERVER, Observer, is_watched
from services.common.system_calls import REALTIME, clock_ns
from services.common.wire import ethernet, ipv4, virtio_net
from services.forwarder.datagram import (
    UNDECIDED,
    decrement_ttl,
    flow_hash,
    is_echo_request,
    is_icmp_fragment,
    judge_options,
    longest_part,
    martian,
    read16,
    read32,
    validate,
)
from services.forwarder.fib import lookup
from services.forwarder.nat.layout import ACTIVE as NAT_ACTIVE
from services.forwarder.nat.rewriting import rewrite_batch
from services.forwarder.nat.translation import View, translate_destinations, translate_sources
from services.forwarder.neighbours import REWRITE_BYTES
from services.forwarder.paths import BLACKHOLE, BROADCAST, FORWARD, LOCAL, NO_ROUTE, PROHIBIT
from services.forwarder.rationing import REDIRECT_BUDGET, TO_SLOW_PATH, ration
from services.forwarder.resolution import NO_SLOT, TABLES, TableArrays, has_way_back, resolve
from services.forwarder.showing import is_left, record_dropped, show_batch

BATCH: Final = 256
"""Frames of a batch at most."""

_ETHERNET: Final = ethernet.HEADER_BYTES
_VIRTIO: Final = virtio_net.HEADER_BYTES
_HOST: Final = ethernet.PACKET_HOST

_FORWARDED: Final = int(Counter.FORWARDED)
_UNRESOLVED: Final = int(Counter.HANDED)
_FRAGMENT: Final = int(Counter.FRAGMENTED)
_OPTIONS: Final = int(Counter.OPTIONS_FILLED)
_ECHO: Final = int(Counter.ECHO_ANSWERED)
_HELD: Final = int(Counter.WAITING)
_LOCAL: Final = int(Counter.LOCAL)
_LOCAL_GROUP: Final = int(Counter.LOCAL_GROUP)
_RING_ENTRY: Final = int(Counter.DROP_RING_ENTRY)
_UNKNOWN_INTERFACE: Final = int(Counter.DROP_UNKNOWN_INTERFACE)
_LINK_BROADCAST: Final = int(Counter.DROP_LINK_BROADCAST)
_MARTIAN_SOURCE: Final = int(Counter.DROP_MARTIAN_SOURCE)
_REVERSE_PATH: Final = int(Counter.DROP_REVERSE_PATH)
_LINK_LOCAL: Final = int(Counter.DROP_LINK_LOCAL)
_TTL: Final = int(Counter.DROP_TTL_EXCEEDED)
_NO_ROUTE: Final = int(Counter.DROP_NO_ROUTE)
_BLACKHOLE: Final = int(Counter.DROP_BLACKHOLE)
_UNREACHABLE: Final = int(Counter.DROP_UNREACHABLE)
_PROHIBITED: Final = int(Counter.DROP_PROHIBITED)
_DIRECTED_BROADCAST: Final = int(Counter.DROP_DIRECTED_BROADCAST)
_MTU: Final = int(Counter.DROP_MTU_EXCEEDED)
_SOURCE_ROUTED: Final = int(Counter.DROP_SOURCE_ROUTED)
_TAKEN: Final = int(Counter.TAKEN)

_LINK_LOCAL_PREFIX: Final = 0xA9FE  # 169.254/16


class Batch(NamedTuple):
    """What the steps hand on, frame by frame: (BATCH,) each."""

    start: npt.NDArray[np.int64]
    """Where the Ethernet frame begins in the area."""
    length: npt.NDArray[np.int64]
    """Bytes of the Ethernet frame, padding cut off."""
    packet_type: npt.NDArray[np.int64]
    verdict: npt.NDArray[np.int64]
    slot: npt.NDArray[np.int64]
    """The interface it leaves by."""
    next_hop: npt.NDArray[np.int64]
    mtu: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]
    """Of the neighbour it goes to."""
    nat: npt.NDArray[np.int64]
    """What the frame is to the translator: see `nat.translation`."""
    session: npt.NDArray[np.int64]
    """The session it belongs to << 1 | its direction, or ABSENT."""
    destination: npt.NDArray[np.int64]
    """What the route is looked up for, where there is a translator."""
    slow: npt.NDArray[np.int64]
    """The numbers of the frames for the slow path, packed to the front."""
    allowance: npt.NDArray[np.int64]
    """(2,) how many frames the slow path takes, and how many arp does; the rest is dropped here, at full speed."""


class Queues(NamedTuple):
    """Frames to send, by interface slot, as sendmmsg(2) wants them."""

    vectors: npt.NDArray[np.int64]
    """(slots, BATCH, 2): struct iovec, an address and a length."""
    queued: npt.NDArray[np.int64]
    """(slots,) how many."""
    touched: npt.NDArray[np.int64]
    """(slots,) the slots that have frames, packed to the front."""


class Outcome(NamedTuple):
    """What is left to be done after `forward_batch`."""

    slow: int
    """Frames for the slow path."""
    touched: int
    """Interfaces with frames to send."""


BATCH_ARRAYS: Final = record(Batch, *["int64[::1]"] * len(Batch._fields))
QUEUES: Final = record(Queues, "int64[:, :, ::1]", "int64[::1]", "int64[::1]")
OUTCOME: Final = record(Outcome, "int64", "int64")


def make_batch() -> Batch:
    """Return the arrays of one batch, all of which may go to the slow path."""
    *fields, _ = Batch._fields
    return Batch._make([*(np.zeros(BATCH, np.int64) for _ in fields), np.full(2, BATCH, np.int64)])


def make_queues() -> Queues:
    """Return empty transmit queues."""
    return Queues(
        np.zeros((MAX_INTERFACES, BATCH, 2), np.int64),
        np.zeros(MAX_INTERFACES, np.int64),
        np.zeros(MAX_INTERFACES, np.int64),
    )


@inlined
def _no_way(kind: Any) -> Any:
    """Return the verdict on a destination that is not forwarded."""
    if kind == NO_ROUTE:
        return _NO_ROUTE
    if kind == BLACKHOLE:
        return _BLACKHOLE
    return _PROHIBITED if kind == PROHIBIT else _UNREACHABLE


@inlined
def _to_router(area: Any, ip: Any, packet_type: Any) -> Any:
    if is_icmp_fragment(area, ip, packet_type):
        return _HELD
    return _ECHO if is_echo_request(area, ip, packet_type) else _LOCAL


@inlined
def _leaving(area: Any, start: Any, options: Any, answer: Any, tables: Any) -> Any:
    """Return the verdict on a datagram whose next hop is chosen; `options` is that on its options."""
    ip = start + _ETHERNET
    if not tables.interface_up[answer.slot]:
        return _UNREACHABLE
    if options != UNDECIDED:
        return options
    if read16(area, ip + ipv4.TOTAL_LENGTH) > answer.mtu and longest_part(area, start) > answer.mtu:
        return _MTU if read16(area, ip + ipv4.FLAGS_FRAGMENT) & ipv4.FLAG_DF else _FRAGMENT
    return _UNRESOLVED if answer.row == ABSENT else _FORWARDED


@inlined
def _judge_addresses(source: Any, destination: Any, in_slot: Any, tables: Any) -> Any:
    """Return the verdict on addresses that are not routed, or UNDECIDED."""
    reason = martian(source, destination, tables.linux_martians[in_slot] != 0)
    if reason != UNDECIDED:
        return reason
    if destination >> 28 == 0xE or destination == ipv4.LIMITED_BROADCAST:
        return _LOCAL_GROUP
    way_back = lookup(tables.fib, source)
    if tables.path_kind[way_back] in (LOCAL, BROADCAST):
        return _MARTIAN_SOURCE
    # Also what is for the router itself, as in Linux.
    return UNDECIDED if has_way_back(tables, way_back, in_slot) else _REVERSE_PATH


@inlined
def _judge_broadcast(packet_type: Any, in_slot: Any, out_slot: Any, tables: Any) -> Any:
    """Return the verdict on a datagram to all stations of a network, or UNDECIDED where it is sent there: RFC 2644."""
    if packet_type != _HOST:
        return _LOCAL_GROUP  # on the link it came from, or to it: the kernel's
    may_leave = out_slot not in (NO_SLOT, in_slot) and tables.directed_broadcast[out_slot]
    return UNDECIDED if may_leave else _DIRECTED_BROADCAST


@inlined
def _route(area: Any, start: Any, packet_type: Any, in_slot: Any, tables: Any, batch: Any, number: Any) -> Any:
    """Return the verdict on a valid datagram, and note where it goes: RFC 1812 sections 5.2.3, 5.2.4, 5.3."""
    ip = start + _ETHERNET
    source = read32(area, ip + ipv4.SOURCE)
    destination = read32(area, ip + ipv4.DESTINATION)
    reason = _judge_addresses(source, destination, in_slot, tables)
    if reason != UNDECIDED:
        return reason
    options = judge_options(area, ip) if area[ip] & 0xF > 5 else UNDECIDED
    if options == _SOURCE_ROUTED:
        return options  # also to the router itself: it is the one that a source route names next
    if tables.nat.scalars[NAT_ACTIVE]:
        destination = batch.destination[number]
    answer = resolve(tables, destination, flow_hash(area, ip, tables.flow_seed))
    if answer.kind == LOCAL:
        return _to_router(area, ip, packet_type)
    if answer.kind == BROADCAST:
        reason = _judge_broadcast(packet_type, in_slot, answer.slot, tables)
        if reason != UNDECIDED:
            return reason
    if packet_type != _HOST:
        return _LINK_BROADCAST
    if not tables.linux_martians[in_slot] and _LINK_LOCAL_PREFIX in (source >> 16, destination >> 16):
        return _LINK_LOCAL
    if area[ip + ipv4.TTL] <= 1:
        return _TTL
    if answer.kind not in (FORWARD, BROADCAST):
        return _no_way(answer.kind)
    batch.slot[number] = answer.slot
    batch.next_hop[number] = answer.next_hop
    batch.mtu[number] = answer.mtu
    batch.row[number] = answer.row
    return _leaving(area, start, options, answer, tables)


@inlined
def _enqueue(queues: Any, slot: Any, address: Any, length: Any, touched: Any) -> Any:
    """Put a frame in an interface's queue; return the number of interfaces with frames."""
    place = queues.queued[slot]
    if place == 0:
        queues.touched[touched] = slot
        touched += 1
    queues.vectors[slot, place, 0] = address
    queues.vectors[slot, place, 1] = length
    queues.queued[slot] = place + 1
    return touched


@inlined
def _load_and_validate(area: Any, descriptors: Any, first: Any, count: Any, tables: Any, batch: Any) -> None:
    """Fill the batch from the descriptors; every number that another process wrote is checked here."""
    for number in range(count):
        entry = (first + number) % descriptors.shape[0]
        start = frame_start(descriptors, area.shape[0], first + number)
        if start == INVALID:
            batch.verdict[number] = _RING_ENTRY
            continue
        length = descriptors[entry, LENGTH]
        packet_type = descriptors[entry, PACKET_TYPE]
        verdict = validate(area, start, length, packet_type)
        if verdict == UNDECIDED:
            ip = start + _ETHERNET
            length = _ETHERNET + read16(area, ip + ipv4.TOTAL_LENGTH)
            prefetch(tables.fib.by_24, read32(area, ip + ipv4.DESTINATION) >> 8)
        batch.start[number] = start
        batch.length[number] = length
        batch.packet_type[number] = packet_type
        batch.verdict[number] = verdict


@inlined
def _rewrite(area: Any, tables: Any, batch: Any, number: Any) -> None:
    """Make a frame ready to leave: TTL and checksum, and the MAC addresses where they are known."""
    start = batch.start[number]
    decrement_ttl(area, start + _ETHERNET)
    if batch.verdict[number] == _FORWARDED:
        row = batch.row[number]
        tables.used[row] = 1
        for place in range(REWRITE_BYTES):
            area[start + place] = tables.rewrites[row, place]


@kernel(
    OUTCOME,
    "uint8[::1]",
    "int64",
    "int64[:, ::1]",
    "int64",
    "int64",
    "int64",
    "int64",
    TABLES,
    BATCH_ARRAYS,
    QUEUES,
    "int64[::1]",
    OBSERVER,
)
def forward_batch(
    area: npt.NDArray[np.uint8],
    area_address: int,
    descriptors: npt.NDArray[np.int64],
    first: int,
    count: int,
    in_slot: int,
    in_interface: int,
    tables: TableArrays,
    batch: Batch,
    queues: Queues,
    counters: npt.NDArray[np.int64],
    observer: Observer,
) -> Outcome:
    """Decide about up to BATCH frames that came in by one interface; see `Outcome` for what is left to do.

    :param area: frames, each behind its virtio network header; they are changed in place.
    :param area_address: the memory address of `area`.
    :param descriptors: (slots, 4) as in `frame_ring`; the frames are those of positions first … first + count - 1.
    :param in_slot: the interface's slot, NO_SLOT when it is not known.
    :param in_interface: its index.
    :param counters: the interface's row.
    """
    watched = is_watched(observer)
    taken_ns = clock_ns(REALTIME) if watched else np.int64(0)
    _load_and_validate(area, descriptors, first, count, tables, batch)
    known = in_slot != NO_SLOT and tables.interface_up[in_slot]
    translating = known and tables.nat.scalars[NAT_ACTIVE]
    view = View(batch.start, batch.verdict, batch.slot, batch.nat, batch.session, batch.destination)
    if translating:
        translate_destinations(tables.nat, area, count, in_slot, view)
    for number in range(count):
        if batch.verdict[number] == UNDECIDED:
            batch.verdict[number] = (
                _route(area, batch.start[number], batch.packet_type[number], in_slot, tables, batch, number)
                if known
                else _UNKNOWN_INTERFACE
            )
    if translating:
        translate_sources(tables.nat, area, count, in_slot, view)
    ration(batch, count)
    if watched:
        observer.batches[0] += 1
        show_batch(area, descriptors, first, count, in_interface, batch, tables.nat, translating, taken_ns, observer)
    if translating:
        rewrite_batch(tables.nat, area, count, view)
    slow = touched = redirects = 0
    hairpin = in_slot if known and tables.redirects[in_slot] else NO_SLOT
    for number in range(count):
        verdict = batch.verdict[number]
        if verdict in (_FORWARDED, _UNRESOLVED, _FRAGMENT):
            _rewrite(area, tables, batch, number)
        if verdict == _FORWARDED:
            address = area_address + batch.start[number] - _VIRTIO
            touched = _enqueue(queues, batch.slot[number], address, _VIRTIO + batch.length[number], touched)
            if batch.slot[number] == hairpin and redirects < min(REDIRECT_BUDGET, batch.allowance[TO_SLOW_PATH]):
                batch.slow[slow] = number
                slow += 1
                redirects += 1
        elif is_left(batch, number):
            batch.slow[slow] = number
            slow += 1
        else:
            counters[verdict] += 1
            record_dropped(area, descriptors, first + number, in_interface, batch, number, observer)
    counters[_TAKEN] += count
    return Outcome(slow, touched)


def counter_start(block: CounterBlock, interface_index: int) -> int:
    """Return where an interface's counters begin in a block's values."""
    return block.row(interface_index) * block.row_values + 1


def counter_row(block: CounterBlock, interface_index: int) -> npt.NDArray[np.int64]:
    """Return an interface's counters as an array that kernels write: (COLUMNS,)."""
    first = counter_start(block, interface_index)
    return np.frombuffer(block.values, np.int64)[first : first + COLUMNS]
