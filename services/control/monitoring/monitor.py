"""Puts together, a few times a second, what the metrics, the status page and the log say."""

from collections.abc import Sequence
from typing import Final

import structlog

from services.common.counters import CounterBlock
from services.common.meters import Meter, MetersSnapshot
from services.common.runtime import ProcessMeters
from services.control.config import METRICS_OFF, Config
from services.control.live_parameters import LiveParameters
from services.control.mirror import KernelMirror
from services.control.monitoring.audit import FrameAudit
from services.control.monitoring.collector import MetricsCollector
from services.control.monitoring.events import EventLog
from services.control.monitoring.page import document
from services.control.monitoring.server import MonitoringApplication, MonitoringServer
from services.control.monitoring.snapshot import CONTROL, InterfaceMetrics, MetricsSnapshot, ServiceMetrics
from services.control.names import protocol_name
from services.control.reports import Reports, ServiceHealth, balance
from services.control.rib import Rib
from services.control.view import VERSION, KnownNeighbours, RouterView

_SERVICES: Final = ("forwarder", "arp")


class Monitor:
    """What control shows of the router to those who watch it."""

    def __init__(
        self,
        *,
        config: Config,
        parameters: LiveParameters,
        rib: Rib,
        mirror: KernelMirror,
        reports: Reports,
        neighbours: KnownNeighbours,
        view: RouterView,
        counters: CounterBlock,
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        self._configured = config.parameters
        self._parameters = parameters
        self._rib = rib
        self._mirror = mirror
        self._reports = reports
        self._neighbours = neighbours
        self._view = view
        self._counters = counters
        self._log = log
        self._process = ProcessMeters(counters)
        self._dumps = 1
        self._audit = FrameAudit()
        self._events = EventLog()
        self._collector = MetricsCollector()
        self._application = MonitoringApplication(self._collector)
        self._server: MonitoringServer | None = None
        self._listen = METRICS_OFF
        self.adopt(config, log)

    def adopt(self, config: Config, log: structlog.stdlib.BoundLogger) -> None:
        """Listen where a configuration says from now on, and compare with what it says."""
        self._configured = config.parameters
        self._log = log
        if config.metrics_listen == self._listen:
            return
        self.close()
        self._listen = config.metrics_listen
        self._server = None if self._listen == METRICS_OFF else MonitoringServer(self._listen, self._application)

    def start_server(self, now: float) -> list[str]:
        """Start the server where it does not run yet, and return what there is to warn of."""
        if self._server is None:
            return []
        self._server.start_when_due(now)
        return [self._server.warning] if self._server.warning else []

    def measure(self) -> None:
        """Take in what control counts itself."""
        if self._mirror.dumps > self._dumps:
            self._counters.meters.add(Meter.RESYNCS, self._mirror.dumps - self._dumps)
            self._dumps = self._mirror.dumps
        self._reports.take_counts(CONTROL, self._counters.snapshot(), self._process.snapshot())

    def renew(self, now: float) -> None:
        """Renew what is shown, and log what is new."""
        self._audit.observe(balance(self._reports.by_interface()), now)
        self._view.unaccounted = self._audit.unaccounted
        status, counters = self._view.status(now), self._view.counters(now)
        snapshot = self._snapshot(now, len(status["warnings"]))
        macs = {interface.index: self._neighbours.of(interface.index) for interface in self._rib.interfaces}
        self._application.document = document(status, counters, snapshot, macs, now)
        self._application.renewed_at = now
        self._collector.snapshot = snapshot
        for event in self._events.on_status(
            status,
            dumps=self._mirror.dumps,
            dump_reason=self._mirror.dump_reason,
            unaccounted=self._audit.unaccounted,
        ):
            (self._log.warning if event.level == "warning" else self._log.info)(event.text, **event.fields)

    def close(self) -> None:
        """Stop the server."""
        if self._server is not None:
            self._server.close()

    def _snapshot(self, now: float, warnings: int) -> MetricsSnapshot:
        judged = self._view.readiness(now)
        by_interface = self._reports.by_interface()
        services = self._services(self._reports.health(now))
        forwarder = next((one for one in self._reports.health(now) if one.service == "forwarder"), None)
        origins: dict[str, int] = {}
        for protocol, count in self._rib.tables.uses_by_protocol().items():
            origins[protocol_name(protocol)] = origins.get(protocol_name(protocol), 0) + count
        return MetricsSnapshot(
            version=VERSION,
            ready=not judged.waiting_for,
            waiting_for=tuple(judged.waiting_for),
            warnings=warnings,
            interfaces=tuple(
                InterfaceMetrics(one.name, one.up, one.mtu, one.index in judged.forwarding)
                for one in self._rib.interfaces
            ),
            counters=self._view.named(by_interface),
            gauges=self._gauges(services),
            services=services,
            routes=self._rib.routes_by_kind(),
            origins=origins,
            rib_generation=self._view.last_generation,
            fib_generation=forwarder.generation if forwarder is not None else 0,
            in_flight=balance(by_interface).in_flight,
            unaccounted=self._audit.unaccounted,
            parameters_changed=self._parameters.current != self._configured,
            absent_interfaces=len(self._rib.policies.absent({link.name for link in self._rib.links.values()})),
            nat=self._reports.nat(),
        )

    def _services(self, heard: Sequence[ServiceHealth]) -> tuple[ServiceMetrics, ...]:
        """Return the services that should run, and those that were heard of besides, by instance."""
        known = {one.instance: one for one in heard}
        expected = {name: name for name in _SERVICES} | {
            f"ingress-{interface.name}": "ingress" for interface in self._rib.interfaces
        }
        found = [ServiceMetrics(CONTROL, CONTROL, True, True, self._reports.measured(CONTROL))]
        for instance, service in sorted((expected | {one.instance: one.service for one in heard}).items()):
            one = known.get(instance)
            up, ready = (one.up, one.ready) if one is not None else (False, False)
            measured = self._reports.measured(instance)
            found.append(ServiceMetrics(service, instance, up, ready, measured if up else measured._replace(gauges={})))
        return tuple(found)

    def _gauges(self, services: Sequence[ServiceMetrics]) -> dict[str, dict[str, int]]:
        gauges: MetersSnapshot
        named: dict[str, dict[str, int]] = {}
        for gauges in (one.measured for one in services):
            for index, values in gauges.gauges.items():
                row = named.setdefault(self._rib.interface_name(index), {}) if index else {}
                for name, value in values.items():
                    row[name] = row.get(name, 0) + value
        return named
