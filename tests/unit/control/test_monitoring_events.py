"""What control logs: one event for each change, and nothing while nothing changes."""

from typing import Any

from services.control.monitoring.events import Event, EventLog

NOTHING: dict[str, Any] = {"ready": False, "waiting_for": ["arp"], "warnings": [], "interfaces": [], "services": []}


def told(log: EventLog, dumps: int = 1, reason: str = "", unaccounted: int = 0, **changes: Any) -> list[Event]:
    return log.on_status({**NOTHING, **changes}, dumps=dumps, dump_reason=reason, unaccounted=unaccounted)


def started() -> EventLog:
    log = EventLog()
    assert told(log) == [Event("info", "not ready", {"waiting_for": ["arp"]})]
    assert told(log) == []
    return log


def test_readiness() -> None:
    log = started()
    assert told(log, waiting_for=["forwarder"]) == [], "the same state, if for another reason"
    assert told(log, ready=True, waiting_for=[]) == [Event("info", "ready")]
    assert told(log, ready=True, waiting_for=[]) == []


def test_interfaces() -> None:
    log = started()
    eth0, eth1 = {"name": "eth0", "up": True}, {"name": "eth1", "up": False}
    assert told(log, interfaces=[eth0, eth1]) == [
        Event("info", "interface up", {"interface": "eth0"}),
        Event("info", "interface down", {"interface": "eth1"}),
    ]
    assert told(log, interfaces=[eth0, eth1]) == []
    assert told(log, interfaces=[eth0, {"name": "eth1", "up": True}]) == [
        Event("info", "interface up", {"interface": "eth1"})
    ]
    assert told(log, interfaces=[eth0]) == [Event("info", "interface gone", {"interface": "eth1"})]


def test_services() -> None:
    log = started()
    up, down = {"instance": "arp", "up": True}, {"instance": "arp", "up": False}
    assert told(log, services=[up]) == [Event("info", "service up", {"instance": "arp"})]
    assert told(log, services=[down]) == [Event("warning", "service down", {"instance": "arp"})]
    assert told(log, services=[down]) == []
    assert told(log) == [Event("info", "service not missed any more", {"instance": "arp"})]


def test_warnings_come_once_and_again_when_they_were_gone() -> None:
    log = started()
    assert told(log, warnings=["b", "a"]) == [Event("warning", "a"), Event("warning", "b")]
    assert told(log, warnings=["b", "a"]) == []
    assert told(log, warnings=["b"]) == []
    assert told(log, warnings=["b", "a"]) == [Event("warning", "a")]


def test_further_dumps_of_the_kernels_tables() -> None:
    log = started()
    assert told(log, dumps=3, reason="announcements were lost") == [
        Event("info", "the kernel's tables were read again", {"reason": "announcements were lost", "times": 2})
    ]
    assert told(log, dumps=3, reason="announcements were lost") == []


def test_the_frame_balance() -> None:
    log = started()
    assert told(log, unaccounted=5) == [Event("warning", "frames are not accounted for", {"frames": 5})]
    assert told(log, unaccounted=7) == []
    assert told(log) == [Event("info", "every frame is accounted for")]
