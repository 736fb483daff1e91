"""Turns a snapshot into Prometheus's metrics, each time that it asks."""

import platform
from collections.abc import Iterable, Iterator, Sequence
from typing import get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from services.common.counters import Counter, Kind
from services.common.messages import RouteKind
from services.common.meters import NEIGHBOUR_GAUGES, Gauge, Histogram, Meter
from services.common.nat_rules import PORT_PROTOCOLS, SESSION_STATES
from services.control.monitoring.families import (
    FRAME_EXPONENTS,
    GROUPED,
    INTERFACE_GAUGES,
    LEDGERS,
    NANOSECONDS,
    OTHER_ORIGIN,
    PREFIX,
    SINGLE,
    STAGES,
    TIME_EXPONENTS,
)
from services.control.monitoring.snapshot import NO_INTERFACE, MetricsSnapshot, ServiceMetrics
from services.control.names import PROTOCOL_NUMBERS

Values = Iterable[tuple[Sequence[str], float]]
"""Label values, and the metric's value for them."""


class MetricsCollector(Collector):
    """Turns the snapshot into metrics."""

    def __init__(self) -> None:
        self.snapshot = MetricsSnapshot()

    def collect(self) -> Iterable[Metric]:
        """Return all metrics."""
        snapshot = self.snapshot
        yield from _frames(snapshot)
        yield from _interfaces(snapshot)
        yield from _services(snapshot)
        yield from _stages(snapshot.services)
        yield from _routing(snapshot)
        yield from _translation(snapshot)
        yield from _router(snapshot)


def _counter(name: str, text: str, labels: Sequence[str], values: Values) -> Metric:
    family = CounterMetricFamily(PREFIX + name, text, labels=labels)
    for label_values, value in values:
        family.add_metric(label_values, value)
    return family


def _gauge(name: str, text: str, labels: Sequence[str], values: Values) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, text, labels=labels)
    for label_values, value in values:
        family.add_metric(label_values, value)
    return family


def _frames(snapshot: MetricsSnapshot) -> Iterator[Metric]:
    """Yield all counters, whatever they count."""
    names = list(dict.fromkeys((*(one.name for one in snapshot.interfaces), *snapshot.counters, NO_INTERFACE)))

    def value(name: str, counter: Counter) -> int:
        return snapshot.counters.get(name, {}).get(counter.name, 0)

    grouped = {counter for family in GROUPED for counter in family.values}
    for family in GROUPED:
        values = [([name, label], value(name, counter)) for counter, label in family.values.items() for name in names]
        yield _counter(family.name, family.text, ["interface", family.label], values)
    for counter in Counter:
        if counter in grouped or counter in LEDGERS:
            continue
        values = [([name], value(name, counter)) for name in names]
        if counter.kind is Kind.WAITING:
            yield _gauge("waiting_frames", counter.text, ["interface"], values)
        else:
            yield _counter(SINGLE.get(counter, counter.name.lower()), counter.text, ["interface"], values)


def _interfaces(snapshot: MetricsSnapshot) -> Iterator[Metric]:
    interfaces = snapshot.interfaces
    labels = ["interface"]
    yield _gauge("interface_up", "1 while it is up and has a carrier", labels, [([i.name], i.up) for i in interfaces])
    yield _gauge("interface_mtu_bytes", "its MTU, bytes of IP", labels, [([i.name], i.mtu) for i in interfaces])
    yield _gauge(
        "interface_forwarding", "1 while all services serve it", labels, [([i.name], i.forwarding) for i in interfaces]
    )

    def value(name: str, gauge: Gauge) -> int:
        return snapshot.gauges.get(name, {}).get(gauge.name, 0)

    for gauge, family in INTERFACE_GAUGES.items():
        yield _gauge(family, gauge.value, labels, [([i.name], value(i.name, gauge)) for i in interfaces])
    neighbours = [
        ([i.name, state.lower()], value(i.name, gauge)) for i in interfaces for state, gauge in NEIGHBOUR_GAUGES.items()
    ]
    yield _gauge("neighbours", "neighbours in arp's table by their state", ["interface", "state"], neighbours)


def _services(snapshot: MetricsSnapshot) -> Iterator[Metric]:
    labels = ["service", "process"]
    services = [([one.service, one.instance], one) for one in snapshot.services]

    def meter(one: ServiceMetrics, meter: Meter) -> int:
        return one.measured.meters.get(meter.name, 0)

    def resident(one: ServiceMetrics) -> int:
        return one.measured.gauges.get(0, {}).get(Gauge.RESIDENT_BYTES.name, 0)

    restarts = [(key, max(0, meter(one, Meter.STARTS) - 1)) for key, one in services]
    cpu = [(key, meter(one, Meter.CPU_NS) * NANOSECONDS) for key, one in services]
    wake_ups = [(key, meter(one, Meter.WAKE_UPS)) for key, one in services]
    yield _gauge("service_up", "1 while the service reports", labels, [(key, one.up) for key, one in services])
    yield _gauge("service_ready", "1 while it does its work", labels, [(key, one.ready) for key, one in services])
    yield _counter("service_restarts", "starts after the first one in this run directory", labels, restarts)
    yield _counter("service_cpu_seconds", "CPU time of all its runs: how long it was busy", labels, cpu)
    yield _counter("service_wake_ups", Meter.WAKE_UPS.text, labels, wake_ups)
    yield _gauge(
        "service_resident_memory_bytes",
        "memory in use; 0 while it is down",
        labels,
        [(key, resident(one)) for key, one in services],
    )


