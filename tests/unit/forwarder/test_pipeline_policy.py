"""What an interface's policy changes: the reverse-path check, directed broadcasts, martians. Rows 28 to 31."""

from ipaddress import IPv4Address, IPv4Network

import pytest
from pipeline_rig import Bench
from pipeline_router import ETHERNET, datagram

from tests.oracle.router import Answer, Arrival, Hop, Link, Route, Router, aged

ETH0, ETH1, ETH2 = 3, 4, 5
HOST, BROADCAST = 0, 1  # packet types
MACS = {index: bytes((2, 0, 0, 0, 0, index)) for index in (ETH0, ETH1, ETH2)}
PEER = bytes.fromhex("0200000000aa")
GATEWAY = IPv4Address("10.0.1.9")
ROUTES = {
    "10.0.0.0/24": (Hop(ETH0),),
    "10.0.1.0/24": (Hop(ETH1),),
    "198.51.100.0/24": (Hop(ETH1, GATEWAY),),
    "203.0.113.0/24": (Hop(ETH0, IPv4Address("10.0.0.9")), Hop(ETH1, GATEWAY, weight=1000)),
    "169.254.0.0/16": (Hop(ETH1, GATEWAY),),
    "240.0.0.0/4": (Hop(ETH1, GATEWAY),),
    "0.0.0.0/8": (Hop(ETH1, GATEWAY),),
    "127.0.0.0/8": (Hop(ETH1, GATEWAY),),
}
FAR = "198.51.100.7"
PLAIN = Link(MACS[ETH1])


def bench_with(*more: Route, eth1: Link = PLAIN, **policy: object) -> Bench:
    """A bench whose eth0 has a policy; frames come in there."""
    routes = [Route(IPv4Network(prefix), hops=hops) for prefix, hops in ROUTES.items()]
    routes += [
        Route(IPv4Network("10.0.0.1/32"), "local"),
        Route(IPv4Network("10.0.0.255/32"), "broadcast", (Hop(ETH0),)),
        Route(IPv4Network("10.0.1.255/32"), "broadcast", (Hop(ETH1),)),
        Route(IPv4Network("192.0.2.0/24"), "blackhole"),
        *more,
    ]
    links = {ETH0: Link(MACS[ETH0], **policy), ETH1: eth1, ETH2: Link(MACS[ETH2])}  # type: ignore[arg-type]
    return Bench.of(Router(links, routes, {(ETH1, GATEWAY): PEER}))


def verdict(bench: Bench, source: str, destination: str = FAR, packet_type: int = HOST) -> str:
    return bench.one(ETHERNET + datagram(source, destination), ETH0, packet_type).verdict


# --- Row 31: RFC 3704 -------------------------------------------------------------------------------------------------

SOURCES = {
    "on the link it came from": ("10.0.0.2", "FORWARDED", "FORWARDED"),
    "behind another interface": ("10.0.1.2", "FORWARDED", "DROP_REVERSE_PATH"),
    "behind both, with little weight here": ("203.0.113.5", "FORWARDED", "FORWARDED"),
    "without a route": ("100.64.0.1", "DROP_REVERSE_PATH", "DROP_REVERSE_PATH"),
    "in a blackhole": ("192.0.2.1", "DROP_REVERSE_PATH", "DROP_REVERSE_PATH"),
}


@pytest.mark.parametrize(("source", "loose", "strict"), SOURCES.values(), ids=SOURCES)
@pytest.mark.parametrize("destination", [FAR, "10.0.0.1"])
def test_the_reverse_path_check(source: str, loose: str, strict: str, destination: str) -> None:
    """Also for the router itself, as in Linux."""
    good = "LOCAL" if destination == "10.0.0.1" else "FORWARDED"
    assert verdict(bench_with(), source, destination) == good
    for check, expected in (("loose", loose), ("strict", strict)):
        wanted = good if expected == "FORWARDED" else expected
        assert verdict(bench_with(reverse_path=check), source, destination) == wanted


def test_the_default_route_counts_as_in_linux() -> None:
    here, there = (Route(IPv4Network("0.0.0.0/0"), hops=(Hop(index),)) for index in (ETH0, ETH2))
    assert verdict(bench_with(there, reverse_path="loose"), "100.64.0.1") == "FORWARDED"
    assert verdict(bench_with(there, reverse_path="strict"), "100.64.0.1") == "DROP_REVERSE_PATH"
    assert verdict(bench_with(here, reverse_path="strict"), "100.64.0.1") == "FORWARDED"


def test_the_check_is_of_the_interface_that_it_came_in_by_and_tells_nobody() -> None:
    strict_elsewhere = bench_with(eth1=Link(MACS[ETH1], reverse_path="strict"))
    assert verdict(strict_elsewhere, "10.0.1.2") == "FORWARDED"
    fate = bench_with(reverse_path="strict").forward([Arrival(ETHERNET + datagram("10.0.1.2", FAR))], ETH0)
    assert fate.counters == {"DROP_REVERSE_PATH": 1, "TAKEN": 1}
    assert fate.slow == []


