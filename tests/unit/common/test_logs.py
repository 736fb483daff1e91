"""The log: its two forms, and that nothing is said too often."""

import json
from collections.abc import Iterator

import pytest
import structlog

from services.common.errors import HopwireError
from services.common.logs import EVENT_BURST, MAX_EVENTS, EventLimiter, set_up_logging


@pytest.fixture
def logging_put_back() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("logging_put_back")
def test_logs_are_json_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    log = set_up_logging("arp", "warning")
    log.info("not shown")
    log.warning("shown", interface="eth0")
    event = json.loads(capsys.readouterr().err)
    assert (event["event"], event["service"], event["interface"], event["level"]) == ("shown", "arp", "eth0", "warning")


@pytest.mark.usefixtures("logging_put_back")
def test_logs_are_text_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("arp", "info", "text").info("shown", interface="eth0")
    line = capsys.readouterr().err
    assert "shown" in line
    assert "interface=eth0" in line
    assert "\x1b" not in line, "no colours but on a terminal"
    with pytest.raises(json.JSONDecodeError):
        json.loads(line)


@pytest.mark.usefixtures("logging_put_back")
def test_a_flood_of_one_event_leaves_room_for_others(capsys: pytest.CaptureFixture[str]) -> None:
    log = set_up_logging("arp", "info", "json")
    for number in range(1000):
        log.info("interface up", number=number)
    log.info("interface down")
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert EVENT_BURST <= sum(event["event"] == "interface up" for event in events) < 100
    assert [event["number"] for event in events[:EVENT_BURST]] == list(range(EVENT_BURST))
    assert events[-1]["event"] == "interface down"


def test_an_unknown_log_level() -> None:
    with pytest.raises(HopwireError, match="log level 'loud' is unknown; choose debug, info, warning or error"):
        set_up_logging("arp", "loud")


def test_an_unknown_log_format() -> None:
    with pytest.raises(HopwireError, match="log format 'xml' is unknown; choose auto, json or text"):
        set_up_logging("arp", "info", "xml")


class Limited:
    """A limiter on a clock of its own."""

    def __init__(self) -> None:
        self.now = 100.0
        self.limiter = EventLimiter(lambda: self.now)

    def say(self, text: str) -> int | None:
        """Return how many were suppressed before, or None where this one is."""
        try:
            return int(self.limiter(None, "info", {"event": text}).get("suppressed", 0))
        except structlog.DropEvent:
            return None


def test_what_comes_too_often_is_held_back_and_counted() -> None:
    limited = Limited()
    assert [limited.say("a") for _ in range(EVENT_BURST + 3)] == [0] * EVENT_BURST + [None] * 3
    assert limited.say("b") == 0
    limited.now += 1.0
    assert limited.say("a") == 3
    assert limited.say("a") is None
    limited.now += 1.0
    assert limited.say("a") == 1


def test_different_events_are_bounded() -> None:
    limited = Limited()
    for number in range(3 * MAX_EVENTS):
        assert limited.say(f"event {number}") == 0
    assert len(limited.limiter._seen) == MAX_EVENTS
