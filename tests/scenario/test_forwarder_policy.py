"""Policies and groups of next hops on the slow path: fragments and errors of directed broadcasts, failed next hops."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from forwarder_network import (
    ETH0,
    ETH1,
    ETH2,
    HOST2_MAC,
    MAC2,
    Network,
    checksum,
    datagram,
    interface,
    ip,
    record,
)

from services.common.messages import NextHop, RouterState
from services.common.messages import Path as RoutePath
from services.common.parameters import InterfacePolicy

DF = 0x4000
ALL = b"\xff" * 6


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    """10.9.255.255 is the broadcast address of eth2, whose MTU is 1280, and may be sent to."""
    network = Network(tmp_path)
    eth2 = interface(ETH2, MAC2, ("10.9.0.1", 16), mtu=1280)
    policy = InterfacePolicy(directed_broadcast=True)
    network.control(
        RouterState(
            interfaces=[eth2.model_copy(update={"policy": policy})],
            paths=[RoutePath(id=90, kind="broadcast", next_hops=[NextHop(interface=ETH2, gateway=0)])],
            routes=record("10.9.255.255/32", 90),
        )
    )
    yield network
    network.check_balance()


def test_a_directed_broadcast_that_is_too_long_leaves_in_fragments_to_all(network: Network) -> None:
    network.receive(datagram(destination="10.9.255.255", payload=bytes(1300)))
    assert [(each.interface, each.data[:12], len(each.datagram)) for each in network.sent] == [
        (ETH2, ALL + MAC2, 1276),
        (ETH2, ALL + MAC2, 64),
    ]
    assert all(checksum(each.datagram[:20]) == 0 and each.datagram[8] == 63 for each in network.sent)
    assert network.handed == []


@pytest.mark.parametrize(
    ("packet", "counter"),
    [
        (datagram(destination="10.9.255.255", ttl=1), "DROP_TTL_EXCEEDED"),
        (datagram(destination="10.9.255.255", payload=bytes(1300), word=DF), "DROP_MTU_EXCEEDED"),
    ],
)
def test_no_error_tells_of_a_directed_broadcast(network: Network, packet: bytes, counter: str) -> None:
    """RFC 1812 section 4.3.2.7."""
    network.receive(packet)
    assert network.sent == []
    assert network.counted() == {counter: 1, "ICMP_FORBIDDEN": 1}


def test_an_interface_that_is_down_takes_no_broadcasts(network: Network) -> None:
    down = network.tables.interfaces[ETH2].model_copy(update={"up": False})
    network.control(RouterState(interfaces=[down]))
    network.receive(datagram(destination="10.9.255.255"))
    assert network.counted() == {"DROP_UNREACHABLE": 1, "ICMP_FORBIDDEN": 1}


def test_a_policy_that_changes_has_effect_with_the_next_batch(network: Network) -> None:
    eth0 = network.tables.interfaces[ETH0]
    for check, sent in (("strict", 0), ("loose", 1), ("strict", 1), ("off", 2)):
        policy = InterfacePolicy(reverse_path=check)  # type: ignore[arg-type]  # a Literal
        network.control(RouterState(interfaces=[eth0.model_copy(update={"policy": policy})]))
        network.receive(datagram(source="10.9.0.7"))  # behind eth2
        assert len(network.sent) == sent
    assert network.counted() == {"DROP_REVERSE_PATH": 2, "FORWARDED": 2}


def test_when_a_next_hop_fails_its_flows_go_to_the_others(network: Network) -> None:
    hops = [NextHop(interface=ETH1, gateway=ip(text)) for text in ("192.168.0.2", "192.168.0.99")]
    network.control(
        RouterState(paths=[RoutePath(id=91, kind="unicast", next_hops=hops)], routes=record("100.64.0.0/10", 91))
    )
    flows = [datagram(destination=f"100.64.0.{number}") for number in range(1, 65)]
    network.receive(*flows)
    waiting = list(network.handed)
    assert 16 < len(waiting) < 48
    assert {each.next_hop for each in waiting} == {ip("192.168.0.99")}
    network.give_back(waiting[0])
    assert (ETH1, ip("192.168.0.99")) in network.tables.take_used()
    network.sent.clear()
    network.receive(*flows)
    assert [each.data[:6] for each in network.sent] == [HOST2_MAC] * 64
    network.learn(ETH1, "192.168.0.99", bytes.fromhex("020000000063"))
    network.sent.clear()
    network.receive(*flows)
    assert sum(each.data[:6] != HOST2_MAC for each in network.sent) == len(waiting)
