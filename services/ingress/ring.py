"""The walk over a TPACKET_V2 receive ring (linux/if_packet.h, Documentation/networking/packet_mmap.rst).

Pure: it reads the ring's memory and a frame ring's arrays, and neither knows sockets nor clocks.
"""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from services.common import tap
from services.common.counters import Counter
from services.common.frame_ring import FULL, LENGTH, PACKET_TYPE, POSITION, STALE_NS, TIMESTAMP_NS, publish, reserve
from services.common.kernels import inlined, kernel, record
from services.common.memory import copy_bytes, load_acquire, store_release
from services.common.messages import MAX_FRAME_BYTES
from services.common.observer import OBSERVER, Observer, is_watched, record_drop, show
from services.common.wire import ethernet, virtio_net

# struct tpacket2_hdr, byte offsets
_STATUS: Final = 0
_LENGTH: Final = 4
_SNAPPED_LENGTH: Final = 8
_MAC_OFFSET: Final = 12
_SECONDS: Final = 16
_NANOSECONDS: Final = 20
_VLAN_TCI: Final = 24
# struct sockaddr_ll behind it, at TPACKET_ALIGN(sizeof(struct tpacket2_hdr)) = 32: sll_pkttype
_PACKET_TYPE: Final = 32 + 10

_STATUS_KERNEL: Final = 0
_STATUS_USER: Final = 1
_STATUS_VLAN_VALID: Final = 1 << 4
_VLAN_ID_MASK: Final = 0x0FFF  # of the TCI, IEEE 802.1Q clause 9.6; id 0 is a priority tag: still this interface's

_VIRTIO: Final = virtio_net.HEADER_BYTES
_ETHERNET: Final = ethernet.HEADER_BYTES
_ETHERTYPE: Final = ethernet.ETHERTYPE
_ARP: Final = ethernet.ETHERTYPE_ARP

ARP_FRAMES: Final = 64
"""ARP frames that one walk sorts out; it ends early at more."""
ARP_BYTES: Final = 64
"""Bytes kept of each: the Ethernet header, 28 bytes of ARP, and some of the padding."""
ARP_STRIDE: Final = virtio_net.HEADER_BYTES + ARP_BYTES

_RX_FRAMES: Final = int(Counter.RX_FRAMES)
_RX_BYTES: Final = int(Counter.RX_BYTES)
_HANDED: Final = int(Counter.HANDED)
_DROP_SNAPPED: Final = int(Counter.DROP_SNAPPED)
_DROP_RUNT: Final = int(Counter.DROP_RUNT)
_DROP_VLAN: Final = int(Counter.DROP_VLAN)
_DROP_FULL: Final = int(Counter.DROP_FORWARDER_FULL)

DROP_REASONS: Final = (
    Counter.DROP_SNAPPED,
    Counter.DROP_RUNT,
    Counter.DROP_VLAN,
    Counter.DROP_FORWARDER_FULL,
    Counter.DROP_ARP_FULL,
)
"""Of frames that an ingress has in its hands; those that the kernel had no room for are only counted."""

Bytes = npt.NDArray[np.uint8]


class Geometry(NamedTuple):
    """The layout of a receive ring: bytes of a block, bytes of a slot, slots in a block, slots in all."""

    block_bytes: int
    slot_bytes: int
    slots_per_block: int
    slots: int


class Target(NamedTuple):
    """Where a walk puts what it finds."""

    words: npt.NDArray[np.int64]
    """With `descriptors` and `area` the frame ring."""
    descriptors: npt.NDArray[np.int64]
    area: Bytes
    ends: npt.NDArray[np.int64]
    """The producer's two private positions: its head, and the first position behind its last frame."""
    arp: Bytes
    """ARP_FRAMES times ARP_STRIDE bytes."""
    arp_fields: npt.NDArray[np.int64]
    """(ARP_FRAMES, 2): each ARP frame's length and packet type."""
    counters: npt.NDArray[np.int64]
    """The interface's row."""
    interface: int
    """Its index."""
    observer: Observer


class Walk(NamedTuple):
    """What one walk did."""

    slot: int
    """The slot to go on with."""
    taken: int
    """Frames taken out of the receive ring."""
    arp: int
    """ARP frames sorted out, to be found in the buffer for them."""
    must_wake: bool
    """The forwarder sleeps: ring its bell."""
    blocked: bool
    """The frame ring is full; the rest stays in the receive ring."""


GEOMETRY: Final = record(Geometry, "int64", "int64", "int64", "int64")
TARGET: Final = record(
    Target,
    "int64[::1]",
    "int64[:, ::1]",
    "uint8[::1]",
    "int64[::1]",
    "uint8[::1]",
    "int64[:, ::1]",
    "int64[::1]",
    "int64",
    OBSERVER,
)
_WALK: Final = record(Walk, "int64", "int64", "int64", "boolean", "boolean")


@inlined
def slot_start(geometry: Any, slot: int) -> int:
    """Return where in the ring's memory a slot begins."""
    return int(
        slot // geometry.slots_per_block * geometry.block_bytes + slot % geometry.slots_per_block * geometry.slot_bytes
    )


