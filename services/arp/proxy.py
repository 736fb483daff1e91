"""Proxy ARP (RFC 1027): answering for hosts that are reached by another interface. Pure.

Where routes lead, the forwarder knows: it is asked, and nothing of its table is kept here.
"""

from typing import Final, NamedTuple

from services.arp.links import Link
from services.common.token_bucket import TokenBucket
from services.common.wire import ipv4
from services.common.wire.arp import REQUEST, ArpMessage

MAX_QUESTIONS: Final = 64
"""Questions to the forwarder that are open at once; a request on top of them is left to its sender to repeat."""
QUESTION_TIME_S: Final = 1.0
"""After this a question is forgotten: its answer would be of no use to anybody."""
QUESTIONS_PER_SECOND: Final = 1000
"""Each costs the forwarder about 60 µs, so that no flood of requests takes more than a sixteenth of its time."""


class Route(NamedTuple):
    """What the forwarder says of an address."""

    kind: str
    """Of the path: `unicast`, `local`, and so on, or `none`."""
    interface: int
    """By which its datagrams leave; 0 for none."""


class Question(NamedTuple):
    """A request that is answered if the route to its target says so."""

    asked_at: float
    interface: int
    message: ArpMessage


class ProxyQuestions:
    """The requests whose answer depends on a route."""

    def __init__(self, now: float = 0.0) -> None:
        """Begin with none."""
        self._open: dict[int, Question] = {}
        self._number = 0
        self._budget = TokenBucket.full(QUESTIONS_PER_SECOND, MAX_QUESTIONS, now)

    def ask(self, link: Link, message: ArpMessage, now: float) -> int | None:
        """Return the number of a new question about the route to a request's target, None where there is none to ask.

        The router does not answer for its own hosts' announcements, nor a probe: whoever looks for a conflict
        (RFC 5227 section 2.1.1) would find one in every address (Linux arp_process(), `sip == 0`).
        """
        target = message.target_ip
        if not link.proxy_arp or message.operation != REQUEST or message.sender_ip in (0, target):
            return None
        if not ipv4.names_single_host(target) or link.is_broadcast(target):
            return None
        for number in [one for one, each in self._open.items() if now - each.asked_at >= QUESTION_TIME_S]:
            del self._open[number]
        if len(self._open) >= MAX_QUESTIONS or not self._budget.take(now):
            return None
        self._number += 1
        self._open[self._number] = Question(now, link.index, message)
        return self._number

    def on_route(self, number: int, route: Route, now: float) -> Question | None:
        """Return the request to answer now that the route to its target is known, None where there is none.

        Never on the link that the target is on itself, nor where no route leads to it (Linux arp_fwd_proxy()).
        """
        question = self._open.pop(number, None)
        if question is None or now - question.asked_at >= QUESTION_TIME_S:
            return None
        return question if route.kind == "unicast" and route.interface not in (0, question.interface) else None
