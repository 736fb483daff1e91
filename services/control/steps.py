"""The steps of the forwarder's decision, in their order, and at which of them each verdict falls. Pure.

The order is that of `services/forwarder/pipeline.py` (`_load_and_validate`, `_route`, `_leaving`); a test runs frames
that fail at two steps through it, and finds the earlier one. Translation comes behind them, and overrides what they say
from options on; what it says of datagrams to the router itself stands with `destination`.
"""

from typing import Final, Literal, NamedTuple

from services.common.counters import Counter


class Step(NamedTuple):
    """One step."""

    name: str
    question: str
    """What it asks, and the standard that wants it."""
    verdicts: frozenset[Counter]
    """That end the decision here."""


class Stage(NamedTuple):
    """What a step said about a frame."""

    name: str
    result: Literal["passed", "stopped", "not reached"]
    text: str


STEPS: Final = (
    Step(
        "ingress",
        "whole, untagged, and room for it",
        frozenset(
            {
                Counter.DROP_RUNT,
                Counter.DROP_SNAPPED,
                Counter.DROP_VLAN,
                Counter.DROP_FORWARDER_FULL,
                Counter.DROP_RX_OVERRUN,
                Counter.DROP_STALE,
            }
        ),
    ),
    Step(
        "frame",
        "IPv4, for this router's MAC or a group of stations",
        frozenset(
            {
                Counter.DROP_RING_ENTRY,
                Counter.DROP_FOREIGN_MAC,
                Counter.NOT_IPV4,
                Counter.ARP_HANDLED,
                Counter.DROP_ARP_MALFORMED,
                Counter.DROP_ARP_SENDER,
            }
        ),
    ),
    Step(
        "header",
        "version, lengths and checksum right (RFC 1812 5.2.2)",
        frozenset(
            {
                Counter.DROP_IP_SHORT,
                Counter.DROP_IP_VERSION,
                Counter.DROP_IP_HEADER_LENGTH,
                Counter.DROP_IP_CHECKSUM,
                Counter.DROP_IP_TOTAL_LENGTH,
                Counter.DROP_IP_TRUNCATED,
            }
        ),
    ),
    Step("interface", "known and up", frozenset({Counter.DROP_UNKNOWN_INTERFACE})),
    Step(
        "addresses",
        "such as a host can have (RFC 1812 5.3.7)",
        frozenset({Counter.DROP_MARTIAN_SOURCE, Counter.DROP_MARTIAN_DESTINATION, Counter.LOCAL_GROUP}),
    ),
    Step("reverse path", "a way back to the source (RFC 3704)", frozenset({Counter.DROP_REVERSE_PATH})),
    Step("source route", "no such option (RFC 7126)", frozenset({Counter.DROP_SOURCE_ROUTED})),
    Step(
        "destination",
        "another host's",
        frozenset(
            {
                Counter.LOCAL,
                Counter.ECHO_ANSWERED,
                Counter.WAITING,
                Counter.DROP_DIRECTED_BROADCAST,
                Counter.DROP_NAT_FILTERED,
                Counter.DROP_NAT_NO_SESSION,
                Counter.DROP_NAT_TO_ROUTER,
            }
        ),
    ),
    Step("station", "sent to this router alone (RFC 1812 5.3.4)", frozenset({Counter.DROP_LINK_BROADCAST})),
    Step("link-local", "not 169.254/16 (RFC 3927 2.7)", frozenset({Counter.DROP_LINK_LOCAL})),
    Step("ttl", "2 or more (RFC 1812 5.3.1)", frozenset({Counter.DROP_TTL_EXCEEDED})),
    Step(
        "route",
        "one that forwards (RFC 1812 5.2.4)",
        frozenset({Counter.DROP_NO_ROUTE, Counter.DROP_BLACKHOLE, Counter.DROP_UNREACHABLE, Counter.DROP_PROHIBITED}),
    ),
    Step(
        "translation",
        "of a session, or of none where no rule asks for one (RFC 4787)",
        frozenset(
            {
                Counter.NAT_FRAGMENT_HELD,
                Counter.DROP_NAT_MALFORMED,
                Counter.DROP_NAT_ICMP,
                Counter.DROP_NAT_FRAGMENT,
                Counter.DROP_NAT_PROTOCOL,
                Counter.DROP_NAT_TABLE_FULL,
                Counter.DROP_NAT_PORTS_FULL,
                Counter.DROP_NAT_HOST_LIMIT,
                Counter.DROP_NAT_CLASH,
            }
        ),
    ),
    Step("options", "nothing to fill in (RFC 791 3.1)", frozenset({Counter.OPTIONS_FILLED})),
    Step("mtu", "not larger (RFC 1191, RFC 791)", frozenset({Counter.DROP_MTU_EXCEEDED, Counter.FRAGMENTED})),
    Step("neighbour", "its MAC is known (RFC 1122 2.3.2)", frozenset({Counter.HANDED, Counter.DROP_ARP_FULL})),
    Step("forward", "", frozenset({Counter.FORWARDED})),
)


def stages(verdict: Counter) -> list[Stage]:
    """Return what each step said of a frame with this verdict; none where it fell at no step, as for want of time."""
    at = next((number for number, step in enumerate(STEPS) if verdict in step.verdicts), None)
    if at is None:
        return []
    return [
        *(Stage(step.name, "passed", step.question) for step in STEPS[:at]),
        Stage(STEPS[at].name, "stopped" if verdict is not Counter.FORWARDED else "passed", verdict.text),
        *(Stage(step.name, "not reached", step.question) for step in STEPS[at + 1 :]),
    ]
