"""The status page: one HTML file that asks for its data once a second, and the document that it asks for. Pure."""

import base64
import hashlib
import re
from collections.abc import Mapping
from importlib import resources
from itertools import islice
from typing import Any, Final

from services.common.counters import DROPS, Counter, Kind
from services.common.meters import Gauge, Meter
from services.common.wire.ethernet import mac_text
from services.common.wire.ipv4 import address_text
from services.control.monitoring.families import NANOSECONDS
from services.control.monitoring.snapshot import CONTROL, MetricsSnapshot

SHOWN_NEIGHBOURS: Final = 32
"""Of each interface; the page says how many more there are."""

PAGE: Final = (resources.files(__package__) / "status_page.html").read_bytes()


def _hash_of(tag: str) -> str:
    """Return the source expression that lets a browser use the page's one element of this name (CSP level 3, 2.3.1)."""
    (content,) = re.findall(f"<{tag}>(.*?)</{tag}>".encode(), PAGE, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode()}'"


CONTENT_SECURITY_POLICY: Final = (
    f"default-src 'none'; script-src {_hash_of('script')}; style-src {_hash_of('style')}; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The browser runs nothing but the page's own script, and asks nobody but this server."""

_SENT: Final = [counter.name for counter in Counter if counter.kind is Kind.SENT]
MEANINGS: Final = {counter.name: counter.text for counter in DROPS}


def document(
    status: Mapping[str, Any],
    counters: Mapping[str, Any],
    snapshot: MetricsSnapshot,
    neighbours: Mapping[int, Mapping[int, bytes]],
    now: float,
) -> dict[str, Any]:
    """Return the data of the status page.

    :param status: the answer to the RPC `status`, and `counters` that to `counters`.
    :param neighbours: MACs by interface index and address.
    :param now: of control's clock, as the times in `counters`.
    """
    measured = {one.instance: one.measured for one in snapshot.services}
    known = {one["instance"]: one for one in status["services"]}
    return {
        **{key: status[key] for key in ("version", "ready", "waiting_for", "warnings", "generation")},
        "interfaces": [_interface(one, neighbours.get(one["index"], {})) for one in status["interfaces"]],
        "services": [
            {
                "service": one.service,
                "instance": one.instance,
                "up": one.up,
                "ready": one.ready,
                "pid": known.get(one.instance, {}).get("pid"),
                "restarts": max(0, measured[one.instance].meters.get(Meter.STARTS.name, 0) - 1),
                "cpu_s": measured[one.instance].meters.get(Meter.CPU_NS.name, 0) * NANOSECONDS,
                "resident_bytes": measured[one.instance].gauges.get(0, {}).get(Gauge.RESIDENT_BYTES.name, 0),
            }
            for one in snapshot.services
        ],
        "counters": counters["services"],
        "heard_s": {**counters["heard_s"], CONTROL: now},
        "balance": counters["balance"],
        "routes": dict(snapshot.routes),
        "sent": _SENT,
        "drops": MEANINGS,
    }


def _interface(interface: Mapping[str, Any], neighbours: Mapping[int, bytes]) -> dict[str, Any]:
    shown = islice(sorted(neighbours.items()), SHOWN_NEIGHBOURS)
    return {
        **interface,
        "neighbours": [{"address": address_text(address), "mac": mac_text(mac)} for address, mac in shown],
        "more_neighbours": max(0, len(neighbours) - SHOWN_NEIGHBOURS),
    }
