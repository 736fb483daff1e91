"""A datagram that was never received, through the very code that forwards: nothing is sent, counted or recorded."""

from typing import Any, Final, NamedTuple

import numpy as np

from services.common.counters import BY_COLUMN, COLUMNS, Counter
from services.common.observer import unobserved
from services.common.wire import ethernet, icmp, ipv4, virtio_net
from services.forwarder.nat.headers import TCP_HEADER_BYTES, TCP_OFFSET
from services.forwarder.nat.layout import NatArrays
from services.forwarder.nat.sessions import SYN
from services.forwarder.nat.translation import View
from services.forwarder.nat.trial import on_trial
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
        payload = self._transport()[: self.payload_bytes].ljust(self.payload_bytes, b"\0")
        return ethernet.header(ethernet.NO_MAC, ethernet.NO_MAC, ethernet.ETHERTYPE_IPV4) + header + payload

    def _transport(self) -> bytes:
        """Return the first bytes of the transport header: an echo request, or what begins a session."""
        ports = self.source_port.to_bytes(2, "big") + self.destination_port.to_bytes(2, "big")
        match self.protocol:
            case ipv4.PROTOCOL_ICMP:
                return bytes((icmp.ECHO_REQUEST,))
            case ipv4.PROTOCOL_UDP:
                return ports + min(self.payload_bytes, 0xFFFF).to_bytes(2, "big")
            case ipv4.PROTOCOL_TCP:
                sequence_numbers = bytes(TCP_OFFSET - len(ports))
                return ports + sequence_numbers + bytes((TCP_HEADER_BYTES // 4 << 4, SYN))
        return b""


class Probed(NamedTuple):
    """What became of it."""

    verdict: Counter
    interface: int
    """Index of the interface that it was taken to come in by; 0 for none."""
    way: dict[str, int] | None
    """Slot, next hop, MTU and neighbour's row, where one was chosen."""
    destination: int
    """What the route was looked up for: another one where it is translated."""
    leaving: tuple[int, int, int, int]
    """Source, source port, destination, destination port when it leaves; those that it came with where it does not."""


def probe(tables: ForwardingTables, datagram: Probe, nat: NatArrays | None = None) -> Probed:
    """Let the fast path decide.

    :param nat: another translator than that of the tables.
    """
    back: Resolution = tables.resolve(datagram.source)
    if datagram.interface:
        in_slot = tables.slots.get(datagram.interface, NO_SLOT)
    else:
        in_slot = back.slot if back.kind == FORWARD else NO_SLOT
    frame = datagram.frame()
    area = np.frombuffer(bytearray(bytes(virtio_net.HEADER_BYTES) + frame + bytes(_GUARD_BYTES)), np.uint8)
    descriptors = np.array([(0, len(frame), ethernet.PACKET_HOST, 0)], np.int64)
    batch: Any = make_batch()
    nat = tables.arrays.nat if nat is None else nat
    unmarked = tables.arrays._replace(used=tables.arrays.used.copy(), nat=nat)  # no frame goes to the neighbour
    counters = np.zeros(COLUMNS, np.int64)
    batch.start[0] = virtio_net.HEADER_BYTES
    batch.destination[0] = datagram.destination
    view = View(batch.start, batch.verdict, batch.slot, batch.nat, batch.session, batch.destination)
    with on_trial(nat, area, in_slot, view):
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
    left = area.tobytes()[virtio_net.HEADER_BYTES + ethernet.HEADER_BYTES :]
    return Probed(verdict, tables.index_of_slot[in_slot], way, int(batch.destination[0]), _endpoints(datagram, left))


def _endpoints(datagram: Probe, left: bytes) -> tuple[int, int, int, int]:
    source, destination = (int.from_bytes(left[at : at + 4], "big") for at in (ipv4.SOURCE, ipv4.DESTINATION))
    if datagram.protocol == ipv4.PROTOCOL_ICMP:
        return source, 0, destination, 0
    ports = left[ipv4.HEADER_BYTES : ipv4.HEADER_BYTES + 4]
    return source, int.from_bytes(ports[:2], "big"), destination, int.from_bytes(ports[2:], "big")
