"""Mapping, filtering, hairpinning, pools, port forwarding, one-to-one, fragments: RFC 4787 on the bench."""

from dataclasses import replace
from pathlib import Path

import pytest
from nat_rig import (
    ACK,
    HOST,
    HOST2,
    ICMP,
    INSIDE,
    MASQUERADE,
    OUT,
    OUT2,
    OUTSIDE,
    REMOTE,
    REMOTE2,
    TCP,
    UDP,
    Datagram,
    NatBench,
    read,
)

from services.common.nat_rules import Forward, Masquerade, NatRules, OneToOne

MF = 0x2000
ONE = Datagram(UDP, HOST, 1025, REMOTE, 53)


def changed(**changes: object) -> NatRules:
    return NatRules.model_validate(MASQUERADE.model_dump() | changes)


def test_the_mapping_is_endpoint_independent(tmp_path: Path) -> None:
    """RFC 4787 REQ-1: one outside port for all destinations; another host's same port gets another."""
    router = NatBench(folder=tmp_path)
    first = router.send(ONE)
    assert router.send(replace(ONE, destination=REMOTE2, dport=99)).sport == first.sport
    assert router.send(replace(ONE, source=HOST2)).sport != first.sport


def test_a_kept_port_is_not_given_twice(tmp_path: Path) -> None:
    """RFC 4787 REQ-3: no overloading of ports; REQ-4: the parity stays."""
    router = NatBench(folder=tmp_path)
    assert router.send(replace(ONE, sport=30_001)).sport == 30_001
    other = router.send(replace(ONE, source=HOST2, sport=30_001)).sport
    assert other != 30_001
    assert other % 2 == 1
    assert router.send(replace(ONE, source=HOST2, sport=30_002)).sport == 30_002


def test_a_port_may_serve_several_sessions_of_dependent_mapping(tmp_path: Path) -> None:
    """Address-and-port-dependent mapping: both hosts keep their port, to different remote ones."""
    rules = changed(mapping="address-and-port-dependent", filtering="address-and-port-dependent")
    router = NatBench(rules, folder=tmp_path)
    sent = replace(ONE, sport=30_001)
    assert router.send(sent).sport == 30_001
    assert router.send(replace(sent, source=HOST2, destination=REMOTE2)).sport == 30_001
    clash = router.send(replace(sent, source=HOST2)).sport
    assert clash != 30_001
    assert router.send(ONE.back(source=REMOTE, sport=53, destination=OUT, dport=clash), OUTSIDE).destination == HOST2


@pytest.mark.parametrize(
    ("filtering", "same_host", "stranger"),
    [
        ("endpoint-independent", "FORWARDED", "FORWARDED"),
        ("address-dependent", "FORWARDED", "DROP_NAT_FILTERED"),
        ("address-and-port-dependent", "DROP_NAT_FILTERED", "DROP_NAT_FILTERED"),
    ],
)
def test_filtering(tmp_path: Path, filtering: str, same_host: str, stranger: str) -> None:
    """RFC 4787 section 5: who may send to a mapping."""
    router = NatBench(changed(filtering=filtering), folder=tmp_path)
    answer = router.send(ONE).back()
    assert router.fate(answer) == "FORWARDED"
    assert router.fate(replace(answer, sport=54)) == same_host
    assert router.fate(replace(answer, source=REMOTE2)) == stranger
    if stranger == "FORWARDED":
        seen = router.send(replace(answer, source=REMOTE2), OUTSIDE)
        assert (seen.destination, seen.dport) == (HOST, ONE.sport)
        assert router.send(seen.back(), INSIDE).sport == answer.dport


def test_hairpinning(tmp_path: Path) -> None:
    """RFC 4787 REQ-9: two hosts behind the router talk by their outside addresses, and see only those."""
    router = NatBench(folder=tmp_path)
    outside2 = router.send(replace(ONE, source=HOST2, sport=2001))
    sent = replace(ONE, destination=OUT, dport=outside2.sport)
    seen = router.send(sent)
    assert (seen.source, seen.destination, seen.dport) == (OUT, HOST2, 2001)
    back = router.send(seen.back())
    assert (back.source, back.sport, back.destination, back.dport) == (OUT, outside2.sport, HOST, ONE.sport)


def test_paired_pooling(tmp_path: Path) -> None:
    """RFC 4787 REQ-2: a host has one of several outside addresses, whatever it sends; hosts are spread over them."""
    rules = NatRules(masquerade=(Masquerade(interface="eth4", addresses=(OUT, OUT2)),))
    router = NatBench(rules, folder=tmp_path)
    used = {}
    for host in range(2, 40):
        source = f"192.168.1.{host}"
        used[source] = {router.send(replace(ONE, source=source, sport=2000 + n, protocol=p)).source
                        for n in range(3) for p in (TCP, UDP)}  # fmt: skip
    assert all(len(addresses) == 1 for addresses in used.values())
    assert set.union(*used.values()) == {OUT, OUT2}


FORWARDS = NatRules(
    masquerade=(Masquerade(interface="eth4"),),
    forward=(
        Forward(protocol="tcp", address=OUT, port=8080, to=HOST2, to_port=80),
        Forward(protocol="udp", address=OUT, port=30_000, last_port=30_009, to=HOST2),
    ),
)


def test_port_forwarding(tmp_path: Path) -> None:
    """A port of the outside address is an inside host's; its answers come from there."""
    router = NatBench(FORWARDS, folder=tmp_path)
    sent = Datagram(TCP, REMOTE, 5000, OUT, 8080)
    seen = router.send(sent, OUTSIDE)
    assert (seen.source, seen.sport, seen.destination, seen.dport) == (REMOTE, 5000, HOST2, 80)
    back = router.send(seen.back())
    assert (back.source, back.sport, back.destination, back.dport) == (OUT, 8080, REMOTE, 5000)
    assert router.send(Datagram(UDP, REMOTE, 5, OUT, 30_004), OUTSIDE).dport == 30_004
    assert router.fate(Datagram(UDP, REMOTE, 5, OUT, 30_010)) == "DROP_NAT_NO_SESSION"


