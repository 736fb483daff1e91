"""The life of one neighbour, as a table: neighbour unreachability detection as Linux does it for ARP.

States and their names are RFC 4861's (section 7.3.2), as in `ip neigh`. A missing row changes nothing.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final, NamedTuple


class State(Enum):
    """What is known about a neighbour."""

    NONE = "NONE"  # no entry
    INCOMPLETE = "INCOMPLETE"  # asked for by broadcast; datagrams wait
    REACHABLE = "REACHABLE"  # it answered this router a short while ago
    STALE = "STALE"  # its MAC is known, but not whether it still answers; nothing was sent to it since
    DELAY = "DELAY"  # as stale, but in use: if nothing confirms it soon, it is probed
    PROBE = "PROBE"  # as stale, asked for by unicast
    FAILED = "FAILED"  # it did not answer
    PERMANENT = "PERMANENT"  # configured; ARP changes nothing


class Event(Enum):
    """What happens to a neighbour."""

    DATAGRAM = "a datagram to send to it"
    DATAGRAM_REFUSED = "a datagram to send, but it failed a moment ago, or there is no address to ask with"
    USED = "the forwarder sent frames to it, or would if it answered"
    TIMEOUT = "the time in this state is over"
    EXHAUSTED = "the time is over, and it was asked as often as it may be"
    INTRODUCED = "a request for an address of this router from a stranger"
    REPLY = "a reply to this router, with the MAC known, or the first one"
    HINT = "any other message from it, with the MAC known, or the first one: says nothing about the way to it"
    REPLY_OTHER_MAC = "a reply to this router, with another MAC"
    HINT_OTHER_MAC = "any other message from it, with another MAC"
    CONFIGURED = "the configuration gives its MAC"
    UNCONFIGURED = "the configuration does not give its MAC any more"
    REMOVED = "the operator removes it"
    EXAMINED = "the operator wants to know whether it answers"
    EVICTED = "its place in the table is needed"
    LINK_DOWN = "its interface went down, or away"


class Do(Enum):
    """What a transition asks for, carried out in the order of its row."""

    QUEUE = "let the datagram wait"
    SEND = "send the datagram"
    RETURN = "return the datagram as unreachable"
    ASK_ALL = "broadcast a request"
    ASK_ONE = "send a request to the MAC known"
    LEARN = "take over the MAC, and believe no other one for a while"
    SEND_WAITING = "send the waiting datagrams, in order"
    RETURN_WAITING = "return the waiting datagrams as unreachable"
    DROP_WAITING = "drop the waiting datagrams"
    PUBLISH = "tell the forwarder the MAC"
    WITHDRAW = "tell the forwarder that there is no MAC any more, and forget it"
    REFUSE = "remember for a while that it does not answer"
    REARM = "begin the time in this state anew; entering another state does so by itself"


class Transition(NamedTuple):
    """The state an event leads to, and what to do on the way."""

    to: State
    do: tuple[Do, ...] = ()


def _to(state: State, *do: Do) -> Transition:
    return Transition(state, do)


# Rows that states share
_GIVE_MAC: Final = (Do.LEARN, Do.SEND_WAITING, Do.PUBLISH)
_CONFIGURED: Final = {Event.CONFIGURED: _to(State.PERMANENT, Do.LEARN, Do.PUBLISH)}
_FLUSHED: Final = {
    Event.LINK_DOWN: _to(State.NONE, Do.WITHDRAW),
    Event.REMOVED: _to(State.NONE, Do.WITHDRAW),
}
_EXAMINED: Final = {Event.EXAMINED: _to(State.PROBE, Do.ASK_ONE)}
_NEW_MAC: Final = {
    Event.REPLY_OTHER_MAC: _to(State.REACHABLE, Do.LEARN, Do.PUBLISH),
    Event.HINT_OTHER_MAC: _to(State.STALE, Do.LEARN, Do.PUBLISH),
}

TRANSITIONS: Final[Mapping[State, Mapping[Event, Transition]]] = {
    State.NONE: {
        Event.DATAGRAM: _to(State.INCOMPLETE, Do.QUEUE, Do.ASK_ALL),
        Event.DATAGRAM_REFUSED: _to(State.NONE, Do.RETURN),
        Event.USED: _to(State.INCOMPLETE, Do.ASK_ALL),
        Event.INTRODUCED: _to(State.STALE, Do.LEARN, Do.PUBLISH),
        Event.EXAMINED: _to(State.INCOMPLETE, Do.ASK_ALL),
        **_CONFIGURED,
    },
    State.INCOMPLETE: {
        Event.DATAGRAM: _to(State.INCOMPLETE, Do.QUEUE),
        Event.TIMEOUT: _to(State.INCOMPLETE, Do.ASK_ALL, Do.REARM),
        Event.EXHAUSTED: _to(State.FAILED, Do.RETURN_WAITING, Do.REFUSE),
        Event.REPLY: _to(State.REACHABLE, *_GIVE_MAC),
        Event.HINT: _to(State.STALE, *_GIVE_MAC),
        Event.REMOVED: _to(State.NONE, Do.RETURN_WAITING),
        Event.EVICTED: _to(State.NONE, Do.DROP_WAITING),
        Event.LINK_DOWN: _to(State.NONE, Do.DROP_WAITING),
        Event.CONFIGURED: _to(State.PERMANENT, *_GIVE_MAC),
    },
    State.REACHABLE: {
        Event.DATAGRAM: _to(State.REACHABLE, Do.SEND),
        Event.TIMEOUT: _to(State.STALE),
        Event.REPLY: _to(State.REACHABLE, Do.REARM),
        **_NEW_MAC,
        Event.REPLY_OTHER_MAC: _to(State.REACHABLE, Do.LEARN, Do.PUBLISH, Do.REARM),
        **_EXAMINED,
        **_FLUSHED,
        **_CONFIGURED,
    },
    State.STALE: {
        Event.DATAGRAM: _to(State.DELAY, Do.SEND),
        Event.USED: _to(State.DELAY),
        Event.TIMEOUT: _to(State.NONE, Do.WITHDRAW),
        Event.REPLY: _to(State.REACHABLE, Do.LEARN),
        Event.HINT: _to(State.STALE, Do.REARM),
        **_NEW_MAC,
        Event.HINT_OTHER_MAC: _to(State.STALE, Do.LEARN, Do.PUBLISH, Do.REARM),
        Event.EVICTED: _to(State.NONE, Do.WITHDRAW),
        **_EXAMINED,
        **_FLUSHED,
        **_CONFIGURED,
    },
    State.DELAY: {
        Event.DATAGRAM: _to(State.DELAY, Do.SEND),
        Event.TIMEOUT: _to(State.PROBE, Do.ASK_ONE),
        Event.REPLY: _to(State.REACHABLE, Do.LEARN),
        **_NEW_MAC,
        **_EXAMINED,
        **_FLUSHED,
        **_CONFIGURED,
    },
    State.PROBE: {
        Event.DATAGRAM: _to(State.PROBE, Do.SEND),
        Event.TIMEOUT: _to(State.PROBE, Do.ASK_ONE, Do.REARM),
        # Nobody was asked by broadcast yet: the next datagram does that, so its sender is not refused.
        Event.EXHAUSTED: _to(State.FAILED, Do.WITHDRAW),
        Event.REPLY: _to(State.REACHABLE, Do.LEARN),
        **_NEW_MAC,
        **_FLUSHED,
        **_CONFIGURED,
    },
    State.FAILED: {
        Event.DATAGRAM: _to(State.INCOMPLETE, Do.QUEUE, Do.ASK_ALL),
        Event.DATAGRAM_REFUSED: _to(State.FAILED, Do.RETURN),
        Event.USED: _to(State.INCOMPLETE, Do.ASK_ALL),
        Event.TIMEOUT: _to(State.NONE),
        Event.REPLY: _to(State.REACHABLE, Do.LEARN, Do.PUBLISH),
        Event.HINT: _to(State.STALE, Do.LEARN, Do.PUBLISH),
        Event.EXAMINED: _to(State.INCOMPLETE, Do.ASK_ALL),
        Event.REMOVED: _to(State.NONE),
        Event.EVICTED: _to(State.NONE),
        Event.LINK_DOWN: _to(State.NONE),
        **_CONFIGURED,
    },
    State.PERMANENT: {
        Event.DATAGRAM: _to(State.PERMANENT, Do.SEND),
        Event.UNCONFIGURED: _to(State.NONE, Do.WITHDRAW),
        **_CONFIGURED,
    },
}
