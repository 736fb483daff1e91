"""The resolver: a pure core. Frames, messages and the time go in, actions and the next deadline come out.

Standards: RFC 826 (ARP), RFC 1122 section 2.3.2 (cache, queue, flooding), RFC 5227 (address conflicts), and for the
states RFC 4861 section 7.3 as Linux applies it to ARP (net/core/neighbour.c, net/ipv4/arp.c).
"""

from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address
from typing import Any, Final

from services.arp.actions import Action, AskRoute, Count, Publish, Return, SendArp, Transmit, Withdraw
from services.arp.announcer import Announcer
from services.arp.deadlines import Deadlines, Key
from services.arp.links import Link, LinkChange, Links
from services.arp.proxy import ProxyQuestions, Route
from services.arp.reception import PAYLOAD_START, read_message
from services.arp.requests import RequestLimits
from services.arp.states import TRANSITIONS, Do, Event, State
from services.arp.table import Entry, NeighbourTable
from services.arp.waiting import WaitingFrames
from services.common.counters import Counter
from services.common.messages import Frame, Neighbour, RouterState
from services.common.parameters import ArpParameters
from services.common.wire import ethernet
from services.common.wire.arp import REPLY, REQUEST, ArpMessage

_MIN_RANDOM_FACTOR: Final = 0.5  # RFC 4861 section 10; MAX_RANDOM_FACTOR is 1.5, so the factor's span is 1
_WITHOUT_REQUEST: Final = frozenset({State.NONE, State.FAILED})
_DROP_REASON: Final = {
    Event.EVICTED: Counter.DROP_NEIGHBOUR_TABLE,
    Event.LINK_DOWN: Counter.DROP_UNKNOWN_INTERFACE,
}


