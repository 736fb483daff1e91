"""ARP as the router's neighbours see it: RFC 826, RFC 1122 section 2.3.2, RFC 5227, and Linux's values."""

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
    TO_ANOTHER,
    TO_US,
    Network,
    arp_payload,
    interface,
)

from services.common.counters import Counter
from services.common.messages import Frame, Interface, NextHop, RouterState
from services.common.messages import Path as RoutePath
from services.common.parameters import ArpParameters, Parameters, PermanentNeighbour


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


class TestStates:
    """Row A6 of the conformance table."""

    def test_the_life_of_a_neighbour_that_falls_silent(self, network: Network) -> None:
        network.datagram()
        network.answer()
        began = network.now
        network.sent.clear()
        network.advance(29.9)
        assert network.state() == "REACHABLE"
        network.advance(0.1)
        assert network.state() == "STALE"
        network.use(HOST)
        assert network.state() == "DELAY"
        network.advance(4.9)
        assert network.state() == "DELAY"
        network.advance(0.1)
        assert network.state() == "PROBE"
        network.advance(2.0)
        assert [each.at - began for each in network.requests()] == [35.0, 36.0, 37.0]
        for each in network.requests():
            assert each.data[:6] == HOST_MAC
            assert each.target == (HOST_MAC, HOST)
        assert network.neighbours == {(ETH0, HOST): HOST_MAC}
        network.advance(1.0)
        assert network.state() == "FAILED"
        assert network.neighbours == {}
        network.advance(3.0)
        assert network.state() is None

    def test_a_neighbour_that_fell_silent_is_asked_by_broadcast_before_anything_is_returned(
        self, network: Network
    ) -> None:
        network.hear(REQUEST, HOST_MAC, HOST, OWN0)
        network.use(HOST)
        network.advance_until(lambda: network.state() == "FAILED")
        network.sent.clear()
        network.datagram(7)
        assert [each.data[:6] for each in network.requests()] == [BROADCAST]
        network.answer(NEW_MAC)
        assert network.numbers() == [7]
        assert network.returned == []

    def test_an_answer_to_a_probe_confirms_it(self, network: Network) -> None:
        network.hear(REQUEST, HOST_MAC, HOST, OWN0)
        network.use(HOST)
        network.advance_until(lambda: network.state() == "PROBE")
        network.answer()
        assert network.state() == "REACHABLE"
        assert network.neighbours == {(ETH0, HOST): HOST_MAC}

    def test_use_of_a_reachable_or_unknown_neighbour_asks_nothing(self, network: Network) -> None:
        network.datagram()
        network.answer()
        network.sent.clear()
        network.use(HOST, SECOND_HOST)
        network.advance(29.0)
        assert network.sent == []


class TestPermanent:
    """Row A6: entries from the configuration."""

    NEIGHBOUR = PermanentNeighbour(interface="eth0", address="10.0.0.2", mac="02:00:00:00:00:02")

    def configure(self, network: Network, *neighbours: PermanentNeighbour) -> None:
        arp = ArpParameters(permanent_neighbours=neighbours)
        network.control(RouterState(parameters=Parameters(arp=arp)))

    def test_it_is_used_and_nothing_changes_it(self, network: Network) -> None:
        self.configure(network, self.NEIGHBOUR)
        assert network.neighbours == {(ETH0, HOST): HOST_MAC}
        network.hear(REPLY, NEW_MAC, HOST, OWN0)
        network.use(HOST)
        network.advance(1000.0)
        assert network.state() == "PERMANENT"
        assert network.neighbours == {(ETH0, HOST): HOST_MAC}
        network.datagram(1)
        assert network.numbers() == [1]
        assert network.requests() == []

    def test_it_releases_what_waits(self, network: Network) -> None:
        network.datagram(1)
        self.configure(network, self.NEIGHBOUR)
        assert network.numbers() == [1]

    def test_another_mac_is_taken_over_and_its_end_too(self, network: Network) -> None:
        self.configure(network, self.NEIGHBOUR)
        other = self.NEIGHBOUR.model_copy(update={"mac": "02:00:00:00:00:ff"})
        self.configure(network, other)
        assert network.neighbours == {(ETH0, HOST): NEW_MAC}
        self.configure(network)
        assert network.neighbours == {}
        assert network.state() is None

    def test_it_comes_and_goes_with_its_interface_and_outlives_a_link_that_is_down(self, network: Network) -> None:
        self.configure(network, self.NEIGHBOUR.model_copy(update={"interface": "eth7"}))
        assert network.neighbours == {}
        network.control(RouterState(interfaces=[interface(ETH0 + 7)]))
        assert network.neighbours == {(ETH0 + 7, HOST): HOST_MAC}
        network.control(RouterState(interfaces=[interface(ETH0 + 7, up=False)]))
        assert network.neighbours == {(ETH0 + 7, HOST): HOST_MAC}
        network.control(RouterState(interfaces_gone=[ETH0 + 7]))
        assert network.neighbours == {}


