"""The verbs that look at frames: their lines, the pcapng that is written, and a trace put together from records."""

import struct
from typing import Any

import pytest

from services.common import tap
from services.common.counters import Counter
from services.common.tap import Record
from services.common.wire import summary
from services.control.cli.capture import PcapngWriter, comment
from services.control.cli.completion import candidates
from services.control.cli.grammar import parse
from services.control.cli.trace import RESOLVED_LIMIT_S, SENT_LIMIT_S, TraceBook, shown, text
from services.control.cli.words import UsageError

ETH0, ETH1 = 3, 4
NAMES = {ETH0: "eth0", ETH1: "eth1"}


def frame(identification: int = 1, ttl: int = 64, mac: bytes = bytes(6)) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 28, identification, 0, ttl, 1, 0) + bytes([10, 0, 0, 2, 198, 51, 100, 7])
    return mac + bytes(6) + b"\x08\x00" + head + b"\x08" + bytes(7)


def received(verdict: Counter, data: bytes | None = None, at_ns: int = 1000, **fields: int) -> Record:
    data = frame() if data is None else data
    return Record(0, tap.RECEIVED, at_ns, ETH0, len(data), len(data), int(verdict), data=data, **fields)


def later(kind: int, data: bytes, at_ns: int = 2000, verdict: int = -1) -> Record:
    return Record(0, kind, at_ns, ETH1, len(data), len(data), verdict, data=data)


@pytest.mark.parametrize(
    ("line", "method", "params"),
    [
        ("capture", "capture", {}),
        ("capture eth0", "capture", {"dev": "eth0"}),
        ("capture dev host", "capture", {"dev": "host"}),
        ("capture drops", "capture", {"drops": True}),
        ("capture dev drops", "capture", {"dev": "drops"}),
        ("capture eth0 tcp port 80", "capture", {"dev": "eth0", "filter": "tcp port 80"}),
        ("capture host 10.0.0.1 and not arp", "capture", {"filter": "host 10.0.0.1 and not arp"}),
        ("cap drops icmp", "capture", {"drops": True, "filter": "icmp"}),
        ("trace", "trace", {}),
        ("trace icmp", "trace", {"filter": "icmp"}),
        ("drops", "drops", {}),
        ("drops no-route", "drops", {"reason": "DROP_NO_ROUTE"}),
        ("drops DROP_NO_ROUTE dev eth0", "drops", {"reason": "DROP_NO_ROUTE", "dev": "eth0"}),
        ("why 10.0.0.1 10.0.0.2", "why", {"src": "10.0.0.1", "dst": "10.0.0.2"}),
        (
            "why from 10.0.0.1 to 10.0.0.2 tcp/443 iif eth0 size 4000 ttl 1",
            "why",
            {
                "src": "10.0.0.1",
                "dst": "10.0.0.2",
                "flow": {"protocol": "tcp", "port": 443},
                "iif": "eth0",
                "size": 4000,
                "ttl": 1,
            },
        ),
        ("why 10.0.0.1 10.0.0.2 icmp", "why", {"src": "10.0.0.1", "dst": "10.0.0.2", "flow": {"protocol": "icmp"}}),
    ],
)
def test_lines(line: str, method: str, params: dict[str, Any]) -> None:
    request = parse(line.split())
    assert (request.method, dict(request.params)) == (method, params)


def test_a_filter_may_be_one_word_of_the_shell() -> None:
    assert parse(["capture", "(tcp or udp) and port 53"]).params == {"filter": "(tcp or udp) and port 53"}


@pytest.mark.parametrize(
    ("line", "token"),
    [
        ("capture eth0 eth1", "eth1"),
        ("capture tcp porr 1", "porr"),
        ("trace nonsense", "nonsense"),
        ("drops nonsense", "nonsense"),
        ("drops no-route more", "more"),
        ("why 10.0.0.1", None),
        ("why 10.0.0.1 10.0.0.2 sctp", "sctp"),
        ("why 10.0.0.1 10.0.0.2 icmp/3", "icmp/3"),
        ("why 10.0.0.1 10.0.0.2 tcp udp", "udp"),
    ],
)
def test_an_error_names_the_token(line: str, token: str | None) -> None:
    with pytest.raises(UsageError) as raised:
        parse(line.split())
    assert raised.value.token == token


