"""`why` in sentences: what they must name for each verdict, and which command they offer."""

from ipaddress import IPv4Address

import pytest

from services.common.counters import Counter
from services.common.parameters import InterfacePolicy
from services.control.why import Datagram, Endpoints, Facts, Hop, explain

HOP = Hop("eth1", int(IPv4Address("10.0.1.9")), silent=False)
FORWARDED = Facts(
    verdict=Counter.FORWARDED,
    verdict_df=Counter.FORWARDED,
    iif="eth0",
    policy=InterfacePolicy(),
    kind="unicast",
    prefix="198.51.0.0/16",
    hops=[HOP],
    back_kind="unicast",
    back_prefix="10.0.0.0/24",
    back_hops=[Hop("eth0", 0, silent=False)],
    dev="eth1",
    next_hop=HOP.gateway,
    mac="02:00:00:00:00:09",
    neighbour_state="REACHABLE",
    mtu=1500,
    link_mtu=1500,
)


def datagram(source: str = "10.0.0.2", destination: str = "198.51.100.7", size: int = 84, ttl: int = 64) -> Datagram:
    return Datagram(int(IPv4Address(source)), int(IPv4Address(destination)), "udp", 49152, 53, size, ttl)


def dropped(reason: Counter, **facts: object) -> Facts:
    return FORWARDED._replace(verdict=reason, verdict_df=reason, dev=None, next_hop=None, mac=None, **facts)


def test_what_is_forwarded_names_route_next_hop_and_mac() -> None:
    told = explain(datagram(), FORWARDED)
    assert told.sentences == [
        "A datagram from 10.0.0.2 to 198.51.100.7 (udp from port 49152 to port 53, 84 bytes, TTL 64) comes in by eth0.",
        "The route 198.51.0.0/16 matches: via 10.0.1.9 dev eth1.",
        "The next hop 10.0.1.9 has the MAC 02:00:00:00:00:09 (REACHABLE).",
        "So it leaves by eth1, with TTL 63.",
    ]
    assert told.commands == ["control-cli route replace 198.51.0.0/16 via ANOTHER-GATEWAY"]


def test_several_next_hops_are_a_matter_of_the_flow() -> None:
    hops = [HOP, Hop("eth2", int(IPv4Address("10.0.2.9")), silent=True)]
    (_, route, *_) = explain(datagram(), FORWARDED._replace(hops=hops)).sentences
    assert "of 2 next hops (RFC 2992)" in route
    assert "10.0.2.9 does not answer ARP" in route


def test_an_unknown_neighbour_is_asked_for() -> None:
    told = explain(datagram(), FORWARDED._replace(verdict=Counter.HANDED, mac=None, neighbour_state="FAILED"))
    assert "its state is FAILED" in told.sentences[-1]
    assert "ICMP 3/1" in told.sentences[-1]
    assert told.commands[0] == "control-cli neigh probe 10.0.1.9 dev eth1"


def test_what_is_larger_than_the_mtu_of_a_route() -> None:
    facts = FORWARDED._replace(verdict=Counter.FRAGMENTED, verdict_df=Counter.DROP_MTU_EXCEEDED, mtu=1280)
    told = explain(datagram(size=4000), facts)
    assert "more than the MTU of the route 198.51.0.0/16, 1280: it is cut into 4 fragments" in told.sentences[2]
    assert "ICMP 3/4 with the MTU 1280 (RFC 1191)" in told.sentences[2]
    assert told.commands == ["control-cli route replace 198.51.0.0/16 via 10.0.1.9 dev eth1 mtu 1500"]


def test_what_is_larger_than_the_mtu_of_a_link() -> None:
    facts = FORWARDED._replace(verdict=Counter.FRAGMENTED, verdict_df=Counter.DROP_MTU_EXCEEDED)
    told = explain(datagram(size=3000), facts)
    assert "more than the MTU of eth1, 1500: it is cut into 3 fragments" in told.sentences[2]
    assert told.commands == ["control-cli link set eth1 mtu 3000"]


@pytest.mark.parametrize(
    ("source", "rule", "command"),
    [
        ("127.0.0.1", "127.0.0.0/8 is loopback, and never on a wire (RFC 1122 3.2.1.3)", None),
        ("0.1.2.3", '"this network"', "control-cli link set eth0 martians linux"),
        ("224.1.2.3", "multicast, which is no source (RFC 1112 7.2)", None),
        ("240.1.2.3", "240.0.0.0/4 is reserved (RFC 1112 4, RFC 6890)", "control-cli link set eth0 martians linux"),
        ("255.255.255.255", "the limited broadcast", None),
    ],
)
def test_a_martian_names_its_rule(source: str, rule: str, command: str | None) -> None:
    told = explain(datagram(source), dropped(Counter.DROP_MARTIAN_SOURCE))
    assert rule in told.sentences[-1]
    assert told.commands == ([command] if command else [])


def test_an_own_address_is_no_ones_source() -> None:
    told = explain(datagram("10.0.0.1"), dropped(Counter.DROP_MARTIAN_SOURCE, back_kind="local"))
    assert "its source is the router's own address" in told.sentences[-1].lower()


