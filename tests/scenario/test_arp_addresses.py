"""The router's own addresses (RFC 5227), and interfaces that go."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from arp_network import (
    BROADCAST,
    ETH0,
    ETH1,
    HOST,
    HOST_MAC,
    MAC0,
    MAC1,
    NEW_MAC,
    OWN0,
    OWN1,
    REPLY,
    REQUEST,
    SECOND_HOST,
    TO_ALL,
    TO_US,
    Network,
    interface,
)

from services.common.counters import Counter
from services.common.messages import Interface, RouterState
from services.common.parameters import Parameters


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    network = Network(tmp_path)
    yield network
    network.check_balance()


class TestOwnAddresses:
    """Row A10 of the conformance table."""

    def test_addresses_are_announced_twice_when_they_come_up(self, tmp_path: Path) -> None:
        network = Network(tmp_path)
        network.control(RouterState(interfaces=[interface(ETH0 + 2, addresses=((0xC0A80001, 24), (0xC0A80002, 24)))]))
        began = network.now
        network.advance(60.0)
        assert [(each.at - began, each.sender[1]) for each in network.sent] == [
            (0.0, 0xC0A80001),
            (0.0, 0xC0A80002),
            (2.0, 0xC0A80001),
            (2.0, 0xC0A80002),
        ]
        for each in network.sent:
            assert each.interface == ETH0 + 2
            assert each.data[:6] == BROADCAST
            assert each.operation == REQUEST
            assert each.sender[0] == MAC0
            assert each.target == (bytes(6), each.sender[1])

    def test_only_the_new_one_is_announced(self, network: Network) -> None:
        network.control(RouterState(interfaces=[interface(addresses=((OWN0, 24), (OWN0 + 9, 24)))]))
        assert [each.sender[1] for each in network.announcements()] == [OWN0 + 9]

    @pytest.mark.parametrize(
        "changes",
        [
            [interface(up=False), interface()],
            [interface(mac=NEW_MAC)],
        ],
        ids=["link flap", "another MAC"],
    )
    def test_all_are_announced_again(self, network: Network, changes: list[Interface]) -> None:
        for change in changes:
            network.control(RouterState(interfaces=[change]))
        (announcement,) = network.announcements()
        assert announcement.sender == (changes[-1].mac, OWN0)

    def test_a_snapshot_with_nothing_new_changes_nothing(self, network: Network) -> None:
        network.datagram()
        network.answer()
        network.sent.clear()
        interfaces = [interface(), interface(ETH1, mac=MAC1, addresses=((OWN1, 16),))]
        network.control(RouterState(full=True, interfaces=interfaces, parameters=Parameters()))
        assert network.sent == []
        assert network.state() == "REACHABLE"

    def test_an_address_that_went_is_not_announced_again(self, network: Network) -> None:
        network.control(RouterState(interfaces=[interface(addresses=((OWN0, 24), (OWN0 + 9, 24)))]))
        network.control(RouterState(interfaces=[interface()]))
        network.sent.clear()
        network.advance(10.0)
        assert network.sent == []

    def test_a_probe_is_answered_and_its_sender_not_learned(self, network: Network) -> None:
        network.hear(REQUEST, HOST_MAC, 0, OWN0)
        (reply,) = network.replies()
        assert reply.data[:6] == HOST_MAC
        assert reply.sender == (MAC0, OWN0)
        assert reply.target == (HOST_MAC, 0)
        assert network.resolver.show(network.now) == []
        network.hear(REQUEST, HOST_MAC, 0, SECOND_HOST)
        assert len(network.sent) == 1
        assert network.count(Counter.ARP_HANDLED) == 2

    @pytest.mark.parametrize(
        ("operation", "target", "packet_type"),
        [(REQUEST, OWN0, TO_ALL), (REPLY, OWN0, TO_ALL), (REQUEST, HOST, TO_ALL), (REPLY, OWN0, TO_US)],
    )
    def test_a_conflict_is_reported_and_defended_at_most_once_in_ten_seconds(
        self, network: Network, capsys: pytest.CaptureFixture[str], operation: int, target: int, packet_type: int
    ) -> None:
        for _ in range(25):
            network.hear(operation, NEW_MAC, OWN0, target, packet_type)
            network.advance(1.0)
        began = network.sent[0].at
        assert [each.at - began for each in network.announcements()] == [0.0, 10.0, 20.0]
        assert network.sent == network.announcements()
        assert network.resolver.show(network.now) == []
        logged = [line for line in capsys.readouterr().out.splitlines() if "another host uses an address" in line]
        assert len(logged) == 3
        assert all("10.0.0.1" in line and "02:00:00:00:00:ff" in line for line in logged)

    def test_its_own_announcement_come_back_is_no_conflict(self, network: Network) -> None:
        network.hear(REQUEST, MAC0, OWN0, OWN0)
        assert network.sent == []
        assert network.count(Counter.ARP_HANDLED) == 1


class TestLinkDown:
    """Row A12 of the conformance table."""

    @pytest.mark.parametrize(
        "change",
        [
            RouterState(interfaces=[interface(up=False)]),
            RouterState(interfaces_gone=[ETH0]),
            RouterState(full=True, interfaces=[interface(ETH1, mac=MAC1, addresses=((OWN1, 16),))]),
        ],
        ids=["down", "gone", "not in the snapshot"],
    )
    def test_its_entries_go_and_what_waits_is_dropped(self, network: Network, change: RouterState) -> None:
        network.hear(REQUEST, HOST_MAC, HOST, OWN0)
        network.datagram(next_hop=SECOND_HOST)
        network.datagram(next_hop=SECOND_HOST)
        network.datagram(next_hop=0x0A010002, out=ETH1)
        network.control(change)
        assert network.neighbours == {}
        assert [each["interface"] for each in network.resolver.show(network.now)] == [ETH1]
        assert network.drops() == {"DROP_UNKNOWN_INTERFACE": 2}
        assert network.counters.get(Counter.DROP_UNKNOWN_INTERFACE, ETH0) == 2

    def test_an_address_that_goes_leaves_the_entries(self, network: Network) -> None:
        network.hear(REQUEST, HOST_MAC, HOST, OWN0)
        network.control(RouterState(interfaces=[interface(addresses=((0xC0A80001, 24),))]))
        assert network.neighbours == {(ETH0, HOST): HOST_MAC}


def test_stopping_counts_what_waits(network: Network) -> None:
    network.datagram()
    network.perform(network.resolver.on_stop())
    assert network.drops() == {"DROP_RESTARTED": 1}
    assert network.count(Counter.WAITING) == 0
