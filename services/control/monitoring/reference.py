"""docs/metrics.md: every metric with its labels, made from what control exports. `make metrics` writes it anew."""

from collections.abc import Iterator
from typing import Final, get_args

from services.common.counters import Kind
from services.common.messages import RouteKind
from services.common.meters import NEIGHBOUR_GAUGES
from services.common.nat_rules import PORT_PROTOCOLS, SESSION_STATES
from services.control.monitoring.collector import MetricsCollector
from services.control.monitoring.families import GROUPED, STAGES
from services.control.monitoring.snapshot import InterfaceMetrics, MetricsSnapshot, ServiceMetrics

_EXAMPLE: Final = MetricsSnapshot(
    interfaces=(InterfaceMetrics("eth0", True, 1500, True),),
    services=tuple(
        ServiceMetrics(process.partition("-")[0], process)
        for process in ("control", "arp", "forwarder", "ingress-eth0")
    ),
)
_LABELS: Final = {
    "interface": "an interface's name, or `-` for what belongs to none",
    "service": "`control`, `forwarder`, `arp`, `ingress`",
    "process": "the service, and of an ingress its interface: `ingress-eth0`. (Prometheus itself adds `instance`, the "
    "router's address.)",
    "stage": ", ".join(f"`{stage.name}`" for stage in STAGES),
    "state": ", ".join(f"`{state.lower()}`" for state in NEIGHBOUR_GAUGES),
    "kind": ", ".join(f"`{kind}`" for kind in get_args(RouteKind)),
    "origin": "the name of a routing protocol as `ip route` writes it (`kernel`, `static`, `bgp`, …), or `other`",
    "reason": "see [Reasons](#reasons)",
    "cause": "`error_rate_limit`, `error_forbidden`, `redirect_rate_limit`",
    "message": "`error`, `redirect`; of ARP `request`, `reply`",
    "session": ", ".join(f"`{state.replace(' ', '_')}`" for state in SESSION_STATES),
    "protocol": ", ".join(f"`{protocol}`" for protocol in PORT_PROTOCOLS),
    "version": "hopwire's version",
    "python": "Python's version",
}
_HEAD: Final = """\
# Metrics

What control exports at `/metrics` for Prometheus; see [monitoring.md](monitoring.md) for what to do with it. This file
is made from the code: `make metrics`.

All names begin with `hopwire_`. Units are base units: seconds, bytes; what ends in `_total` only grows, also when a
service, or control itself, is started again. No address is a label, and every combination of labels is there from the
start: a reason for which nothing was dropped yet has the value 0.

How often something was full is a matter of the drop reasons: `rx_overrun` (the kernel's receive ring), `forwarder_full`
(the ring to the forwarder), `arp_full`, `slow_path_full`, `tx_full`.
"""


def _labels_of(metric: object) -> str:
    samples = getattr(metric, "samples", [])
    labels = dict.fromkeys(label for sample in samples for label in sample.labels if label != "le")
    return ", ".join(f"`{label}`" for label in labels)


def _lines() -> Iterator[str]:
    collector = MetricsCollector()
    collector.snapshot = _EXAMPLE
    yield _HEAD
    yield "| metric | type | labels | meaning |"
    yield "|---|---|---|---|"
    for metric in collector.collect():
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        yield f"| `{name}` | {metric.type} | {_labels_of(metric)} | {metric.documentation} |"
    yield "\n## Labels\n\n| label | values |\n|---|---|"
    for label, values in _LABELS.items():
        yield f"| `{label}` | {values} |"
    yield (
        "\n## Reasons\n\nThe counters of the same name, as `control-cli counters` calls them, stand in "
        "`services/common/counters.py`. The frame balance: received + generated = forwarded + generated_sent + "
        "delivered + consumed + dropped + waiting.\n"
    )
    yield "| metric | reason | meaning |\n|---|---|---|"
    for family in GROUPED:
        for counter, reason in family.values.items():
            if counter.kind in (Kind.DELIVERED, Kind.CONSUMED, Kind.DROPPED):
                yield f"| `{family.name}` | `{reason}` | {counter.text} |"


def text() -> str:
    """Return the whole file."""
    return "\n".join(_lines()) + "\n"


if __name__ == "__main__":
    print(text(), end="")  # noqa: T201 - the product of this command
