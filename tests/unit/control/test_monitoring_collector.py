"""What Prometheus gets, read with Prometheus's own parser: names, labels, units, histograms."""

from typing import get_args

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from services.common.counters import DROPS, Counter
from services.common.messages import NatFigures, RouteKind
from services.common.meters import MetersSnapshot
from services.control.monitoring.collector import MetricsCollector
from services.control.monitoring.families import LEDGERS
from services.control.monitoring.snapshot import InterfaceMetrics, MetricsSnapshot, ServiceMetrics

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

FORWARDER = MetersSnapshot(
    {"STARTS": 3, "CPU_NS": 2_500_000_000, "WAKE_UPS": 9},
    # 1 batch of 1 frame, 2 of 3 or 4, 1 of more than 1024
    {"FORWARD_FRAMES": [2008, 1, 0, 2, *[0] * 8, 1], "LATENCY_NS": [3_000_000, *[0] * 20, 1, 1]},
    {0: {"RESIDENT_BYTES": 4096}},
)
SNAPSHOT = MetricsSnapshot(
    version="1.2.3",
    ready=True,
    warnings=2,
    interfaces=(InterfaceMetrics("eth0", True, 1500, True), InterfaceMetrics("eth1", False, 9000, False)),
    counters={
        "eth0": {"RX_FRAMES": 10, "RX_BYTES": 640, "DROP_NO_ROUTE": 4, "LOCAL": 2, "ICMP_ERRORS": 6, "REDIRECTS": 1},
        "eth9": {"FORWARDED": 3},
        "-": {"BAD_MESSAGES": 7, "ICMP_FORBIDDEN": 5},
    },
    gauges={"eth1": {"NEIGHBOURS_STALE": 3, "WAITING_BYTES": 120, "FRAME_RING_PEAK": 17, "FRAME_RING_SLOTS": 4096}},
    services=(
        ServiceMetrics("control", "control", True, True, MetersSnapshot({"RESYNCS": 4, "STARTS": 1})),
        ServiceMetrics("arp", "arp", True, False),
        ServiceMetrics("forwarder", "forwarder", True, True, FORWARDER),
        ServiceMetrics("ingress", "ingress-eth0", False, False),
    ),
    routes={"unicast": 5, "local": 2},
    origins={"kernel": 6, "bgp": 2, "77": 1},
    rib_generation=12,
    fib_generation=11,
    in_flight=1,
    unaccounted=-8,
    parameters_changed=True,
    absent_interfaces=1,
)


def scraped(snapshot: MetricsSnapshot) -> Samples:
    collector = MetricsCollector()
    collector.snapshot = snapshot
    registry = CollectorRegistry()
    registry.register(collector)
    samples: Samples = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in samples, "a sample twice"
            samples[key] = sample.value
    return samples


def value(samples: Samples, metric_name: str, **labels: str) -> float:
    return samples[f"hopwire_{metric_name}", frozenset(labels.items())]


def test_counters() -> None:
    samples = scraped(SNAPSHOT)
    assert value(samples, "received_frames_total", interface="eth0") == 10
    assert value(samples, "received_bytes_total", interface="eth0") == 640
    assert value(samples, "received_frames_total", interface="eth1") == 0
    assert value(samples, "forwarded_frames_total", interface="eth9") == 3
    assert value(samples, "dropped_frames_total", interface="eth0", reason="no_route") == 4
    assert value(samples, "delivered_frames_total", interface="eth0", reason="local") == 2
    assert value(samples, "bad_messages_total", interface="-") == 7
    assert value(samples, "icmp_sent_messages_total", interface="eth0", message="error") == 6
    assert value(samples, "icmp_sent_messages_total", interface="eth0", message="redirect") == 1
    assert value(samples, "icmp_suppressed_messages_total", interface="-", cause="error_forbidden") == 5
    assert value(samples, "netlink_resyncs_total") == 4


def test_services() -> None:
    samples = scraped(SNAPSHOT)
    arp, forwarder = {"service": "arp", "process": "arp"}, {"service": "forwarder", "process": "forwarder"}
    assert value(samples, "service_up", **arp) == 1
    assert value(samples, "service_ready", **arp) == 0
    assert value(samples, "service_up", service="ingress", process="ingress-eth0") == 0
    assert value(samples, "service_restarts_total", **forwarder) == 2
    assert value(samples, "service_restarts_total", **arp) == 0
    assert value(samples, "service_cpu_seconds_total", **forwarder) == 2.5
    assert value(samples, "service_wake_ups_total", **forwarder) == 9
    assert value(samples, "service_resident_memory_bytes", **forwarder) == 4096


