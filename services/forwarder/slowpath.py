"""The slow path: what the fast path does not decide, one frame at a time, in Python that reads like the RFCs.

It sends nothing itself: it returns frames to be sent, and frames for arp.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from services.common.counters import Counter, CounterBlock, Kind
from services.common.insight import DropNote, nobody
from services.common.messages import Frame, Interface
from services.common.parameters import IcmpParameters
from services.common.wire import ethernet, icmp, ipv4, virtio_net
from services.forwarder import icmp_errors, options
from services.forwarder.fragment import fragment
from services.forwarder.icmp_errors import IcmpError
from services.forwarder.limiter import IcmpLimiter, RedirectLimiter
from services.forwarder.nat.fragment_queue import FragmentQueue
from services.forwarder.nat.table import restored
from services.forwarder.options import Malformed, Stamp
from services.forwarder.paths import BROADCAST, FORWARD, LOCAL
from services.forwarder.reassembly import Count, Reassembly
from services.forwarder.resolution import Resolution
from services.forwarder.segment import SuperFrameError, segment_count, segments
from services.forwarder.tables import ForwardingTables

SLOW_BUDGET_US: Final = 4000
"""For about how long the slow path may hold the next batch up: it takes frames while their costs are below.

A burst of a hundred pings fits in; what it may take in the long run, while others wait, is `share.SHARE`.
"""
DECISION_US: Final = 30
"""About what a decision about a frame costs."""
PART_US: Final = 8
"""About what each datagram costs that is made, and each fragment that is held or joined."""
MAX_SEGMENTS: Final = 256
"""Of one super-frame: 64 KiB in twice as many as the default segments of RFC 9293 section 3.7.1, 536 bytes, give."""

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
    cost_us: int = 0
    """What the decisions so far have cost, about; to be held against SLOW_BUDGET_US."""


class SlowPath:
    """Decides about exceptions. `now` is handed in; the tables are the forwarder's own."""

    def __init__(
        self,
        tables: ForwardingTables,
        counters: CounterBlock,
        parameters: IcmpParameters,
        now: float,
        unix_time: Callable[[], float],
        on_drop: DropNote = nobody,
    ) -> None:
        """Begin with nothing held; fragments that a killed predecessor held are counted as dropped.

        :param unix_time: returns the seconds since 1970, which timestamp options are made from.
        :param on_drop: takes note of each frame that is dropped here.
        """
        self._tables = tables
        self._counters = counters
        self._limiter = IcmpLimiter(parameters, now)
        self._redirects = RedirectLimiter()
        self._reassembly = Reassembly()
        self._unix_time = unix_time
        self._on_drop = on_drop
        self.fragments = FragmentQueue(counters, on_drop)
        """To be translated, and without their first one; they go through the fast path once more."""
        for index, counted in counters.snapshot().items():
            if held := counted.get(Counter.WAITING.name):
                counters.set(Counter.WAITING, 0, index)
                counters.add(Counter.DROP_RESTARTED, held, index)

    def set_parameters(self, parameters: IcmpParameters, now: float) -> None:
        """Use other limits from now on."""
        self._limiter = IcmpLimiter(parameters, now)

    def handle(self, frame: SlowFrame, now: float, actions: Actions) -> None:
        """Carry out and count the verdict on one frame; of one that is FORWARDED already, only what follows from it."""
        self._count(Counter.SLOW_PATH, frame.in_interface)
        actions.cost_us += _COSTS_US.get(frame.verdict, DECISION_US)
        match frame.verdict:
            case Counter.FORWARDED:
                self._redirect(frame, now, actions)
            case Counter.HANDED:
                self._resolve(frame, actions)
                self._redirect(frame, now, actions)
            case Counter.FRAGMENTED | Counter.OPTIONS_FILLED:
                self._replace(frame, now, actions)
            case Counter.ECHO_ANSWERED:
                self._answer_echo(frame.data[_VIRTIO + _ETHERNET :], frame, actions)
            case Counter.WAITING:
                self._hold(frame, now, actions)
            case Counter.NAT_FRAGMENT_HELD:
                self.fragments.hold(frame.in_interface, frame.packet_type, frame.data, now)
            case reason:
                self._drop(frame, reason, icmp_errors.error_for(reason, frame.mtu), now, actions)

    def undeliverable(self, frame: Frame, now: float, actions: Actions) -> None:
        """Take a frame whose next hop never answered: its sender is told (RFC 1812 section 3.3.2)."""
        reason = Counter.DROP_HOST_UNREACHABLE
        self._tables.next_hop_failed(frame.out_interface, frame.next_hop)
        data = restored(self._tables.nat, bytes(frame.data))
        back = SlowFrame(reason, frame.in_interface, frame.packet_type, data)
        told = len(data) >= _VIRTIO + _ETHERNET + ipv4.HEADER_BYTES
        if told and frame.generated:
            # A part of another's datagram, unless it is the router's own.
            told = not self._is_own(ipv4.parse(data[_VIRTIO + _ETHERNET :]).source)
        if told:
            self._drop(back, reason, icmp_errors.error_for(reason, 0), now, actions)
        else:
            self._count_drop(back, reason)

    def expire(self, now: float) -> None:
        """Give up fragments that have waited for too long; the kernel tells their sender (see `reassembly`)."""
        self._add(self._reassembly.expire(now))

    # --- datagrams in transit ----------------------------------------------------------------------------------------

    def _resolve(self, frame: SlowFrame, actions: Actions) -> None:
        out = self._tables.index_of_slot[frame.slot]
        unresolved = Frame(frame.in_interface, out, frame.next_hop, frame.packet_type, generated=False, data=frame.data)
        actions.resolve.append(unresolved)

    def _replace(self, frame: SlowFrame, now: float, actions: Actions) -> None:
        """Send what becomes of a frame: its segments, with options filled in, as fragments where they are too long."""
        header, data = virtio_net.parse(frame.data), frame.data[_VIRTIO:]
        if segment_count(header, data) > MAX_SEGMENTS:
            self._count_drop(frame, Counter.DROP_SLOW_PATH_FULL)
            return
        try:
            datagrams = segments(header, data)
        except SuperFrameError:
            self._count_drop(frame, Counter.DROP_GSO_UNFRAGMENTABLE)
            return
        if frame.verdict is Counter.OPTIONS_FILLED:
            datagrams = self._fill_options(frame, datagrams, now, actions)
        if not datagrams:
            return
        self._count(frame.verdict, frame.in_interface)
        for datagram in datagrams:
            self._emit(datagram, frame.slot, frame.next_hop, frame.mtu, actions)
        self._redirect(frame, now, actions)

    def _fill_options(self, frame: SlowFrame, datagrams: list[bytes], now: float, actions: Actions) -> list[bytes]:
        """Return a frame's datagrams with this router in their options, and aged; none where it is dropped.

        RFC 1812 section 5.3.13. The router records the address that it sends from (RFC 791 section 3.1).
        """
        header = ipv4.parse(datagrams[0])
        stamp = self._stamp(self._own_address(frame.slot, frame.next_hop) or 0)
        came = replace(frame, data=restored(self._tables.nat, frame.data))
        filled = options.fill(datagrams[0][ipv4.HEADER_BYTES : header.header_length], stamp)
        if isinstance(filled, Malformed):
            error = icmp_errors.parameter_problem(filled.pointer)
            self._drop(came, Counter.DROP_OPTION_MALFORMED, error, now, actions)
            return []
        if header.dont_fragment and len(datagrams[0]) > frame.mtu:  # the first is the longest
            reason = Counter.DROP_MTU_EXCEEDED
            self._drop(came, reason, icmp_errors.error_for(reason, frame.mtu), now, actions)
            return []
        return [_aged(datagram, filled) for datagram in datagrams]

    def _redirect(self, frame: SlowFrame, now: float, actions: Actions) -> None:
        """Tell a sender of a better way: RFC 1812 section 5.2.7.2. Source-routed datagrams do not come here."""
        interface = self._tables.interface_of_slot(frame.slot)
        if interface is None or interface.index != frame.in_interface or not interface.policy.redirects:
            return
        original = _original(frame)
        sender = ipv4.parse(original).source
        if sender == frame.next_hop or not _share_network(interface, sender, frame.next_hop):
            return
        if not icmp_errors.may_be_answered(original, sent_to_group=frame.packet_type != ethernet.PACKET_HOST):
            return
        if not (self._redirects.allow(sender, now) and self._limiter.allow(sender, now)):
            self._count(Counter.REDIRECTS_SUPPRESSED, frame.in_interface)
            return
        self._count(Counter.REDIRECTS, frame.in_interface)
        # From the very address that the sender has as its gateway, or it would not believe it (RFC 1122 3.2.2.2).
        source = _address_towards(interface, sender)
        self._send_datagram(icmp_errors.build_error(icmp_errors.redirect(frame.next_hop), original, source), actions)

    # --- datagrams to the router -------------------------------------------------------------------------------------

    def _hold(self, frame: SlowFrame, now: float, actions: Actions) -> None:
        """Take a fragment; with the last one, its datagram takes its place."""
        whole, counts = self._reassembly.add(frame.data[_VIRTIO + _ETHERNET :], frame.in_interface, now)
        self._add(counts)
        for reason in {count.counter for count in counts if count.counter.kind is Kind.DROPPED}:
            self._on_drop(reason, frame.in_interface, frame.data[_VIRTIO:])  # the fragment that brought it about
        if whole is None:
            return
        message = whole[ipv4.parse(whole).header_length :]
        if len(message) >= icmp.HEADER_BYTES and message[icmp.TYPE] == icmp.ECHO_REQUEST:
            self._answer_echo(whole, frame, actions)
        else:
            self._count(Counter.LOCAL, frame.in_interface)

    def _answer_echo(self, datagram: bytes, frame: SlowFrame, actions: Actions) -> None:
        in_interface = frame.in_interface
        recorded = self._reply_options(datagram)
        if isinstance(recorded, Malformed):
            self._count(Counter.LOCAL, in_interface)  # the kernel sees it too, and reports the problem
            return
        reply = icmp_errors.build_echo_reply(datagram, recorded)
        if reply is None:
            self._count_drop(frame, Counter.DROP_ICMP_CHECKSUM)
            return
        self._count(Counter.ECHO_ANSWERED, in_interface)
        self._send_datagram(reply, actions)

    def _reply_options(self, datagram: bytes) -> bytes | Malformed:
        header = ipv4.parse(datagram)
        if header.header_length == ipv4.HEADER_BYTES:
            return b""
        leaving = self._source_address(self._tables.resolve(header.source))
        return options.for_echo_reply(
            datagram[ipv4.HEADER_BYTES : header.header_length],
            self._stamp(header.destination),
            self._stamp(leaving or header.destination),
        )

    # --- drops and errors --------------------------------------------------------------------------------------------

    def _drop(self, frame: SlowFrame, reason: Counter, error: IcmpError, now: float, actions: Actions) -> None:
        """Drop a frame, and tell its sender if that is allowed."""
        self._count_drop(frame, reason)
        original = _original(frame)
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
        self._send_datagram(icmp_errors.build_error(error, original, source), actions)

    # --- the router's own --------------------------------------------------------------------------------------------

    def _is_own(self, address: int) -> bool:
        return bool(self._tables.resolve(address).kind == LOCAL)

    def _stamp(self, address: int) -> Stamp:
        return Stamp(address, options.milliseconds_since_midnight(self._unix_time()), self._is_own)

    def _source_address(self, resolution: Resolution) -> int | None:
        """Return the router's address on the link to a next hop, or None when there is no way to it."""
        return self._own_address(resolution.slot, resolution.next_hop) if resolution.kind == FORWARD else None

    def _own_address(self, slot: int, next_hop: int) -> int | None:
        """Return the router's address on a link, or None where it has none at all.

        A link without addresses borrows one of another (RFC 1812 section 4.3.2.4: the router's id).
        """
        interface = self._tables.interface_of_slot(slot)
        if interface is None:
            return None
        if interface.addresses:
            return _address_towards(interface, next_hop)
        others = self._tables.interfaces.values()
        return next((entry.address for other in others for entry in other.addresses), None)

    def _send_datagram(self, datagram: bytes, actions: Actions) -> None:
        """Route a datagram of the router's own; RFC 791 lets it be fragmented."""
        resolution = self._tables.resolve(ipv4.parse(datagram).destination)
        if resolution.kind != FORWARD:
            self._count(Counter.GENERATED, 0)
            self._count(Counter.DROP_NO_ROUTE, 0)
            unaddressed = ethernet.header(ethernet.NO_MAC, ethernet.NO_MAC, ethernet.ETHERTYPE_IPV4)
            self._on_drop(Counter.DROP_NO_ROUTE, 0, unaddressed + datagram)
            return
        self._emit(datagram, resolution.slot, resolution.next_hop, resolution.mtu, actions)

    def _emit(self, datagram: bytes, slot: int, next_hop: int, mtu: int, actions: Actions) -> None:
        """Send a generated datagram to its next hop, in fragments where it is longer than the MTU.

        It goes by way of arp while the next hop's MAC is not known.
        """
        parts = [datagram] if len(datagram) <= mtu else fragment(datagram, mtu)
        actions.cost_us += PART_US * len(parts)
        index = self._tables.index_of_slot[slot]
        self._counters.add(Counter.GENERATED, len(parts), index)
        rewrite = self._tables.rewrite_for(slot, next_hop)
        if rewrite is not None:
            head = rewrite + ethernet.ETHERTYPE_IPV4.to_bytes(2, "big")
            actions.send += [Send(slot, head + part) for part in parts]
            return
        head = virtio_net.PLAIN + ethernet.header(ethernet.NO_MAC, ethernet.NO_MAC, ethernet.ETHERTYPE_IPV4)
        actions.resolve += [
            Frame(0, index, next_hop, ethernet.PACKET_HOST, generated=True, data=head + part) for part in parts
        ]

    def _count(self, counter: Counter, interface_index: int) -> None:
        self._counters.add(counter, 1, interface_index)

    def _count_drop(self, frame: SlowFrame, reason: Counter) -> None:
        self._count(reason, frame.in_interface)
        self._on_drop(reason, frame.in_interface, frame.data[_VIRTIO:])

    def _add(self, counts: Iterable[Count]) -> None:
        for count in counts:
            self._counters.add(count.counter, count.amount, count.interface)


