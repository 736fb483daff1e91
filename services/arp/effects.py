"""Carrying out what the resolver asks for, and counting what became of every frame."""

import time
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from services.arp.actions import Action, AskRoute, Conflict, Count, Publish, Return, SendArp, Transmit, Withdraw
from services.arp.deadlines import Key
from services.common import tap
from services.common.counters import Counter, CounterBlock, Kind
from services.common.insight import Insight
from services.common.messages import Frame, Neighbour, NeighbourState
from services.common.wire import arp, ethernet, ipv4, virtio_net

MINIMUM_FRAME_BYTES: Final = 60  # IEEE 802.3 clause 4.2.3.3: 64 with the frame check sequence, which the device adds
RETURN_FRAMES: Final = 256
"""Frames and bytes of one batch to the forwarder, well below what a message may hold."""
RETURN_BYTES: Final = 2**20

_MACS_START: Final = virtio_net.HEADER_BYTES
_MACS_END: Final = _MACS_START + ethernet.ETHERTYPE


class Effects:
    """The resolver's hands. Frames leave at once; neighbours are published by `flush`, so always behind them."""

    def __init__(
        self,
        counters: CounterBlock,
        send: Callable[[int, bytes], Counter | None],
        hand_back: Callable[[list[Frame]], bool],
        publish: Callable[[NeighbourState], None],
        log: structlog.stdlib.BoundLogger,
        insight: Insight,
    ) -> None:
        """Take the outward functions.

        :param send: sends a virtio header and frame on an interface, and returns the drop reason or None.
        :param hand_back: sends a batch to the forwarder, and tells whether it could.
        :param publish: tells all subscribers of a change of neighbours.
        :param insight: is shown the frames that come, leave and are dropped.
        """
        self._counters = counters
        self._send = send
        self._hand_back = hand_back
        self._publish = publish
        self._log = log
        self._insight = insight
        self._changes: dict[Key, bytes | None] = {}
        self._questions: list[AskRoute] = []
        self._returned: list[Frame] = []
        self._returned_bytes = 0

    def perform(self, actions: Iterable[Action]) -> None:
        """Carry out actions in their order."""
        for action in actions:
            match action:
                case Count(counter, interface, amount, frame):
                    self._counters.add(counter, amount, interface)
                    if frame is not None:
                        self._note(counter, interface, frame)
                case Transmit():
                    self._transmit(action)
                case SendArp():
                    self._send_arp(action)
                case Return(frames, waited):
                    self._return(frames, waited=waited)
                case Publish(interface, address, mac):
                    self._changes[interface, address] = mac
                case Withdraw(interface, address):
                    self._changes[interface, address] = None
                case AskRoute():
                    self._questions.append(action)
                case Conflict(interface, address, mac):
                    self._log.warning(
                        "another host uses an address of this router",
                        interface=interface,
                        address=ipv4.address_text(address),
                        mac=ethernet.mac_text(mac),
                    )

    def flush(self) -> None:
        """Hand back the frames that were returned, and publish what changed since the last call."""
        self._hand_back_returned()
        if self._changes:
            state = NeighbourState(
                neighbours=[Neighbour(interface=i, address=a, mac=mac) for (i, a), mac in self._changes.items() if mac],
                gone=[key for key, mac in self._changes.items() if mac is None],
            )
            self._changes = {}
            self._publish(state)

    def take_questions(self) -> list[AskRoute]:
        """Return the questions for the forwarder since the last call."""
        questions, self._questions = self._questions, []
        return questions

    def _note(self, fate: Counter, interface: int, frame: Frame) -> None:
        """Show what became of a frame. The forwarder has shown those with datagrams as they came in."""
        data = bytes(frame.data[_MACS_START:])
        came_here = frame.out_interface == 0
        if fate.kind is Kind.DROPPED:
            kinds = tap.RECEIVED | tap.DROPPED if came_here else tap.DROPPED
            self._insight.dropped(fate, interface or frame.in_interface, data, kinds)
        elif came_here:
            self._insight.received(interface, data, fate)

    def _transmit(self, action: Transmit) -> None:
        macs = action.destination + action.source
        for frame in action.frames:
            data = b"".join((frame.data[:_MACS_START], macs, frame.data[_MACS_END:]))
            began_ns = time.time_ns()  # an answer may come before the call returns
            fate = self._send(action.interface, data)
            if fate is not None:
                self._insight.dropped(fate, frame.out_interface, data[_MACS_START:])
            else:
                self._insight.sent(frame.out_interface, data, began_ns)
                self._counters.add(Counter.TX_BYTES, len(data) - virtio_net.HEADER_BYTES, frame.out_interface)
                fate = Counter.GENERATED_SENT if frame.generated else Counter.FORWARDED
            self._counters.add(fate, 1, frame.out_interface)
            if action.waited:
                self._counters.add(Counter.WAITING, -1, frame.out_interface)

    def _send_arp(self, action: SendArp) -> None:
        message = action.message
        header = ethernet.header(action.destination, message.sender_mac, ethernet.ETHERTYPE_ARP)
        frame = (header + arp.build(message)).ljust(MINIMUM_FRAME_BYTES, b"\0")
        self._counters.add(Counter.GENERATED, 1, action.interface)
        began_ns = time.time_ns()
        reason = self._send(action.interface, virtio_net.PLAIN + frame)
        if reason is not None:
            self._counters.add(reason, 1, action.interface)
            self._insight.dropped(reason, action.interface, frame)
        else:
            self._insight.sent(action.interface, virtio_net.PLAIN + frame, began_ns)
            self._counters.add(Counter.GENERATED_SENT, 1, action.interface)
            detail = Counter.ARP_REQUESTS_SENT if message.operation == arp.REQUEST else Counter.ARP_REPLIES_SENT
            self._counters.add(detail, 1, action.interface)
            self._counters.add(Counter.TX_BYTES, len(frame), action.interface)

    def _return(self, frames: list[Frame], *, waited: bool) -> None:
        for frame in frames:
            if waited:
                self._counters.add(Counter.WAITING, -1, frame.out_interface)
            self._returned.append(frame)
            self._returned_bytes += len(frame.data)
            if len(self._returned) >= RETURN_FRAMES or self._returned_bytes >= RETURN_BYTES:
                self._hand_back_returned()

    def _hand_back_returned(self) -> None:
        if not self._returned:
            return
        frames, self._returned, self._returned_bytes = self._returned, [], 0
        taken = self._hand_back(frames)
        for frame in frames:
            self._counters.add(Counter.HANDED if taken else Counter.DROP_HOST_UNREACHABLE, 1, frame.out_interface)
            if not taken:
                data = bytes(frame.data[_MACS_START:])
                self._insight.dropped(Counter.DROP_HOST_UNREACHABLE, frame.out_interface, data)
