"""The slow path: what the fast path does not decide, one frame at a time, in Python that reads like the RFCs.

It sends nothing itself: it returns frames to be sent, and frames for arp.
"""

from dataclasses import dataclass, field
from typing import Final

from services.common.counters import Counter, CounterBlock
from services.common.messages import Frame, Interface
from services.common.parameters import IcmpParameters
from services.common.wire import ethernet, ipv4, virtio_net
from services.forwarder import icmp_errors
from services.forwarder.fragment import fragment
from services.forwarder.limiter import IcmpLimiter
from services.forwarder.paths import BROADCAST, FORWARD
from services.forwarder.tables import ForwardingTables, Resolution

_ETHERNET: Final = ethernet.HEADER_BYTES
_VIRTIO: Final = virtio_net.HEADER_BYTES


@dataclass(frozen=True)
class SlowFrame:
    """One frame that the fast path passed on."""

    verdict: Counter
    in_interface: int
    packet_type: int
    data: bytes
    """The virtio network header, then the Ethernet frame without padding."""
    slot: int = 0
    next_hop: int = 0
    mtu: int = 0


@dataclass(frozen=True)
class Send:
    """A frame that is ready to leave by an interface slot."""

    slot: int
    frame: bytes


@dataclass
class Actions:
    """What the shell is to do."""

    send: list[Send] = field(default_factory=list)
    resolve: list[Frame] = field(default_factory=list)
    """For arp: their next hop's MAC is not known."""


