"""A datagram that was never received, through the very code that forwards: nothing is sent, counted or recorded."""

from typing import Any, Final, NamedTuple

import numpy as np

from services.common.counters import BY_COLUMN, COLUMNS, Counter
from services.common.observer import unobserved
from services.common.wire import ethernet, icmp, ipv4, virtio_net
from services.forwarder.paths import FORWARD
from services.forwarder.pipeline import forward_batch, make_batch, make_queues
from services.forwarder.resolution import NO_SLOT, Resolution
from services.forwarder.tables import ForwardingTables

_GUARD_BYTES: Final = 64
"""Behind the frame."""
_ROUTED: Final = (Counter.FORWARDED, Counter.HANDED, Counter.FRAGMENTED, Counter.DROP_MTU_EXCEEDED)
"""Verdicts that are given when the next hop is chosen."""


class Probe(NamedTuple):
    """The datagram."""

    source: int
    destination: int
    interface: int = 0
    """Index of the one it comes in by; 0: the one that leads back to its source."""
    protocol: int = ipv4.PROTOCOL_ICMP
    source_port: int = 0
    destination_port: int = 0
    payload_bytes: int = 0
    """Behind the IPv4 header."""
    ttl: int = ipv4.DEFAULT_TTL
    dont_fragment: bool = False

    def frame(self) -> bytes:
        """Return the frame, without MAC addresses: the packet type says that it is for the router."""
        header = ipv4.build_header(
            self.source,
            self.destination,
            self.protocol,
            self.payload_bytes,
            ttl=self.ttl,
            flags_fragment=ipv4.FLAG_DF if self.dont_fragment else 0,
        )
        if self.protocol == ipv4.PROTOCOL_ICMP:
            inner = bytes((icmp.ECHO_REQUEST,))
        else:
            inner = self.source_port.to_bytes(2, "big") + self.destination_port.to_bytes(2, "big")
        payload = inner[: self.payload_bytes].ljust(self.payload_bytes, b"\0")
        return ethernet.header(ethernet.NO_MAC, ethernet.NO_MAC, ethernet.ETHERTYPE_IPV4) + header + payload


class Probed(NamedTuple):
    """What became of it."""

    verdict: Counter
    interface: int
    """Index of the interface that it was taken to come in by; 0 for none."""
    way: dict[str, int] | None
    """Slot, next hop, MTU and neighbour's row, where one was chosen."""


def probe(tables: ForwardingTables, datagram: Probe) -> Probed:
    """Let the fast path decide."""
    back: Resolution = tables.resolve(datagram.source)
    if datagram.interface:
        in_slot = tables.slots.get(datagram.interface, NO_SLOT)
    else:
        in_slot = back.slot if back.kind == FORWARD else NO_SLOT
    frame = datagram.frame()
    area = np.frombuffer(bytearray(bytes(virtio_net.HEADER_BYTES) + frame + bytes(_GUARD_BYTES)), np.uint8)
    descriptors = np.array([(0, len(frame), ethernet.PACKET_HOST, 0)], np.int64)
    batch: Any = make_batch()
    unmarked = tables.arrays._replace(used=tables.arrays.used.copy())  # no frame goes to the neighbour
    counters = np.zeros(COLUMNS, np.int64)
    forward_batch(
        area,
        area.ctypes.data,
        descriptors,
        0,
        1,
        in_slot,
        0,
        unmarked,
        batch,
        make_queues(),
        counters,
        unobserved(),
    )
    verdict = BY_COLUMN[int(batch.verdict[0])]
    fields = ("slot", "next_hop", "mtu", "row")
    way = {name: int(getattr(batch, name)[0]) for name in fields} if verdict in _ROUTED else None
    return Probed(verdict, tables.index_of_slot[in_slot], way)
