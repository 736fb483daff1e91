"""The shell of arp: ZeroMQ, packet sockets, the clock and the counters around the resolver."""

import math
import random
from typing import Any, Final

import structlog
import zmq

from services.arp.effects import Effects
from services.arp.questions import Questions
from services.arp.resolver import Resolver
from services.arp.route_client import RouteClient
from services.arp.transmit import Transmitter
from services.common.bus import (
    RpcServer,
    StatePublisher,
    StateSubscriber,
    also_listen,
    bound,
    connected,
    hold_instance,
    receive,
    try_send,
)
from services.common.counters import Counter, CounterBlock
from services.common.endpoints import Endpoints
from services.common.insight import Insight
from services.common.ledger import HandedLedger, TakenLedger
from services.common.messages import (
    Frame,
    FrameBatch,
    Handed,
    MessageError,
    NeighbourState,
    NeighboursUsed,
    RouterState,
    decode,
    decode_frames,
    encode_frames,
)
from services.common.meters import NEIGHBOUR_GAUGES, Gauge, Histogram, Meter
from services.common.runtime import POLL_MS, Gauges, Reporter, StopFlag, clock

INSTANCE: Final = "arp"
FRAMES_PER_TURN: Final = 1024
"""After so many frames timers, state and questions get their turn."""