class TestMacChange:
    """Row A7 of the conformance table."""

    @pytest.mark.parametrize(("operation", "target"), [(REQUEST, HOST), (REPLY, HOST), (REQUEST, SECOND_HOST)])
    def test_a_neighbour_that_moves_is_followed(self, network: Network, operation: int, target: int) -> None:
        network.datagram()
        network.answer()
        network.advance(1.0)
        network.hear(operation, NEW_MAC, HOST, target, TO_ALL)
        assert network.neighbours == {(ETH0, HOST): NEW_MAC}
        assert network.state() == "STALE"

    def test_the_first_of_several_answers_counts(self, network: Network) -> None:
        network.datagram()
        network.answer()
        network.advance(0.99)
        network.answer(NEW_MAC)
        assert network.neighbours == {(ETH0, HOST): HOST_MAC}
        network.advance(0.01)
        network.answer(NEW_MAC)
        assert network.neighbours == {(ETH0, HOST): NEW_MAC}
        network.hear(REQUEST, HOST_MAC, HOST, OWN0)  # back again, within a second of the change
        assert network.neighbours == {(ETH0, HOST): NEW_MAC}

    @pytest.mark.parametrize("state", ["STALE", "DELAY", "PROBE"])
    def test_also_of_several_that_confirm_an_older_entry(self, network: Network, state: str) -> None:
        network.hear(REQUEST, HOST_MAC, HOST, OWN0)
        network.advance(2.0)
        if state != "STALE":
            network.use(HOST)
        network.advance_until(lambda: network.state() == state)
        network.answer()
        network.advance(0.5)
        network.answer(NEW_MAC)
        assert network.neighbours == {(ETH0, HOST): HOST_MAC}


def mutant(offset: int, value: bytes, length: int = 28) -> bytes:
    """An otherwise valid request for the router with other bytes at an offset of its ARP message."""
    payload = arp_payload(REQUEST, HOST_MAC, HOST, OWN0)
    return (payload[:offset] + value + payload[offset + len(value) :])[:length]


