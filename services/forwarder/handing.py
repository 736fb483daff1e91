"""Frames for arp, and what comes back of it: neighbours, and with them the frames that were held for them."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import zmq

from services.common.bus import connected, try_send
from services.common.counters import Counter, CounterBlock
from services.common.insight import DropNote
from services.common.ledger import HandedLedger
from services.common.messages import MAX_BATCH_FRAMES, Frame, NeighbourState, NeighboursUsed, encode, encode_frames
from services.common.wire import virtio_net
from services.forwarder.egress import Egress
from services.forwarder.holding import Holding, Release
from services.forwarder.resolution import NO_SLOT
from services.forwarder.share import TimeShare
from services.forwarder.tables import ForwardingTables

FRAME_COST_S: Final = 100e-6
"""What a frame for arp costs, here and there, about, until it is resolved or given up."""
BURST_FRAMES: Final = 1024
"""So many at once after a quiet time: four batches."""
_MACS_END: Final = virtio_net.HEADER_BYTES + 12  # behind both MAC addresses


class ArpHandover:
    """The forwarder's way to arp. Every frame given to it is handed on, sent, waits, or is dropped, and counted."""

    def __init__(
        self,
        context: zmq.Context[Any],
        endpoint: str,
        counters: CounterBlock,
        tables: ForwardingTables,
        egress: Egress,
        now: float,
        on_drop: DropNote,
    ) -> None:
        """Connect to arp; write off what a killed predecessor held."""
        self._socket = connected(context, zmq.PUSH, endpoint)
        self._counters = counters
        self._tables = tables
        self._egress = egress
        self._on_drop = on_drop
        self._ledger = HandedLedger(counters, Counter.HANDED_ARP)
        self._holding = Holding()
        self._share = TimeShare(FRAME_COST_S, BURST_FRAMES * FRAME_COST_S, now)
        counters.write_off_waiting()

    def allowance(self, now: float, slept_s: float) -> int:
        """Return how many more received frames may go to arp now; `slept_s` as in `TimeShare.frames`."""
        return self._share.frames(now, slept_s)

    def resolve(self, frames: Sequence[Frame]) -> None:
        """See to frames whose next hop the tables do not know."""
        if not frames:
            return
        self._share.spend(len(frames))
        hand, held, dropped = self._holding.sort(frames)
        for frame in held:
            self._counters.add(Counter.WAITING, 1, frame.out_interface)
        for frame in dropped:
            self._drop(frame, Counter.DROP_NEIGHBOUR_QUEUE, frame.out_interface)
        for first in range(0, len(hand), MAX_BATCH_FRAMES):
            self._hand(hand[first : first + MAX_BATCH_FRAMES])

    def follow(self, states: Iterable[NeighbourState], now: float) -> None:
        """Take over what arp tells of its neighbours, as soon as they may be used."""
        for state in states:
            self._carry_out(self._holding.on_state(state, now))
        self._carry_out(self._holding.on_time(now))

    def keep_house(self, now: float) -> None:
        """Tell arp now and then how many frames it was handed."""
        if announcement := self._ledger.due(now):
            try_send(self._socket, [announcement])

    def tell_used(self, neighbours: list[tuple[int, int]]) -> None:
        """Tell arp which neighbours frames went to."""
        if neighbours:
            try_send(self._socket, [encode(NeighboursUsed(neighbours=neighbours))])

    def close(self) -> None:
        """Give up what is held, and close the socket."""
        for frame in self._holding.take_all():
            self._counters.add(Counter.WAITING, -1, frame.out_interface)
            self._drop(frame, Counter.DROP_RESTARTED, frame.out_interface)
        self._socket.close()

    def _hand(self, frames: list[Frame]) -> None:
        before = self._ledger.begin(len(frames))
        sent = try_send(self._socket, encode_frames("unresolved", frames, before))
        if sent:
            self._holding.handed(frames, before + len(frames))
        else:
            self._ledger.undo(len(frames))
        for frame in frames:
            if sent:
                self._counters.add(Counter.HANDED, 1, frame.in_interface)
            else:
                self._drop(frame, Counter.DROP_ARP_FULL, frame.in_interface)

    def _carry_out(self, release: Release) -> None:
        if release.state is not None:
            self._tables.apply_neighbour_state(release.state)
        for frame in (*release.send, *release.hand):
            self._counters.add(Counter.WAITING, -1, frame.out_interface)
        for frame in release.send:
            self._send(frame)
        self.resolve(release.hand)
        if release.ask:
            try_send(self._socket, [self._ledger.message(answer=True)])

    def _send(self, frame: Frame) -> None:
        slot = self._tables.slots.get(frame.out_interface, NO_SLOT)
        rewrite = self._tables.rewrite_for(slot, frame.next_hop)
        if rewrite is None:  # the interface went meanwhile
            self._drop(frame, Counter.DROP_UNKNOWN_INTERFACE, frame.out_interface)
            return
        header, rest = frame.data[: virtio_net.HEADER_BYTES], frame.data[_MACS_END:]
        counter = Counter.GENERATED_SENT if frame.generated else Counter.FORWARDED
        self._egress.send(slot, rewrite + bytes(rest), bytes(header), counter)

    def _drop(self, frame: Frame, reason: Counter, interface: int) -> None:
        self._counters.add(reason, 1, interface)
        self._on_drop(reason, interface, bytes(frame.data[virtio_net.HEADER_BYTES :]))