def test_a_forwarded_port_is_no_other_hosts(tmp_path: Path) -> None:
    """Its own sessions come from the forwarded port; another host gets another, though it asks for this one."""
    router = NatBench(FORWARDS, folder=tmp_path)
    assert router.send(replace(ONE, source=HOST2, sport=30_003)).sport == 30_003
    assert router.send(replace(ONE, sport=30_003)).sport not in range(30_000, 30_010)


def test_a_forwarded_port_from_inside(tmp_path: Path) -> None:
    """Hairpinning of a forwarded port: the server sees the outside address, so that its answer comes back here."""
    router = NatBench(FORWARDS, folder=tmp_path)
    seen = router.send(Datagram(TCP, HOST, 5000, OUT, 8080))
    assert (seen.source, seen.destination, seen.dport) == (OUT, HOST2, 80)
    assert router.send(seen.back()).destination == HOST


def test_one_to_one(tmp_path: Path) -> None:
    """All of an address, ports and identifiers untouched, in both directions."""
    router = NatBench(NatRules(one_to_one=(OneToOne(outside=OUT2, inside=HOST),)), folder=tmp_path)
    out = router.send(Datagram(TCP, HOST, 1025, REMOTE, 80))
    assert (out.source, out.sport) == (OUT2, 1025)
    for protocol, dport in ((TCP, 22), (UDP, 9), (ICMP, 0)):
        sent = Datagram(protocol, REMOTE, 5000, OUT2, dport, flags=2 if protocol == TCP else 0)
        seen = router.send(sent, OUTSIDE)
        assert (seen.destination, seen.sport, seen.dport) == (HOST, 5000, dport)
        assert router.send(seen.back(flags=ACK if protocol == TCP else 0)).source == OUT2
    assert router.send(Datagram(TCP, HOST2, 1025, REMOTE, 80)).source == HOST2  # no rule names it


# --- fragments: RFC 4787 REQ-14


def pieces(whole: Datagram, cut: int = 16) -> tuple[bytes, bytes]:
    """The datagram in two fragments."""
    packet = whole.packet()
    body = packet[20:]
    from nat_rig import ip_packet  # noqa: PLC0415

    head = (whole.protocol, whole.source, whole.destination)
    return (
        ip_packet(*head, body[:cut], MF, whole.identification),
        ip_packet(*head, body[cut:], cut // 8, whole.identification),
    )


def test_later_fragments_follow_the_first(tmp_path: Path) -> None:
    """Both parts bear the outside address, and together make a datagram whose checksum is right."""
    router = NatBench(folder=tmp_path)
    whole = replace(ONE, data=bytes(range(40)))
    first, later = pieces(whole)
    out = [router.verdict(part, INSIDE) for part in (first, later)]
    assert [verdict for verdict, _, _ in out] == ["FORWARDED", "FORWARDED"]
    from nat_rig import ip_packet  # noqa: PLC0415

    joined = read(ip_packet(UDP, OUT, REMOTE, out[0][1][20:] + out[1][1][20:]))
    assert (joined.data, joined.dport) == (whole.data, 53)
    assert read(out[1][1]).source == OUT
    answer = joined.back(data=bytes(40), identification=9)
    back = [router.verdict(part, OUTSIDE) for part in pieces(answer)]
    assert [(verdict, packet[16:20]) for verdict, packet, _ in back] == [("FORWARDED", bytes((192, 168, 1, 2)))] * 2


def test_fragments_in_one_batch(tmp_path: Path) -> None:
    """The later part comes in the same batch as the first one of a new session."""
    from nat_rig import ETHERNET  # noqa: PLC0415

    from tests.oracle.router import Arrival  # noqa: PLC0415

    router = NatBench(folder=tmp_path)
    parts = [Arrival(ETHERNET + part, 0, bytes(10)) for part in pieces(replace(ONE, data=bytes(40)))]
    assert [answer.verdict for answer in router.bench.forward(parts, INSIDE).answers] == ["FORWARDED"] * 2


def test_a_later_fragment_waits_for_the_first(tmp_path: Path) -> None:
    router = NatBench(folder=tmp_path)
    first, later = pieces(replace(ONE, data=bytes(40)))
    assert router.verdict(later, INSIDE)[0] == "NAT_FRAGMENT_HELD"
    assert router.verdict(first, INSIDE)[0] == "FORWARDED"
    assert router.verdict(later, INSIDE)[0] == "FORWARDED"
    router.wait(16)
    assert router.verdict(later, INSIDE)[0] == "NAT_FRAGMENT_HELD"


def test_overlapping_fragments_are_dropped(tmp_path: Path) -> None:
    """RFC 1858: what overlaps the first fragment, and a second first fragment with other ports."""
    from nat_rig import ip_packet  # noqa: PLC0415

    router = NatBench(folder=tmp_path)
    first, _ = pieces(replace(ONE, data=bytes(40)))
    assert router.verdict(first, INSIDE)[0] == "FORWARDED"
    assert router.verdict(ip_packet(UDP, HOST, REMOTE, bytes(8), 1, 7), INSIDE)[0] == "DROP_NAT_FRAGMENT"
    other, _ = pieces(replace(ONE, sport=1026, data=bytes(40)))
    assert router.verdict(other, INSIDE)[0] == "DROP_NAT_FRAGMENT"
    router.wait(2)  # the identification is used once more
    assert router.verdict(other, INSIDE)[0] == "FORWARDED"
