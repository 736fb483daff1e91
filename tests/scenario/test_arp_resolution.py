"""Asking, answering and learning: RFC 826, RFC 1122 section 2.3.2."""

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
from services.common.messages import RouterState


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    network = Network(tmp_path)
    yield network
    network.check_balance()


class TestAnswering:
    """Row A1 of the conformance table."""

    def test_a_request_for_an_own_address_is_answered(self, network: Network) -> None:
        network.hear(REQUEST, HOST_MAC, HOST, OWN0)
        (reply,) = network.replies()
        assert reply.interface == ETH0
        assert reply.data == HOST_MAC + MAC0 + b"\x08\x06" + (
            bytes.fromhex("0001080006040002") + MAC0 + bytes((10, 0, 0, 1)) + HOST_MAC + bytes((10, 0, 0, 2))
        ) + bytes(18)

    @pytest.mark.parametrize("target", [SECOND_HOST, OWN1, 0, 0xFFFFFFFF])
    def test_a_request_for_any_other_address_is_not(self, network: Network, target: int) -> None:
        network.hear(REQUEST, HOST_MAC, HOST, target)
        assert network.sent == []
        assert network.count(Counter.ARP_HANDLED) == 1

    def test_a_reply_is_not_answered(self, network: Network) -> None:
        network.hear(REPLY, HOST_MAC, HOST, OWN0)
        assert network.sent == []

    def test_nothing_is_answered_on_an_interface_that_is_down(self, network: Network) -> None:
        network.control(RouterState(interfaces=[interface(up=False)]))
        network.hear(REQUEST, HOST_MAC, HOST, OWN0)
        assert network.sent == []
        assert network.drops() == {"DROP_UNKNOWN_INTERFACE": 1}

    def test_nor_after_the_address_was_removed(self, network: Network) -> None:
        network.control(RouterState(interfaces=[interface(addresses=((OWN0 + 8, 24),))]))
        network.sent.clear()
        network.hear(REQUEST, HOST_MAC, HOST, OWN0)
        assert network.sent == []


class TestLearning:
    """Row A2 of the conformance table."""

    def test_who_asks_for_the_router_is_learned(self, network: Network) -> None:
        network.hear(REQUEST, HOST_MAC, HOST, OWN0)
        assert network.neighbours == {(ETH0, HOST): HOST_MAC}
        assert network.state() == "STALE"

    @pytest.mark.parametrize(
        ("operation", "target", "packet_type"),
        [
            (REPLY, OWN0, TO_US),  # unsolicited
            (REPLY, HOST, TO_ALL),  # gratuitous
            (REQUEST, HOST, TO_ALL),  # announcement
            (REQUEST, SECOND_HOST, TO_ALL),
        ],
    )
    def test_no_other_message_of_a_stranger_creates_anything(
        self, network: Network, operation: int, target: int, packet_type: int
    ) -> None:
        network.hear(operation, HOST_MAC, HOST, target, packet_type)
        assert network.state() is None
        assert network.neighbours == {}

    def test_any_message_of_a_known_sender_keeps_it(self, network: Network) -> None:
        network.hear(REQUEST, HOST_MAC, HOST, OWN0)
        for _ in range(3):
            network.advance(59.0)
            network.hear(REQUEST, HOST_MAC, HOST, SECOND_HOST)
        assert network.state() == "STALE"
        network.advance(60.0)
        assert network.state() is None
        assert network.neighbours == {}

    def test_a_broadcast_reply_says_nothing_about_the_way_to_its_sender(self, network: Network) -> None:
        network.datagram()
        network.hear(REPLY, HOST_MAC, HOST, OWN0, TO_ALL)
        assert network.state() == "STALE"

    def test_nor_does_a_unicast_reply_to_somebody_else(self, network: Network) -> None:
        network.datagram()
        network.hear(REPLY, HOST_MAC, HOST, SECOND_HOST)
        assert network.state() == "STALE"


