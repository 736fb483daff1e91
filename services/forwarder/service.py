"""The shell of the forwarder: rings and messages in, interfaces and arp out."""

import gc
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import structlog
import zmq

from services.common.bell import Bell
from services.common.bus import (
    RpcRefusedError,
    RpcServer,
    StateSubscriber,
    also_listen,
    bound,
    connected,
    hold_instance,
    receive,
    try_send,
)
from services.common.compiler_memory import give_back_compiler
from services.common.counters import BY_COLUMN, Counter, CounterBlock
from services.common.endpoints import Endpoints
from services.common.frame_ring import VIRTIO_BYTES
from services.common.messages import (
    MAX_BATCH_FRAMES,
    Frame,
    FrameBatch,
    MessageError,
    NeighbourState,
    NeighboursUsed,
    RouterState,
    RpcError,
    decode,
    decode_frames,
    encode,
    encode_frames,
)
from services.common.parameters import Parameters
from services.common.runtime import POLL_MS, Reporter, StopFlag, clock
from services.common.system_calls import work_in_batches
from services.forwarder.egress import Egress, error_text
from services.forwarder.pipeline import BATCH, counter_row, forward_batch, make_batch, make_queues
from services.forwarder.ports import InlineArea, Port, Ports
from services.forwarder.questions import route_get
from services.forwarder.rings import OUT_OF_BOUNDS, QUIET, SLOW_FRAMES, Stretch, forward_rings
from services.forwarder.slowpath import SLOW_BUDGET_US, Actions, SlowFrame, SlowPath
from services.forwarder.tables import NO_SLOT, ForwardingTables
from services.forwarder.updates import RouterUpdates

MESSAGE_BUDGET: Final = 32
"""Messages with frames that are taken in one go."""
ARP_BUDGET: Final = 64
"""Frames of a batch that go to arp."""
UNREACHABLE_BUDGET: Final = 64
"""Frames of a batch from arp whose senders may be told. More could not be: a burst of errors is 50."""
STRETCH_NS: Final = 1_000_000
"""How long the compiled loop goes on before Python looks at its sockets: a look costs as much as a hundred frames."""
SOCKET_INTERVAL_S: Final = 0.001
"""How often the sockets are looked at where the slow path ends each stretch early."""
HOUSEKEEPING_S: Final = 0.25
USED_INTERVAL_S: Final = 1.0


