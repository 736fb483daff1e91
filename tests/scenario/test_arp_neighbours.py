"""The life of a neighbour, with Linux's values: its states, permanent ones, a MAC that changes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from arp_network import (
    BROADCAST,
    ETH0,
    HOST,
    HOST_MAC,
    NEW_MAC,
    OWN0,
    REPLY,
    REQUEST,
    SECOND_HOST,
    TO_ALL,
    Network,
    interface,
)

from services.common.messages import RouterState
from services.common.parameters import ArpParameters, Parameters, PermanentNeighbour


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    network = Network(tmp_path)
    yield network
    network.check_balance()


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

    def test_use_of_a_reachable_neighbour_asks_nothing(self, network: Network) -> None:
        network.datagram()
        network.answer()
        network.sent.clear()
        network.use(HOST)
        network.advance(29.0)
        assert network.sent == []

    def test_a_neighbour_that_would_be_used_is_asked_for_at_most_once_a_second(self, network: Network) -> None:
        """The forwarder names the failed next hops of its groups once a second."""
        for _ in range(60):
            network.use(SECOND_HOST)
            network.advance(0.1)
        assert len(network.sent) == 3  # and then it has failed, and is left alone for 3 s
        network.use(SECOND_HOST)
        assert len(network.sent) == 4


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
