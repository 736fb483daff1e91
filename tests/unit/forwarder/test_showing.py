"""What compiled code leaves to the flight recorder and to taps, read with the Python of the other end."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from pipeline_router import ETH0, ETH1, ETH2, ETHERNET, bench_with, datagram

from services.common import packet_filter as pf
from services.common.counters import BY_COLUMN, Counter
from services.common.endpoints import Endpoints
from services.common.insight import Insight
from services.common.observer import Observing
from services.common.recording import read_recording
from services.common.tap import DROPPED, LARGEST_RECORD_BYTES, RECEIVED, SENT, Record, TapReader, Wish
from services.control.cli.filter_grammar import compile_filter
from tests.oracle.router import Arrival

FORWARDED = ETHERNET + datagram()
EXPIRED = ETHERNET + datagram(ttl=1)
BLACKHOLED = ETHERNET + datagram(destination="203.0.113.1")
UNRESOLVED = ETHERNET + datagram(destination="198.51.100.200")
MARTIAN = ETHERNET + datagram(source="127.0.0.1")


class Watched:
    """A bench whose frames are shown."""

    def __init__(self, folder: Path) -> None:
        self.endpoints = Endpoints(folder)
        self.bench = bench_with()
        self.observing = Observing(Insight(self.endpoints, "forwarder"))
        for index in (ETH1, ETH2):
            self.observing.interfaces[self.bench.tables.slots[index]] = index
        self._readers: list[TapReader] = []

    def tap(self, wish: Wish) -> TapReader:
        reader = TapReader(self.endpoints.taps("forwarder"), str(len(self._readers)), wish, LARGEST_RECORD_BYTES)
        self._readers.append(reader)
        return reader

    def forward(self, *frames: bytes, packet_type: int = 0) -> list[str]:
        """Let frames in by ETH0, and return the verdicts."""
        self.observing.refresh()
        self.bench.observer = self.observing.arrays
        fate = self.bench.forward([Arrival(frame, packet_type) for frame in frames], ETH0)
        return [answer.verdict for answer in fate.answers]

    def close(self) -> None:
        for reader in self._readers:
            reader.close()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path)
    yield made
    made.close()


def of_kind(records: list[Record]) -> list[tuple[int, str]]:
    return [(record.kind, BY_COLUMN[record.verdict].name) for record in records]


class TestRecorder:
    def test_drops_are_recorded_as_they_came(self, watched: Watched) -> None:
        watched.forward(BLACKHOLED, FORWARDED, MARTIAN)
        found = read_recording(watched.endpoints.drops("forwarder"))
        assert {(one.reason.name, one.data, one.length, one.interface) for one in found} == {
            ("DROP_BLACKHOLE", BLACKHOLED, len(BLACKHOLED), ETH0),
            ("DROP_MARTIAN_SOURCE", MARTIAN, len(MARTIAN), ETH0),
        }

    def test_the_last_64_of_a_flood(self, watched: Watched) -> None:
        marked = [ETHERNET + datagram(destination="203.0.113.1", payload=bytes([number])) for number in range(100)]
        watched.forward(*marked)
        found = read_recording(watched.endpoints.drops("forwarder"))
        assert [one.data for one in found] == marked[-64:]

    def test_what_goes_on_or_to_the_slow_path_is_not_recorded_here(self, watched: Watched) -> None:
        assert watched.forward(FORWARDED, EXPIRED, UNRESOLVED) == ["FORWARDED", "DROP_TTL_EXCEEDED", "HANDED"]
        assert read_recording(watched.endpoints.drops("forwarder")) == []

    def test_a_descriptor_that_lies_has_no_frame(self, watched: Watched) -> None:
        watched.bench.observer = watched.observing.arrays
        watched.bench.forward([Arrival(FORWARDED, entry_is_true=False)], ETH0)
        (one,) = read_recording(watched.endpoints.drops("forwarder"))
        assert (one.reason, one.length, one.data) == (Counter.DROP_RING_ENTRY, 0, b"")

    def test_frames_beyond_the_allowances_keep_their_ttl(self, watched: Watched) -> None:
        watched.bench.allow(slow_path=0, arp=0)
        assert watched.forward(EXPIRED, UNRESOLVED) == ["DROP_SLOW_PATH_FULL", "DROP_ARP_FULL"]
        found = {one.reason.name: one.data for one in read_recording(watched.endpoints.drops("forwarder"))}
        assert found == {"DROP_SLOW_PATH_FULL": EXPIRED, "DROP_ARP_FULL": UNRESOLVED}


class TestTaps:
    def test_nobody_is_shown_anything_unasked(self, watched: Watched) -> None:
        watched.forward(FORWARDED)
        assert watched.observing.arrays.taps.shape[0] == 0
        assert watched.observing.arrays.batches[0] == 0

    def test_received_frames_come_as_they_were_with_their_verdict(self, watched: Watched) -> None:
        reader = watched.tap(Wish(RECEIVED))
        watched.forward(FORWARDED, EXPIRED, BLACKHOLED, UNRESOLVED)
        records = reader.take(99)
        assert of_kind(records) == [
            (RECEIVED, "FORWARDED"),
            (RECEIVED, "DROP_TTL_EXCEEDED"),
            (RECEIVED, "DROP_BLACKHOLE"),
            (RECEIVED, "HANDED"),
        ]
        assert [record.data for record in records] == [FORWARDED, EXPIRED, BLACKHOLED, UNRESOLVED]
        assert {(record.interface, record.batch_number, record.batch_frames) for record in records} == {(ETH0, 1, 4)}
        assert all(0 < record.taken_ns <= record.decided_ns for record in records)
        first, _, _, last = records
        assert (first.out_interface, first.has_mac, first.mtu) == (ETH1, 1, 1500)
        assert (last.out_interface, last.has_mac) == (ETH2, 0)

    def test_who_asks_for_drops_gets_those_that_are_final_here(self, watched: Watched) -> None:
        reader = watched.tap(Wish(DROPPED))
        watched.forward(FORWARDED, EXPIRED, BLACKHOLED)
        assert of_kind(reader.take(99)) == [(RECEIVED, "DROP_BLACKHOLE")]

    def test_padding_is_shown_too(self, watched: Watched) -> None:
        reader = watched.tap(Wish(RECEIVED))
        watched.forward(FORWARDED + bytes(9))
        (record,) = reader.take(9)
        assert (record.length, record.data) == (len(FORWARDED) + 9, FORWARDED + bytes(9))

    def test_interface_kind_and_bytes_are_the_clients_choice(self, watched: Watched) -> None:
        other = watched.tap(Wish(RECEIVED, interface=ETH1))
        sent = watched.tap(Wish(SENT))
        short = watched.tap(Wish(RECEIVED, interface=ETH0, snap=16))
        watched.forward(FORWARDED)
        assert other.take(9) == sent.take(9) == []
        (record,) = short.take(9)
        assert (record.length, record.data) == (len(FORWARDED), FORWARDED[:16])

    def test_a_client_that_does_not_read_misses_and_holds_nobody_up(self, watched: Watched) -> None:
        idle, reads = watched.tap(Wish(RECEIVED)), watched.tap(Wish(RECEIVED))
        got = 0
        for _ in range(20):
            assert watched.forward(*[FORWARDED] * 100) == ["FORWARDED"] * 100
            got += len(reads.take(1000))
        taken = len(idle.take(10_000))
        assert (got, reads.missed()) == (2000, {})
        assert 0 < taken < 2000
        assert idle.missed() == {ETH0: 2000 - taken}

    @pytest.mark.parametrize("filtered", ["icmp", "udp port 53 or arp", "net 10.0.0.0/8 and not tcp", "less 60"])
    def test_compiled_filters_decide_as_the_python_ones(self, watched: Watched, filtered: str) -> None:
        draw = random.Random(7)
        program = compile_filter(filtered)
        reader = watched.tap(Wish(RECEIVED, program=program))
        frames = []
        for _ in range(200):
            frame = bytearray(draw.choice([FORWARDED, EXPIRED, BLACKHOLED]) + draw.randbytes(draw.randrange(40)))
            for _ in range(draw.randrange(4)):
                frame[draw.randrange(12, len(frame))] = draw.choice([0, 1, 6, 8, 10, 17, 53, 0x45, draw.randrange(256)])
            frames.append(bytes(frame))
        for frame in frames:
            watched.forward(frame)
        expected = [frame for frame in frames if pf.matches(program, pf.fields_of(frame, len(frame)))]
        assert [record.data for record in reader.take(999)] == expected
        assert 0 < len(expected) < len(frames)
