"""The verbs that look at single frames, as tables: see `vocabulary`."""

from collections.abc import Mapping
from typing import Final

from services.common.counters import DROPS
from services.common.wire.ipv4 import MAX_BYTES
from services.control.cli.filter_grammar import FIRST_WORDS, begins_filter
from services.control.cli.values import ADDRESS, DEVICE, FLOW, Value, numbers
from services.control.cli.verb import Operand, Tail, Verb
from services.control.cli.words import Word

CAPTURE: Final = "capture"
TRACE: Final = "trace"
DROPS_METHOD: Final = "drops"
WHY: Final = "why"

_PREFIX: Final = "DROP_"


def reason_word(name: str) -> str:
    """Return a drop reason as a word of the command line: `no-route`."""
    return name.removeprefix(_PREFIX).lower().replace("_", "-")


_REASONS: Final = {reason_word(reason.name): reason.name for reason in DROPS}


def _reason(text: str) -> str:
    name = text.upper().replace("-", "_")
    name = name if name.startswith(_PREFIX) else _PREFIX + name
    if name not in _REASONS.values():
        raise ValueError(text)
    return name


REASON: Final = Value("a drop reason as `show drops` lists them, such as no-route,", _reason, tuple(_REASONS))
_FILTER: Final = Tail("filter", begins_filter, FIRST_WORDS)

INSIGHT_VERBS: Final[Mapping[str, Verb]] = {
    "capture": Verb(
        method=CAPTURE,
        usage="capture [[dev] NAME|drops] [FILTER] -w FILE|- [-c COUNT]",
        summary="Write the frames of an interface, or of all, or those that are dropped, as pcapng to a file or a "
        "pipe, until Ctrl-C: with interface, direction, time in nanoseconds, and on drops the reason as a comment. The "
        "filter is as tcpdump's: host, net, port, portrange with src or dst before them, ip, arp, icmp, tcp, udp, "
        "proto, less, greater, and, or, not, parentheses.",
        words=(Word("drops", "drops"), Word("dev", "dev", DEVICE)),
        operand=Operand("dev", DEVICE),
        tail=_FILTER,
    ),
    "drops": Verb(
        method=DROPS_METHOD,
        usage="drops [REASON] [dev NAME]",
        summary="Show the last 64 dropped frames of each reason, or of this one: when, where, and what they were. They "
        "are always kept.",
        words=(Word("dev", "dev", DEVICE),),
        operand=Operand("reason", REASON),
    ),
    "trace": Verb(
        method=TRACE,
        usage="trace [FILTER] [-c COUNT]",
        summary="Show the way of the next frames that match through the router: what each step says, the route, the "
        "neighbour, and the time in each stage; one frame, or COUNT.",
        tail=_FILTER,
    ),
    "why": Verb(
        method=WHY,
        usage="why SOURCE DESTINATION [PROTOCOL[/PORT]] [iif NAME] [size BYTES] [ttl N]",
        summary="Say what would become of such a datagram, because of what, and which command would change it. The "
        "forwarder runs its own code on it, and sends and counts nothing.",
        words=(
            Word("iif", "iif", DEVICE),
            Word("size", "size", numbers("a number of bytes", 28, MAX_BYTES)),
            Word("ttl", "ttl", numbers("a number", 0, 255)),
        ),
        operand=Operand("src", ADDRESS, leads=("from",)),
        more=(Operand("dst", ADDRESS, leads=("to",)), Operand("flow", FLOW)),
        required=("src", "dst"),
    ),
}
