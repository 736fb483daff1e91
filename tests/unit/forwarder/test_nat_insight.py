"""What is shown of translated frames, and that a question leaves no session behind."""

from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from nat_rig import (
    ETHERNET,
    HOST,
    INSIDE,
    MASQUERADE,
    OUT,
    OUTSIDE,
    REMOTE,
    RST,
    TCP,
    UDP,
    Datagram,
    NatBench,
)

from services.common.counters import BY_COLUMN, Counter, CounterBlock
from services.common.endpoints import Endpoints
from services.common.insight import Insight
from services.common.nat_rules import Forward, NatRules
from services.common.observer import Observing
from services.common.recording import read_recording
from services.common.tap import LARGEST_RECORD_BYTES, RECEIVED, Record, TapReader, Wish
from services.common.wire.ipv4 import address_text
from services.forwarder.nat.fragment_queue import HOLD_S, MAX_FRAGMENTS, FragmentQueue
from services.forwarder.nat.layout import OPENED_SESSIONS, SESSION_WORDS, STATES, USED, NatArrays
from services.forwarder.probing import Probe, Probed, probe
from services.forwarder.why import why

QUERY = Datagram(UDP, HOST, 30_000, REMOTE, 53)
WEB = NatRules(
    masquerade=MASQUERADE.masquerade, forward=(Forward(protocol="tcp", address=OUT, port=8080, to=HOST, to_port=80),)
)


def number(text: str) -> int:
    return int(IPv4Address(text))


class Watched:
    """A translating router whose frames are shown."""

    def __init__(self, folder: Path) -> None:
        self.endpoints = Endpoints(folder)
        self.nat = NatBench(folder=folder)
        self.observing = Observing(Insight(self.endpoints, "forwarder"))
        self._reader = TapReader(self.endpoints.taps("forwarder"), "0", Wish(RECEIVED), LARGEST_RECORD_BYTES)
        self.observing.refresh()
        self.nat.bench.observer = self.observing.arrays

    def shown(self, sent: Datagram, by: int = INSIDE) -> Record:
        self.nat.fate(sent, by)
        (record,) = self._reader.take(9)
        return record

    def close(self) -> None:
        self._reader.close()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path)
    yield made
    made.close()


def test_a_frame_is_shown_as_it_came_with_what_it_leaves_as(watched: Watched) -> None:
    there = watched.shown(QUERY)
    assert (there.data, BY_COLUMN[there.verdict]) == (ETHERNET + QUERY.packet(), Counter.FORWARDED)
    assert (address_text(there.source), address_text(there.destination)) == (OUT, REMOTE)
    answer = Datagram(UDP, REMOTE, 53, OUT, 30_000)
    back = watched.shown(answer, OUTSIDE)
    assert back.data == ETHERNET + answer.packet()
    assert (address_text(back.source), address_text(back.destination)) == (REMOTE, HOST)


def test_a_refusal_is_the_verdict_that_is_shown_and_recorded(watched: Watched) -> None:
    reset = Datagram(TCP, HOST, 30_001, REMOTE, 80, flags=RST)
    record = watched.shown(reset)
    assert (BY_COLUMN[record.verdict], record.source) == (Counter.DROP_NAT_NO_SESSION, 0)
    (dropped,) = read_recording(watched.endpoints.drops("forwarder"))
    assert (dropped.reason, dropped.data) == (Counter.DROP_NAT_NO_SESSION, ETHERNET + reset.packet())


def test_what_arp_does_not_take_is_dropped_as_it_came(watched: Watched) -> None:
    """Beyond arp's allowance: the drop is recorded with the addresses that it came with."""
    watched.nat.bench.allow(slow_path=0, arp=0)
    unresolved = Datagram(UDP, HOST, 30_002, "203.0.113.77", 53)
    assert BY_COLUMN[watched.shown(unresolved).verdict] is Counter.DROP_ARP_FULL
    (dropped,) = read_recording(watched.endpoints.drops("forwarder"))
    assert dropped.data == ETHERNET + unresolved.packet()


