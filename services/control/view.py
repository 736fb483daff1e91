"""The router as a whole, put together from the kernel's mirror and the services' reports. Pure."""

from collections.abc import Mapping
from importlib import metadata
from typing import Any, Final

from services.common.messages import Interface, NeighbourState
from services.common.wire.ethernet import mac_text
from services.common.wire.ipv4 import prefix_text
from services.control.monitoring.snapshot import NO_INTERFACE
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
        self._neighbours: dict[int, dict[int, bytes]] = {}

    def apply(self, state: NeighbourState) -> None:
        """Follow arp's state."""
        if state.full:
            self._neighbours.clear()
        for interface, address in state.gone:
            self._neighbours.get(interface, {}).pop(address, None)
        for neighbour in state.neighbours:
            self._neighbours.setdefault(neighbour.interface, {})[neighbour.address] = neighbour.mac

    def of(self, interface: int) -> Mapping[int, bytes]:
        """Return the MACs of an interface's neighbours, by address."""
        return self._neighbours.get(interface, {})


class RouterView:
    """What `status`, `counters` and the metrics say.

    :ivar first_generation: the sequence number of the first state that was published.
    :ivar last_generation: of the last one.
    :ivar warnings: what the user should know besides what the mirror itself tells.
    :ivar unaccounted: what the audit of the frame balance has found (`monitoring.audit`).
    """

    def __init__(self, rib: Rib, reports: Reports) -> None:
        self._rib = rib
        self._reports = reports
        self.first_generation = 1
        self.last_generation = 0
        self.warnings: list[str] = []
        self.unaccounted = 0

    def is_up(self, service: str, now: float) -> bool:
        """Tell whether an instance of a service reports."""
        return any(one.service == service and one.up for one in self._reports.health(now))

    def status(self, now: float) -> dict[str, Any]:
        """Return the answer to the RPC `status`."""
        judged = self.readiness(now)
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
            "services": {instance: self.named(counts) for instance, counts in self._reports.by_instance().items()},
            "interfaces": self.named(by_interface),
            "balance": {**vars(sums), "in_flight": sums.in_flight, "unaccounted": self.unaccounted},
            "heard_s": {one.instance: now - one.age_s for one in self._reports.health(now)},
        }

    def readiness(self, now: float) -> Readiness:
        """Judge whether the router forwards."""
        return readiness(
            unsettled=self._rib.unsettled,
            interfaces=self._rib.interfaces,
            services=self._reports.health(now),
            first_generation=self.first_generation,
            last_generation=self.last_generation,
        )

    def named(self, counts: Counts) -> dict[str, dict[str, int]]:
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
