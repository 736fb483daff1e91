"""What the metrics say at one moment: made by control's thread, read by those of the HTTP server. Never changed."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from services.common.messages import NatFigures
from services.common.meters import MetersSnapshot

NO_INTERFACE: Final = "-"
"""The label of what belongs to no interface."""
CONTROL: Final = "control"
"""The instance name of control itself."""


class InterfaceMetrics(NamedTuple):
    """One of the router's interfaces."""

    name: str
    up: bool
    mtu: int
    forwarding: bool


class ServiceMetrics(NamedTuple):
    """One service instance that runs, or should."""

    service: str
    instance: str
    up: bool = False
    ready: bool = False
    measured: MetersSnapshot = MetersSnapshot()


class MetricsSnapshot(NamedTuple):
    """The router."""

    version: str = ""
    ready: bool = False
    waiting_for: tuple[str, ...] = ()
    """What a router that is not ready waits for."""
    warnings: int = 0
    interfaces: tuple[InterfaceMetrics, ...] = ()
    """They have a value of each counter from the start."""
    counters: Mapping[str, Mapping[str, int]] = {}
    """By interface name and counter name."""
    gauges: Mapping[str, Mapping[str, int]] = {}
    """By interface name and `Gauge` name: the sums over the services that are up."""
    services: tuple[ServiceMetrics, ...] = ()
    routes: Mapping[str, int] = {}
    """Destinations by kind of path."""
    origins: Mapping[str, int] = {}
    """Routes of the kernel's tables by the protocol that put them there."""
    rib_generation: int = 0
    fib_generation: int = 0
    in_flight: int = 0
    unaccounted: int = 0
    parameters_changed: bool = False
    absent_interfaces: int = 0
    """Configured, but not there."""
    nat: NatFigures | None = None
    """Of address translation; None while there is none."""
