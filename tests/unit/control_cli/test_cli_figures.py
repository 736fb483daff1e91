"""Rates, drops and interfaces out of two answers to `counters`, and how people see them."""

from typing import Any

from services.control.cli.figure_views import scaled
from services.control.cli.figures import drops, interfaces, rates, top
from services.control.cli.tables import as_text
from services.control.cli.views import VIEWS

BEFORE: dict[str, Any] = {
    "services": {
        "forwarder": {"eth0": {"FORWARDED": 100, "DROP_NO_ROUTE": 5}},
        "ingress-eth0": {"eth0": {"RX_FRAMES": 10}},
    },
    "heard_s": {"forwarder": 10.0, "ingress-eth0": 10.25},
}
AFTER: dict[str, Any] = {
    "services": {
        "forwarder": {"eth0": {"FORWARDED": 300, "GENERATED_SENT": 4, "DROP_NO_ROUTE": 6, "TX_BYTES": 1000}},
        "ingress-eth0": {"eth0": {"RX_FRAMES": 10}, "eth1": {"RX_FRAMES": 7}},
        "ingress-eth1": {"eth1": {"RX_FRAMES": 1000}},
    },
    "interfaces": {
        "eth0": {"RX_FRAMES": 10, "FORWARDED": 300, "GENERATED_SENT": 4, "DROP_NO_ROUTE": 6, "TX_BYTES": 1000},
        "eth1": {"RX_FRAMES": 1007, "DROP_NO_ROUTE": 0, "DROP_RUNT": 2},
    },
    "heard_s": {"forwarder": 12.0, "ingress-eth0": 10.25, "ingress-eth1": 12.0},
}
STATUS: dict[str, Any] = {
    "version": "1",
    "ready": True,
    "waiting_for": [],
    "warnings": [],
    "generation": 4,
    "interfaces": [
        {
            "index": number + 2,
            "name": f"eth{number}",
            "mac": "02:00:00:00:00:01",
            "mtu": 1500,
            "up": number == 0,
            "addresses": [],
            "forwarding": number == 0,
        }
        for number in (0, 1)
    ],
    "services": [{"service": "arp", "instance": "arp", "pid": 7, "age_s": 0.1, "up": True, "ready": True}],
}


def test_rates_are_those_between_each_services_own_reports() -> None:
    found = rates(BEFORE, AFTER)
    assert found["eth0"] == {"FORWARDED": 100.0, "GENERATED_SENT": 2.0, "DROP_NO_ROUTE": 0.5, "TX_BYTES": 500.0}
    assert "eth1" not in found, "one has not reported again, the other was not there before"


def test_drops_have_their_meaning_and_with_two_looks_their_rate() -> None:
    assert [(one["reason"], one["interface"], one["count"]) for one in drops(AFTER)] == [
        ("DROP_RUNT", "eth1", 2),
        ("DROP_NO_ROUTE", "eth0", 6),
    ]
    assert "rate" not in drops(AFTER)[0]
    assert [one["rate"] for one in drops(AFTER, rates(BEFORE, AFTER))] == [0.0, 0.5]
    assert as_text(VIEWS["show.drops"](drops(AFTER, rates(BEFORE, AFTER)))).splitlines() == [
        "DROPPED        INTERFACE  COUNT  PER SECOND  MEANING",
        "DROP_RUNT      eth1           2           0  shorter than an Ethernet header",
        "DROP_NO_ROUTE  eth0           6         0.5  no route to the destination (ICMP 3/0)",
    ]
    assert as_text(VIEWS["show.drops"]([])) == "nothing was dropped\n"


def test_interfaces() -> None:
    shown = interfaces(STATUS, AFTER, rates(BEFORE, AFTER))
    assert shown[0]["counts"] == {"rx_frames": 10, "rx_bits": 0, "tx_frames": 304, "tx_bits": 8000, "dropped": 6}
    assert shown[0]["rates"] == {"rx_frames": 0, "rx_bits": 0, "tx_frames": 102, "tx_bits": 4000, "dropped": 0.5}
    assert [one["ifname"] for one in interfaces(STATUS, AFTER, {}, "eth1")] == ["eth1"]
    assert as_text(VIEWS["show.interfaces"](shown)).splitlines() == [
        "INTERFACE  STATE  FORWARDS  RX FRAMES/S  RX BIT/S  TX FRAMES/S  TX BIT/S  DROPS/S",
        "eth0       UP     yes                 0         0          102      4000      0.5",
        "eth1       DOWN   no                  0         0            0         0        0",
    ]


def test_the_screen_shows_what_happens_now() -> None:
    shown = top(STATUS, AFTER, rates(BEFORE, AFTER))
    assert [one["reason"] for one in shown["drops"]] == ["DROP_NO_ROUTE", "DROP_RUNT"]
    text = as_text(VIEWS["top"](shown))
    assert text.startswith("hopwire 1: ready, state generation 4\n")
    assert "DROP_NO_ROUTE" in text
    assert "DROP_RUNT" not in text
    assert "arp      arp         7  0.1 s ago  ready" in text
    assert "nothing is dropped now" in as_text(VIEWS["top"](top(STATUS, AFTER, {})))


def test_the_table_of_the_forwarder() -> None:
    sizes = {"generation": 8, "control_generation": 9, "routes": 5, "paths": 3, "groups": 1, "neighbours": 2}
    lines = as_text(VIEWS["show.fib"]({**sizes, "table_bytes": 2**26, "resident_bytes": 2**27 + 2**19})).splitlines()
    assert lines[2].split() == ["generations", "behind", "control", "1"]
    assert lines[7].split() == ["tables", "(MiB)", "64.0"]
    assert lines[8].split() == ["forwarder", "in", "memory", "(MiB)", "128.5"]


def test_large_numbers_are_scaled() -> None:
    assert [scaled(value) for value in (0, 0.5, 7.0, 9999, 10_000, 12_345_678, 2e9)] == [
        "0",
        "0.5",
        "7",
        "9999",
        "10.0k",
        "12.3M",
        "2000.0M",
    ]