_COSTS_US: Final = {
    Counter.HANDED: 0,
    Counter.FORWARDED: PART_US,
    Counter.WAITING: PART_US,
    Counter.NAT_FRAGMENT_HELD: PART_US,
}


def _original(frame: SlowFrame) -> bytes:
    """Return the datagram as its sender sent it, as far as it can be shown: with its checksum finished."""
    header = virtio_net.parse(frame.data)
    whole = frame.data[_VIRTIO:]
    return (whole if header.is_gso else virtio_net.finish_checksum(header, whole))[_ETHERNET:]


def _aged(datagram: bytes, filled: bytes) -> bytes:
    """Return a datagram with a TTL that is one less, and with other options of the same length."""
    end = ipv4.HEADER_BYTES + len(filled)
    head = datagram[: ipv4.TTL] + bytes((datagram[ipv4.TTL] - 1,)) + datagram[ipv4.PROTOCOL : ipv4.HEADER_BYTES]
    return ipv4.with_checksum(head + filled) + datagram[end:]


def _share_network(interface: Interface, first: int, second: int) -> bool:
    """Tell whether two hosts are in one of an interface's networks."""
    masks = [(entry.address, ipv4.prefix_mask(entry.prefix_length)) for entry in interface.addresses]
    return any((first ^ own) & mask == 0 and (second ^ own) & mask == 0 for own, mask in masks)


def _address_towards(interface: Interface, next_hop: int) -> int:
    """Return the interface's address in the next hop's network, or else its first."""
    for entry in interface.addresses:
        if (entry.address ^ next_hop) & ipv4.prefix_mask(entry.prefix_length) == 0:
            return entry.address
    return interface.addresses[0].address