def _histogram(
    family: HistogramMetricFamily,
    labels: Sequence[str],
    one: ServiceMetrics | None,
    histogram: Histogram,
    exponents: range,
    unit: float = 1.0,
) -> None:
    """Add an instance's histogram to a family; `unit` is that of its values, in the family's."""
    total, *counts = (one.measured.histograms.get(histogram.name) if one is not None else None) or (0,)
    buckets = [
        (repr(float(f"{unit * 2**exponent:.10g}")), float(sum(counts[: exponent + 1]))) for exponent in exponents
    ]
    family.add_metric(labels, [*buckets, ("+Inf", float(sum(counts)))], total * unit)


def _stages(services: Sequence[ServiceMetrics]) -> Iterator[Metric]:
    labels = ["stage", "process"]
    frames = HistogramMetricFamily(f"{PREFIX}stage_batch_frames", "frames of each batch", labels=labels)
    seconds = HistogramMetricFamily(
        f"{PREFIX}stage_batch_seconds", "how long a batch took; the sum is the stage's busy time", labels=labels
    )
    for stage in STAGES:
        for one in services:
            if one.service == stage.service:
                key = [stage.name, one.instance]
                _histogram(frames, key, one, stage.frames, FRAME_EXPONENTS)
                _histogram(seconds, key, one, stage.nanoseconds, TIME_EXPONENTS, NANOSECONDS)
    yield frames
    yield seconds
    forwarder = next((one for one in services if one.service == "forwarder"), None)
    latency = HistogramMetricFamily(
        f"{PREFIX}latency_seconds",
        "from a frame's arrival in the kernel until it was sent; of each batch of the fast path the first frame's",
    )
    _histogram(latency, [], forwarder, Histogram.LATENCY_NS, TIME_EXPONENTS, NANOSECONDS)
    yield latency
    update = HistogramMetricFamily(
        f"{PREFIX}fib_update_seconds", "how long the forwarder took to apply a change of routes or interfaces"
    )
    _histogram(update, [], forwarder, Histogram.FIB_UPDATE_NS, TIME_EXPONENTS, NANOSECONDS)
    yield update


def _routing(snapshot: MetricsSnapshot) -> Iterator[Metric]:
    kinds = [([kind], snapshot.routes.get(kind, 0)) for kind in get_args(RouteKind)]
    yield _gauge("routes", "destinations in the routing table by what is done with them", ["kind"], kinds)
    known = dict.fromkeys((*PROTOCOL_NUMBERS, OTHER_ORIGIN), 0)
    for name, count in snapshot.origins.items():
        known[name if name in known else OTHER_ORIGIN] += count
    yield _gauge(
        "kernel_routes",
        "routes of the kernel's tables by who put them there (the route's protocol)",
        ["origin"],
        [([name], count) for name, count in known.items()],
    )
    yield _gauge("rib_generation", "changes that control has published", [], [([], snapshot.rib_generation)])
    yield _gauge(
        "fib_generation", "the change that the forwarder has applied last", [], [([], snapshot.fib_generation)]
    )
    resyncs = sum(one.measured.meters.get(Meter.RESYNCS.name, 0) for one in snapshot.services)
    yield _counter("netlink_resyncs", Meter.RESYNCS.text, [], [([], resyncs)])


def _translation(snapshot: MetricsSnapshot) -> Iterator[Metric]:
    """Yield what there is of address translation; refusals are among the dropped frames, by reason."""
    figures = snapshot.nat
    sessions = figures.sessions if figures is not None else {}
    states = [([state.replace(" ", "_")], sessions.get(state, 0)) for state in SESSION_STATES]
    yield _gauge("nat_sessions", "sessions of address translation by protocol and state", ["session"], states)
    limit = figures.capacity if figures is not None else 0
    yield _gauge("nat_sessions_limit", "that there may be; 0 while nothing is translated", [], [([], limit)])
    opened = sum(one.measured.meters.get(Meter.NAT_SESSIONS_OPENED.name, 0) for one in snapshot.services)
    yield _counter("nat_sessions_opened", Meter.NAT_SESSIONS_OPENED.text, [], [([], opened)])
    addresses = list(figures.ports.values()) if figures is not None else []
    ports = [([protocol], sum(one.get(protocol, 0) for one in addresses)) for protocol in PORT_PROTOCOLS]
    yield _gauge("nat_ports_in_use", "ports of all outside addresses that are in use", ["protocol"], ports)
    yield _gauge("nat_outside_addresses", "outside addresses", [], [([], len(addresses))])


def _router(snapshot: MetricsSnapshot) -> Iterator[Metric]:
    yield _gauge("ready", "1 when the router forwards on all its interfaces", [], [([], snapshot.ready)])
    yield _gauge(
        "in_flight_frames",
        "frames without a fate as the last reports have it; 0 at rest",
        [],
        [([], snapshot.in_flight)],
    )
    yield _gauge(
        "unaccounted_frames",
        "the frame balance: frames that have no fate although it is time, or, negative, more than one; 0: all is well",
        [],
        [([], snapshot.unaccounted)],
    )
    yield _gauge(
        "config_parameters_changed",
        "1 while parameters differ from the configuration that control started with",
        [],
        [([], snapshot.parameters_changed)],
    )
    yield _gauge(
        "config_absent_interfaces",
        "interfaces that are configured, but not there",
        [],
        [([], snapshot.absent_interfaces)],
    )
    yield _gauge("warnings", "what `control-cli status` warns of", [], [([], snapshot.warnings)])
    yield _gauge("build_info", "what runs", ["version", "python"], [([snapshot.version, platform.python_version()], 1)])
