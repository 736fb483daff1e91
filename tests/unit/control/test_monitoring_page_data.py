"""The status page's data, and that the page asks nobody but its own server. Its looks are tested in a browser."""

import json
import re

from services.common.counters import DROPS
from services.common.meters import MetersSnapshot
from services.control.monitoring.page import CONTENT_SECURITY_POLICY, PAGE, SHOWN_NEIGHBOURS, document
from services.control.monitoring.snapshot import MetricsSnapshot, ServiceMetrics

STATUS = {
    "version": "1.2.3",
    "ready": True,
    "waiting_for": [],
    "warnings": ["a port is taken"],
    "generation": 4,
    "interfaces": [
        {
            "index": 2,
            "name": "eth0",
            "mac": "02:00:00:00:00:01",
            "mtu": 1500,
            "up": True,
            "addresses": [],
            "forwarding": True,
        },
        {
            "index": 3,
            "name": "eth1",
            "mac": "02:00:00:00:00:02",
            "mtu": 1500,
            "up": True,
            "addresses": [],
            "forwarding": True,
        },
    ],
    "services": [{"service": "arp", "instance": "arp", "pid": 7, "age_s": 0.1, "up": True, "ready": True}],
}
COUNTERS = {
    "services": {"arp": {"eth0": {"ARP_HANDLED": 2}}},
    "interfaces": {"eth0": {"ARP_HANDLED": 2}},
    "balance": {"received": 2, "in_flight": 0, "unaccounted": 0},
    "heard_s": {"arp": 99.5},
}
SNAPSHOT = MetricsSnapshot(
    services=(
        ServiceMetrics("control", "control", True, True),
        ServiceMetrics(
            "arp",
            "arp",
            True,
            True,
            MetersSnapshot({"STARTS": 3, "CPU_NS": 1_500_000_000}, {}, {0: {"RESIDENT_BYTES": 9}}),
        ),
    ),
    routes={"unicast": 5},
)


def test_the_data() -> None:
    many = {0x0A00_0000 + number: bytes((2, 0, 0, 0, 0, number)) for number in reversed(range(SHOWN_NEIGHBOURS + 3))}
    made = json.loads(json.dumps(document(STATUS, COUNTERS, SNAPSHOT, {2: many}, 100.0)))
    assert (made["version"], made["ready"], made["warnings"]) == ("1.2.3", True, ["a port is taken"])
    eth0, eth1 = made["interfaces"]
    assert len(eth0["neighbours"]) == SHOWN_NEIGHBOURS
    assert eth0["neighbours"][1] == {"address": "10.0.0.1", "mac": "02:00:00:00:00:01"}
    assert (eth0["more_neighbours"], eth1["neighbours"], eth1["more_neighbours"]) == (3, [], 0)
    control, arp = made["services"]
    assert (control["pid"], control["restarts"], control["resident_bytes"]) == (None, 0, 0)
    assert (arp["pid"], arp["restarts"], arp["cpu_s"], arp["resident_bytes"]) == (7, 2, 1.5, 9)
    assert made["counters"] == {"arp": {"eth0": {"ARP_HANDLED": 2}}}
    assert made["heard_s"] == {"arp": 99.5, "control": 100.0}
    assert made["balance"]["unaccounted"] == 0
    assert set(made["drops"]) == {counter.name for counter in DROPS}
    assert made["sent"] == ["FORWARDED", "GENERATED_SENT"]


def test_the_page_asks_nobody_else_and_builds_no_html_of_data() -> None:
    text = PAGE.decode()
    assert set(re.findall(r"https?://[^'\"]*", text)) == {"http://www.w3.org/2000/svg"}, "the name of a namespace"
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}=';", CONTENT_SECURITY_POLICY)
    assert "unsafe" not in CONTENT_SECURITY_POLICY