def test_groups_and_hosts_without_an_address_are_not_checked() -> None:
    bench = bench_with(reverse_path="strict")
    assert verdict(bench, "0.0.0.0", "255.255.255.255", BROADCAST) == "LOCAL_GROUP"
    assert verdict(bench, "100.64.0.1", "224.0.0.5") == "LOCAL_GROUP"


# --- Row 28: RFC 2644 -------------------------------------------------------------------------------------------------

LETTING = Link(MACS[ETH1], directed_broadcast=True)


def test_a_directed_broadcast_leaves_to_all_stations_where_the_interface_lets_it() -> None:
    packet = datagram("10.0.0.2", "10.0.1.255")
    answer = bench_with(eth1=LETTING).one(ETHERNET + packet, ETH0)
    frame = b"\xff" * 6 + MACS[ETH1] + b"\x08\x00" + packet
    assert answer == Answer("FORWARDED", aged(frame), ETH1, IPv4Address("255.255.255.255"), 1500)


def test_it_is_the_policy_of_the_interface_that_it_leaves_by() -> None:
    assert verdict(bench_with(directed_broadcast=True), "10.0.0.2", "10.0.1.255") == "DROP_DIRECTED_BROADCAST"


def test_it_never_leaves_by_the_interface_that_it_came_from() -> None:
    bench = bench_with(directed_broadcast=True)
    assert verdict(bench, "10.0.0.2", "10.0.0.255") == "DROP_DIRECTED_BROADCAST"
    assert verdict(bench, "10.0.0.2", "10.0.0.255", BROADCAST) == "LOCAL_GROUP"


@pytest.mark.parametrize("packet_type", [BROADCAST, 2, 77])
def test_only_what_was_sent_to_the_router_alone_is_broadcast_again(packet_type: int) -> None:
    assert verdict(bench_with(eth1=LETTING), "10.0.0.2", "10.0.1.255", packet_type) == "LOCAL_GROUP"


def test_the_ttl_holds_for_directed_broadcasts() -> None:
    frame = ETHERNET + datagram("10.0.0.2", "10.0.1.255", ttl=1)
    assert bench_with(eth1=LETTING).one(frame, ETH0).verdict == "DROP_TTL_EXCEEDED"


# --- Rows 29 and 30: as strict as the RFCs, or as Linux ---------------------------------------------------------------

MARTIANS = {
    "0/8 source": ("0.1.2.3", FAR, "DROP_MARTIAN_SOURCE", "FORWARDED"),
    "0/8 destination": ("10.0.0.2", "0.1.2.3", "DROP_MARTIAN_DESTINATION", "FORWARDED"),
    "class E source": ("240.0.0.1", FAR, "DROP_MARTIAN_SOURCE", "FORWARDED"),
    "class E destination": ("10.0.0.2", "255.255.255.254", "DROP_MARTIAN_DESTINATION", "FORWARDED"),
    "link-local source": ("169.254.1.1", FAR, "DROP_LINK_LOCAL", "FORWARDED"),
    "link-local destination": ("10.0.0.2", "169.254.1.1", "DROP_LINK_LOCAL", "FORWARDED"),
    "no source": ("0.0.0.0", FAR, "DROP_MARTIAN_SOURCE", "DROP_MARTIAN_SOURCE"),
    "no destination": ("10.0.0.2", "0.0.0.0", "DROP_MARTIAN_DESTINATION", "DROP_MARTIAN_DESTINATION"),
    "loopback source": ("127.0.0.1", FAR, "DROP_MARTIAN_SOURCE", "DROP_MARTIAN_SOURCE"),
    "loopback destination": ("10.0.0.2", "127.0.0.1", "DROP_MARTIAN_DESTINATION", "DROP_MARTIAN_DESTINATION"),
    "multicast source": ("224.0.0.5", FAR, "DROP_MARTIAN_SOURCE", "DROP_MARTIAN_SOURCE"),
    "broadcast source": ("255.255.255.255", FAR, "DROP_MARTIAN_SOURCE", "DROP_MARTIAN_SOURCE"),
    "an own source": ("10.0.0.1", FAR, "DROP_MARTIAN_SOURCE", "DROP_MARTIAN_SOURCE"),
    "to everybody": ("10.0.0.2", "255.255.255.255", "LOCAL_GROUP", "LOCAL_GROUP"),
    "nobody to everybody": ("0.0.0.0", "255.255.255.255", "LOCAL_GROUP", "LOCAL_GROUP"),
}


@pytest.mark.parametrize(("source", "destination", "strict", "linux"), MARTIANS.values(), ids=MARTIANS)
def test_martians(source: str, destination: str, strict: str, linux: str) -> None:
    assert verdict(bench_with(), source, destination) == strict
    assert verdict(bench_with(martians="linux"), source, destination) == linux
    elsewhere = bench_with(eth1=Link(MACS[ETH1], martians="linux"))
    assert verdict(elsewhere, source, destination) == strict
