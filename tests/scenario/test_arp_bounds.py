"""What bounds the resolver: queues, table, memory; and which frame or entry goes first."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from arp_network import ETH0, ETH1, HOST, HOST_MAC, OWN0, OWN1, REQUEST, SECOND_HOST, TO_US, Network, interface

from services.common.counters import Counter
from services.common.messages import Frame, RouterState
from services.common.parameters import ArpParameters, Parameters

MakeNetwork = Callable[[ArpParameters], Network]


@pytest.fixture
def make_network(tmp_path: Path) -> Iterator[MakeNetwork]:
    made: list[Network] = []

    def make(arp: ArpParameters) -> Network:
        made.append(Network(tmp_path, arp))
        return made[-1]

    yield make
    for network in made:
        network.check_balance()


def frame(number: int, length: int, next_hop: int = HOST) -> Frame:
    """A datagram whose frame has `length` bytes, virtio header included."""
    data = bytes(22) + b"\x08\x00" + number.to_bytes(4, "big")
    return Frame(1, ETH0, next_hop, TO_US, False, data.ljust(length, b"\0"))


def test_the_oldest_of_too_many_frames_goes(make_network: MakeNetwork) -> None:
    network = make_network(ArpParameters(max_waiting_frames=3))
    for number in range(5):
        network.datagram(number)
    assert network.drops() == {"DROP_NEIGHBOUR_QUEUE": 2}
    assert network.count(Counter.WAITING) == 3
    network.answer()
    assert network.numbers() == [2, 3, 4]


def test_the_oldest_frames_go_where_bytes_are_too_many(make_network: MakeNetwork) -> None:
    network = make_network(ArpParameters(max_waiting_bytes=1000))
    for number in range(4):
        network.unresolved(frame(number, 250))
    assert network.drops() == {}
    network.unresolved(frame(4, 251))
    assert network.drops() == {"DROP_NEIGHBOUR_QUEUE": 2}
    network.answer()
    assert network.numbers() == [2, 3, 4]


def test_a_frame_larger_than_the_queue_goes_itself(make_network: MakeNetwork) -> None:
    network = make_network(ArpParameters(max_waiting_bytes=1000))
    network.unresolved(frame(0, 1001))
    assert network.drops() == {"DROP_NEIGHBOUR_QUEUE": 1}
    assert network.count(Counter.WAITING) == 0
    network.unresolved(frame(1, 1000))
    network.answer()
    assert network.numbers() == [1]


def test_where_all_queues_together_are_too_long_the_one_that_began_first_gives_way(make_network: MakeNetwork) -> None:
    network = make_network(ArpParameters(max_total_waiting_bytes=1000))
    network.unresolved(frame(0, 300, HOST))
    network.unresolved(frame(1, 300, SECOND_HOST))
    network.unresolved(frame(2, 300, HOST))
    network.unresolved(frame(3, 600, SECOND_HOST))
    assert network.drops() == {"DROP_NEIGHBOUR_QUEUE": 2}
    assert network.counters.get(Counter.DROP_NEIGHBOUR_QUEUE, ETH0) == 2
    network.answer()
    network.answer(sender=SECOND_HOST)
    assert network.numbers() == [1, 3]


def test_released_frames_make_room(make_network: MakeNetwork) -> None:
    network = make_network(ArpParameters(max_total_waiting_bytes=1000, max_waiting_bytes=1000))
    for number in range(20):
        network.unresolved(frame(number, 900, HOST + number))
        network.answer(sender=HOST + number)
    assert network.drops() == {}
    assert network.numbers() == list(range(20))


def test_a_waiting_frame_is_a_copy(make_network: MakeNetwork) -> None:
    network = make_network(ArpParameters())
    batch = bytearray(frame(7, 100).data)
    network.unresolved(Frame(1, ETH0, HOST, TO_US, False, memoryview(batch)))
    batch[:] = b"\xa5" * 100
    network.answer()
    assert network.numbers() == [7]


def test_the_default_bounds() -> None:
    arp = ArpParameters()
    assert (arp.max_neighbours, arp.max_waiting_bytes) == (1024, 212_992)


class TestTable:
    """Row A8 of the conformance table."""

    def test_a_new_next_hop_evicts_the_oldest_failed_then_incomplete_then_stale(
        self, make_network: MakeNetwork
    ) -> None:
        network = make_network(ArpParameters(max_neighbours=5, failed_time_s=1000.0, stale_time_s=10_000.0))
        base = 0x0A000010
        network.datagram(next_hop=base)  # fails first
        network.advance(1.0)
        network.datagram(next_hop=base + 1)
        network.advance(3.0)
        network.hear(REQUEST, HOST_MAC, base + 2, OWN0)  # stale
        network.datagram(next_hop=base + 3)  # incomplete
        network.datagram(next_hop=base + 4)
        network.answer(sender=base + 4)  # reachable

        def addresses() -> set[int]:
            return {each["dst"] - base for each in network.resolver.show(network.now)}

        assert addresses() == {0, 1, 2, 3, 4}
        for newcomer, gone in ((10, 0), (11, 1), (12, 3), (13, 10), (14, 11)):
            network.datagram(next_hop=base + newcomer)
            assert gone not in addresses()
            assert len(addresses()) == 5
        # the third evicted was the first with a frame waiting
        assert network.drops() == {"DROP_NEIGHBOUR_TABLE": 3}
        for newcomer in (12, 13, 14):
            network.answer(sender=base + newcomer)
        network.datagram(next_hop=base + 15)
        assert addresses() == {4, 12, 13, 14, 15}  # the stale one went
        network.answer(sender=base + 15)
        network.datagram(next_hop=base + 16)
        assert addresses() == {4, 12, 13, 14, 15}
        assert network.drops() == {"DROP_NEIGHBOUR_TABLE": 4}

    def test_neighbours_in_use_outlive_a_sweep(self, make_network: MakeNetwork) -> None:
        network = make_network(ArpParameters(requests_per_second=10_000))
        for number in range(1000):
            network.hear(REQUEST, HOST_MAC, 0x0A010100 + number, OWN1, on=ETH1)
            network.use(0x0A010100 + number, out=ETH1)
        known = dict(network.neighbours)
        assert len(known) == 1000
        for number in range(5000):
            network.datagram(next_hop=0x0A018000 + number, out=ETH1)
        assert len(network.resolver.show(network.now)) == 1024
        assert network.neighbours == known
        assert network.drops() == {"DROP_NEIGHBOUR_TABLE": 5000 - 24}
        network.datagram(1, next_hop=0x0A010100, out=ETH1)
        assert network.numbers() == [1]

    def test_a_new_host_is_found_during_a_sweep(self, make_network: MakeNetwork) -> None:
        network = make_network(ArpParameters(max_neighbours=64))
        for number in range(1000):
            network.datagram(next_hop=0x0A018000 + number, out=ETH1)
        network.datagram(7)
        for number in range(60):
            network.datagram(next_hop=0x0A018000 + number, out=ETH1)
        network.answer()
        assert network.numbers() == [7]

    def test_strangers_that_ask_for_the_router_never_exceed_it(self, make_network: MakeNetwork) -> None:
        network = make_network(ArpParameters(max_neighbours=16))
        network.datagram()
        network.answer()
        for number in range(200):
            network.hear(REQUEST, HOST_MAC, 0x0A010100 + number, OWN1, on=ETH1)
        assert len(network.replies()) == 200
        assert len(network.resolver.show(network.now)) == 16
        assert network.state() == "REACHABLE"

    def test_a_full_table_still_answers(self, make_network: MakeNetwork) -> None:
        network = make_network(ArpParameters(max_neighbours=1))
        network.datagram()
        network.answer()
        network.hear(REQUEST, HOST_MAC, SECOND_HOST, OWN0)
        assert len(network.replies()) == 1
        assert network.state(SECOND_HOST) is None
        assert network.drops() == {}

    def test_a_lower_bound_takes_effect_with_the_next_newcomer(self, make_network: MakeNetwork) -> None:
        network = make_network(ArpParameters())
        for number in range(50):
            network.datagram(next_hop=HOST + number)
        parameters = ArpParameters(max_neighbours=10)
        network.control(RouterState(parameters=Parameters(arp=parameters)))
        network.datagram(next_hop=HOST + 100)
        assert len(network.resolver.show(network.now)) == 10


def test_superseded_timers_do_not_pile_up(make_network: MakeNetwork) -> None:
    network = make_network(ArpParameters(max_neighbours=8))
    network.datagram()
    for _ in range(5000):
        network.answer()  # each begins REACHABLE anew
    for number in range(5000):
        network.hear(REQUEST, HOST_MAC, 0x0A010100 + number, OWN1, on=ETH1)
    assert len(network.resolver._timers._heap) <= 2 * 8 + 64


def test_conflicts_are_remembered_for_own_addresses_only(make_network: MakeNetwork) -> None:
    network = make_network(ArpParameters())
    for number in range(100):
        mac = bytes((2, 0, 0, 1, 0, number))
        network.hear(REQUEST, mac, OWN0, OWN0)
    assert len(network.announcements()) == 1


# --- Requests a second ------------------------------------------------------------------------------------------------


def test_requests_on_an_interface_are_bounded(make_network: MakeNetwork) -> None:
    """A sweep of 1,000 addresses within 1 s, 20 requests allowed: 20 at once, and then 20 more."""
    network = make_network(ArpParameters(requests_per_second=20))
    for number in range(1000):
        network.datagram(number, 0x0A010100 + number, ETH1)
        network.advance(0.001)
    assert len(network.requests()) <= 40
    assert network.drops() == {"DROP_ARP_REQUESTS": 1000 - len({each.target for each in network.requests()})}
    network.datagram(1, HOST)
    assert network.requests()[-1].interface == ETH0


def test_repetitions_and_probes_go_before_new_requests(make_network: MakeNetwork) -> None:
    network = make_network(ArpParameters(requests_per_second=2, multicast_solicit=3))
    network.datagram(1, HOST)
    network.datagram(2, SECOND_HOST)
    network.datagram(3, HOST + 5)
    assert network.drops() == {"DROP_ARP_REQUESTS": 1}
    network.advance(2.2)
    assert [each.target[1] for each in network.requests()] == [HOST, SECOND_HOST] * 3
    network.datagram(4, HOST + 5)
    assert network.drops() == {"DROP_ARP_REQUESTS": 2}


def test_known_neighbours_are_kept_and_probed_during_a_sweep(make_network: MakeNetwork) -> None:
    network = make_network(ArpParameters(max_neighbours=8, requests_per_second=10))
    network.datagram(0)
    network.answer()
    for number in range(1500):
        network.use(HOST)
        if any(each.data[:6] == HOST_MAC for each in network.requests()):
            network.answer()
        network.sent.clear()
        network.datagram(number, SECOND_HOST + 1 + number % 200)
        network.advance(0.05)
        assert network.neighbours == {(ETH0, HOST): HOST_MAC}
    assert network.count(Counter.DROP_ARP_REQUESTS) > 0


def test_requests_are_allowed_anew_by_new_parameters(make_network: MakeNetwork) -> None:
    network = make_network(ArpParameters(requests_per_second=1))
    network.datagram(1)
    network.datagram(2, SECOND_HOST)
    network.control(RouterState(parameters=Parameters(arp=ArpParameters(requests_per_second=5))))
    network.datagram(3, SECOND_HOST)
    assert len(network.requests()) == 2
    assert network.drops() == {"DROP_ARP_REQUESTS": 1}


def test_a_next_hop_that_was_evicted_is_not_asked_twice_a_second(make_network: MakeNetwork) -> None:
    network = make_network(ArpParameters(max_neighbours=1))
    network.datagram(1)
    network.advance(0.5)
    network.datagram(2, SECOND_HOST)
    network.datagram(3)
    assert [each.target[1] for each in network.requests()] == [HOST, SECOND_HOST]
    assert network.drops() == {"DROP_NEIGHBOUR_TABLE": 1, "DROP_ARP_REQUESTS": 1}
    network.advance(0.5)
    network.datagram(4)
    assert [each.target[1] for each in network.requests()] == [HOST, SECOND_HOST, HOST]
    network.answer()
    assert network.numbers() == [4]


def test_a_link_that_was_down_is_asked_on_at_once(make_network: MakeNetwork) -> None:
    network = make_network(ArpParameters(max_neighbours=1))
    network.datagram(1)
    network.datagram(2, SECOND_HOST)
    network.control(RouterState(interfaces=[interface(up=False)]))
    network.control(RouterState(interfaces=[interface()]))
    network.datagram(3)
    assert [each.target[1] for each in network.requests()] == [HOST, SECOND_HOST, HOST]
