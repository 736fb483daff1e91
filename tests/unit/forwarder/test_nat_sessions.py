"""Sessions: how long they live, how many there may be, and what outlives a forwarder that is killed."""

from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from nat_rig import (
    ACK,
    FIN,
    HOST,
    HOST2,
    ICMP,
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

from services.common.nat_rules import NatRules
from services.forwarder.nat.layout import CHECK, SESSION_WORDS, STATE

SYN_OUT = Datagram(TCP, HOST, 30_000, REMOTE, 80)
PLAIN = Datagram(UDP, HOST, 30_000, REMOTE, 53)


def changed(**changes: object) -> NatRules:
    return NatRules.model_validate(MASQUERADE.model_dump() | changes)


def live(router: NatBench) -> list[dict]:
    return router.translator.sessions(router.now, 0, 1000)[0]


def outlives(router: NatBench, answer: Datagram, seconds: float) -> bool:
    """Whether an answer comes through after a pause."""
    router.wait(seconds)
    return router.fate(answer) == "FORWARDED"


def established(router: NatBench) -> Datagram:
    answer = router.send(SYN_OUT).back()
    router.send(answer, OUTSIDE)
    router.send(replace(SYN_OUT, flags=ACK))
    return replace(answer, flags=ACK)


def closed(router: NatBench) -> Datagram:
    answer = established(router)
    router.send(replace(SYN_OUT, flags=FIN | ACK))
    router.send(replace(answer, flags=FIN | ACK), OUTSIDE)
    return answer


def half_closed(router: NatBench) -> Datagram:
    answer = established(router)
    router.send(replace(SYN_OUT, flags=FIN | ACK))
    return answer


def reset(router: NatBench) -> Datagram:
    answer = established(router)
    router.send(replace(answer, flags=RST), OUTSIDE)
    return answer


def reset_in_vain(router: NatBench) -> Datagram:
    answer = reset(router)
    router.send(replace(SYN_OUT, flags=ACK))
    router.send(answer, OUTSIDE)
    return answer


def used_again(router: NatBench) -> Datagram:
    closed(router)
    return established(router)


LIVES = {
    "opening": (lambda router: router.send(SYN_OUT).back(), 240),
    "established": (established, 7440),
    "half closed": (half_closed, 7440),
    "closed": (closed, 240),
    "reset": (reset, 240),
    "reset in vain": (reset_in_vain, 7440),
    "used again": (used_again, 7440),
    "udp": (lambda router: router.send(PLAIN).back(), 300),
    "icmp": (lambda router: router.send(Datagram(ICMP, HOST, 9, REMOTE, 0, flags=0)).back(flags=0), 60),
}


@pytest.mark.parametrize("name", LIVES)
def test_timeouts(tmp_path: Path, name: str) -> None:
    """RFC 5382 REQ-5, RFC 4787 REQ-5, RFC 5508 REQ-2: not a second less, and not for ever."""
    prepare, seconds = LIVES[name]
    router = NatBench(folder=tmp_path)
    assert not outlives(router, prepare(router), seconds)
    assert router.translator.sessions_in_use == 0
    router = NatBench(folder=tmp_path / "other") if (tmp_path / "other").mkdir() is None else router
    assert outlives(router, prepare(router), seconds - 0.1)


def test_sent_datagrams_refresh_the_mapping(tmp_path: Path) -> None:
    """RFC 4787 REQ-6."""
    router = NatBench(folder=tmp_path)
    answer = router.send(PLAIN).back()
    for _ in range(3):
        router.wait(299)
        router.send(PLAIN)
    assert outlives(router, answer, 299)


def test_what_a_session_shows(tmp_path: Path) -> None:
    router = NatBench(folder=tmp_path)
    established(router)
    router.wait(10)
    (shown,) = live(router)
    out, inside, remote = (int(IPv4Address(text)) for text in (OUT, HOST, REMOTE))
    assert shown["original"] == [inside, 30_000, remote, 80]
    assert shown["reply"] == [remote, 80, out, 30_000]
    assert (shown["protocol"], shown["state"]) == ("tcp", "tcp established")
    assert (shown["age_s"], shown["idle_s"], shown["expires_s"]) == (10, 10, 7430)
    assert (shown["packets"], shown["bytes"]) == ([2, 1], [100, 50])
    assert router.translator.status()["states"]["tcp established"] == 1
    assert router.translator.status()["ports"] == [{"address": out, "tcp": 1, "udp": 0, "icmp": 0}]


def test_a_full_table_refuses_new_sessions_only(tmp_path: Path) -> None:
    router = NatBench(changed(max_sessions=16), folder=tmp_path)
    first = router.send(PLAIN).back()
    for port in range(15):
        router.send(replace(PLAIN, dport=100 + port))
    assert router.fate(replace(PLAIN, dport=99), INSIDE) == "DROP_NAT_TABLE_FULL"
    assert router.fate(first) == "FORWARDED"


def test_full_ports_refuse_new_sessions_only(tmp_path: Path) -> None:
    """Ten ports: ten mappings; an old one still goes on to another destination, and has its port."""
    router = NatBench(changed(first_port=20_000, last_port=20_009), folder=tmp_path)
    seen = {router.send(replace(PLAIN, sport=1000 + port)).sport for port in range(10)}
    assert seen == set(range(20_000, 20_010))
    assert router.fate(replace(PLAIN, sport=1010), INSIDE) == "DROP_NAT_PORTS_FULL"
    router.send(replace(PLAIN, sport=1003, dport=7))
    router.wait(301)
    router.translator.keep_house(router.now)
    assert router.send(replace(PLAIN, sport=1010)).sport in seen


def test_a_host_has_its_share(tmp_path: Path) -> None:
    router = NatBench(changed(max_sessions_per_host=3), folder=tmp_path)
    for port in range(3):
        router.send(replace(PLAIN, dport=100 + port))
    assert router.fate(replace(PLAIN, dport=99), INSIDE) == "DROP_NAT_HOST_LIMIT"
    assert router.fate(replace(PLAIN, source=HOST2), INSIDE) == "FORWARDED"


def test_the_sweep_frees_what_has_ended(tmp_path: Path) -> None:
    """All is as at the beginning: rows, ports, mappings."""
    router = NatBench(folder=tmp_path)
    for port in range(40):
        router.send(replace(PLAIN, sport=1000 + port))
    router.wait(301)
    for _ in range(4):
        router.translator.keep_house(router.now)
    status = router.translator.status()
    assert (status["sessions"], status["states"]["udp"], status["ports"][0]["udp"]) == (0, 0, 0)
    assert not any(array.any() for array in (router.tables.nat.places, router.tables.nat.inside_keys))
    assert not router.tables.nat.permit_keys.any()
    assert not router.tables.nat.host_keys.any()


def test_flush(tmp_path: Path) -> None:
    """All sessions end at once; their rows are freed by and by, and those that come after stay."""
    router = NatBench(folder=tmp_path)
    answer = router.send(PLAIN).back()
    assert router.translator.flush(router.now) == 1
    assert live(router) == []
    assert router.fate(answer) == "DROP_NAT_NO_SESSION"
    router.wait(1)
    router.send(PLAIN)
    for _ in range(4):
        router.wait(0.3)
        router.translator.keep_house(router.now)
    assert len(live(router)) == 1
    assert router.fate(answer) == "FORWARDED"


# --- a killed forwarder


def test_sessions_outlive_their_forwarder(tmp_path: Path) -> None:
    """Another process maps the same file: sessions, mappings, ports and limits are there again."""
    killed = NatBench(folder=tmp_path)
    answer = established(killed)
    mapped = killed.send(replace(PLAIN, sport=1025))
    after = NatBench(folder=tmp_path, now=killed.now + 5)
    assert after.translator.taken_up == 2
    assert after.send(answer, OUTSIDE).destination == HOST
    assert after.fate(mapped.back()) == "FORWARDED"
    assert after.send(replace(PLAIN, sport=1025, dport=7)).sport == mapped.sport
    assert after.send(replace(SYN_OUT, source=HOST2)).sport != 30_000


def test_a_larger_table_takes_them_over(tmp_path: Path) -> None:
    router = NatBench(changed(max_sessions=16), folder=tmp_path)
    answer = established(router)
    router.use(changed(max_sessions=64))
    assert router.fate(answer) == "FORWARDED"
    assert router.translator.status()["capacity"] == 64


@pytest.mark.parametrize("word", [0, 1, 2, 3, STATE, 10, 13, CHECK])
def test_a_damaged_session_is_not_taken_up(tmp_path: Path, word: int) -> None:
    """A torn row ends; the other one goes on."""
    killed = NatBench(folder=tmp_path)
    good = established(killed)
    bad = killed.send(replace(PLAIN, sport=1025)).back()
    row = 1 if killed.tables.nat.sessions[1] >> 32 == TCP else 0
    killed.tables.nat.sessions[row * SESSION_WORDS + word] ^= 0x77
    after = NatBench(folder=tmp_path, now=killed.now)
    assert after.translator.taken_up == 1
    assert after.fate(good) == "FORWARDED"
    assert after.fate(bad) == "DROP_NAT_NO_SESSION"


@pytest.mark.parametrize("place", [0, 8, 12, 16, 24, 40, 60])
def test_a_damaged_header_is_not_believed(tmp_path: Path, place: int) -> None:
    killed = NatBench(folder=tmp_path)
    established(killed)
    path = tmp_path / "nat-sessions.bin"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    assert NatBench(folder=tmp_path, now=killed.now).translator.taken_up == 0


def test_without_rules_there_is_no_table(tmp_path: Path) -> None:
    router = NatBench(folder=tmp_path)
    router.send(PLAIN)
    router.use(NatRules())
    assert not (tmp_path / "nat-sessions.bin").exists()
    assert router.send(PLAIN).source == HOST
