"""Redirects: RFC 1812 section 5.2.7.2, conformance row 24."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from forwarder_network import (
    ETH0,
    HOST1,
    HOST1_MAC,
    ICMP,
    MAC0,
    UDP,
    Network,
    checksum,
    datagram,
    interface,
    ip,
    read_icmp,
)

from services.common.messages import RouterState

STATION, STATION_MAC = "192.168.1.9", bytes.fromhex("0200000000a5")
BEHIND = "10.55.0.1"


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    network = Network(tmp_path)
    network.route("10.55.0.0/16", ETH0, STATION)
    network.learn(ETH0, STATION, STATION_MAC)
    yield network
    network.check_balance()


def test_the_datagram_goes_on_and_its_sender_is_told(network: Network) -> None:
    sent = datagram(HOST1, BEHIND, bytes(600), tos=0x10)
    network.receive(sent)
    forwarded, redirect = network.sent
    assert forwarded.data[:14] == STATION_MAC + MAC0 + b"\x08\x00"
    assert forwarded.datagram[20:] == sent[20:]
    assert redirect.data[:14] == HOST1_MAC + MAC0 + b"\x08\x00"
    message = read_icmp(*redirect[:1], redirect.datagram)
    assert (message.source, message.destination) == ("192.168.1.1", HOST1)
    assert (message.icmp_type, message.code, message.rest) == (5, 1, ip(STATION))
    assert message.data == forwarded.datagram[:548]  # as it left: RFC 1812 section 4.3.2.3 lets the TTL differ
    assert redirect.datagram[1] == 0xC0
    assert network.counted() == {"FORWARDED": 1, "REDIRECTS": 1, "GENERATED": 1, "GENERATED_SENT": 1}


def test_a_destination_on_the_link_itself_is_its_own_gateway(network: Network) -> None:
    network.receive(datagram(HOST1, STATION))
    message = read_icmp(ETH0, network.sent[1].datagram)
    assert message.rest == ip(STATION)


def test_while_the_next_hop_is_not_known_too(network: Network) -> None:
    network.forget(ETH0, STATION)
    network.receive(datagram(HOST1, BEHIND))
    assert [each.icmp_type for each in network.take_icmp()] == [5]
    assert [frame.generated for frame in network.handed] == [False]


def test_with_record_route_and_when_fragmented(network: Network) -> None:
    network.control(RouterState(interfaces=[interface(ETH0, MAC0, ("192.168.1.1", 24), mtu=1000)]))
    network.receive(datagram(HOST1, BEHIND, options=bytes.fromhex("07070400 00000000")))
    network.now += 1.0
    network.receive(datagram(HOST1, BEHIND, bytes(1200)))
    assert network.counted()["REDIRECTS"] == 2
    assert network.counted()["GENERATED"] == 2 + 1 + 2


def test_no_redirect_about_a_datagram_that_is_dropped(network: Network) -> None:
    network.receive(datagram(HOST1, BEHIND, options=bytes.fromhex("07070300 00000000")))
    network.receive(datagram(HOST1, BEHIND, ttl=1))
    assert [each.icmp_type for each in network.take_icmp()] == [12, 11]


NONE = {
    "another network's sender": datagram("172.16.0.1", BEHIND),
    "the next hop's own": datagram(STATION, BEHIND),
    "an ICMP error": datagram(HOST1, BEHIND, bytes.fromhex("0301 0000 00000000"), protocol=ICMP),
    "a fragment behind the first": datagram(HOST1, BEHIND, word=100),
    "to another link": datagram(HOST1, "192.168.0.2"),
}


@pytest.mark.parametrize("sent", NONE.values(), ids=NONE)
def test_none_where_it_would_be_wrong(network: Network, sent: bytes) -> None:
    network.receive(sent)
    assert network.counted() == {"FORWARDED": 1}


def test_none_where_it_is_switched_off(network: Network) -> None:
    network.control(RouterState(interfaces=[interface(ETH0, MAC0, ("192.168.1.1", 24), redirects=False)]))
    network.receive(datagram(HOST1, BEHIND))
    assert network.counted() == {"FORWARDED": 1}
    network.control(RouterState(interfaces=[interface(ETH0, MAC0, ("192.168.1.1", 24))]))
    network.receive(datagram(HOST1, BEHIND))
    assert network.counted()["REDIRECTS"] == 1


def test_none_where_sender_and_next_hop_are_in_different_networks_of_the_link(network: Network) -> None:
    addresses = [("192.168.1.1", 24), ("10.77.0.1", 24)]
    network.control(RouterState(interfaces=[interface(ETH0, MAC0, *addresses)]))
    network.route("10.77.0.0/24", ETH0)
    network.learn(ETH0, "10.77.0.2", HOST1_MAC)
    network.receive(datagram("10.77.0.2", BEHIND))
    assert network.counted() == {"FORWARDED": 1}
    network.receive(datagram("10.77.0.2", "10.77.0.3"))
    assert network.sent[-1].datagram[12:16] == bytes((10, 77, 0, 1))


def test_a_flood_is_forwarded_whole_and_redirected_now_and_then(network: Network) -> None:
    """9 redirects at most, each after twice the time of the one before, for as long as the flood lasts."""
    for _ in range(1000):
        network.receive(*[datagram(HOST1, BEHIND)] * 10)
        network.now += 0.05
    counted = network.counted()
    assert counted["FORWARDED"] == 10_000
    assert counted["REDIRECTS"] == 9
    assert counted["REDIRECTS"] + counted["REDIRECTS_SUPPRESSED"] == 2000  # two of a batch are looked at


def test_all_frames_of_a_batch_go_on_whatever_the_budget(network: Network) -> None:
    network.receive(*[datagram(HOST1, BEHIND, number.to_bytes(2, "big"), protocol=UDP) for number in range(200)])
    forwarded = [each.datagram for each in network.sent if each.datagram[9] == UDP]
    assert [one[20:] for one in forwarded] == [number.to_bytes(2, "big") for number in range(200)]
    assert all(checksum(one[:20]) == 0 for one in forwarded)
    assert network.counted()["REDIRECTS"] == 1
