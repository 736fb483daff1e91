"""Reassembly of fragments to the router: RFC 791 section 3.2, on a virtual clock."""

import random
import struct
from collections import Counter as Tally

import pytest

from services.forwarder.reassembly import MAX_BYTES, MAX_DATAGRAMS, MAX_DATAGRAMS_OF_A_SOURCE, Reassembly
from tests.oracle.router import checksum

ETH0, ETH1 = 3, 4
SOURCE, ROUTER = 0x0A000002, 0x0A000001
DATA = bytes(number * 7 % 251 for number in range(100))
COST = 256  # of a fragment beside its data


def part(
    start: int,
    end: int,
    *,
    more: bool | None = None,
    data: bytes = DATA,
    source: int = SOURCE,
    destination: int = ROUTER,
    identification: int = 7,
    options: bytes = b"",
) -> bytes:
    more = end < len(data) if more is None else more
    payload = data[start:end]
    head = struct.pack(
        "!BBHHHBBHII", 0x45 + len(options) // 4, 0xB8, 20 + len(options) + len(payload), identification,
        more << 13 | start // 8, 61, 1, 0, source, destination,
    ) + options  # fmt: skip
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


class Bench:
    """Reassembly, and the sum of all that it counts."""

    def __init__(self) -> None:
        self.reassembly = Reassembly()
        self.now = 100.0
        self.counts: Tally[tuple[str, int]] = Tally()
        self.taken = 0

    def add(self, *parts: bytes, interface: int = ETH0) -> list[bytes]:
        done = []
        for one in parts:
            whole, counts = self.reassembly.add(one, interface, self.now)
            self._count(counts)
            self.taken += 1
            done += [] if whole is None else [whole]
            self._check(len(done))
        self.taken -= len(done)
        return done

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self._count(self.reassembly.expire(self.now))
        self._check(0)

    def _count(self, counts: list) -> None:
        for counter, interface, amount in counts:
            assert amount == 1 or counter.name == "WAITING"
            self.counts[counter.name, interface] += amount

    def _check(self, complete: int) -> None:
        """Each fragment has one fate, or is held; a complete datagram has that of its last fragment."""
        assert sum(self.counts.values()) == self.taken - complete
        assert min(self.counts.values(), default=0) >= 0

    def totals(self) -> dict[str, int]:
        totals: Tally[str] = Tally()
        for (name, _), amount in self.counts.items():
            totals[name] += amount
        return {name: amount for name, amount in totals.items() if amount}


def test_two_fragments_in_order() -> None:
    bench = Bench()
    assert bench.add(part(0, 64)) == []
    assert bench.totals() == {"WAITING": 1}
    # 45b8 + 0078 + 0007 + 3d01 + 0a00 + 0002 + 0a00 + 0001 = 973b, inverted 68c4
    head = bytes.fromhex("45b8 0078 0007 0000 3d01 68c4 0a000002 0a000001")
    assert bench.add(part(64, 100)) == [head + DATA]
    assert bench.totals() == {"REASSEMBLED": 1}


def test_any_order_gives_the_same() -> None:
    chooser = random.Random(5)
    parts = [part(start, min(start + 8, 100)) for start in range(0, 100, 8)]
    for _ in range(50):
        bench = Bench()
        chooser.shuffle(parts)
        (whole,) = bench.add(*parts)
        assert whole[20:] == DATA
        assert bench.totals() == {"REASSEMBLED": 12}


def test_the_first_fragments_options_are_the_datagrams() -> None:
    options = bytes.fromhex("07070400 00000000")
    bench = Bench()
    (whole,) = bench.add(part(64, 100), part(0, 64, options=options))
    assert whole[0] == 0x47
    assert whole[2:4] == (128).to_bytes(2, "big")
    assert whole[20:] == options + DATA
    assert checksum(whole[:28]) == 0


def test_datagrams_are_kept_apart() -> None:
    bench = Bench()
    others = [{"identification": 8}, {"source": SOURCE + 1}, {"destination": ROUTER + 1}]
    assert bench.add(part(0, 64), *(part(64, 100, **other) for other in others)) == []
    assert len(bench.add(part(64, 100))) == 1
    assert bench.totals() == {"REASSEMBLED": 1, "WAITING": 3}


def test_fragments_count_for_the_interface_that_they_came_in_by() -> None:
    bench = Bench()
    bench.add(part(0, 40), interface=ETH1)
    bench.add(part(40, 64))
    assert len(bench.add(part(64, 100), interface=ETH1)) == 1
    assert {key: amount for key, amount in bench.counts.items() if amount} == {
        ("REASSEMBLED", ETH0): 1,
        ("REASSEMBLED", ETH1): 1,
    }


def test_a_duplicate_changes_nothing() -> None:
    bench = Bench()
    assert bench.add(part(0, 64), part(0, 64), part(0, 64)) == []
    assert len(bench.add(part(64, 100))) == 1
    assert bench.totals() == {"REASSEMBLED": 1, "DROP_FRAGMENT_DUPLICATE": 2}


CONTRADICTIONS = {
    "begins inside another": [part(0, 64), part(56, 100)],
    "ends inside another": [part(56, 100), part(0, 64)],
    "holds another": [part(8, 16), part(0, 64)],
    "inside another": [part(0, 64), part(8, 16)],
    "the same place, other data": [part(0, 64), part(0, 64, data=bytes(100))],
    "the same place, longer": [part(0, 32), part(0, 64)],
    "behind the last": [part(64, 72, more=False), part(72, 80)],
    "a last one before others": [part(72, 80), part(64, 72, more=False)],
    "two last ones": [part(64, 72, more=False), part(80, 100)],
    "a last one that is not": [part(64, 72, more=False), part(56, 72)],
}


