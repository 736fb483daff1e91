"""New sessions that address translation refuses: dropped and counted, and some senders told (RFC 5508 REQ-8)."""

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from forwarder_network import ETH0, ETH1, HOST1, HOST2, Network, datagram

from services.common.nat_rules import Masquerade, NatRules
from services.forwarder.nat.table import Translator
from services.forwarder.rationing import REFUSAL_BUDGET

PROHIBITED = (3, 13)


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    """eth1 is outside; a host may have one session."""
    network = Network(tmp_path)
    rules = NatRules(masquerade=(Masquerade(interface="eth1"),), max_sessions=16, max_sessions_per_host=1)
    interfaces = {slot: network.tables.interfaces[index] for index, slot in network.tables.slots.items()}
    names = {interface.name: slot for slot, interface in interfaces.items()}
    translator = Translator(tmp_path / "nat-sessions.bin")
    network.tables.set_nat(translator.apply(rules, interfaces, names, network.now))
    yield network
    network.check_balance()
    translator.close()


def udp(port: int, source: str = HOST1) -> bytes:
    return datagram(source, HOST2, struct.pack("!HHHH", 30_000, port, 16, 0) + bytes(8))


def test_the_sender_is_told(network: Network) -> None:
    network.receive(udp(53))
    assert [each.interface for each in network.sent] == [ETH1]
    network.sent.clear()
    refused = udp(54)
    network.receive(refused)
    (message,) = network.take_icmp()
    assert (message.interface, message.source, message.destination) == (ETH0, "192.168.1.1", HOST1)
    assert (message.icmp_type, message.code, message.data) == (*PROHIBITED, refused)
    network.receive(udp(53))
    assert [each.interface for each in network.sent] == [ETH1]  # the session that there is goes on
    assert network.counted()["DROP_NAT_HOST_LIMIT"] == 1


def test_of_many_only_some_are_told(network: Network) -> None:
    """The others are dropped by compiled code; all under the reason of their own."""
    network.receive(udp(53))
    network.sent.clear()
    network.receive(*[udp(54 + number) for number in range(100)])
    assert [(each.icmp_type, each.code) for each in network.take_icmp()] == [PROHIBITED] * REFUSAL_BUDGET
    counted = network.counted()
    assert counted["DROP_NAT_HOST_LIMIT"] == 100
    assert counted["ICMP_ERRORS"] == REFUSAL_BUDGET
    assert "DROP_SLOW_PATH_FULL" not in counted


def test_a_full_table(network: Network) -> None:
    sources = [f"192.168.1.{last}" for last in range(2, 22)]
    network.receive(*[udp(53, source) for source in sources[:16]])
    assert network.counted()["FORWARDED"] == 16
    network.sent.clear()
    network.learn(ETH0, sources[16], bytes(6))
    network.receive(udp(53, sources[16]))
    (message,) = network.take_icmp()
    assert (message.destination, message.icmp_type, message.code) == (sources[16], *PROHIBITED)
    assert network.counted()["DROP_NAT_TABLE_FULL"] == 1
