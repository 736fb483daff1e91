"""What the services say of themselves: who lives, what each has counted, and whether the sums agree. Pure.

Counters are cumulative and outlive the processes that count (`services.common.counters`), so the last figures of
an instance stay in the sums also when it is gone; only as a live service it is forgotten.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from services.common.counters import Counter, Kind
from services.common.messages import NatFigures, Report
from services.common.meters import MetersSnapshot

UNHEARD_S: Final = 2.0
"""A service that is silent for so long is down: eight of its reports."""
FORGET_S: Final = 30.0
"""An ingress whose interface is gone, and that is silent for so long, is not missed any more."""
MAX_INSTANCES: Final = 1024
"""Instances whose counters are kept apart; beyond, that of the longest silence is added to the sum of the others, and
would be counted twice if it came back."""

Counts = Mapping[int, Mapping[str, int]]
"""By interface index and counter name."""


class ServiceHealth(NamedTuple):
    """How one service instance is."""

    service: str
    instance: str
    pid: int
    age_s: float
    """Since its last report."""
    up: bool
    ready: bool
    interfaces: frozenset[int]
    generation: int


@dataclass(frozen=True)
class Balance:
    """The sums that must agree at rest: see `services.common.counters`."""

    received: int
    generated: int
    sent: int
    delivered: int
    consumed: int
    dropped: int
    waiting: int

    @property
    def came(self) -> int:
        """Frames that came in, or were made."""
        return self.received + self.generated

    @property
    def went(self) -> int:
        """Frames that have a fate, or wait."""
        return self.sent + self.delivered + self.consumed + self.dropped + self.waiting

    @property
    def in_flight(self) -> int:
        """Frames that have come in and have no fate yet; 0 at rest."""
        return self.came - self.went


class Reports:
    """The last report of each instance."""

    def __init__(self) -> None:
        self._heard: dict[str, tuple[float, Report]] = {}
        self._counts: dict[str, Counts] = {}
        """By instance, the one heard last at the end."""
        self._measured: dict[str, MetersSnapshot] = {}
        self._retired: dict[int, dict[str, int]] = {}

    def take(self, report: Report, now: float) -> None:
        """Keep a report."""
        self._heard[report.instance] = (now, report)
        measured = MetersSnapshot(report.meters, report.histograms, report.gauges)
        self.take_counts(report.instance, report.counters, measured)

    def take_counts(self, instance: str, counts: Counts, measured: MetersSnapshot | None = None) -> None:
        """Keep the counters and meters of an instance, of which nothing else needs to be known."""
        self._counts.pop(instance, None)
        self._counts[instance] = counts
        self._measured[instance] = measured or MetersSnapshot()
        if len(self._counts) > MAX_INSTANCES:
            self._retire(next(iter(self._counts)))

    def forget_gone(self, existing_interfaces: Collection[int], now: float) -> None:
        """Miss no longer the ingresses whose interfaces are gone."""
        gone = [
            instance
            for instance, (heard_at, report) in self._heard.items()
            if report.service == "ingress"
            and now - heard_at > FORGET_S
            and not any(index in existing_interfaces for index in report.interfaces)
        ]
        for instance in gone:
            del self._heard[instance]

    def health(self, now: float) -> list[ServiceHealth]:
        """Return how each instance is, by name."""
        return [
            ServiceHealth(
                service=report.service,
                instance=instance,
                pid=report.pid,
                age_s=now - heard_at,
                up=now - heard_at <= UNHEARD_S,
                ready=report.ready and now - heard_at <= UNHEARD_S,
                interfaces=frozenset(report.interfaces),
                generation=report.generation,
            )
            for instance, (heard_at, report) in sorted(self._heard.items())
        ]

    def nat(self) -> NatFigures | None:
        """Return what the forwarder last reported of its address translation; None while there is none."""
        return next((report.nat for _, report in self._heard.values() if report.nat is not None), None)

    def by_instance(self) -> dict[str, Counts]:
        """Return the counters of each instance that is not added up yet, by name."""
        return dict(sorted(self._counts.items()))

    def measured(self, instance: str) -> MetersSnapshot:
        """Return the meters of an instance; nothing of one that was never heard of."""
        return self._measured.get(instance, MetersSnapshot())

    def by_interface(self) -> dict[int, dict[str, int]]:
        """Return the sums of the counters over all instances, by interface index."""
        return _summed([*self._counts.values(), self._retired])

    def _retire(self, instance: str) -> None:
        self._retired = _summed([self._retired, self._counts.pop(instance)])
        self._heard.pop(instance, None)
        self._measured.pop(instance, None)


def balance(by_interface: Counts) -> Balance:
    """Return the sums over all interfaces, by what they say about a frame."""
    sums = dict.fromkeys(Kind, 0)
    for counted in by_interface.values():
        for name, value in counted.items():
            counter = Counter.__members__.get(name)
            if counter is not None:
                sums[counter.kind] += value
    return Balance(**{kind.value: value for kind, value in sums.items() if kind is not Kind.DETAIL})


def _summed(parts: Iterable[Counts]) -> dict[int, dict[str, int]]:
    sums: dict[int, dict[str, int]] = {}
    for counts in parts:
        for interface, counted in counts.items():
            row = sums.setdefault(interface, {})
            for name, value in counted.items():
                row[name] = row.get(name, 0) + value
    return sums
