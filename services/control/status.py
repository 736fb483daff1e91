"""Whether the router as a whole forwards, and what it still waits for. Pure."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from services.common.messages import Interface
from services.control.reports import ServiceHealth


class Readiness(NamedTuple):
    """The answer."""

    waiting_for: list[str]
    """Empty when the router is ready."""
    forwarding: frozenset[int]
    """The interfaces, by index, that a ready ingress, the forwarder and arp serve."""


def readiness(
    *,
    unsettled: str,
    interfaces: Iterable[Interface],
    services: Sequence[ServiceHealth],
    first_generation: int,
    last_generation: int,
) -> Readiness:
    """Judge the router by what its services reported.

    :param unsettled: why the mirror of the kernel is not right yet; empty when it is.
    :param first_generation: the sequence number of the first state that this process published; a service that has
        applied none since then, or one of another process, still works on what it knew before.
    :param last_generation: the sequence number of the last one.
    """
    waiting = [f"the kernel's routes: {unsettled}"] if unsettled else []
    ready = [service for service in services if service.ready]
    served: dict[str, frozenset[int]] = {
        "ingress": frozenset().union(*(service.interfaces for service in ready if service.service == "ingress"))
    }
    for name in ("forwarder", "arp"):
        problem = _problem(name, services, first_generation, last_generation)
        if problem:
            waiting.append(problem)
        served[name] = frozenset().union(*(service.interfaces for service in ready if service.service == name))
    required = [interface for interface in interfaces if interface.up]
    for interface in required:
        missing = [name for name, indices in served.items() if interface.index not in indices]
        if missing:
            waiting.append(f"{interface.name}: not served by {' and '.join(missing)} yet")
    forwarding = served["ingress"] & served["forwarder"] & served["arp"]
    return Readiness(waiting, frozenset(one.index for one in required if one.index in forwarding))


def _problem(name: str, services: Sequence[ServiceHealth], first_generation: int, last_generation: int) -> str:
    known = [service for service in services if service.service == name]
    if not known:
        return f"{name}: not heard of yet"
    if not any(service.up for service in known):
        return f"{name}: silent for {min(service.age_s for service in known):.1f} s"
    if not any(service.ready for service in known):
        return f"{name}: not ready yet"
    if not any(first_generation <= service.generation <= last_generation for service in known if service.ready):
        return f"{name}: has not taken over the present state yet"
    return ""
