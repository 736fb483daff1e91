"""The router as a whole, put together from the kernel's mirror and the services' reports. Pure."""

from collections import Counter
from collections.abc import Mapping
from importlib import metadata
from typing import Any, Final

from services.common.messages import Interface, NeighbourState
from services.common.wire.ethernet import mac_text
from services.common.wire.ipv4 import prefix_text
from services.control.metrics import NO_INTERFACE, MetricsSnapshot
from services.control.reports import Counts, Reports, balance
from services.control.rib import Rib
from services.control.status import Readiness, readiness


def installed_version() -> str:
    """Return hopwire's version; `source` where it runs without being installed."""
    try:
        return metadata.version("hopwire")
    except metadata.PackageNotFoundError:
        return "source"


VERSION: Final = installed_version()


class KnownNeighbours:
    """The neighbours whose MAC arp knows."""

    def __init__(self) -> None:
        self._neighbours: set[tuple[int, int]] = set()

    def apply(self, state: NeighbourState) -> None:
        """Follow arp's state."""
        if state.full:
            self._neighbours.clear()
        self._neighbours.difference_update(state.gone)
        self._neighbours.update((neighbour.interface, neighbour.address) for neighbour in state.neighbours)

    def by_interface(self) -> Mapping[int, int]:
        """Return how many there are, by interface index."""
        return Counter(interface for interface, _ in self._neighbours)


class RouterView:
    """What `status`, `counters` and the metrics say.

    :ivar first_generation: the sequence number of the first state that was published.
    :ivar last_generation: of the last one.
    :ivar warnings: what the user should know besides what the mirror itself tells.
    """

    def __init__(self, rib: Rib, reports: Reports, neighbours: KnownNeighbours) -> None:
        self._rib = rib
        self._reports = reports
        self._neighbours = neighbours
        self.first_generation = 1
        self.last_generation = 0
        self.warnings: list[str] = []

    def is_up(self, service: str, now: float) -> bool:
        """Tell whether an instance of a service reports."""
        return any(one.service == service and one.up for one in self._reports.health(now))

    def status(self, now: float) -> dict[str, Any]:
        """Return the answer to the RPC `status`."""
        judged = self._readiness(now)
        return {
            "version": VERSION,
            "ready": not judged.waiting_for,
            "waiting_for": judged.waiting_for,
            "warnings": [*self.warnings, *self._rib.deviations()],
            "generation": self.last_generation,
            "interfaces": [_interface(one, judged) for one in self._rib.interfaces],
            "services": [
                {
                    "service": one.service,
                    "instance": one.instance,
                    "pid": one.pid,
                    "age_s": round(one.age_s, 3),
                    "up": one.up,
                    "ready": one.ready,
                }
                for one in self._reports.health(now)
            ],
        }

    def counters(self, now: float) -> dict[str, Any]:
        """Return the answer to the RPC `counters`."""
        by_interface = self._reports.by_interface()
        sums = balance(by_interface)
        return {
            "services": {instance: self._named(counts) for instance, counts in self._reports.by_instance().items()},
            "interfaces": self._named(by_interface),
            "balance": {**vars(sums), "in_flight": sums.in_flight},
            "heard_s": {one.instance: now - one.age_s for one in self._reports.health(now)},
        }

    def metrics(self, now: float) -> MetricsSnapshot:
        """Return what Prometheus gets."""
        by_interface = self._reports.by_interface()
        neighbours = self._neighbours.by_interface()
        return MetricsSnapshot(
            version=VERSION,
            ready=not self._readiness(now).waiting_for,
            interfaces=tuple(interface.name for interface in self._rib.interfaces),
            counters=self._named(by_interface),
            services=tuple(self._reports.health(now)),
            routes=self._rib.routes_by_kind(),
            neighbours={self._rib.interface_name(index): number for index, number in neighbours.items()},
            in_flight=balance(by_interface).in_flight,
            nat=self._reports.nat(),
        )

    def _readiness(self, now: float) -> Readiness:
        return readiness(
            unsettled=self._rib.unsettled,
            interfaces=self._rib.interfaces,
            services=self._reports.health(now),
            first_generation=self.first_generation,
            last_generation=self.last_generation,
        )

    def _named(self, counts: Counts) -> dict[str, dict[str, int]]:
        """Return counters by interface name; interfaces of one name, which came one after the other, are one."""
        named: dict[str, dict[str, int]] = {}
        for index, counted in counts.items():
            row = named.setdefault(self._rib.interface_name(index) if index else NO_INTERFACE, {})
            for counter, value in counted.items():
                row[counter] = row.get(counter, 0) + value
        return named


def _interface(interface: Interface, judged: Readiness) -> dict[str, Any]:
    return {
        "index": interface.index,
        "name": interface.name,
        "mac": mac_text(interface.mac),
        "mtu": interface.mtu,
        "up": interface.up,
        "addresses": [prefix_text(one.address, one.prefix_length) for one in interface.addresses],
        "forwarding": interface.index in judged.forwarding,
    }
