"""The counters and health of all services for Prometheus, in its text format over HTTP."""

import socket
import threading
from collections.abc import Iterable, Mapping, Sequence
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, Final, NamedTuple
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.common.counters import Counter, Kind
from services.common.messages import NatFigures
from services.control.config import listen_address
from services.control.reports import ServiceHealth

NO_INTERFACE: Final = "-"
"""The label of what belongs to no interface."""
RETRY_S: Final = 5.0
"""A port that could not be had is tried again after so long."""

_FAMILIES: Final = {
    Counter.RX_FRAMES: "received_frames",
    Counter.RX_BYTES: "received_bytes",
    Counter.GENERATED: "generated_frames",
    Counter.FORWARDED: "forwarded_frames",
    Counter.GENERATED_SENT: "generated_sent_frames",
    Counter.TX_BYTES: "sent_bytes",
    Counter.HANDED: "handed_frames",
    Counter.TAKEN: "taken_frames",
    Counter.SLOW_PATH: "slow_path_frames",
}
_FAMILIES_BY_REASON: Final = {
    Kind.DELIVERED: ("delivered_frames", "frames left to the kernel"),
    Kind.CONSUMED: ("consumed_frames", "frames whose way ended in hopwire itself"),
    Kind.DROPPED: ("dropped_frames", "frames dropped"),
}


class MetricsSnapshot(NamedTuple):
    """What is exported; never changed, since another thread reads it."""

    version: str = ""
    ready: bool = False
    interfaces: tuple[str, ...] = ()
    """The names of the router's interfaces: they have a value of each counter from the start."""
    counters: Mapping[str, Mapping[str, int]] = {}
    """By interface name and counter name."""
    services: tuple[ServiceHealth, ...] = ()
    routes: Mapping[str, int] = {}
    """Destinations by kind of path."""
    neighbours: Mapping[str, int] = {}
    """Neighbours with a known MAC, by interface name."""
    in_flight: int = 0
    nat: NatFigures | None = None


class MetricsCollector(Collector):
    """Turns the snapshot into metrics, each time that Prometheus asks."""

    def __init__(self) -> None:
        self.snapshot = MetricsSnapshot()

    def collect(self) -> Iterable[Metric]:
        """Return all metrics."""
        snapshot = self.snapshot
        yield from _counters(snapshot)
        labels = ["service", "instance"]
        services = [([one.service, one.instance], one) for one in snapshot.services]
        yield _gauge("service_up", "1 while the service reports", labels, [(key, one.up) for key, one in services])
        yield _gauge("service_ready", "1 while it works", labels, [(key, one.ready) for key, one in services])
        yield _gauge("info", "the version that runs", ["version"], [([snapshot.version], 1)])
        yield _gauge("ready", "1 when the router forwards on all its interfaces", [], [([], snapshot.ready)])
        routes = [([kind], number) for kind, number in snapshot.routes.items()]
        yield _gauge("routes", "destinations in the routing table", ["kind"], routes)
        neighbours = [([name], snapshot.neighbours.get(name, 0)) for name in snapshot.interfaces]
        yield _gauge("neighbours", "neighbours whose MAC is known", ["interface"], neighbours)
        if snapshot.nat is not None:
            yield from _nat(snapshot.nat)
        yield _gauge("in_flight_frames", "frames without a fate yet; 0 at rest", [], [([], snapshot.in_flight)])


def _nat(figures: NatFigures) -> Iterable[Metric]:
    """Return the metrics of address translation; refusals are among the dropped frames, by reason."""
    sessions = [([state], number) for state, number in figures.sessions.items()]
    yield _gauge("nat_sessions", "sessions of address translation, by protocol and state", ["state"], sessions)
    yield _gauge("nat_sessions_limit", "sessions at most", [], [([], figures.capacity)])
    opened = CounterMetricFamily("hopwire_nat_sessions_opened", "sessions opened since the table was made")
    opened.add_metric([], figures.opened)
    yield opened
    ports = [
        ([address, protocol], number)
        for address, by_protocol in figures.ports.items()
        for protocol, number in by_protocol.items()
    ]
    yield _gauge("nat_ports_in_use", "ports in use of an outside address", ["address", "protocol"], ports)


def _counters(snapshot: MetricsSnapshot) -> Iterable[Metric]:
    names = list(dict.fromkeys((*snapshot.interfaces, *snapshot.counters, NO_INTERFACE)))
    by_reason = {
        kind: CounterMetricFamily(f"hopwire_{family}", text, labels=["interface", "reason"])
        for kind, (family, text) in _FAMILIES_BY_REASON.items()
    }
    for counter in Counter:
        values = [(name, snapshot.counters.get(name, {}).get(counter.name, 0)) for name in names]
        if counter.kind in by_reason:
            reason = counter.name.removeprefix("DROP_").lower()
            for name, value in values:
                by_reason[counter.kind].add_metric([name, reason], value)
        elif counter.kind is Kind.WAITING:
            yield _gauge("waiting_frames", counter.text, ["interface"], [([name], value) for name, value in values])
        else:
            name_of_family = f"hopwire_{_FAMILIES.get(counter, counter.name.lower())}"
            family = CounterMetricFamily(name_of_family, counter.text, labels=["interface"])
            for name, value in values:
                family.add_metric([name], value)
            yield family
    yield from by_reason.values()


def _gauge(name: str, text: str, labels: list[str], values: Iterable[tuple[Sequence[str], int]]) -> Metric:
    family = GaugeMetricFamily(f"hopwire_{name}", text, labels=labels)
    for label_values, value in values:
        family.add_metric(label_values, value)
    return family


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        """Log nothing."""


class _HttpServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """Bind, without asking DNS for the name of the address, as the base class does: it may take long."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


class _HttpServer6(_HttpServer):
    address_family = socket.AF_INET6


class MetricsServer:
    """The HTTP server in a thread of its own; without its port the router works all the same.

    :ivar warning: why there is no server now; empty when there is.
    """

    def __init__(self, listen: str, collector: MetricsCollector) -> None:
        self._listen = listen
        registry = CollectorRegistry()
        registry.register(collector)
        self._application = make_wsgi_app(registry)
        self._running: tuple[WSGIServer, threading.Thread] | None = None
        self._next_attempt_at = float("-inf")
        self.warning = ""

    def start_when_due(self, now: float) -> None:
        """Start the server, or try again when the last attempt is `RETRY_S` old."""
        if self._running is not None or now < self._next_attempt_at:
            return
        self._next_attempt_at = now + RETRY_S
        address, port = listen_address(self._listen)
        server_class = _HttpServer6 if ":" in address else _HttpServer
        try:
            server = make_server(address, port, self._application, server_class, _QuietHandler)
        except OSError as error:
            self.warning = (
                f"no metrics: cannot listen on {self._listen}: {error.strerror or error}; "
                "choose another with --metrics-listen, or switch them off with: --metrics-listen off"
            )
            return
        thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
        thread.start()
        self._running = server, thread
        self.warning = ""

    def close(self) -> None:
        """Stop the server."""
        if self._running is not None:
            server, thread = self._running
            server.shutdown()
            server.server_close()
            thread.join()
            self._running = None
