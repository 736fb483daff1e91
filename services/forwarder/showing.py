"""Showing what was decided about a batch: its frames as they came in to the taps, its drops to the flight recorder."""

from typing import Any, Final

import numpy as np

from services.common import tap
from services.common.counters import Counter
from services.common.frame_ring import INVALID, LENGTH, TIMESTAMP_NS, frame_start
from services.common.hash_table import ABSENT
from services.common.kernels import inlined
from services.common.memory import words_at
from services.common.observer import publish, put, record_drop, wants
from services.common.system_calls import REALTIME, clock_ns
from services.common.wire import virtio_net
from services.forwarder.nat.keys import destination_of, source_of
from services.forwarder.nat.rewriting import leaving_addresses
from services.forwarder.nat.translation import ERROR, FRAGMENT, REFUSED, SESSION
from services.forwarder.verdicts import IS_DROP, IS_REFUSAL, IS_ROUTED, IS_SLOW

_VIRTIO: Final = virtio_net.HEADER_BYTES
_GSO_SIZE: Final = virtio_net.GSO_SIZE
_RING_ENTRY: Final = int(Counter.DROP_RING_ENTRY)


@inlined
def record_dropped(
    area: Any, descriptors: Any, place: Any, in_interface: Any, batch: Any, number: Any, observer: Any
) -> None:
    """Leave a frame to the flight recorder where it is dropped; of one that lies nowhere, only that it was there.

    :param place: of its descriptor.
    """
    verdict = batch.verdict[number]
    if not IS_DROP[verdict]:
        return
    entry = place % descriptors.shape[0]
    start = length = np.int64(0)
    if verdict != _RING_ENTRY:
        start, length = batch.start[number], descriptors[entry, LENGTH]
    record_drop(observer, verdict, descriptors[entry, TIMESTAMP_NS], in_interface, area, start, length)


@inlined
def is_left(batch: Any, number: Any) -> Any:
    """Tell whether a frame is left for the slow path, which counts it; to be asked when all verdicts are known."""
    verdict = batch.verdict[number]
    return IS_SLOW[verdict] or (IS_REFUSAL[verdict] and batch.nat[number] == REFUSED)


@inlined
def show_batch(
    area: Any,
    descriptors: Any,
    first: Any,
    count: Any,
    in_interface: Any,
    batch: Any,
    nat: Any,
    translating: Any,
    taken_ns: Any,
    observer: Any,
) -> None:
    """Write a batch's frames to the taps. To be called when the verdicts are known, and no frame is changed yet.

    :param translating: whether the batch has gone through the translator, whose arrays are `nat`.
    :param taken_ns: when the batch was begun.
    """
    decided_ns = clock_ns(REALTIME)
    for number in range(count):
        start = frame_start(descriptors, area.shape[0], first + number)
        if start == INVALID:
            continue
        entry = (first + number) % descriptors.shape[0]
        length = descriptors[entry, LENGTH]
        verdict = batch.verdict[number]
        is_final = IS_DROP[verdict] and not is_left(batch, number)  # the slow path may turn one into another
        kinds = tap.RECEIVED | tap.DROPPED if is_final else tap.RECEIVED
        for tapped in range(observer.taps.shape[0]):
            if not wants(observer, tapped, kinds, in_interface, area, start, length):
                continue
            time_ns = descriptors[entry, TIMESTAMP_NS]
            address = put(observer, tapped, tap.RECEIVED, time_ns, in_interface, area, start, length)
            if address == 0:
                continue
            words = words_at(address, tap.RECORD_WORDS)
            words[tap.VERDICT] = verdict
            words[tap.BATCH_FRAMES] = count
            words[tap.TAKEN_NS] = taken_ns
            words[tap.DECIDED_NS] = decided_ns
            words[tap.PACKET_TYPE] = batch.packet_type[number]
            size = start - _VIRTIO + _GSO_SIZE
            words[tap.GSO_SIZE] = np.int64(area[size]) | np.int64(area[size + 1]) << 8
            if IS_ROUTED[verdict]:
                words[tap.OUT_INTERFACE] = observer.interfaces[batch.slot[number]]
                words[tap.NEXT_HOP] = batch.next_hop[number]
                words[tap.MTU] = batch.mtu[number]
                words[tap.HAS_MAC] = batch.row[number] != ABSENT
                if translating and batch.nat[number] in (SESSION, ERROR, FRAGMENT):
                    leaving = leaving_addresses(nat, area, start, batch.nat[number], batch.session[number])
                    words[tap.SOURCE] = source_of(leaving)
                    words[tap.DESTINATION] = destination_of(leaving)
            publish(observer, tapped, address)
