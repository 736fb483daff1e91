"""The shell of the forwarder: rings and messages in, interfaces and arp out."""

import gc
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import structlog
import zmq

from services.common.bell import Bell
from services.common.bus import (
    RpcServer,
    StateSubscriber,
    also_listen,
    bound,
    hold_instance,
    receive,
)
from services.common.coalesce import STRETCH_NS
from services.common.compiler_memory import give_back_compiler
from services.common.counters import Counter, CounterBlock
from services.common.endpoints import Endpoints
from services.common.insight import Insight
from services.common.ledger import TakenLedger
from services.common.messages import (
    FrameBatch,
    Handed,
    MessageError,
    NeighbourState,
    RouterState,
    decode,
    decode_frames,
)
from services.common.meters import Histogram
from services.common.observer import Observer, Observing
from services.common.parameters import Parameters
from services.common.runtime import Reporter, StopFlag, clock
from services.common.system_calls import watch, work_in_batches
from services.forwarder import questions
from services.forwarder.egress import Egress
from services.forwarder.handing import ArpHandover
from services.forwarder.pipeline import BATCH, counter_row, forward_batch, make_batch, make_queues
from services.forwarder.ports import InlineArea, Port, Ports
from services.forwarder.resolution import NO_SLOT
from services.forwarder.rings import MESSAGES, OUT_OF_BOUNDS, TIME_IS_UP, Stretch, forward_rings
from services.forwarder.slow_work import SlowWork
from services.forwarder.slowpath import SlowPath
from services.forwarder.tables import ForwardingTables
from services.forwarder.translating import Translating
from services.forwarder.updates import RouterUpdates

