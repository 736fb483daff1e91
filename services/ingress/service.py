"""The shell of ingress: one interface's receive ring in, the forwarder and arp out."""

import socket
import time
from typing import Any, Final, Literal

import numpy as np
import zmq

from services.common import tap
from services.common.bus import connected, hold_instance, try_send
from services.common.counters import Counter, CounterBlock
from services.common.endpoints import Endpoints
from services.common.errors import HopwireError
from services.common.frame_ring import TAIL
from services.common.insight import Insight
from services.common.interfaces import InterfaceInfo
from services.common.ledger import HandedLedger
from services.common.memory import read_position
from services.common.messages import Frame, encode_frames
from services.common.meters import Gauge
from services.common.observer import Observing
from services.common.runtime import Gauges, Reporter, StopFlag, clock
from services.common.system_calls import watch, work_in_batches
from services.common.wire import virtio_net
from services.ingress.handover import Handover, InlineHandover, SharedMemoryHandover
from services.ingress.packet_socket import PacketSocket
from services.ingress.reception import Stretch, receive
from services.ingress.ring import ARP_FRAMES, ARP_STRIDE, DROP_REASONS, Target

HOUSEKEEPING_S: Final = 0.25
_VIRTIO: Final = virtio_net.HEADER_BYTES

Transport = Literal["shared-memory", "inline"]


class Ingress:
    """One interface's receiving side."""

    def __init__(
        self,
        context: zmq.Context[Any],
        endpoints: Endpoints,
        interface: InterfaceInfo,
        transport: Transport,
        ring_mib: int,
    ) -> None:
        """Open everything; frames wait in the receive ring until `run`."""
        instance = f"ingress-{interface.name}"
        self._lock = hold_instance(endpoints, instance)
        self._interface = interface
        self.counters = CounterBlock(endpoints.counters(instance))
        row = self.counters.row(interface.index) * self.counters.row_values + 1
        counters = np.frombuffer(self.counters.values, np.int64)[row : row + self.counters.row_values - 1]
        self._insight = Insight(endpoints, instance, DROP_REASONS)
        self._observing = Observing(self._insight)
        self._meters = np.frombuffer(self.counters.meters.values, np.int64)
        self._fill = 0
        self._socket = PacketSocket(interface.index, interface.name, ring_mib)
        self._arp = connected(context, zmq.PUSH, endpoints.arp_frames)
        self._arp_ledger = HandedLedger(self.counters, Counter.HANDED_ARP, interface.index)
        self._reporter = Reporter(context, endpoints, "ingress", instance, self.counters)
        # the last that may fail: the ring's file tells the forwarder that this interface is served
        self._handover: Handover
        if transport == "inline":
            self._handover = InlineHandover(context, endpoints, interface.index, self.counters)
        else:
            self._handover = SharedMemoryHandover(endpoints, interface.name, interface.index, self.counters)
        self._slot = 0
        self._watched = watch([self._socket.fileno()])
        ring = self._handover.ring
        self._target = Target(
            ring.words,
            ring.descriptors,
            ring.area,
            np.zeros(2, np.int64),
            np.zeros(ARP_FRAMES * ARP_STRIDE, np.uint8),
            np.zeros((ARP_FRAMES, 2), np.int64),
            counters,
            interface.index,
            self._observing.arrays,
        )

    def run(self, stop: StopFlag) -> None:
        """Receive until `stop` is set.

        :raises HopwireError: the interface vanished.
        """
        work_in_batches()
        next_housekeeping = 0.0
        while not stop.is_set:
            now = clock()
            if now >= next_housekeeping:
                next_housekeeping = now + HOUSEKEEPING_S
                self._keep_house(now)
            self._receive()

    def _receive(self) -> None:
        """Receive for a stretch, and hand on what the compiled loop leaves to Python."""
        stretch: Stretch = receive(
            self._socket.memory,
            self._socket.statuses,
            self._socket.geometry,
            self._watched,
            self._slot,
            self._target,
            self._handover.bell,
            self._handover.stretch_ns,
            self._meters,
        )
        self._fill = max(self._fill, stretch.fill)
        self._slot = stretch.slot
        if stretch.bells:
            self.counters.add(Counter.BELLS, stretch.bells, self._interface.index)
        if stretch.arp:
            self._send_arp(stretch.arp)
        self._handover.hand_over(stretch.handed)
        if stretch.failed:
            self._on_socket_error()

    def _send_arp(self, count: int) -> None:
        frames = [
            Frame(
                self._interface.index,
                0,
                0,
                int(packet_type),
                generated=False,
                data=self._target.arp[number * ARP_STRIDE :][: _VIRTIO + length].tobytes(),
            )
            for number, (length, packet_type) in enumerate(self._target.arp_fields[:count].tolist())
        ]
        sent = try_send(self._arp, encode_frames("arp", frames, self._arp_ledger.begin(count)))
        if not sent:
            self._arp_ledger.undo(count)
        self.counters.add(Counter.HANDED if sent else Counter.DROP_ARP_FULL, count, self._interface.index)
        for frame in () if sent else frames:
            kinds = tap.RECEIVED | tap.DROPPED
            self._insight.dropped(Counter.DROP_ARP_FULL, frame.in_interface, bytes(frame.data[_VIRTIO:]), kinds)

    def _keep_house(self, now: float) -> None:
        self._observing.refresh()
        self._target = self._target._replace(observer=self._observing.arrays)
        overruns = self._socket.take_overruns()
        if overruns:
            self.counters.add(Counter.RX_FRAMES, overruns, self._interface.index)
            self.counters.add(Counter.DROP_RX_OVERRUN, overruns, self._interface.index)
        if announcement := self._arp_ledger.due(now):
            try_send(self._arp, [announcement])
        self._handover.keep_house(now)
        self._check_interface()
        self._reporter.report_when_due(now, ready=True, interfaces=[self._interface.index], gauges=self._gauges)

    def _gauges(self) -> Gauges:
        """Return how full the ring to the forwarder is, and was at most since this was asked last."""
        ring = self._handover.ring
        peak, self._fill = self._fill, int(self._target.ends[0] - read_position(ring.words, TAIL))
        values = {Gauge.FRAME_RING_SLOTS: len(ring.descriptors), Gauge.FRAME_RING_PEAK: max(peak, self._fill)}
        return {self._interface.index: {gauge.name: value for gauge, value in values.items()}}

    def _check_interface(self) -> None:
        try:
            index = socket.if_nametoindex(self._interface.name)
        except OSError:
            index = 0
        if index != self._interface.index:
            raise HopwireError(f"interface {self._interface.name} vanished; start again when it is back")

    def _on_socket_error(self) -> None:
        # ENETDOWN: the interface went down. The kernel takes the socket up again with the interface.
        self._socket.take_error()
        self._check_interface()
        time.sleep(0.01)

    def close(self) -> None:
        """Let go of the interface and take the ring away."""
        self._socket.close()
        self._handover.close()
        self._reporter.close()
        self._arp.close()
        self._insight.close()
        self._lock.close()