class TestValidation:
    """Row A9 of the conformance table."""

    @pytest.mark.parametrize(
        "payload",
        [
            mutant(0, b"\x00\x06"),  # hardware type IEEE 802
            mutant(2, b"\x86\xdd"),  # protocol type
            mutant(4, b"\x00"),  # hardware length
            mutant(4, b"\x08"),
            mutant(5, b"\x00"),  # protocol length
            mutant(5, b"\x10"),
            mutant(6, b"\x00\x00"),  # operation
            mutant(6, b"\x00\x03"),  # RARP request
            mutant(6, b"\x00\x08"),  # InARP request
            mutant(0, b"", length=27),
            b"",
        ],
    )
    def test_a_message_that_breaks_rfc_826_is_dropped(self, network: Network, payload: bytes) -> None:
        network.hear_frame(bytes(10) + BROADCAST + HOST_MAC + b"\x08\x06" + payload)
        assert network.drops() == {"DROP_ARP_MALFORMED": 1}
        assert network.sent == []
        assert network.state() is None

    @pytest.mark.parametrize(
        "payload",
        [
            mutant(8, BROADCAST),  # sender MAC
            mutant(8, bytes.fromhex("01005e000001")),
            mutant(8, bytes(6)),
            mutant(8, MAC0),  # the router's own MAC, from an address that is not its own
            mutant(14, bytes((10, 0, 0, 255))),  # sender address: the prefix's broadcast
            mutant(14, bytes((255, 255, 255, 255))),
            mutant(14, bytes((224, 0, 0, 1))),
            mutant(14, bytes((127, 0, 0, 1))),
            mutant(14, bytes((10, 0, 1, 2))),  # off the link
            mutant(14, bytes((10, 1, 0, 1))),  # on another link
        ],
    )
    def test_so_is_one_whose_sender_no_host_of_the_link_can_be(self, network: Network, payload: bytes) -> None:
        network.hear_frame(bytes(10) + BROADCAST + HOST_MAC + b"\x08\x06" + payload)
        assert network.drops() == {"DROP_ARP_SENDER": 1}
        assert network.sent == []
        assert network.neighbours == {}

    def test_a_reply_from_nobody(self, network: Network) -> None:
        network.answer(sender=0)
        assert network.drops() == {"DROP_ARP_SENDER": 1}

    def test_the_ethernet_source_need_not_be_the_sender(self, network: Network) -> None:
        frame = bytes(10) + BROADCAST + NEW_MAC + b"\x08\x06" + arp_payload(REQUEST, HOST_MAC, HOST, OWN0)
        network.hear_frame(frame)
        assert network.neighbours == {(ETH0, HOST): HOST_MAC}

    @pytest.mark.parametrize(
        ("frame", "packet_type", "reason"),
        [
            (bytes(10 + 13), TO_ALL, "DROP_RUNT"),
            (bytes(10) + NEW_MAC + HOST_MAC + b"\x08\x06" + mutant(0, b""), TO_ANOTHER, "DROP_FOREIGN_MAC"),
            (bytes(10) + BROADCAST + HOST_MAC + b"\x08\x00" + mutant(0, b""), TO_ALL, "DROP_ARP_MALFORMED"),
        ],
    )
    def test_what_is_no_arp_frame_for_the_router(
        self, network: Network, frame: bytes, packet_type: int, reason: str
    ) -> None:
        network.hear_frame(frame, packet_type)
        assert network.drops() == {reason: 1}
        assert network.sent == []

    def test_a_first_or_last_address_of_a_point_to_point_prefix_is_a_host(self, network: Network) -> None:
        network.control(RouterState(interfaces=[interface(addresses=((0x0A000000, 31),))]))
        network.hear(REQUEST, HOST_MAC, 0x0A000001, 0x0A000000)
        assert network.neighbours == {(ETH0, 0x0A000001): HOST_MAC}

    def test_an_answer_of_an_off_link_next_hop_is_believed(self, network: Network) -> None:
        network.datagram(1, next_hop=0xC0A80001)
        network.answer(sender=0xC0A80001)
        assert network.numbers() == [1]

    def test_a_gateway_that_a_route_names_may_ask_although_it_is_off_the_link(self, network: Network) -> None:
        gateway = 0xC0A80001
        path = RoutePath(id=1, kind="unicast", next_hops=[NextHop(interface=ETH0, gateway=gateway)])
        network.control(RouterState(paths=[path]))
        network.hear(REQUEST, HOST_MAC, gateway, OWN0)
        assert len(network.replies()) == 1
        assert network.neighbours == {(ETH0, gateway): HOST_MAC}
        network.hear(REQUEST, HOST_MAC, gateway + 1, OWN0)
        assert network.drops() == {"DROP_ARP_SENDER": 1}
        network.control(RouterState(paths_gone=[1]))
        network.advance(60.0)
        network.hear(REQUEST, HOST_MAC, gateway, OWN0)
        assert network.drops() == {"DROP_ARP_SENDER": 2}

    @pytest.mark.parametrize("out", [0, 77, 0xFFFFFFFF])
    def test_a_frame_for_an_interface_that_is_not_there(self, network: Network, out: int) -> None:
        network.datagram(out=out)
        network.hear(REQUEST, HOST_MAC, HOST, OWN0, on=out)
        assert network.drops() == {"DROP_UNKNOWN_INTERFACE": 2}
        assert network.counters.get(Counter.TAKEN) == 2  # row 0: an unknown index takes no row

    def test_a_frame_that_is_no_ethernet_frame(self, network: Network) -> None:
        network.unresolved(Frame(1, ETH0, HOST, TO_US, False, bytes(10 + 13)))
        assert network.drops() == {"DROP_RUNT": 1}


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