class SlowPath:
    """Decides about exceptions. `now` is handed in; the tables are the forwarder's own."""

    def __init__(
        self, tables: ForwardingTables, counters: CounterBlock, parameters: IcmpParameters, now: float
    ) -> None:
        self._tables = tables
        self._counters = counters
        self._limiter = IcmpLimiter(parameters, now)

    def set_parameters(self, parameters: IcmpParameters, now: float) -> None:
        """Use other limits from now on."""
        self._limiter = IcmpLimiter(parameters, now)

    def handle(self, frame: SlowFrame, now: float, actions: Actions) -> None:
        """Carry out and count the verdict on one frame."""
        self._count(Counter.SLOW_PATH, frame.in_interface)
        if frame.verdict is Counter.HANDED:
            actions.resolve.append(
                Frame(
                    frame.in_interface,
                    self._tables.index_of_slot[frame.slot],
                    frame.next_hop,
                    frame.packet_type,
                    generated=False,
                    data=frame.data,
                )
            )
        elif frame.verdict is Counter.FRAGMENTED:
            self._fragment(frame, actions)
        elif frame.verdict is Counter.ECHO_ANSWERED:
            self._answer_echo(frame, actions)
        else:
            self._count(frame.verdict, frame.in_interface)
            self._send_error(frame, now, actions)

    def undeliverable(self, frame: Frame, now: float, actions: Actions) -> None:
        """Take a frame whose next hop never answered: its sender is told (RFC 1812 section 3.3.2)."""
        self._count(Counter.DROP_HOST_UNREACHABLE, frame.in_interface)
        self._tables.next_hop_failed(frame.out_interface, frame.next_hop)
        if frame.generated or len(frame.data) < _VIRTIO + _ETHERNET + ipv4.HEADER_BYTES:
            return
        back = SlowFrame(Counter.DROP_HOST_UNREACHABLE, frame.in_interface, frame.packet_type, bytes(frame.data))
        self._send_error(back, now, actions)

    def _fragment(self, frame: SlowFrame, actions: Actions) -> None:
        header = virtio_net.parse(frame.data)
        if header.is_gso:
            # Its parts would have to be cut out first, and each then fragmented. TCP sets DF (RFC 1191), so that
            # only senders with path MTU discovery switched off come here.
            self._count(Counter.DROP_GSO_UNFRAGMENTABLE, frame.in_interface)
            return
        self._count(Counter.FRAGMENTED, frame.in_interface)
        datagram = virtio_net.finish_checksum(header, frame.data[_VIRTIO:])[_ETHERNET:]
        for part in fragment(datagram, frame.mtu):
            self._emit(part, frame.slot, frame.next_hop, actions)

    def _answer_echo(self, frame: SlowFrame, actions: Actions) -> None:
        reply = icmp_errors.build_echo_reply(frame.data[_VIRTIO + _ETHERNET :])
        if reply is None:
            self._count(Counter.DROP_ICMP_CHECKSUM, frame.in_interface)
            return
        self._count(Counter.ECHO_ANSWERED, frame.in_interface)
        self._send_datagram(reply, actions)

    def _send_error(self, frame: SlowFrame, now: float, actions: Actions) -> None:
        header = virtio_net.parse(frame.data)
        whole = frame.data[_VIRTIO:]
        # The quote shows what the sender sent, as far as it can: with its checksum finished.
        original = (whole if header.is_gso else virtio_net.finish_checksum(header, whole))[_ETHERNET:]
        # A directed broadcast is one only for who knows the network (RFC 1812 section 4.3.2.7).
        directed = self._tables.resolve(ipv4.parse(original).destination).kind == BROADCAST
        to_group = directed or frame.packet_type != ethernet.PACKET_HOST
        if not icmp_errors.may_be_answered(original, sent_to_group=to_group):
            self._count(Counter.ICMP_FORBIDDEN, frame.in_interface)
            return
        destination = ipv4.parse(original).source
        source = self._source_address(self._tables.resolve(destination))
        if source is None or not self._limiter.allow(destination, now):
            self._count(Counter.ICMP_SUPPRESSED, frame.in_interface)
            return
        self._count(Counter.ICMP_ERRORS, frame.in_interface)
        error = icmp_errors.error_for(frame.verdict, frame.mtu)
        self._send_datagram(icmp_errors.build_error(error, original, source), actions)

    def _source_address(self, resolution: Resolution) -> int | None:
        """Return the router's address on the link to a next hop, or None when there is no way to it.

        A link without addresses borrows one of another (RFC 1812 section 4.3.2.4: the router's id).
        """
        interface = self._tables.interface_of_slot(resolution.slot)
        if resolution.kind != FORWARD or interface is None:
            return None
        if interface.addresses:
            return _address_towards(interface, resolution.next_hop)
        others = self._tables.interfaces.values()
        return next((entry.address for other in others for entry in other.addresses), None)

    def _send_datagram(self, datagram: bytes, actions: Actions) -> None:
        """Route a datagram of the router's own; RFC 791 lets it be fragmented."""
        resolution = self._tables.resolve(ipv4.parse(datagram).destination)
        if resolution.kind != FORWARD:
            self._count(Counter.GENERATED, 0)
            self._count(Counter.DROP_NO_ROUTE, 0)
            return
        parts = [datagram] if len(datagram) <= resolution.mtu else fragment(datagram, resolution.mtu)
        for part in parts:
            self._emit(part, resolution.slot, resolution.next_hop, actions)

    def _emit(self, datagram: bytes, slot: int, next_hop: int, actions: Actions) -> None:
        """Send a generated datagram to its next hop, by way of arp while the MAC is not known."""
        index = self._tables.index_of_slot[slot]
        self._count(Counter.GENERATED, index)
        rewrite = self._tables.rewrite_for(slot, next_hop)
        if rewrite is not None:
            frame = rewrite + ethernet.ETHERTYPE_IPV4.to_bytes(2, "big") + datagram
            actions.send.append(Send(slot, frame))
            return
        unaddressed = ethernet.header(ethernet.NO_MAC, ethernet.NO_MAC, ethernet.ETHERTYPE_IPV4)
        data = virtio_net.PLAIN + unaddressed + datagram
        actions.resolve.append(Frame(0, index, next_hop, ethernet.PACKET_HOST, generated=True, data=data))

    def _count(self, counter: Counter, interface_index: int) -> None:
        self._counters.add(counter, 1, interface_index)


def _address_towards(interface: Interface, next_hop: int) -> int:
    """Return the interface's address in the next hop's network, or else its first."""
    for entry in interface.addresses:
        if (entry.address ^ next_hop) & ipv4.prefix_mask(entry.prefix_length) == 0:
            return entry.address
    return interface.addresses[0].address