class Resolver:
    """The neighbours of all interfaces. Every method returns what is to be done, in order."""

    def __init__(self, random: Callable[[], float]) -> None:
        """Begin without interfaces; `random` returns numbers from 0 to 1, and spreads REACHABLE's length."""
        self._random = random
        self._parameters = ArpParameters()
        self._links = Links()
        self._table = NeighbourTable()
        self._waiting = WaitingFrames()
        self._timers = Deadlines()
        self._announcer = Announcer()
        self._proxy = ProxyQuestions()
        self._requests = RequestLimits()

    # --- Inputs -------------------------------------------------------------------------------------------------------

    def on_router_state(self, state: RouterState, now: float) -> list[Action]:
        """Take over control's interfaces and parameters."""
        if state.parameters is not None:
            self._parameters = state.parameters.arp
        changes = self._links.apply(state)
        actions = [action for change in changes for action in self._on_link_change(change, now)]
        if changes or state.parameters is not None:
            actions += self._apply_configured(now)
        return actions

    def on_unresolved(self, frame: Frame, now: float) -> list[Action]:
        """Take a frame that is to be sent to a next hop: send it, let it wait, return it, or drop it."""
        link = self._links.get(frame.out_interface)
        if link is None or not link.up:
            return _taken(link, frame, Counter.DROP_UNKNOWN_INTERFACE)
        if len(frame.data) < PAYLOAD_START:
            return _taken(link, frame, Counter.DROP_RUNT)
        actions = _taken(link, frame)
        entry = self._entry(link.index, frame.next_hop, now)
        event = Event.DATAGRAM
        if entry.state in _WITHOUT_REQUEST and (now < entry.refused_until or not link.addresses):
            event = Event.DATAGRAM_REFUSED
        elif entry.state in _WITHOUT_REQUEST and not self._requests.may_begin(entry.key, now, self._parameters):
            return [*actions, Count(Counter.DROP_ARP_REQUESTS, link.index, frame=frame)]
        elif entry.state is State.NONE and not self._make_room(actions, now):
            return [*actions, Count(Counter.DROP_NEIGHBOUR_TABLE, link.index, frame=frame)]
        return actions + self._step(entry, event, now, frame=frame)

    def on_arp_frame(self, frame: Frame, now: float) -> list[Action]:
        """Take a frame with an ARP message."""
        link = self._links.get(frame.in_interface)
        if link is None or not link.up:
            return _taken(link, frame, Counter.DROP_UNKNOWN_INTERFACE)
        message = read_message(frame, link, lambda address: self._is_off_prefix_neighbour(link.index, address))
        if isinstance(message, Counter):
            return _taken(link, frame, message)
        actions = _taken(link, frame, Counter.ARP_HANDLED)
        if message.sender_ip in link.own:
            return actions + self._announcer.on_claim(link, message, now)
        is_for_us = message.target_ip in link.own
        if is_for_us and message.operation == REQUEST:
            actions.append(_reply(link, message))
        elif not is_for_us and (number := self._proxy.ask(link, message, now)) is not None:
            actions.append(AskRoute(number, message.target_ip))
        if message.sender_ip:
            is_reply_to_us = is_for_us and message.operation == REPLY and frame.packet_type == ethernet.PACKET_HOST
            actions += self._on_sender(link, message, now, is_for_us=is_for_us, is_reply_to_us=is_reply_to_us)
        return actions

    def on_route(self, number: int, route: Route, now: float) -> list[Action]:
        """Take the forwarder's answer to `AskRoute`: answer the request where it says so, and learn its sender."""
        question = self._proxy.on_route(number, route, now)
        link = self._links.get(question.interface) if question is not None else None
        if question is None or link is None or not link.up or not link.proxy_arp:
            return []
        sender = self._on_sender(link, question.message, now, is_for_us=True, is_reply_to_us=False)
        return [_reply(link, question.message), *sender]

    def on_used(self, neighbours: Iterable[Key], now: float) -> list[Action]:
        """Take note of neighbours that the forwarder sent frames to, or would if they answered: those are asked for."""
        actions: list[Action] = []
        for interface, address in neighbours:
            entry = self._entry(interface, address, now)
            if entry.state not in _WITHOUT_REQUEST or self._may_ask(entry, actions, now):
                actions += self._step(entry, Event.USED, now)
        return actions

    def on_remove(self, neighbour: Key, now: float) -> list[Action] | None:
        """Forget a neighbour; None where there is none that may be forgotten."""
        entry = self._table.get(neighbour)
        if entry is None or Event.REMOVED not in TRANSITIONS[entry.state]:
            return None
        return self._step(entry, Event.REMOVED, now)

    def on_flush(self, interface: int | None, now: float) -> list[Action]:
        """Forget the neighbours of an interface, or of all of them, that are not permanent."""
        entries = [entry for entry in self._table if interface in (None, entry.interface)]
        return [action for entry in entries for action in self._step(entry, Event.REMOVED, now)]

    def on_examine(self, neighbour: Key, now: float) -> list[Action] | None:
        """Ask a neighbour at once, whatever its state; None where the interface cannot ask, or the table is full."""
        link = self._links.get(neighbour[0])
        entry = self._entry(*neighbour, now)
        actions: list[Action] = []
        if link is None or not link.up or not link.addresses:
            return None
        if entry.state is State.NONE and not self._make_room(actions, now):
            return None
        return actions + self._step(entry, Event.EXAMINED, now)

    def on_time(self, now: float) -> list[Action]:
        """Do what is due at `now`; `next_deadline` says when to call it."""
        actions = self._announcer.on_time(self._links, now)
        for key in self._timers.take_due(now):
            entry = self._table.get(key)
            if entry is not None:
                actions += self._step(entry, Event.EXHAUSTED if self._is_exhausted(entry) else Event.TIMEOUT, now)
        return actions

    def on_stop(self) -> list[Action]:
        """Give up the frames that wait: nobody will send them."""
        return _dropped(self._waiting.take_all(), Counter.DROP_RESTARTED)

    # --- What it knows ------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """Return when `on_time` has something to do, infinity for never."""
        return min(self._timers.earliest(), self._announcer.next_deadline())

    def interfaces_up(self) -> dict[int, str]:
        """Return the names of the interfaces that are up, by index."""
        return {link.index: link.name for link in self._links if link.up}

    def usable(self) -> list[Neighbour]:
        """Return all neighbours whose MAC is known."""
        return [
            Neighbour(interface=entry.interface, address=entry.address, mac=entry.mac)
            for entry in self._table
            if entry.mac is not None
        ]

    def neighbours_by_state(self) -> Mapping[tuple[int, State], int]:
        """Return how many neighbours an interface has in a state; also 0 where it had some."""
        return self._table.by_state

    def waiting_bytes(self) -> dict[int, int]:
        """Return the bytes of the frames that wait, by interface."""
        return self._waiting.octets_by_interface()

    def show(self, now: float) -> list[dict[str, Any]]:
        """Return the table as `neigh.show` answers it."""
        return [
            {
                "dst": entry.address,
                "interface": entry.interface,
                "lladdr": entry.mac,
                "state": entry.state.value,
                "age_s": now - entry.heard_at,
                "waiting_frames": self._waiting.count(entry.key),
                "waiting_bytes": self._waiting.octets(entry.key),
            }
            for entry in self._table
        ]

    # --- Interfaces and configuration ---------------------------------------------------------------------------------

    def _on_link_change(self, change: LinkChange, now: float) -> list[Action]:
        before, after = change
        is_up = after is not None and after.up
        actions: list[Action] = []
        if before is not None and not is_up:
            self._requests.forget(before.index)
            entries = [entry for entry in self._table if entry.interface == before.index]
            actions += [action for entry in entries for action in self._step(entry, Event.LINK_DOWN, now)]
        announced = before.own if before is not None and before.up else frozenset()
        kept = after.own if after is not None and is_up else frozenset()
        if before is not None:
            self._announcer.forget(before.index, announced - kept)
        if after is not None:
            has_new_mac = before is not None and before.mac != after.mac
            actions += self._announcer.announce(after, kept if has_new_mac else kept - announced, now)
        return actions

    def _apply_configured(self, now: float) -> list[Action]:
        configured: dict[Key, bytes] = {}
        for each in self._parameters.permanent_neighbours:
            link = self._links.named(each.interface)
            if link is not None:
                configured[link.index, int(IPv4Address(each.address))] = bytes.fromhex(each.mac.replace(":", ""))
        actions: list[Action] = []
        for entry in self._table:
            if entry.state is State.PERMANENT and entry.key not in configured:
                actions += self._step(entry, Event.UNCONFIGURED, now)
        for (interface, address), mac in configured.items():
            entry = self._entry(interface, address, now)
            if entry.state is not State.PERMANENT or entry.mac != mac:
                actions += self._step(entry, Event.CONFIGURED, now, mac=mac)
        return actions

    # --- Messages -----------------------------------------------------------------------------------------------------

    def _is_off_prefix_neighbour(self, interface: int, address: int) -> bool:
        return self._table.get((interface, address)) is not None or self._links.is_gateway(interface, address)

    def _on_sender(
        self, link: Link, message: ArpMessage, now: float, *, is_for_us: bool, is_reply_to_us: bool
    ) -> list[Action]:
        """Refresh the sender where it is known; get to know it where it asks for this router (RFC 1122 2.3.2.1)."""
        actions: list[Action] = []
        entry = self._entry(link.index, message.sender_ip, now)
        if entry.state is State.NONE:
            if not is_for_us or message.operation != REQUEST or not self._make_room(actions, now):
                return actions
            event = Event.INTRODUCED
        elif entry.mac is None or entry.mac == message.sender_mac:
            event = Event.REPLY if is_reply_to_us else Event.HINT
        elif now >= entry.locked_until:
            event = Event.REPLY_OTHER_MAC if is_reply_to_us else Event.HINT_OTHER_MAC
        else:
            return actions  # the first of several answers counts: Linux's locktime
        entry.heard_at = now
        return actions + self._step(entry, event, now, mac=message.sender_mac)

    def _may_ask(self, entry: Entry, actions: list[Action], now: float) -> bool:
        """Tell whether a neighbour may be asked for without a datagram; makes room for it."""
        link = self._links.get(entry.interface)
        if link is None or not link.up or not link.addresses or now < entry.refused_until:
            return False
        return entry.state is State.FAILED or self._make_room(actions, now)

    # --- The state machine --------------------------------------------------------------------------------------------

    def _entry(self, interface: int, address: int, now: float) -> Entry:
        return self._table.get((interface, address)) or Entry(interface, address, heard_at=now)

    def _make_room(self, actions: list[Action], now: float) -> bool:
        """Evict entries until one more fits; False where all are in use."""
        while len(self._table) >= self._parameters.max_neighbours:
            victim = self._table.victim()
            if victim is None:
                return False
            self._requests.evicted(victim.key, victim.asked_at, self._parameters)
            actions += self._step(victim, Event.EVICTED, now)
        return True

    def _step(
        self, entry: Entry, event: Event, now: float, *, frame: Frame | None = None, mac: bytes | None = None
    ) -> list[Action]:
        """Take one entry through one row of the table."""
        transition = TRANSITIONS[entry.state].get(event)
        if transition is None:
            return []
        is_new_state = transition.to is not entry.state
        if is_new_state:
            entry.attempts = 0
            self._table.move(entry, transition.to)
        actions: list[Action] = []
        for do in transition.do:
            actions += self._carry_out(do, entry, event, now, frame, mac)
        if is_new_state or Do.REARM in transition.do:
            self._arm(entry, now)
        return actions

    def _carry_out(
        self, do: Do, entry: Entry, event: Event, now: float, frame: Frame | None, mac: bytes | None
    ) -> list[Action]:
        actions: list[Action] = []
        match do:
            case Do.QUEUE | Do.SEND | Do.RETURN if frame is not None:
                actions = self._do_with_frame(do, entry, frame)
            case Do.ASK_ALL | Do.ASK_ONE:
                actions = self._ask(entry, ethernet.BROADCAST if do is Do.ASK_ALL else entry.mac, now)
            case Do.SEND_WAITING | Do.RETURN_WAITING | Do.DROP_WAITING:
                actions = self._release(do, entry, event)
            case Do.PUBLISH if entry.mac is not None:
                actions = [Publish(entry.interface, entry.address, entry.mac)]
            case Do.WITHDRAW:
                entry.mac = None
                actions = [Withdraw(entry.interface, entry.address)]
            case Do.LEARN:
                entry.mac, entry.locked_until = mac, now + self._parameters.locktime_s
            case Do.REFUSE:
                entry.refused_until = now + self._parameters.failed_time_s
        return actions

    def _do_with_frame(self, do: Do, entry: Entry, frame: Frame) -> list[Action]:
        if do is Do.SEND:
            return self._transmit(entry, [frame], waited=False)
        if do is Do.RETURN:
            return [Return([frame], waited=False)]
        gone = self._waiting.add(entry.key, frame, self._parameters)
        return [Count(Counter.WAITING, entry.interface), *_dropped(gone, Counter.DROP_NEIGHBOUR_QUEUE)]

    def _release(self, do: Do, entry: Entry, event: Event) -> list[Action]:
        frames = self._waiting.take(entry.key)
        if do is Do.SEND_WAITING:
            return self._transmit(entry, frames, waited=True)
        if do is Do.DROP_WAITING:
            return _dropped(frames, _DROP_REASON[event])
        return [Return(frames, waited=True)] if frames else []

    def _transmit(self, entry: Entry, frames: list[Frame], *, waited: bool) -> list[Action]:
        link = self._links.get(entry.interface)
        if not frames or link is None or entry.mac is None:
            return []
        return [Transmit(entry.interface, entry.mac, link.mac, frames, waited)]

    def _ask(self, entry: Entry, destination: bytes | None, now: float) -> list[Action]:
        entry.attempts += 1
        link = self._links.get(entry.interface)
        source = link.source_for(entry.address) if link is not None else None
        if link is None or source is None or destination is None:
            return []  # the addresses went while it was asked for: it fails in its time
        entry.asked_at = now
        self._requests.sent(link.index, now, self._parameters)
        message = ArpMessage(REQUEST, link.mac, source, entry.mac or ethernet.NO_MAC, entry.address)
        return [SendArp(entry.interface, destination, message)]

    def _is_exhausted(self, entry: Entry) -> bool:
        allowed = {State.INCOMPLETE: self._parameters.multicast_solicit, State.PROBE: self._parameters.unicast_solicit}
        return entry.state in allowed and entry.attempts >= allowed[entry.state]

    def _arm(self, entry: Entry, now: float) -> None:
        """Begin the time that an entry may spend in its state."""
        parameters = self._parameters
        match entry.state:
            case State.INCOMPLETE | State.PROBE:
                time_s = parameters.retransmit_time_s
            case State.REACHABLE:
                time_s = parameters.base_reachable_time_s * (_MIN_RANDOM_FACTOR + self._random())
            case State.STALE:
                time_s = parameters.stale_time_s
            case State.DELAY:
                time_s = parameters.delay_probe_time_s
            case State.FAILED:
                time_s = parameters.failed_time_s
            case State.NONE | State.PERMANENT:
                self._timers.cancel(entry.key)
                return
        self._timers.set(entry.key, now + time_s)


def _taken(link: Link | None, frame: Frame, *fates: Counter) -> list[Action]:
    """Count a frame as taken, and what became of it where that is known already."""
    row = link.index if link is not None else 0
    return [Count(Counter.TAKEN, row), *(Count(fate, row, frame=frame) for fate in fates)]


def _reply(link: Link, request: ArpMessage) -> SendArp:
    message = ArpMessage(REPLY, link.mac, request.target_ip, request.sender_mac, request.sender_ip)
    return SendArp(link.index, request.sender_mac, message)


def _dropped(frames: Iterable[Frame], reason: Counter) -> list[Action]:
    """Count frames as dropped that were counted as waiting."""
    return [
        count
        for frame in frames
        for count in (Count(reason, frame.out_interface, frame=frame), Count(Counter.WAITING, frame.out_interface, -1))
    ]