@pytest.mark.parametrize("parts", CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_contradictions_take_the_whole_datagram_with_them(parts: list[bytes]) -> None:
    """RFC 5722 section 4: also what is still to come of it."""
    bench = Bench()
    assert bench.add(*parts) == []
    assert bench.totals() == {"DROP_FRAGMENT_OVERLAP": 2}
    assert bench.add(part(0, 64), part(64, 100)) == []
    assert bench.totals() == {"DROP_FRAGMENT_OVERLAP": 4}
    bench.pass_time(30.0)
    assert len(bench.add(part(0, 64), part(64, 100))) == 1


IMPOSSIBLE = {
    "no data": part(0, 0, more=True),
    "no data at the end": part(96, 96, more=False),
    "12 bytes with more to come": part(0, 12),
    "beyond 65,535 bytes": part(65_512, 65_520, data=bytes(65_520), more=False),
}


@pytest.mark.parametrize("fragment", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_what_cannot_be_a_fragment(fragment: bytes) -> None:
    bench = Bench()
    assert bench.add(fragment) == []
    assert bench.totals() == {"DROP_FRAGMENT_INVALID": 1}


def test_the_longest_datagram() -> None:
    data = bytes(65_515)
    bench = Bench()
    (whole,) = bench.add(part(0, 65_504, data=data), part(65_504, 65_515, data=data))
    assert len(whole) == 65_535
    assert whole[2:4] == b"\xff\xff"


def test_options_may_make_it_too_long() -> None:
    data = bytes(65_515)
    bench = Bench()
    assert bench.add(part(65_504, 65_515, data=data), part(0, 65_504, data=data, options=bytes(4))) == []
    assert bench.totals() == {"DROP_FRAGMENT_INVALID": 2}
    assert len(bench.add(part(0, 64), part(64, 100))) == 1


def test_the_rest_must_come_within_30_seconds() -> None:
    """RFC 791 and 1122 3.3.2: the time runs from the first fragment, and none prolongs it."""
    bench = Bench()
    bench.add(part(0, 40))
    bench.pass_time(20.0)
    bench.add(part(40, 64), part(0, 8, identification=8))
    bench.pass_time(9.9)
    assert bench.totals() == {"WAITING": 3}
    bench.pass_time(0.1)
    assert bench.totals() == {"DROP_REASSEMBLY_TIMEOUT": 2, "WAITING": 1}
    assert bench.add(part(64, 100)) == []
    bench.pass_time(20.0)
    assert bench.totals() == {"DROP_REASSEMBLY_TIMEOUT": 3, "WAITING": 1}
    bench.pass_time(60.0)
    assert bench.totals() == {"DROP_REASSEMBLY_TIMEOUT": 4}


def test_a_source_pushes_out_only_its_own() -> None:
    bench = Bench()
    bench.add(part(0, 64, source=SOURCE + 1))
    bench.add(*(part(0, 64, identification=number) for number in range(MAX_DATAGRAMS_OF_A_SOURCE + 5)))
    assert bench.totals() == {"WAITING": MAX_DATAGRAMS_OF_A_SOURCE + 1, "DROP_REASSEMBLY_FULL": 5}
    assert len(bench.add(part(64, 100, source=SOURCE + 1))) == 1
    assert bench.add(part(64, 100, identification=4)) == []  # its first fragment had gone
    assert len(bench.add(part(64, 100, identification=10))) == 1


def test_many_sources_push_out_the_oldest() -> None:
    bench = Bench()
    bench.add(*(part(0, 64, source=SOURCE + number) for number in range(MAX_DATAGRAMS + 3)))
    assert bench.totals() == {"WAITING": MAX_DATAGRAMS, "DROP_REASSEMBLY_FULL": 3}
    assert bench.add(part(64, 100, source=SOURCE)) == []
    assert len(bench.add(part(64, 100, source=SOURCE + MAX_DATAGRAMS))) == 1


def test_the_bytes_are_bounded_and_small_fragments_count_for_more_than_their_data() -> None:
    bench = Bench()
    data = bytes(60_008)
    most = MAX_BYTES // (60_000 + COST)
    bench.add(*(part(0, 60_000, data=data, source=SOURCE + number) for number in range(most + 2)))
    assert bench.totals() == {"WAITING": most, "DROP_REASSEMBLY_FULL": 2}
    bench = Bench()
    most = MAX_BYTES // (8 + COST)
    tiny = [part(at, at + 8, data=data, source=source) for source in range(1, 10) for at in range(0, 16_000, 8)]
    bench.add(*tiny)
    assert bench.totals()["WAITING"] <= most
    assert bench.totals()["DROP_REASSEMBLY_FULL"] >= len(tiny) - most


def test_nothing_stays_behind() -> None:
    """After any fragments at all, time gives everything back."""
    chooser = random.Random(11)
    bench = Bench()
    for _ in range(3000):
        start, length = 32 * chooser.randrange(4), 32
        if chooser.random() < 0.05:
            start, length = 8 * chooser.randrange(12), 8 * chooser.randrange(5)
        end = min(100, start + length)
        bench.add(part(start, end, identification=chooser.randrange(40), source=SOURCE + chooser.randrange(3)))
        bench.pass_time(chooser.choice((0.0, 0.0, 0.5)))
    assert {"REASSEMBLED", "DROP_FRAGMENT_OVERLAP", "DROP_FRAGMENT_DUPLICATE"} <= set(bench.totals())
    bench.pass_time(30.0)
    assert bench.totals().get("WAITING", 0) == 0
    assert bench.reassembly.__dict__ == Reassembly().__dict__