MESSAGE_BUDGET: Final = 32
"""Messages with frames that are taken in one go."""
SOCKET_INTERVAL_S: Final = 0.001
"""How often the sockets are looked at where the slow path ends each stretch early."""
HOUSEKEEPING_S: Final = 0.25
_NOTHING: Final = watch([])
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
        self._meters = self.counters.meters
        self._tables = ForwardingTables(secrets.randbits(63))
        self._batch = make_batch()
        self._queues = make_queues()
        self._insight = Insight(endpoints, "forwarder")
        self._observing = Observing(self._insight)
        self._egress = Egress(self._queues, self.counters, self._observing)
        self._parameters = Parameters()
        self._slow_path = SlowPath(
            self._tables, self.counters, self._parameters.icmp, clock(), time.time, self._insight.dropped
        )
        self._nat = Translating(endpoints.nat_sessions, self._tables, self._slow_path.fragments, self.counters, log)
        self._ports = Ports(endpoints, self.counters, log)
        self._rings = self._ports.table(self._tables.slots)
        self._inline = InlineArea()
        self._bell = Bell(endpoints.forwarder_bell)
        self._told_at = 0.0  # since when states are on their way into the tables; 0 while none is
        self._prepared = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        """Says that a state was made ready. The bell does not: beside frames it would be taken for theirs."""
        self._updates = RouterUpdates(self._tables, lambda: os.eventfd_write(self._prepared, 1))
        self._generation = 0
        self._frames = bound(context, zmq.PULL, endpoints.forwarder_frames)
        if listen:
            also_listen(self._frames, listen)
        self._rpc = RpcServer(context, endpoints.forwarder_rpc, self._answer)
        self._control = StateSubscriber(context, endpoints.control_state, endpoints.control_snapshot)
        self._neighbours = StateSubscriber(context, endpoints.arp_state, endpoints.arp_snapshot)
        self._arp = ArpHandover(
            context, endpoints.arp_frames, self.counters, self._tables, self._egress, clock(), self._insight.dropped
        )
        self._work = SlowWork(self._slow_path, self.counters, self._egress, self._arp, clock(), self._insight.dropped)
        self._taken = TakenLedger(self.counters)
        self._reporter = Reporter(context, endpoints, "forwarder", "forwarder", self.counters)
        self._poller = zmq.Poller()
        for socket in (self._frames, self._rpc.socket):
            self._poller.register(socket, zmq.POLLIN)
        self._watched_sockets: list[zmq.Socket[Any]] = []
        self._watched = _NOTHING
        self._next_ring = 0
        self._housekeeping_at = 0.0
        self._used_at = 0.0

    # --- the loop ----------------------------------------------------------------------------------------------------

    def run(self, stop: StopFlag) -> None:
        """Forward until `stop` is set."""
        work_in_batches()
        give_back_compiler()
        gc.collect()
        gc.freeze()  # what lives by now lives on: the collector need not look at it again
        sockets_at = slept_s = 0.0
        while not stop.is_set:
            now = clock()
            if now >= self._housekeeping_at:
                self._keep_house(now)
            if self._updates.can_step:
                self._apply(self._take_over, now)
            watched = _NOTHING
            if now >= sockets_at:
                sockets_at = now + SOCKET_INTERVAL_S
                if self._poller.poll(0):
                    self._serve_sockets(now)
                elif not self._updates.can_step:  # if it can from now on, `_prepared` says so
                    watched = self._watch()
            self._nat.keep_house(now, self._forward, self._observing)
            self._work.allow(self._batch.allowance, now, slept_s)
            stretch: Stretch = forward_rings(
                self._rings,
                self._next_ring,
                self._tables.arrays,
                self._batch,
                self._queues,
                self._egress.senders,
                self._egress.block,
                self._observing.arrays,
                watched,
                STRETCH_NS,
            )
            slept_s = stretch.slept_ns / 1e9
            if stretch.reason in (MESSAGES, TIME_IS_UP):
                sockets_at = 0.0
                with suppress(BlockingIOError):
                    os.eventfd_read(self._prepared)
                if self._ports.has_changed():
                    self._refresh_ports()
            else:
                self._finish(self._ports.current()[stretch.ring], stretch, clock())
        self._refresh_ports()  # the last frames of rings whose ingress has ended just before

    def _watch(self) -> npt.NDArray[np.int64]:
        """Return what the compiled loop may sleep on: the bell, what tells of updates, and the sockets for messages.

        A socket of ZeroMQ says by its descriptor only that something changed since it was asked for its events. So the
        loop may sleep only when all of them have just been asked, and had none.
        """
        sockets = [socket for socket, events in self._poller.sockets if events]
        if sockets != self._watched_sockets:
            self._watched_sockets = sockets
            descriptors = [socket.getsockopt(zmq.FD) for socket in sockets]
            self._watched = watch([self._bell.fileno(), self._prepared, *descriptors])
        return self._watched

    def _finish(self, port: Port, stretch: Stretch, now: float) -> None:
        """Do what a stretch left to Python."""
        self._next_ring = stretch.ring + 1
        if stretch.reason == OUT_OF_BOUNDS:
            self._log.warning("ring out of bounds, started again", interface_index=port.interface_index)
            port.ring.skip_all()
            self._count_malformed(1)
            return
        self._work.see_to(self._batch, stretch.slow, port.interface_index, port.ring.area, now)
        port.ring.give_back(stretch.frames)

    def _serve_sockets(self, now: float) -> None:
        for state in self._control.receive(now):
            if isinstance(state, RouterState):
                self._updates.put(state)
                self._told_at = self._told_at or now
        told = self._neighbours.receive(now)
        self._arp.follow([state for state in told if isinstance(state, NeighbourState)], now)
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
        observer: Observer,
        now: float,
    ) -> None:
        """Decide about a batch, send what can be sent, then see to the rest."""
        began = clock()
        slot = self._tables.slots.get(in_interface, NO_SLOT)
        tables, batch, queues = self._tables.arrays, self._batch, self._queues
        outcome = forward_batch(
            area,
            area_address,
            descriptors,
            first,
            count,
            slot,
            in_interface,
            tables,
            batch,
            queues,
            row,
            observer,
        )
        for out_slot in self._queues.touched[: outcome.touched].tolist():
            self._egress.flush(out_slot)
        row[Counter.BATCHES] += 1
        self._meters.observe_batch(Histogram.FORWARD_FRAMES, Histogram.FORWARD_NS, count, clock() - began)
        if outcome.slow:
            self._work.see_to(self._batch, outcome.slow, in_interface, area, now)

    def _on_frames(self, parts: list[bytes], now: float) -> None:
        header = decode(parts[0])
        if isinstance(header, Handed) and len(parts) == 1:
            self._taken.expect(header.interface, header.handed)
            return
        if not isinstance(header, FrameBatch):
            raise MessageError("not a batch of frames")
        if header.purpose == "ip":
            self._on_inline(header, parts[1:], now)
        elif header.purpose == "unreachable":
            frames = decode_frames(header, parts[1:])
            self._taken.expect(0, header.handed)
            self._work.unreachable(frames, now)
            self._taken.take(0, header.handed, header.count)
        else:
            raise MessageError(f"frames for another purpose: {header.purpose}")

    def _on_inline(self, header: FrameBatch, parts: list[bytes], now: float) -> None:
        inline = self._inline
        in_interface = inline.load(header, parts)
        row = counter_row(self.counters, in_interface)
        self._taken.expect(in_interface, header.handed)
        first = 0
        while count := inline.place(first):
            self._work.allow(self._batch.allowance, now, 0.0)
            observer = self._observing.arrays
            area, address, descriptors = inline.area, inline.area_address, inline.descriptors
            self._forward(in_interface, area, address, descriptors, 0, count, row, observer, now)
            self._taken.take(in_interface, header.handed, count)
            first += count

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
                self._observing.arrays,
                clock(),
            )
            port.ring.give_back(count)
            available = port.ring.available()

    def _take_over(self, now: float) -> None:
        """Take over a part of control's next state, and see to what follows from one that is whole."""
        state = self._updates.step()
        if state is None:
            return
        self._meters.observe(Histogram.FIB_UPDATE_NS, int((clock() - self._told_at) * 1e9))
        if self._updates.is_empty:
            self._told_at = 0.0
        self._note_generation()
        if state.parameters is not None and state.parameters != self._parameters:
            if state.parameters.icmp != self._parameters.icmp:
                self._slow_path.set_parameters(state.parameters.icmp, now)
            self._parameters = state.parameters
        if state.interfaces or state.interfaces_gone or state.full:
            self._open_sockets()
            self._rings = self._ports.table(self._tables.slots)
        self._nat.follow(state, now)
        if state.full:
            self._refresh_ports()
            self._housekeeping_at = now
            self._reporter.hurry()
            self._log.info("routes loaded", routes=len(self._tables), interfaces=len(self._tables.interfaces))

    def _note_generation(self) -> None:
        if self._updates.is_empty:
            self._generation = max(0, self._control.tracker.sequence)

    def _open_sockets(self) -> None:
        wanted = {slot: (index, self._tables.interfaces[index].name) for index, slot in self._tables.slots.items()}
        for name, reason in self._egress.serve(wanted):
            self._log.warning("cannot send", interface=name, reason=reason)

    def _keep_house(self, now: float) -> None:
        self._housekeeping_at = now + HOUSEKEEPING_S
        self._observing.refresh()
        self._refresh_ports()
        self._slow_path.expire(now)
        self._serve_sockets(now)  # also when nothing came: a publisher may have fallen silent
        self._count_malformed(self._control.malformed + self._neighbours.malformed)
        self._control.malformed = self._neighbours.malformed = 0
        if now >= self._used_at:
            self._used_at = now + USED_INTERVAL_S
            self._arp.tell_used(self._tables.take_used())
        self._arp.keep_house(now)
        self._reporter.report_when_due(
            now,
            ready=self._control.tracker.synchronised and not self._updates.is_loading,
            # those it sends by: where frames come from shows only when some do, since they may come inside messages
            interfaces=sorted(self._egress.open_slots().values()),
            generation=self._generation,
            nat=self._nat.figures(),
        )

    # --- questions ---------------------------------------------------------------------------------------------------

    def _answer(self, method: str, params: dict[str, Any]) -> Any:
        if method.startswith("nat."):
            return self._nat.answer(method, params, clock())
        return questions.answer(self._tables, self._generation, method, params)

    def close(self) -> None:
        """Close all sockets."""
        for slot in self._egress.open_slots():
            self._egress.close(slot)
        for closable in (
            self._updates,  # whose other thread writes to `_prepared`
            self._bell,
            self._frames,
            self._rpc,
            self._control,
            self._neighbours,
            self._arp,
            self._reporter,
            self._insight,
            self._lock,
        ):
            closable.close()
        os.close(self._prepared)
