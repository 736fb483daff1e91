"""Matching of echo requests, replies and errors on a virtual clock, with datagrams put together by hand."""

from ipaddress import IPv4Address

import pytest

from services.launcher.probes.ping import EchoTracker, summary

HOST2 = IPv4Address("192.168.0.2")
IDENTIFIER = 0x1234
PAYLOAD = b"abcd"

FROM_HOST2 = bytes.fromhex("45000020 00000000 3e010000 c0a80002 c0a80102")  # TTL 62
FROM_HOST3 = bytes.fromhex("45000020 00000000 3e010000 c0a80402 c0a80102")
FROM_ROUTER = bytes.fromhex("45c00038 00000000 40010000 c0a80101 c0a80102")

REPLY_1 = FROM_HOST2 + bytes.fromhex("0000 2904 1234 0001 61626364")
REPLY_2 = FROM_HOST2 + bytes.fromhex("0000 2903 1234 0002 61626364")
DAMAGED_REPLY_1 = FROM_HOST2 + bytes.fromhex("0000 2905 1234 0001 61626364")
ALTERED_REPLY_1 = FROM_HOST2 + bytes.fromhex("0000 2903 1234 0001 61626365")
FOREIGN_REPLY_1 = FROM_HOST2 + bytes.fromhex("0000 2903 1235 0001 61626364")  # another process's identifier
STRAY_REPLY_1 = FROM_HOST3 + bytes.fromhex("0000 2904 1234 0001 61626364")

QUOTE_1 = bytes.fromhex("45000020 12344000 01010000 c0a80102 c0a80002 0800 2104 1234 0001")
TIME_EXCEEDED_1 = FROM_ROUTER + bytes.fromhex("0b00 9f1b 0000 0000") + QUOTE_1
FRAGMENTATION_NEEDED_1 = FROM_ROUTER + bytes.fromhex("0304 a217 0000 0500") + QUOTE_1
REDIRECT_1 = FROM_ROUTER + bytes.fromhex("0501 e368 c0a8 0109") + QUOTE_1
ABOUT_HOST3 = FROM_ROUTER + bytes.fromhex(  # the quoted destination, and so the checksum, differ
    "0b00 9b1b 0000 0000 45000020 12344000 01010000 c0a80102 c0a80402 0800 2104 1234 0001"
)


@pytest.fixture
def tracker() -> EchoTracker:
    return EchoTracker(HOST2, IDENTIFIER, PAYLOAD)


def test_reply_is_matched_and_timed(tracker: EchoTracker) -> None:
    tracker.sent(1, 1_000_000)
    assert tracker.is_waiting(1)
    assert tracker.received(REPLY_1, 1_250_000) == {"sequence": 1, "ttl": 62, "rtt_us": 250.0}
    assert not tracker.is_waiting()


def test_times_are_summed_up(tracker: EchoTracker) -> None:
    for sequence, reply, rtt_ns in ((1, REPLY_1, 100_000), (2, REPLY_2, 300_000), (65_537, REPLY_1, 110_000)):
        tracker.sent(sequence, 5_000_000)
        tracker.received(reply, 5_000_000 + rtt_ns)
    report = tracker.report()
    assert (report["sent"], report["received"]) == (3, 3)
    assert report["rtt_us"] == {"min": 100.0, "avg": 170.0, "median": 110.0, "max": 300.0}


def test_nothing_received(tracker: EchoTracker) -> None:
    tracker.sent(1, 0)
    report = tracker.report()
    assert (report["sent"], report["received"], report["rtt_us"]) == (1, 0, None)
    assert summary(report) == "1 sent, 0 received, 1 lost"


def test_sequence_numbers_wrap_on_the_wire_only(tracker: EchoTracker) -> None:
    assert tracker.request(65_537) == tracker.request(1) == bytes.fromhex("0800 2104 1234 0001 61626364")
    tracker.sent(65_537, 0)
    reply = tracker.received(REPLY_1, 1_000)
    assert reply == {"sequence": 65_537, "ttl": 62, "rtt_us": 1.0}


def test_second_reply_is_a_duplicate(tracker: EchoTracker) -> None:
    tracker.sent(1, 0)
    tracker.received(REPLY_1, 1_000)
    assert tracker.received(REPLY_1, 2_000) is None
    report = tracker.report()
    assert (report["received"], report["duplicates"]) == (1, 1)
    assert "1 duplicates" in summary(report)


@pytest.mark.parametrize("datagram", [DAMAGED_REPLY_1, ALTERED_REPLY_1, STRAY_REPLY_1])
def test_wrong_reply_is_counted_and_answers_nothing(tracker: EchoTracker, datagram: bytes) -> None:
    tracker.sent(1, 0)
    assert tracker.received(datagram, 1_000) is None
    assert tracker.is_waiting(1)
    report = tracker.report()
    assert (report["received"], report["wrong"]) == (0, 1)


@pytest.mark.parametrize("datagram", [FOREIGN_REPLY_1, ABOUT_HOST3])
def test_what_belongs_to_others_is_left_out(tracker: EchoTracker, datagram: bytes) -> None:
    tracker.sent(1, 0)
    assert tracker.received(datagram, 1_000) is None
    assert tracker.is_waiting(1)
    report = tracker.report()
    assert (report["received"], report["wrong"], report["errors"]) == (0, 0, [])


def test_error_ends_the_wait(tracker: EchoTracker) -> None:
    tracker.sent(1, 0)
    error = tracker.received(TIME_EXCEEDED_1, 1_000)
    expected = {
        "sequence": 1,
        "source": "192.168.1.1",
        "type": 11,
        "code": 0,
        "name": "time exceeded",
        "mtu": None,
    }
    assert error == expected
    assert not tracker.is_waiting()
    report = tracker.report()
    assert (report["received"], report["errors"]) == (0, [expected])


def test_error_that_comes_twice_is_reported_twice(tracker: EchoTracker) -> None:
    tracker.sent(1, 0)
    tracker.received(TIME_EXCEEDED_1, 1_000)
    tracker.received(TIME_EXCEEDED_1, 2_000)
    assert [error["sequence"] for error in tracker.report()["errors"]] == [1, 1]


def test_fragmentation_needed_carries_the_mtu(tracker: EchoTracker) -> None:
    tracker.sent(1, 0)
    tracker.received(FRAGMENTATION_NEEDED_1, 1_000)
    (error,) = tracker.report()["errors"]
    assert (error["type"], error["code"], error["mtu"]) == (3, 4, 1280)


def test_redirect_comes_beside_the_answer(tracker: EchoTracker) -> None:
    tracker.sent(1, 0)
    tracker.received(REDIRECT_1, 1_000)
    assert tracker.is_waiting(1)
    tracker.received(REPLY_1, 2_000)
    report = tracker.report()
    assert (report["received"], report["duplicates"]) == (1, 0)
    assert [(error["type"], error["code"]) for error in report["errors"]] == [(5, 1)]


def test_refused_request_is_not_a_sent_one(tracker: EchoTracker) -> None:
    tracker.refused(1, "Message too long")
    report = tracker.report()
    assert report["sent"] == 0
    assert report["send_errors"] == [{"sequence": 1, "reason": "Message too long"}]
    assert not tracker.is_waiting()


def test_summary(tracker: EchoTracker) -> None:
    tracker.sent(1, 0)
    tracker.sent(2, 0)
    tracker.received(REPLY_1, 1_500_000)
    assert summary(tracker.report()) == (
        "2 sent, 1 received, 1 lost, RTT min/avg/median/max 1.500/1.500/1.500/1.500 ms"
    )