def test_a_fragment_that_is_given_up_is_noted(tmp_path: Path) -> None:
    noted: list[tuple[Counter, int, bytes]] = []
    counters = CounterBlock(tmp_path / "counters.bin")
    queue = FragmentQueue(counters, lambda *drop: noted.append(drop))
    frame = ETHERNET + Datagram(UDP, HOST, 1, REMOTE, 2, word=0x2001).packet()
    for turn in range(MAX_FRAGMENTS + 1):
        queue.hold(INSIDE, 0, bytes(10) + frame, float(turn) / MAX_FRAGMENTS)
    assert noted == [(Counter.DROP_NAT_FRAGMENT, INSIDE, frame)]
    queue.released(NatBench(folder=tmp_path).translator.arrays, HOLD_S + 2)
    assert noted == [(Counter.DROP_NAT_FRAGMENT, INSIDE, frame)] * (MAX_FRAGMENTS + 1)
    counters.close()


# --- a datagram that is only asked about ------------------------------------------------------------------------------


def ask(nat: NatBench, asked: Probe) -> Probed:
    """Ask, and find all that a session touches as it was."""

    def state(arrays: NatArrays) -> tuple[object, ...]:
        rows = arrays.sessions.reshape(-1, SESSION_WORDS)
        live = {row: rows[row].tolist() for row in range(8) if rows[row, -1]}
        scalars = (arrays.scalars[USED : USED + STATES].tolist(), int(arrays.scalars[OPENED_SESSIONS]))
        tables = (arrays.ports.tobytes(), arrays.ports_used.tolist(), sorted(arrays.host_values.tolist()))
        return live, scalars, *tables, nat.translator.status()

    before = state(nat.translator.arrays)
    probed = probe(nat.tables, asked)
    assert state(nat.translator.arrays) == before
    return probed


def asked(protocol: int, source: str, sport: int, destination: str, dport: int, **more: int) -> Probe:
    probe = Probe(number(source), number(destination), 0, protocol, sport, dport, payload_bytes=64)
    return probe._replace(**more)


@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_a_new_session_is_only_tried(tmp_path: Path, protocol: int) -> None:
    nat = NatBench(folder=tmp_path)
    probed = ask(nat, asked(protocol, HOST, 30_000, REMOTE, 53))
    assert (probed.verdict, probed.leaving) == (Counter.FORWARDED, (number(OUT), 30_000, number(REMOTE), 53))
    assert nat.translator.sessions_in_use == 0


def test_a_ping_is_translated_as_well(tmp_path: Path) -> None:
    probed = ask(NatBench(folder=tmp_path), asked(1, HOST, 0, REMOTE, 0))
    assert (probed.verdict, probed.leaving) == (Counter.FORWARDED, (number(OUT), 0, number(REMOTE), 0))


def test_a_session_that_there_is_stays_as_it_was(tmp_path: Path) -> None:
    nat = NatBench(folder=tmp_path)
    nat.send(QUERY)
    nat.wait(100)
    assert ask(nat, asked(UDP, HOST, 30_000, REMOTE, 53)).verdict is Counter.FORWARDED
    answer = ask(nat, asked(UDP, REMOTE, 53, OUT, 30_000, interface=OUTSIDE))
    assert (answer.verdict, answer.leaving) == (Counter.FORWARDED, (number(REMOTE), 53, number(HOST), 30_000))


def test_why_is_about_the_route_that_a_forwarded_port_takes(tmp_path: Path) -> None:
    nat = NatBench(WEB, folder=tmp_path)
    ask(nat, asked(TCP, REMOTE, 40_000, OUT, 8080, interface=OUTSIDE))
    told = why(nat.tables, asked(TCP, REMOTE, 40_000, OUT, 8080, interface=OUTSIDE))
    assert told["leaving"] == {"src": number(REMOTE), "sport": 40_000, "dst": number(HOST), "dport": 80}
    assert (told["prefix"], told["chosen"]) == (number("192.168.1.0"), {"interface": INSIDE, "next_hop": number(HOST)})


def test_why_knows_what_translation_refuses(tmp_path: Path) -> None:
    nat = NatBench(folder=tmp_path)
    told = why(nat.tables, asked(TCP, REMOTE, 40_000, OUT, 30_000, interface=OUTSIDE))
    assert told["verdict"] == "DROP_NAT_NO_SESSION"
