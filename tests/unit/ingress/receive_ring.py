"""A TPACKET_V2 receive ring made by hand, as linux/if_packet.h and Documentation/networking/packet_mmap.rst lay it out.

    struct tpacket2_hdr { __u32 tp_status, tp_len, tp_snaplen; __u16 tp_mac, tp_net; __u32 tp_sec, tp_nsec;
                          __u16 tp_vlan_tci, tp_vlan_tpid; __u8 tp_padding[4]; };
    struct sockaddr_ll  { __u16 sll_family, sll_protocol; int sll_ifindex; __u16 sll_hatype; __u8 sll_pkttype, … };

The frame follows at tp_mac, and with PACKET_VNET_HDR its virtio header in the 10 bytes before that.
"""

import struct
from dataclasses import dataclass

import numpy as np

from services.ingress.ring import Geometry

KERNEL = 0  # tp_status
USER = 1
LOSING = 4
CHECKSUM_NOT_READY = 8
VLAN_VALID = 1 << 4
CHECKSUM_VALID = 1 << 7
VLAN_TPID_VALID = 1 << 6

MAC_OFFSET = 76  # what Linux 6 uses: TPACKET_ALIGN(52 + 16) + 10 - 14
PLAIN = bytes(10)
NOW_NS = 1_700_000_000_123_456_789


@dataclass(frozen=True)
class Received:
    """One frame as the kernel puts it into a slot."""

    frame: bytes
    virtio: bytes = PLAIN
    status: int = USER
    age_ns: int = 0
    packet_type: int = 0
    tci: int = 0
    said_length: int | None = None
    """Where the frame was longer than its slot: what it was."""


class ReceiveRing:
    """The memory that the kernel fills and the walk empties. Blocks need not be a whole number of slots."""

    def __init__(self, blocks: int = 2, slots_per_block: int = 3, slot_bytes: int = 2048, rest: int = 512) -> None:
        block_bytes = slots_per_block * slot_bytes + rest
        self.geometry = Geometry(block_bytes, slot_bytes, slots_per_block, blocks * slots_per_block)
        self.memory = np.full(blocks * block_bytes, 0xA5, np.uint8)
        self.statuses = self.memory.view(np.uint32)
        for slot in range(self.geometry.slots):
            self._write(self._start(slot), struct.pack("=I", KERNEL))

    def _start(self, slot: int) -> int:
        block, place = divmod(slot, self.geometry.slots_per_block)
        return block * self.geometry.block_bytes + place * self.geometry.slot_bytes

    def _write(self, place: int, data: bytes) -> None:
        self.memory[place : place + len(data)] = np.frombuffer(data, np.uint8)

    def put(self, slot: int, received: Received) -> None:
        """Fill a slot."""
        start = self._start(slot)
        seconds, nanoseconds = divmod(NOW_NS - received.age_ns, 1_000_000_000)
        snapped = len(received.frame)
        length = snapped if received.said_length is None else received.said_length
        header = struct.pack(
            "=IIIHHIIHH4x",
            received.status,
            length,
            snapped,
            MAC_OFFSET,
            MAC_OFFSET + 14,
            seconds,
            nanoseconds,
            received.tci,
            0x8100,
        )
        address = struct.pack("=HHiHBB8x", 17, 0x0008, 7, 1, received.packet_type, 6)
        assert (len(header), len(address)) == (32, 20)
        assert MAC_OFFSET + snapped <= self.geometry.slot_bytes
        self._write(start, header + address)
        self._write(start + MAC_OFFSET - 10, received.virtio + received.frame)

    def status(self, slot: int) -> int:
        """Return whose a slot is."""
        return int(self.statuses[self._start(slot) // 4])


def frame(payload: bytes = b"payload", ethertype: int = 0x0800) -> bytes:
    """Return an Ethernet frame with this payload."""
    return bytes.fromhex("02000000000b02000000000a") + ethertype.to_bytes(2, "big") + payload