class TestRelease:
    """Row A3 of the conformance table."""

    def test_an_answer_releases_each_datagram_once_in_order_before_it_is_published(self, network: Network) -> None:
        for number in range(5):
            network.datagram(number)
        network.events.clear()
        network.answer()
        assert network.numbers() == [0, 1, 2, 3, 4]
        assert network.events == ["sent"] * 5 + ["published"]
        for each in network.sent[1:]:
            assert each.data[:14] == HOST_MAC + MAC0 + b"\x08\x00"
        network.answer()
        network.datagram(5)  # the forwarder has not heard yet
        assert network.numbers() == [0, 1, 2, 3, 4, 5]
        assert network.count(Counter.FORWARDED) == 6
        assert network.count(Counter.TX_BYTES) == network.count(Counter.ARP_REQUESTS_SENT) * 60 + 6 * 74

    def test_generated_datagrams_are_counted_as_such(self, network: Network) -> None:
        before = network.count(Counter.GENERATED_SENT)
        network.datagram(generated=True)
        network.datagram()
        network.answer()
        assert network.count(Counter.GENERATED_SENT) - before == 2  # the request, and the datagram
        assert network.count(Counter.FORWARDED) == 1
        # who made a datagram has counted it as generated
        assert network.count(Counter.GENERATED) == network.count(Counter.GENERATED_SENT) - 1

    def test_an_interface_that_refuses_them_costs_no_count(self, network: Network) -> None:
        network.datagram()
        network.datagram()
        network.send_fails = Counter.DROP_TX_FULL
        network.answer()
        assert network.drops() == {"DROP_TX_FULL": 2}
        assert network.neighbours == {(ETH0, HOST): HOST_MAC}

    def test_each_interface_has_neighbours_of_its_own(self, network: Network) -> None:
        network.datagram(1, HOST, ETH0)
        network.datagram(2, HOST, ETH1)
        network.answer()
        assert network.numbers() == [1]
        assert network.state(HOST, ETH1) == "INCOMPLETE"


class TestAsking:
    """Row A4 of the conformance table."""

    def test_one_request_a_second_three_in_all_then_the_datagrams_come_back(self, network: Network) -> None:
        began = network.now
        for number in range(40):
            network.datagram(number)
            network.advance(0.0625)
        network.advance(0.4375)
        assert network.returned == []
        network.advance(0.0625)
        assert network.now == began + 3.0
        assert [each.at for each in network.requests()] == [began, began + 1, began + 2]
        assert [int.from_bytes(bytes(frame.data[24:28]), "big") for frame in network.returned] == list(range(40))
        assert all(frame.next_hop == HOST and frame.out_interface == ETH0 for frame in network.returned)
        assert network.count(Counter.HANDED) == 40
        assert network.state() == "FAILED"

    def test_a_request_asks_by_broadcast_from_the_address_of_that_prefix(self, network: Network) -> None:
        addresses = ((0x0A090909, 32), (OWN0, 24), (OWN0 + 1, 24))
        network.control(RouterState(interfaces=[interface(addresses=addresses)]))
        network.sent.clear()
        network.datagram()
        (request,) = network.requests()
        assert request.data == BROADCAST + MAC0 + b"\x08\x06" + (
            bytes.fromhex("0001080006040001") + MAC0 + bytes((10, 0, 0, 1)) + bytes(6) + bytes((10, 0, 0, 2))
        ) + bytes(18)

    def test_off_every_prefix_it_asks_from_the_first_address(self, network: Network) -> None:
        network.datagram(next_hop=0xC0A80001)
        assert network.requests()[0].sender == (MAC0, OWN0)

    def test_the_failure_is_remembered_for_three_seconds(self, network: Network) -> None:
        network.datagram()
        network.advance(3.0)
        network.sent.clear()
        network.returned.clear()
        network.datagram()
        network.advance(2.9)
        network.datagram()
        assert len(network.returned) == 2
        assert network.sent == []
        network.advance(0.1)
        network.datagram()
        assert len(network.requests()) == 1
        assert len(network.returned) == 2

    def test_an_interface_without_address_cannot_ask(self, network: Network) -> None:
        network.control(RouterState(interfaces=[interface(addresses=())]))
        network.datagram()
        assert len(network.returned) == 1
        assert network.sent == []
        assert network.state() is None

    def test_an_address_that_goes_while_it_asks_ends_in_failure(self, network: Network) -> None:
        network.datagram()
        network.control(RouterState(interfaces=[interface(addresses=())]))
        network.advance(3.0)
        assert len(network.requests()) == 1
        assert len(network.returned) == 1

    def test_without_a_forwarder_they_are_dropped_as_unreachable(self, network: Network) -> None:
        network.forwarder_is_there = False
        network.datagram()
        network.advance(3.0)
        assert network.drops() == {"DROP_HOST_UNREACHABLE": 1}
        assert network.count(Counter.HANDED) == 0

    def test_a_late_answer_ends_the_failure(self, network: Network) -> None:
        network.datagram()
        network.advance(3.5)
        network.answer()
        assert network.state() == "REACHABLE"
        assert network.numbers() == []

    @pytest.mark.parametrize("fate", [Counter.DROP_TX_FULL, Counter.DROP_TX_FAILED])
    def test_a_request_that_cannot_be_sent_is_counted(self, network: Network, fate: Counter) -> None:
        sent = network.count(Counter.ARP_REQUESTS_SENT)
        network.send_fails = fate
        network.datagram()
        assert network.drops() == {fate.name: 1}
        assert network.count(Counter.ARP_REQUESTS_SENT) == sent

    def test_a_process_that_was_stopped_for_long_does_not_catch_up_on_requests(self, network: Network) -> None:
        network.datagram()
        network.now += 30.0
        network.perform(network.resolver.on_time(network.now))
        assert len(network.requests()) == 2
        assert network.state() == "INCOMPLETE"