def test_completion() -> None:
    assert {"capture", "drops", "trace", "why"} <= set(candidates([]).words)
    assert {"drops", "dev", "host", "icmp"} <= set(candidates(["capture"]).words)
    assert candidates(["capture"]).interfaces
    assert "no-route" in candidates(["drops"]).words
    assert candidates(["why", "10.0.0.1", "10.0.0.2"]).words == ["icmp", "tcp", "udp", "iif", "size", "ttl"]
    assert candidates(["why", "10.0.0.1", "10.0.0.2", "iif"]).interfaces
    assert candidates(["trace", "host"]).words == []


class TestPcapng:
    def test_interfaces_come_before_their_frames_and_statistics_behind_all(self) -> None:
        writer = PcapngWriter({ETH0: ("eth0", bytes(6))}, 1000)
        data = writer.begin() + writer.packet(received(Counter.FORWARDED)) + writer.packet(later(tap.SENT, frame()))
        data += writer.end({ETH1: 5}, 9000)
        assert kinds_of(data) == [0x0A0D0D0A, 1, 6, 1, 6, 5, 5]
        assert b"eth0" in data
        assert b"interface 4" in data, "one that nobody knew at the begin"
        assert writer.frames == 2

    def test_a_comment_says_why_a_frame_was_dropped(self) -> None:
        assert comment(received(Counter.FORWARDED)) == ""
        assert comment(received(Counter.DROP_VLAN)) == f"DROP_VLAN: {Counter.DROP_VLAN.text}"
        assert comment(later(tap.SENT, frame())) == ""
        assert comment(received(Counter.FORWARDED, gso_size=1448)) == "super-frame (GSO), 1448 bytes a segment"


def kinds_of(data: bytes) -> list[int]:
    kinds = []
    while data:
        kind, length = struct.unpack_from("=II", data)
        assert struct.unpack_from("=I", data, length - 4) == (length,)
        kinds.append(kind)
        data = data[length:]
    return kinds