class ArpService:
    """The process: one turn of its loop takes what came, does what is due, and tells the others."""

    def __init__(
        self, context: zmq.Context[Any], endpoints: Endpoints, log: structlog.stdlib.BoundLogger, listen: str = ""
    ) -> None:
        """Take the instance's lock and open all sockets.

        :param listen: one more endpoint for frames; none if empty.
        :raises HopwireError: an instance runs already, a capability is missing, or the run directory is unusable.
        """
        self._lock = hold_instance(endpoints, INSTANCE)
        self._transmitter = Transmitter(log)
        self._counters = CounterBlock(endpoints.counters(INSTANCE))
        self._counters.write_off_waiting()
        self._taken = TakenLedger(self._counters)
        self._handed = HandedLedger(self._counters, Counter.HANDED_FORWARDER)
        self._is_asked = False
        self._resolver = Resolver(random.random)
        self._frames = bound(context, zmq.PULL, endpoints.arp_frames)
        if listen:
            also_listen(self._frames, listen)
        self._forwarder = connected(context, zmq.PUSH, endpoints.forwarder_frames)
        self._control = StateSubscriber(context, endpoints.control_state, endpoints.control_snapshot)
        self._state = StatePublisher(context, endpoints.arp_state, endpoints.arp_snapshot, self._full_state)
        self._reporter = Reporter(context, endpoints, "arp", INSTANCE, self._counters)
        self._insight = Insight(endpoints, INSTANCE)
        self._insight_at = float("-inf")
        self._effects = Effects(
            self._counters, self._transmitter.send, self._hand_back, self._publish, log, self._insight
        )
        self._rpc = RpcServer(context, endpoints.arp_rpc, Questions(self._resolver, self._effects))
        self._routes = RouteClient(context, endpoints.forwarder_rpc)
        self._poller = zmq.Poller()
        for socket in (self._state.snapshots, self._rpc.socket, self._routes.socket):
            self._poller.register(socket, zmq.POLLIN)

    def run(self, stop: StopFlag) -> None:
        """Work until `stop` is set."""
        while not stop.is_set:
            until_deadline_ms = (self._resolver.next_deadline() - clock()) * 1000
            if self._poller.poll(max(0, math.ceil(min(until_deadline_ms, POLL_MS)))):
                self._counters.meters.add(Meter.WAKE_UPS)
            self._turn()
        self._effects.perform(self._resolver.on_stop())
        self._effects.flush()

    def close(self) -> None:
        """Close everything, and let go of the instance's name."""
        for part in (self._transmitter, self._frames, self._forwarder, self._control, self._state, self._rpc):
            part.close()
        self._routes.close()
        self._insight.close()
        self._reporter.close()
        self._counters.close()
        self._lock.close()

    def _turn(self) -> None:
        now = clock()
        if now >= self._insight_at:
            self._insight_at = now + POLL_MS / 1000
            self._insight.refresh()
        self._follow_control(now)
        if self._is_told_interfaces:
            self._take_frames(now)
        for number, route in self._routes.answers():
            self._effects.perform(self._resolver.on_route(number, route, now))
        self._effects.perform(self._resolver.on_time(now))
        self._effects.flush()
        for question in self._effects.take_questions():
            self._routes.ask(question)
        if self._is_asked:
            self._publish(NeighbourState())
        if announcement := self._handed.due(now):
            try_send(self._forwarder, [announcement])
        malformed = self._state.answer_requests() + self._rpc.serve() + self._routes.malformed
        self._routes.malformed = 0
        if malformed:
            self._counters.add(Counter.BAD_MESSAGES, malformed)
        self._state.beat(now)
        tracker = self._control.tracker
        self._reporter.report_when_due(
            now,
            ready=tracker.synchronised,
            interfaces=self._transmitter.interfaces,
            generation=max(0, tracker.sequence),
            gauges=self._gauges,
        )

    def _gauges(self) -> Gauges:
        """Return the neighbours by state and the bytes that wait for them, by interface."""
        gauges: Gauges = {}
        for (interface, state), count in self._resolver.neighbours_by_state().items():
            gauges.setdefault(interface, {})[NEIGHBOUR_GAUGES[state.value].name] = count
        for interface, waiting in self._resolver.waiting_bytes().items():
            gauges.setdefault(interface, {})[Gauge.WAITING_BYTES.name] = waiting
        return gauges

    @property
    def _is_told_interfaces(self) -> bool:
        """Whether control's state came once. Frames stay in their queue until it has."""
        return self._control.tracker.sequence >= 0

    def _follow_control(self, now: float) -> None:
        for state in self._control.receive(now):
            if isinstance(state, RouterState):
                actions = self._resolver.on_router_state(state, now)
                self._transmitter.serve(self._resolver.interfaces_up())
                self._effects.perform(actions)
            else:
                self._counters.add(Counter.BAD_MESSAGES)
        self._transmitter.serve(self._resolver.interfaces_up())
        if self._control.malformed:
            self._counters.add(Counter.BAD_MESSAGES, self._control.malformed)
            self._control.malformed = 0
        # What nobody takes out of its queue now must not wake the loop.
        self._control.register(self._poller)
        self._poller.register(self._frames, zmq.POLLIN if self._is_told_interfaces else 0)

    def _take_frames(self, now: float) -> None:
        taken = 0
        while taken < FRAMES_PER_TURN and (parts := receive(self._frames)) is not None:
            try:
                taken += self._take(parts, now)
            except MessageError:
                self._counters.add(Counter.BAD_MESSAGES)
                taken += 1

    def _take(self, parts: list[bytes], now: float) -> int:
        """Work off one message, and return how many frames' worth of work it was.

        :raises MessageError: it is malformed, or of a kind that is not meant for arp.
        """
        message = decode(parts[0])
        if isinstance(message, NeighboursUsed) and len(parts) == 1:
            self._effects.perform(self._resolver.on_used(message.neighbours, now))
            return max(1, len(message.neighbours))
        if isinstance(message, Handed) and len(parts) == 1:
            self._taken.expect(message.interface, message.handed)
            self._is_asked |= message.answer
            return 1
        if not isinstance(message, FrameBatch) or message.purpose not in ("arp", "unresolved"):
            raise MessageError("not for arp")
        frames = decode_frames(message, parts[1:])
        is_arp = message.purpose == "arp"
        resolve = self._resolver.on_arp_frame if is_arp else self._resolver.on_unresolved
        sender = frames[0].in_interface if is_arp else 0
        self._taken.expect(sender, message.handed)
        began = clock()
        for frame in frames:
            self._taken.take(sender, message.handed)
            self._effects.perform(resolve(frame, now))
        self._counters.meters.observe_batch(
            Histogram.RESOLVE_FRAMES, Histogram.RESOLVE_NS, message.count, clock() - began
        )
        return message.count

    def _hand_back(self, frames: list[Frame]) -> bool:
        before = self._handed.begin(len(frames))
        taken = try_send(self._forwarder, encode_frames("unreachable", frames, before))
        if not taken:
            self._handed.undo(len(frames))
        return taken

    def _publish(self, state: NeighbourState) -> None:
        self._is_asked = False
        self._state.publish(state.model_copy(update={"taken": self._taken.taken()}), clock())

    def _full_state(self) -> NeighbourState:
        return NeighbourState(full=True, neighbours=self._resolver.usable(), taken=self._taken.taken())