@inlined
def _word32(memory: Any, start: int) -> int:
    return int(
        np.int64(memory[start])
        | np.int64(memory[start + 1]) << 8
        | np.int64(memory[start + 2]) << 16
        | np.int64(memory[start + 3]) << 24
    )


@inlined
def _word16(memory: Any, start: int) -> int:
    return int(np.int64(memory[start]) | np.int64(memory[start + 1]) << 8)


@inlined
def _link_drop(memory: Any, start: int, status: int) -> int:
    """Return the reason to drop the frame of a slot, or -1."""
    length = _word32(memory, start + _LENGTH)
    if _word32(memory, start + _SNAPPED_LENGTH) < length or length > MAX_FRAME_BYTES:
        return _DROP_SNAPPED
    if length < _ETHERNET:
        return _DROP_RUNT
    if status & _STATUS_VLAN_VALID and _word16(memory, start + _VLAN_TCI) & _VLAN_ID_MASK:
        return _DROP_VLAN
    return -1


@inlined
def _drop(memory: Any, start: int, mac: int, length: int, reason: int, target: Any) -> None:
    """Count and show a frame that goes no further; what the kernel cut off is not shown."""
    target.counters[reason] += 1
    seen_ns = _seen_ns(memory, start)
    held = min(length, _word32(memory, start + _SNAPPED_LENGTH))
    record_drop(target.observer, reason, seen_ns, target.interface, memory, mac, held)
    if is_watched(target.observer):
        kinds = tap.RECEIVED | tap.DROPPED
        show(target.observer, kinds, tap.RECEIVED, seen_ns, target.interface, reason, memory, mac, held)


@inlined
def _seen_ns(memory: Any, start: int) -> int:
    """Return when the kernel received the frame of a slot: Unix time."""
    return _word32(memory, start + _SECONDS) * 1_000_000_000 + _word32(memory, start + _NANOSECONDS)


@kernel(_WALK, "uint8[::1]", "uint32[::1]", GEOMETRY, "int64", "int64", "int64", TARGET)
def walk(
    memory: Bytes,
    statuses: npt.NDArray[np.uint32],
    geometry: Geometry,
    slot: int,
    budget: int,
    now_ns: int,
    target: Target,
) -> Walk:
    """Move up to `budget` frames from the receive ring to the frame ring, and ARP frames to where they gather.

    :param memory: the receive ring; `statuses` is the same memory as 32-bit words.
    :param now_ns: Unix time; a frame that finds the frame ring full is dropped when it is older than 100 ms, and
        waits where it is otherwise, so that a burst is held by both rings.
    """
    words, descriptors, area, ends, arp, arp_fields, counters, _, _ = target
    taken = 0
    arp_count = 0
    blocked = False
    head = ends[0]
    while taken < budget and arp_count < ARP_FRAMES:
        start = slot_start(geometry, slot)
        status = int(load_acquire(statuses, (start + _STATUS) // 4))
        if not status & _STATUS_USER:
            break
        length = _word32(memory, start + _LENGTH)
        mac = start + _word16(memory, start + _MAC_OFFSET)
        drop = _link_drop(memory, start, status)
        if drop >= 0:
            _drop(memory, start, mac, length, drop, target)
        elif memory[mac + _ETHERTYPE] == _ARP >> 8 and memory[mac + _ETHERTYPE + 1] == _ARP & 0xFF:
            kept = min(length, ARP_BYTES)
            copy_bytes(arp, arp_count * ARP_STRIDE, memory, mac - _VIRTIO, _VIRTIO + kept)
            arp_fields[arp_count, 0] = kept
            arp_fields[arp_count, 1] = memory[start + _PACKET_TYPE]
            arp_count += 1
        else:
            seen_ns = _seen_ns(memory, start)
            position = reserve(words, descriptors, area.shape[0], head, ends[1], _VIRTIO + length)
            if position == FULL:
                if now_ns - seen_ns < STALE_NS:
                    blocked = True
                    break
                _drop(memory, start, mac, length, _DROP_FULL, target)
            else:
                place = position % area.shape[0]
                copy_bytes(area, place, memory, mac - _VIRTIO, _VIRTIO + length)
                entry = head % descriptors.shape[0]
                descriptors[entry, POSITION] = position
                descriptors[entry, LENGTH] = length
                descriptors[entry, PACKET_TYPE] = memory[start + _PACKET_TYPE]
                descriptors[entry, TIMESTAMP_NS] = seen_ns
                head += 1
                ends[1] = position + _VIRTIO + length
        counters[_RX_BYTES] += length
        store_release(statuses, (start + _STATUS) // 4, np.uint32(_STATUS_KERNEL))
        taken += 1
        slot = slot + 1 if slot + 1 < geometry.slots else 0
    counters[_RX_FRAMES] += taken
    counters[_HANDED] += head - ends[0]
    must_wake = head != ends[0] and publish(words, head)
    ends[0] = head
    return Walk(slot, taken, arp_count, must_wake, blocked)