class TestTrace:
    def test_what_was_sent_belongs_to_what_was_received(self) -> None:
        book = TraceBook(1)
        book.feed([received(Counter.FORWARDED)], 0.0)
        assert book.take(0.1) == []
        book.feed([later(tap.SENT, frame(identification=2)), later(tap.SENT, frame(ttl=63))], 0.2)
        (traced,) = book.take(0.2)
        assert [record.data for record in traced.sent] == [frame(ttl=63)]
        assert book.is_done

    def test_no_more_than_were_asked_for(self) -> None:
        book = TraceBook(1)
        book.feed([received(Counter.DROP_BLACKHOLE), received(Counter.DROP_VLAN)], 0.0)
        assert [traced.verdict for traced in book.take(0.0)] == [Counter.DROP_BLACKHOLE]
        assert book.is_done

    @pytest.mark.parametrize(
        ("verdict", "limit_s"), [(Counter.FORWARDED, SENT_LIMIT_S), (Counter.HANDED, RESOLVED_LIMIT_S)]
    )
    def test_what_never_leaves_is_shown_all_the_same(self, verdict: Counter, limit_s: float) -> None:
        book = TraceBook(1)
        book.feed([received(verdict)], 0.0)
        assert book.take(limit_s - 0.01) == []
        (traced,) = book.take(limit_s)
        assert (traced.sent, traced.dropped) == ([], None)

    def test_a_late_drop_ends_it(self) -> None:
        book = TraceBook(1)
        book.feed([received(Counter.HANDED)], 0.0)
        book.feed([later(tap.DROPPED, frame(ttl=63), verdict=int(Counter.DROP_HOST_UNREACHABLE))], 3.0)
        (traced,) = book.take(3.0)
        assert shown(traced, NAMES.__getitem__, None)["dropped"] == "DROP_HOST_UNREACHABLE"

    def test_all_fragments_of_a_frame(self) -> None:
        book = TraceBook(1)
        book.feed([received(Counter.FRAGMENTED)], 0.0)
        book.feed([later(tap.SENT, frame(ttl=63)), later(tap.SENT, frame(ttl=63)[:38])], 0.1)
        assert book.take(0.1) == []
        (traced,) = book.take(SENT_LIMIT_S)
        assert [record.length for record in traced.sent] == [42, 38]

    def test_times_and_way(self) -> None:
        book = TraceBook(1)
        way = {"out_interface": ETH1, "next_hop": 0x0A000109, "mtu": 1500, "has_mac": 1}
        times = {"taken_ns": 51_000, "decided_ns": 54_000, "batch_number": 7, "batch_frames": 2}
        book.feed([received(Counter.FORWARDED, **way, **times)], 0.0)
        book.feed([later(tap.SENT, frame(ttl=63, mac=bytes.fromhex("020000000009")), at_ns=66_000)], 0.0)
        (traced,) = book.take(0.0)
        result = shown(traced, NAMES.__getitem__, {"prefix": "198.51.0.0/16"})
        assert (result["ingress_us"], result["decision_us"], result["sending_us"]) == (50.0, 3.0, 12.0)
        assert (result["route"], result["next_hop"], result["out"]) == ("198.51.0.0/16", "10.0.1.9", "eth1")
        assert result["lladdr"] == "02:00:00:00:00:09"
        assert result["sent"] == [{"dev": "eth1", "length": 42, "after_us": 65.0}]
        lines = text(result).splitlines()
        assert lines[0] == "eth0: 10.0.0.2 > 198.51.100.7 icmp echo request 8/0, ttl 64, 42 bytes"
        assert lines[-1] == "  sent          by eth1, 42 bytes, 65 us after receipt"
        assert "  route         ok: 198.51.0.0/16 to 10.0.1.9 dev eth1" in lines

    def test_a_translated_frame_is_known_by_what_it_leaves_as(self) -> None:
        book = TraceBook(2)
        way = {"out_interface": ETH1, "next_hop": 0x0A000109, "mtu": 1500, "has_mac": 1}
        leaving = {"source": 0xCB007101, "destination": 0xC6336407}  # 203.0.113.1, 198.51.100.7
        sent = frame(ttl=63)[:26] + bytes([203, 0, 113, 1]) + frame(ttl=63)[30:]
        book.feed([received(Counter.FORWARDED, **way, **leaving), later(tap.SENT, sent)], 0.0)
        (traced,) = book.take(0.0)
        assert [record.data for record in traced.sent] == [sent]
        result = shown(traced, NAMES.__getitem__, None)
        assert result["leaves_as"] == ["203.0.113.1", "198.51.100.7"]
        assert "  translation   ok: leaves as 203.0.113.1 > 198.51.100.7" in text(result).splitlines()
        book.feed([received(Counter.OPTIONS_FILLED, **way, **leaving)], 1.0)
        as_it_came = later(tap.DROPPED, frame(), verdict=int(Counter.DROP_OPTION_MALFORMED))
        book.feed([as_it_came], 1.0)  # the slow path drops it as it came
        assert [one.dropped for one in book.take(1.0)] == [as_it_came]
        assert book.is_done


class TestSummary:
    def test_lines(self) -> None:
        head = bytes.fromhex("ffffffffffff 020000000001 0806 0001 0800 06 04 0001")
        arp = head + bytes.fromhex("020000000001 0a000001 000000000000 0a000002")
        assert summary.line(arp, 60) == "arp request: 10.0.0.1 asks for 10.0.0.2, 60 bytes"
        tcp = frame()[:23] + b"\x06" + frame()[24:34] + struct.pack("!HHIIBB", 4000, 443, 0, 0, 0x50, 0x12)
        assert summary.line(tcp, 60).startswith("10.0.0.2.4000 > 198.51.100.7.443 tcp, ttl 64, 60 bytes")
        assert summary.line(frame()[:13], 13) == "13 bytes, no whole Ethernet header"
        assert summary.line(bytes(12) + b"\x86\xdd", 60).endswith(" > 00:00:00:00:00:00 ethertype 0x86dd, 60 bytes")

    def test_any_bytes_have_a_line(self) -> None:
        for length in range(len(frame())):
            for head in (frame(), bytes(12) + b"\x08\x06" + frame()[14:], b"\xff" * 60):
                assert summary.line(head[:length], 60)
