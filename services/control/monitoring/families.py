"""How counters, meters and histograms are called in Prometheus: the one place for names, labels and units. Pure.

Names follow Prometheus's rules: base units (seconds, bytes), the unit in the name, `_total` for what only grows. No
address is a label, and all label values come from closed lists, so that the number of series is known beforehand.
"""

from typing import Final, NamedTuple

from services.common.counters import Counter, Kind
from services.common.meters import Gauge, Histogram

PREFIX: Final = "hopwire_"
NANOSECONDS: Final = 1e-9
"""Seconds."""
OTHER_ORIGIN: Final = "other"
"""The origin of routes whose protocol has no name."""


class CounterFamily(NamedTuple):
    """A metric that some counters are the values of, told apart by a label besides `interface`."""

    name: str
    text: str
    label: str = ""
    values: dict[Counter, str] = {}  # noqa: RUF012 - a named tuple's default, never changed


def _reason(counter: Counter) -> str:
    return counter.name.removeprefix("DROP_").lower()


def _by_reason(name: str, text: str, kind: Kind) -> CounterFamily:
    return CounterFamily(
        name, text, "reason", {counter: _reason(counter) for counter in Counter if counter.kind is kind}
    )


GROUPED: Final = (
    _by_reason("delivered_frames", "frames left to the kernel", Kind.DELIVERED),
    _by_reason("consumed_frames", "frames whose way ended in hopwire itself", Kind.CONSUMED),
    _by_reason("dropped_frames", "frames dropped", Kind.DROPPED),
    CounterFamily(
        "icmp_sent_messages",
        "ICMP messages generated, echo replies aside",
        "message",
        {Counter.ICMP_ERRORS: "error", Counter.REDIRECTS: "redirect"},
    ),
    CounterFamily(
        "icmp_suppressed_messages",
        "ICMP messages withheld: by a rate limit, or because RFC 1812 4.3.2.7 forbids them",
        "cause",
        {
            Counter.ICMP_SUPPRESSED: "error_rate_limit",
            Counter.ICMP_FORBIDDEN: "error_forbidden",
            Counter.REDIRECTS_SUPPRESSED: "redirect_rate_limit",
        },
    ),
    CounterFamily(
        "arp_sent_messages",
        "ARP messages sent",
        "message",
        {Counter.ARP_REQUESTS_SENT: "request", Counter.ARP_REPLIES_SENT: "reply"},
    ),
)
SINGLE: Final = {
    Counter.RX_FRAMES: "received_frames",
    Counter.RX_BYTES: "received_bytes",
    Counter.GENERATED: "generated_frames",
    Counter.FORWARDED: "forwarded_frames",
    Counter.GENERATED_SENT: "generated_sent_frames",
    Counter.TX_BYTES: "sent_bytes",
    Counter.SLOW_PATH: "slow_path_frames",
    Counter.BELLS: "forwarder_bells",
    Counter.BATCHES: "forwarder_batches",
}
"""Counters with a name of their own; any other is called as it is, in small letters."""
LEDGERS: Final = frozenset(
    {Counter.HANDED, Counter.TAKEN, Counter.HANDED_ARP, Counter.HANDED_FORWARDER, Counter.RECKONED}
)
"""Not exported: book-keeping between services, which is put right downwards where a message could not be sent."""


class Stage(NamedTuple):
    """A stage of the pipeline: the services that have it, and its two histograms."""

    name: str
    service: str
    frames: Histogram
    nanoseconds: Histogram


STAGES: Final = (
    Stage("receive", "ingress", Histogram.RECEIVE_FRAMES, Histogram.RECEIVE_NS),
    Stage("forward", "forwarder", Histogram.FORWARD_FRAMES, Histogram.FORWARD_NS),
    Stage("slow_path", "forwarder", Histogram.SLOW_PATH_FRAMES, Histogram.SLOW_PATH_NS),
    Stage("resolve", "arp", Histogram.RESOLVE_FRAMES, Histogram.RESOLVE_NS),
)
FRAME_EXPONENTS: Final = range(11)
"""Buckets of frames: up to 1, 2, 4, … 1024."""
TIME_EXPONENTS: Final = range(10, 31)
"""Buckets of times: up to 2**10 ns (1 µs), 2**11 ns, … 2**30 ns (1 s)."""

INTERFACE_GAUGES: Final = {
    Gauge.WAITING_BYTES: "waiting_bytes",
    Gauge.FRAME_RING_SLOTS: "frame_ring_slots",
    Gauge.FRAME_RING_PEAK: "frame_ring_peak_frames",
}