def test_what_is_now() -> None:
    samples = scraped(SNAPSHOT)
    assert value(samples, "interface_up", interface="eth0") == 1
    assert value(samples, "interface_up", interface="eth1") == 0
    assert value(samples, "interface_mtu_bytes", interface="eth1") == 9000
    assert value(samples, "waiting_frames", interface="eth0") == 0
    assert value(samples, "waiting_bytes", interface="eth1") == 120
    assert value(samples, "frame_ring_peak_frames", interface="eth1") == 17
    assert value(samples, "neighbours", interface="eth1", state="stale") == 3
    assert value(samples, "neighbours", interface="eth0", state="reachable") == 0
    assert value(samples, "routes", kind="unicast") == 5
    assert value(samples, "kernel_routes", origin="bgp") == 2
    assert value(samples, "kernel_routes", origin="other") == 1
    assert (value(samples, "rib_generation"), value(samples, "fib_generation")) == (12, 11)
    assert (value(samples, "in_flight_frames"), value(samples, "unaccounted_frames")) == (1, -8)
    assert (value(samples, "ready"), value(samples, "warnings")) == (1, 2)
    assert (value(samples, "config_parameters_changed"), value(samples, "config_absent_interfaces")) == (1, 1)
    (build,) = [dict(labels) for name, labels in samples if name == "hopwire_build_info"]
    assert build["version"] == "1.2.3"


def test_histograms_are_cumulative_and_in_base_units() -> None:
    samples = scraped(SNAPSHOT)
    of = {"stage": "forward", "process": "forwarder"}
    buckets = {le: value(samples, "stage_batch_frames_bucket", le=le, **of) for le in ("1.0", "2.0", "4.0", "1024.0")}
    assert buckets == {"1.0": 1, "2.0": 1, "4.0": 3, "1024.0": 3}
    assert value(samples, "stage_batch_frames_bucket", le="+Inf", **of) == 4
    assert value(samples, "stage_batch_frames_count", **of) == 4
    assert value(samples, "stage_batch_frames_sum", **of) == 2008
    assert value(samples, "latency_seconds_sum") == pytest.approx(0.003)
    bounds = {
        float(dict(labels)["le"]): count
        for (name, labels), count in samples.items()
        if "latency_seconds_bucket" in name
    }
    assert min(bounds) == pytest.approx(2**10 * 1e-9)
    assert bounds[0.001048576] == 1
    assert bounds[0.002097152] == 2
    assert max(bound for bound in bounds if bound != float("inf")) == pytest.approx(2**30 * 1e-9)


def test_all_label_sets_are_there_from_the_start() -> None:
    empty = MetricsSnapshot(
        interfaces=(InterfaceMetrics("eth0", True, 1500, False),),
        services=tuple(
            ServiceMetrics(instance.partition("-")[0], instance)
            for instance in ("control", "arp", "forwarder", "ingress-eth0")
        ),
    )
    samples = scraped(empty)
    for name in ("eth0", "-"):
        for counter in DROPS:
            reason = counter.name.removeprefix("DROP_").lower()
            assert value(samples, "dropped_frames_total", interface=name, reason=reason) == 0
    busy = MetricsSnapshot(
        interfaces=SNAPSHOT.interfaces[:1],
        counters={"eth0": {counter.name: 1 for counter in Counter}},
        gauges={"eth0": SNAPSHOT.gauges["eth1"]},
        services=tuple(one._replace(measured=FORWARDER) for one in empty.services),
        routes=dict.fromkeys(get_args(RouteKind), 1),
        origins=SNAPSHOT.origins,
        nat=NatFigures(sessions={"udp": 1}, capacity=64, ports={"192.168.0.1": {"udp": 1}}),
    )
    assert set(scraped(busy)) == set(samples), "traffic adds no series"


def test_every_counter_is_shown_once() -> None:
    everything = {counter.name: 1000 + counter for counter in Counter}
    samples = scraped(MetricsSnapshot(counters={"eth0": everything}))
    shown = sorted(number for key, number in samples.items() if ("interface", "eth0") in key[1])
    assert shown == sorted(1000 + counter for counter in Counter if counter not in LEDGERS)


def test_names_and_labels_follow_the_rules() -> None:
    collector = MetricsCollector()
    collector.snapshot = SNAPSHOT
    for metric in collector.collect():
        assert metric.name.startswith("hopwire_")
        assert metric.documentation
        assert not metric.name.endswith(("_ns", "_ms", "_us", "_kb", "_total", "milliseconds"))
        labels = {label for sample in metric.samples for label in sample.labels}
        assert labels <= {
            *("interface", "reason", "cause", "message", "state", "service", "process", "stage", "le"),
            *("kind", "origin", "version", "python", "session", "protocol"),
        }


def test_address_translation_over_all_outside_addresses() -> None:
    """Sessions by protocol and state, ports by protocol: refusals are among the drops."""
    figures = NatFigures(
        sessions={"tcp established": 3, "udp": 1},
        capacity=64,
        ports={"192.168.0.1": {"tcp": 2, "udp": 1, "icmp": 0}, "192.168.0.9": {"tcp": 5, "udp": 0, "icmp": 4}},
    )
    forwarder = ServiceMetrics("forwarder", "forwarder", True, True, MetersSnapshot({"NAT_SESSIONS_OPENED": 9}))
    samples = scraped(SNAPSHOT._replace(nat=figures, services=(forwarder,)))
    assert value(samples, "nat_sessions", session="tcp_established") == 3
    assert value(samples, "nat_sessions", session="udp") == 1
    assert value(samples, "nat_sessions", session="icmp") == 0
    assert value(samples, "nat_sessions_limit") == 64
    assert value(samples, "nat_sessions_opened_total") == 9
    ports = [value(samples, "nat_ports_in_use", protocol=name) for name in ("tcp", "udp", "icmp")]
    assert (ports, value(samples, "nat_outside_addresses")) == ([7, 1, 4], 2)
