"""What Prometheus gets, read with Prometheus's own parser, over HTTP."""

import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client.parser import text_string_to_metric_families

from services.common.counters import DROPS, Counter, Kind
from services.common.messages import NatFigures
from services.control.metrics import RETRY_S, MetricsCollector, MetricsServer, MetricsSnapshot
from services.control.reports import ServiceHealth

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

SNAPSHOT = MetricsSnapshot(
    version="1.2.3",
    ready=True,
    interfaces=("eth0", "eth1"),
    counters={
        "eth0": {"RX_FRAMES": 10, "RX_BYTES": 640, "DROP_NO_ROUTE": 4, "LOCAL": 2},
        "eth9": {"FORWARDED": 3},
        "-": {"BAD_MESSAGES": 7},
    },
    services=(
        ServiceHealth("arp", "arp", 1, 0.1, True, False, frozenset(), 0),
        ServiceHealth("ingress", "ingress-eth0", 2, 9.0, False, False, frozenset(), 0),
    ),
    routes={"unicast": 5, "local": 2},
    neighbours={"eth1": 3},
    in_flight=1,
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(collector: MetricsCollector) -> Iterator[tuple[MetricsServer, str]]:
    listen = f"127.0.0.1:{free_port()}"
    server = MetricsServer(listen, collector)
    server.start_when_due(0.0)
    try:
        assert server.warning == ""
        yield server, f"http://{listen}/metrics"
    finally:
        server.close()


def scraped(url: str) -> Samples:
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in samples, "a sample twice"
            samples[key] = sample.value
    return samples


def value(samples: Samples, metric_name: str, **labels: str) -> float:
    return samples[metric_name, frozenset(labels.items())]


def test_a_scrape() -> None:
    collector = MetricsCollector()
    collector.snapshot = SNAPSHOT
    with serving(collector) as (_, url):
        samples = scraped(url)
    assert value(samples, "hopwire_received_frames_total", interface="eth0") == 10
    assert value(samples, "hopwire_received_bytes_total", interface="eth0") == 640
    assert value(samples, "hopwire_received_frames_total", interface="eth1") == 0
    assert value(samples, "hopwire_forwarded_frames_total", interface="eth9") == 3
    assert value(samples, "hopwire_dropped_frames_total", interface="eth0", reason="no_route") == 4
    assert value(samples, "hopwire_delivered_frames_total", interface="eth0", reason="local") == 2
    assert value(samples, "hopwire_bad_messages_total", interface="-") == 7
    assert value(samples, "hopwire_waiting_frames", interface="eth0") == 0
    assert value(samples, "hopwire_service_up", service="arp", instance="arp") == 1
    assert value(samples, "hopwire_service_ready", service="arp", instance="arp") == 0
    assert value(samples, "hopwire_service_up", service="ingress", instance="ingress-eth0") == 0
    assert value(samples, "hopwire_ready") == 1
    assert value(samples, "hopwire_routes", kind="unicast") == 5
    assert value(samples, "hopwire_neighbours", interface="eth1") == 3
    assert value(samples, "hopwire_neighbours", interface="eth0") == 0
    assert value(samples, "hopwire_in_flight_frames") == 1
    assert value(samples, "hopwire_info", version="1.2.3") == 1


def test_all_reasons_of_all_interfaces_are_there_from_the_start() -> None:
    collector = MetricsCollector()
    collector.snapshot = MetricsSnapshot(interfaces=("eth0",))
    with serving(collector) as (_, url):
        samples = scraped(url)
    for name in ("eth0", "-"):
        for counter in DROPS:
            reason = counter.name.removeprefix("DROP_").lower()
            assert value(samples, "hopwire_dropped_frames_total", interface=name, reason=reason) == 0
    per_interface = {key for key in samples if ("interface", "eth0") in key[1] and key[0] != "hopwire_neighbours"}
    assert len(per_interface) == len(Counter)


def test_no_two_counters_share_a_name() -> None:
    collector = MetricsCollector()
    everything = {counter.name: number + 1 for number, counter in enumerate(Counter)}
    collector.snapshot = MetricsSnapshot(counters={"eth0": everything})
    with serving(collector) as (_, url):
        samples = scraped(url)
    shown = sorted(number for key, number in samples.items() if ("interface", "eth0") in key[1])
    assert shown == sorted(everything.values())
    waiting = [counter for counter in Counter if counter.kind is Kind.WAITING]
    assert [counter.name for counter in waiting] == ["WAITING"]


def test_a_taken_port_is_a_warning_and_is_tried_again() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        server = MetricsServer(listen, MetricsCollector())
        server.start_when_due(100.0)
        assert server.warning.startswith(f"no metrics: cannot listen on {listen}: Address already in use; choose")
    try:
        server.start_when_due(100.0 + RETRY_S - 0.1)
        assert server.warning != ""
        server.start_when_due(100.0 + RETRY_S)
        assert server.warning == ""
        assert value(scraped(f"http://{listen}/metrics"), "hopwire_ready") == 0
    finally:
        server.close()


def test_close_ends_the_thread() -> None:
    with serving(MetricsCollector()):
        assert "metrics" in {thread.name for thread in threading.enumerate()}
    assert "metrics" not in {thread.name for thread in threading.enumerate()}


def test_address_translation_has_metrics_only_where_there_is_any() -> None:
    """Sessions by protocol and state, ports in use; refusals are among the drops."""
    figures = NatFigures(
        sessions={"tcp established": 3, "udp": 1},
        capacity=64,
        opened=9,
        ports={"192.168.0.1": {"tcp": 2, "udp": 1, "icmp": 0}},
    )
    tables = ("hopwire_nat_sessions", "hopwire_nat_ports")
    collector = MetricsCollector()
    collector.snapshot = SNAPSHOT
    assert not [family for family in collector.collect() if family.name.startswith(tables)]
    collector.snapshot = SNAPSHOT._replace(nat=figures)
    samples = {
        (one.name, *one.labels.values()): one.value
        for family in collector.collect()
        if family.name.startswith(tables)
        for one in family.samples
    }
    assert samples == {
        ("hopwire_nat_sessions", "tcp established"): 3,
        ("hopwire_nat_sessions", "udp"): 1,
        ("hopwire_nat_sessions_limit",): 64,
        ("hopwire_nat_sessions_opened_total",): 9,
        ("hopwire_nat_ports_in_use", "192.168.0.1", "tcp"): 2,
        ("hopwire_nat_ports_in_use", "192.168.0.1", "udp"): 1,
        ("hopwire_nat_ports_in_use", "192.168.0.1", "icmp"): 0,
    }