class Forwarder:
    """The forwarder of one router."""

    def __init__(
        self, context: zmq.Context[Any], endpoints: Endpoints, log: structlog.stdlib.BoundLogger, listen: str = ""
    ) -> None:
        """Open all sockets. Nothing is forwarded before control's state has come.

        :param listen: one more endpoint for inline frames; none if empty.
        """
        self._lock = hold_instance(endpoints, "forwarder")
        self._log = log
        self.counters = CounterBlock(endpoints.counters("forwarder"))
        self._tables = ForwardingTables()
        self._batch = make_batch()
        self._queues = make_queues()
        self._egress = Egress(self._queues, self.counters)
        self._parameters = Parameters()
        self._slow_path = SlowPath(self._tables, self.counters, self._parameters.icmp, clock(), time.time)
        self._ports = Ports(endpoints, self.counters, log)
        self._rings = self._ports.table(self._tables.slots)
        self._inline = InlineArea()
        self._bell = Bell(endpoints.forwarder_bell)
        self._updates = RouterUpdates(self._tables, self._bell.ring)
        self._generation = 0
        self._frames = bound(context, zmq.PULL, endpoints.forwarder_frames)
        if listen:
            also_listen(self._frames, listen)
        self._rpc = RpcServer(context, endpoints.forwarder_rpc, self._answer)
        self._control = StateSubscriber(context, endpoints.control_state, endpoints.control_snapshot)
        self._neighbours = StateSubscriber(context, endpoints.arp_state, endpoints.arp_snapshot)
        self._arp = connected(context, zmq.PUSH, endpoints.arp_frames)
        self._reporter = Reporter(context, endpoints, "forwarder", "forwarder", self.counters)
        self._poller = zmq.Poller()
        for source in (self._bell.fileno(), self._frames, self._rpc.socket):
            self._poller.register(source, zmq.POLLIN)
        self._housekeeping_at = 0.0
        self._used_at = 0.0

    # --- the loop ----------------------------------------------------------------------------------------------------

    def run(self, stop: StopFlag) -> None:
        """Forward until `stop` is set."""
        work_in_batches()
        give_back_compiler()
        gc.collect()
        gc.freeze()  # what lives by now lives on: the collector need not look at it again
        busy_at_ns = 0
        sockets_at = 0.0
        while not stop.is_set:
            now = clock()
            if now >= self._housekeeping_at:
                self._keep_house(now)
            if self._updates.can_step:
                self._apply(self._take_over, now)
            stretch: Stretch = forward_rings(
                self._rings,
                self._tables.arrays,
                self._batch,
                self._queues,
                self._egress.senders,
                self._egress.block,
                self._bell.fileno(),
                STRETCH_NS,
                busy_at_ns,
            )
            busy_at_ns = stretch.busy_at_ns
            if stretch.reason in (SLOW_FRAMES, OUT_OF_BOUNDS):
                self._finish(self._ports.current()[stretch.ring], stretch, now)
            if stretch.reason == QUIET and not self._updates.can_step:
                if self._sleep():
                    self._serve_sockets(clock())
            elif now >= sockets_at:
                sockets_at = now + SOCKET_INTERVAL_S
                if self._poller.poll(0):
                    self._serve_sockets(now)

    def _finish(self, port: Port, stretch: Stretch, now: float) -> None:
        """Do what a stretch left to Python."""
        if stretch.reason == OUT_OF_BOUNDS:
            self._log.warning("ring out of bounds, started again", interface_index=port.interface_index)
            port.ring.skip_all()
            self._count_malformed(1)
            return
        self._handle_slow(port.interface_index, port.ring.area, stretch.slow, now)
        port.ring.give_back(stretch.frames)

    def _sleep(self) -> bool:
        """Wait for the bell or a message, announced to every ring, so that the next frame rings; true for a message."""
        ports = self._ports.current()
        ready: list[Any] = []
        if all(port.ring.go_to_sleep() for port in ports):
            ready = [socket for socket, _ in self._poller.poll(POLL_MS)]
        for port in ports:
            port.ring.wake()
        if self._bell.drain() and self._ports.has_changed():
            self._refresh_ports()
        return any(socket != self._bell.fileno() for socket in ready)

    def _serve_sockets(self, now: float) -> None:
        for state in self._control.receive(now):
            if isinstance(state, RouterState):
                self._updates.put(state)
        for neighbours in self._neighbours.receive(now):
            if isinstance(neighbours, NeighbourState):
                self._tables.apply_neighbour_state(neighbours)
        for _ in range(MESSAGE_BUDGET):
            if (parts := receive(self._frames)) is None:
                break
            self._apply(self._on_frames, parts, now)
        self._count_malformed(self._rpc.serve())
        self._control.register(self._poller)
        self._neighbours.register(self._poller)
        self._note_generation()

    def _apply(self, action: Callable[..., None], *arguments: Any) -> None:
        """Carry out what a message says; a malformed one is counted and dropped."""
        try:
            action(*arguments)
        except MessageError as error:
            self._count_malformed(1)
            self._log.warning("malformed message", reason=str(error))

    def _count_malformed(self, count: int) -> None:
        if count:
            self.counters.add(Counter.BAD_MESSAGES, count)

    # --- frames ------------------------------------------------------------------------------------------------------

    def _forward(
        self,
        in_interface: int,
        area: npt.NDArray[np.uint8],
        area_address: int,
        descriptors: npt.NDArray[np.int64],
        first: int,
        count: int,
        row: npt.NDArray[np.int64],
        now: float,
    ) -> None:
        """Decide about a batch, send what can be sent, then see to the rest."""
        slot = self._tables.slots.get(in_interface, NO_SLOT)
        tables, batch, queues = self._tables.arrays, self._batch, self._queues
        outcome = forward_batch(area, area_address, descriptors, first, count, slot, tables, batch, queues, row)
        for out_slot in self._queues.touched[: outcome.touched].tolist():
            self._egress.flush(out_slot)
        row[Counter.BATCHES] += 1
        if outcome.slow:
            self._handle_slow(in_interface, area, outcome.slow, now)

    def _handle_slow(self, in_interface: int, area: npt.NDArray[np.uint8], slow: int, now: float) -> None:
        batch = self._batch
        actions = Actions()
        unresolved = 0
        for number in batch.slow[:slow].tolist():
            verdict = BY_COLUMN[batch.verdict[number]]
            if verdict is Counter.HANDED:
                unresolved += 1
                if unresolved > ARP_BUDGET:
                    self.counters.add(Counter.DROP_ARP_FULL, 1, in_interface)
                    continue
            elif actions.cost_us >= SLOW_BUDGET_US:
                if verdict is not Counter.FORWARDED:  # such a one has gone already
                    self.counters.add(Counter.DROP_SLOW_PATH_FULL, 1, in_interface)
                continue
            start = int(batch.start[number])
            frame = SlowFrame(
                verdict,
                in_interface,
                int(batch.packet_type[number]),
                area[start - VIRTIO_BYTES : start + int(batch.length[number])].tobytes(),
                int(batch.slot[number]),
                int(batch.next_hop[number]),
                int(batch.mtu[number]),
            )
            self._slow_path.handle(frame, now, actions)
        self._carry_out(actions)

    def _carry_out(self, actions: Actions) -> None:
        for send in actions.send:
            self._egress.send(send.slot, send.frame)
        for first in range(0, len(actions.resolve), MAX_BATCH_FRAMES):
            frames = actions.resolve[first : first + MAX_BATCH_FRAMES]
            sent = try_send(self._arp, encode_frames("unresolved", frames))
            for frame in frames:
                self.counters.add(Counter.HANDED if sent else Counter.DROP_ARP_FULL, 1, frame.in_interface)

    def _on_frames(self, parts: list[bytes], now: float) -> None:
        header = decode(parts[0])
        if not isinstance(header, FrameBatch):
            raise MessageError("not a batch of frames")
        if header.purpose == "ip":
            self._on_inline(header, parts[1:], now)
        elif header.purpose == "unreachable":
            self._on_unreachable(decode_frames(header, parts[1:]), now)
        else:
            raise MessageError(f"frames for another purpose: {header.purpose}")

    def _on_inline(self, header: FrameBatch, parts: list[bytes], now: float) -> None:
        inline = self._inline
        in_interface = inline.load(header, parts)
        row = counter_row(self.counters, in_interface)
        first = 0
        while count := inline.place(first):
            self._forward(in_interface, inline.area, inline.area_address, inline.descriptors, 0, count, row, now)
            first += count

    def _on_unreachable(self, frames: list[Frame], now: float) -> None:
        actions = Actions()
        for frame in frames[:UNREACHABLE_BUDGET]:
            self.counters.add(Counter.TAKEN, 1, frame.in_interface)
            self._slow_path.undeliverable(frame, now, actions)
        for frame in frames[UNREACHABLE_BUDGET:]:
            for counter in (Counter.TAKEN, Counter.DROP_HOST_UNREACHABLE, Counter.ICMP_SUPPRESSED):
                self.counters.add(counter, 1, frame.in_interface)
        self._carry_out(actions)

    # --- state -------------------------------------------------------------------------------------------------------

    def _refresh_ports(self) -> None:
        if not self._tables.interfaces:
            return  # frames wait in their rings until it is known where they can go
        for port in self._ports.refresh(time.time_ns()):
            self._work_off(port)
        self._rings = self._ports.table(self._tables.slots)

    def _work_off(self, port: Port) -> None:
        """Forward the last frames of a ring that is let go."""
        available = port.ring.available()
        while 0 < available <= len(port.ring.descriptors):
            count = min(available, BATCH)
            self._forward(
                port.interface_index,
                port.ring.area,
                port.area_address,
                port.ring.descriptors,
                port.ring.tail,
                count,
                port.row,
                clock(),
            )
            port.ring.give_back(count)
            available = port.ring.available()

    def _take_over(self, now: float) -> None:
        """Take over a part of control's next state, and see to what follows from one that is whole."""
        state = self._updates.step()
        if state is None:
            return
        self._note_generation()
        if state.parameters is not None and state.parameters != self._parameters:
            self._parameters = state.parameters
            self._slow_path.set_parameters(state.parameters.icmp, now)
        if state.interfaces or state.interfaces_gone or state.full:
            self._open_sockets()
            self._rings = self._ports.table(self._tables.slots)
        if state.full:
            self._refresh_ports()
            self._housekeeping_at = now
            self._reporter.hurry()
            self._log.info("routes loaded", routes=len(self._tables), interfaces=len(self._tables.interfaces))

    def _note_generation(self) -> None:
        if self._updates.is_empty:
            self._generation = max(0, self._control.tracker.sequence)

    def _open_sockets(self) -> None:
        wanted = {slot: index for index, slot in self._tables.slots.items()}
        for slot, index in self._egress.open_slots().items():
            if wanted.get(slot) != index:
                self._egress.close(slot)
        for slot, index in wanted.items():
            if slot in self._egress.open_slots():
                continue
            name = self._tables.interfaces[index].name
            try:
                self._egress.open(slot, index, name)
            except OSError as error:
                self._log.warning("cannot send", interface=name, reason=error_text(error))

    def _keep_house(self, now: float) -> None:
        self._housekeeping_at = now + HOUSEKEEPING_S
        self._refresh_ports()
        self._slow_path.expire(now)
        self._serve_sockets(now)  # also when nothing came: a publisher may have fallen silent
        self._count_malformed(self._control.malformed + self._neighbours.malformed)
        self._control.malformed = self._neighbours.malformed = 0
        if now >= self._used_at:
            self._used_at = now + USED_INTERVAL_S
            used = self._tables.take_used()
            if used:
                try_send(self._arp, [encode(NeighboursUsed(neighbours=used))])
        self._reporter.report_when_due(
            now,
            ready=self._control.tracker.synchronised and not self._updates.is_loading,
            # those it sends by: where frames come from shows only when some do, since they may come inside messages
            interfaces=sorted(self._egress.open_slots().values()),
            generation=self._generation,
        )

    # --- questions ---------------------------------------------------------------------------------------------------

    def _answer(self, method: str, params: dict[str, Any]) -> Any:
        if method != "route.get":
            raise RpcRefusedError(RpcError(code="unknown-method", message=f"the forwarder has no method {method}"))
        destination = params.get("dst")
        if not isinstance(destination, int) or not 0 <= destination <= 0xFFFF_FFFF:
            raise RpcRefusedError(RpcError(code="usage", message="dst must be an IPv4 address as a number"))
        return route_get(self._tables, destination)

    def close(self) -> None:
        """Close all sockets."""
        for slot in self._egress.open_slots():
            self._egress.close(slot)
        for closable in (
            self._updates,  # whose other thread rings the bell
            self._bell,
            self._frames,
            self._rpc,
            self._control,
            self._neighbours,
            self._arp,
            self._reporter,
            self._lock,
        ):
            closable.close()