@pytest.mark.parametrize(
    ("facts", "needles", "commands"),
    [
        (
            dropped(
                Counter.DROP_REVERSE_PATH,
                policy=InterfacePolicy(reverse_path="strict"),
                back_hops=[Hop("eth2", 0, silent=False)],
            ),
            ["reverse-path check of eth0 is strict", "leads by eth2", "RFC 3704"],
            [
                "control-cli link set eth0 reverse-path loose",
                "control-cli link set eth0 reverse-path off",
                "control-cli route add 10.0.0.2/32 dev eth0",
            ],
        ),
        (dropped(Counter.DROP_LINK_LOCAL), ["RFC 3927"], ["control-cli link set eth0 martians linux"]),
        (dropped(Counter.DROP_TTL_EXCEEDED), ["ICMP 11/0"], []),
        (
            dropped(Counter.DROP_NO_ROUTE, prefix=None, kind="none"),
            ["No route matches 198.51.100.7", "ICMP 3/0"],
            ["control-cli route add 198.51.100.7/32 via GATEWAY", "control-cli route add default via GATEWAY"],
        ),
        (
            dropped(Counter.DROP_BLACKHOLE, kind="blackhole"),
            ["blackhole route 198.51.0.0/16", "silently"],
            ["control-cli route del blackhole 198.51.0.0/16"],
        ),
        (
            dropped(Counter.DROP_PROHIBITED, kind="prohibit"),
            ["prohibit route", "ICMP 3/13"],
            ["control-cli route del prohibit 198.51.0.0/16"],
        ),
        (
            dropped(Counter.DROP_UNREACHABLE, kind="unreachable"),
            ["unreachable route", "ICMP 3/1"],
            ["control-cli route del unreachable 198.51.0.0/16"],
        ),
        (
            dropped(Counter.DROP_UNREACHABLE)._replace(dev="eth1"),
            ["eth1 is down"],
            ["control-cli link set eth1 up"],
        ),
        (
            dropped(Counter.DROP_DIRECTED_BROADCAST, kind="broadcast", hops=[]),
            ["RFC 2644"],
            [],
        ),
        (dropped(Counter.DROP_UNKNOWN_INTERFACE), ["eth0 is down"], ["control-cli link set eth0 up"]),
        (dropped(Counter.DROP_UNKNOWN_INTERFACE, iif=None), ["name the one it comes in by with iif"], []),
        (dropped(Counter.LOCAL, kind="local"), ["an address of the router itself", "kernel"], []),
        (dropped(Counter.ECHO_ANSWERED, kind="local"), ["answered by hopwire"], []),
        (dropped(Counter.LOCAL_GROUP), ["never forwarded"], []),
    ],
)
def test_what_stops_a_datagram_and_what_would_change_it(facts: Facts, needles: list[str], commands: list[str]) -> None:
    told = explain(datagram(), facts)
    for needle in needles:
        assert needle in told.sentences[-1]
    assert told.commands == commands


def test_any_verdict_has_a_sentence() -> None:
    for verdict in Counter:
        assert len(explain(datagram(), dropped(verdict)).sentences) >= 2, verdict


def test_what_is_translated_is_said_before_the_route_that_it_takes() -> None:
    outside, server = int(IPv4Address("10.0.1.1")), int(IPv4Address("198.51.100.7"))
    told = explain(datagram(), FORWARDED._replace(leaving=Endpoints(outside, 20_001, server, 53)))
    assert told.sentences[1:3] == [
        "Address translation makes it one from 10.0.1.1 port 20001 to 198.51.100.7 port 53 (RFC 3022).",
        "The route 198.51.0.0/16 matches: via 10.0.1.9 dev eth1.",
    ]
    assert "control-cli nat show" in told.commands
    as_it_came = Endpoints(int(IPv4Address("10.0.0.2")), 49_152, server, 53)
    assert explain(datagram(), FORWARDED._replace(leaving=as_it_came)) == explain(datagram(), FORWARDED)


def test_a_forwarded_port_leads_to_a_host_on_a_link() -> None:
    web = int(IPv4Address("192.168.1.2"))
    facts = FORWARDED._replace(
        leaving=Endpoints(int(IPv4Address("10.0.0.2")), 49_152, web, 80), prefix="192.168.1.0/24", next_hop=web
    )
    assert "The route 192.168.1.0/24 matches: on the link of eth1." in explain(datagram(), facts).sentences


def test_what_translation_drops_names_the_reason_and_the_rule_that_would_let_it_in() -> None:
    told = explain(datagram(), dropped(Counter.DROP_NAT_NO_SESSION))
    assert Counter.DROP_NAT_NO_SESSION.text in told.sentences[-1]
    assert told.commands == ["control-cli nat add udp 198.51.100.7 port 53 to HOST", "control-cli nat show"]
    assert "without ICMP" in told.sentences[-1]
    refused = explain(datagram(), dropped(Counter.DROP_NAT_PORTS_FULL))
    assert refused.commands == ["control-cli nat show"]
    assert "without ICMP" not in refused.sentences[-1]
    assert "(ICMP 3/13)" in refused.sentences[-1]
