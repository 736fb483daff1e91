"""Proxy ARP (RFC 1027): who is answered on behalf of whom, once the forwarder has said where the route leads."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from arp_network import ETH0, ETH1, HOST, HOST_MAC, MAC0, OWN0, REQUEST, TO_ALL, Network, interface

from services.arp.actions import AskRoute
from services.arp.proxy import MAX_QUESTIONS, QUESTION_TIME_S, Route
from services.common.messages import RouterState
from services.common.parameters import InterfacePolicy

FAR = 0x0A010009  # 10.1.0.9, behind eth1
UNICAST = Route("unicast", ETH1)


class ProxyNetwork(Network):
    """A network whose eth0 has proxy ARP, and what arp asks the forwarder."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.switch(on=True)

    def switch(self, *, on: bool) -> None:
        changed = interface().model_copy(update={"policy": InterfacePolicy(proxy_arp=on)})
        self.control(RouterState(interfaces=[changed]))

    def questions(self) -> list[AskRoute]:
        return self.effects.take_questions()

    def ask(self, target: int = FAR, sender: int = HOST) -> list[AskRoute]:
        self.hear(REQUEST, HOST_MAC, sender, target)
        return self.questions()

    def route(self, number: int, route: Route) -> None:
        self.perform(self.resolver.on_route(number, route, self.now))


@pytest.fixture
def network(tmp_path: Path) -> Iterator[ProxyNetwork]:
    network = ProxyNetwork(tmp_path)
    yield network
    network.check_balance()


def test_a_request_for_a_host_behind_another_interface_is_answered(network: ProxyNetwork) -> None:
    (question,) = network.ask()
    assert question.address == FAR
    assert network.replies() == []
    network.route(question.number, UNICAST)
    (reply,) = network.replies()
    assert reply.interface == ETH0
    assert reply.data[:12] == HOST_MAC + MAC0
    assert (reply.sender, reply.target) == ((MAC0, FAR), (HOST_MAC, HOST))
    assert network.state(HOST) == "STALE", "its datagrams come next (Linux neigh_event_ns())"


@pytest.mark.parametrize(
    "route",
    [
        Route("unicast", ETH0),
        Route("none", 0),
        Route("local", 0),
        Route("broadcast", 0),
        Route("blackhole", 0),
        Route("unreachable", 0),
        Route("prohibit", 0),
        Route("unicast", 0),
    ],
    ids=lambda route: f"{route.kind}-{route.interface}",
)
def test_other_routes_are_not_answered_for(network: ProxyNetwork, route: Route) -> None:
    (question,) = network.ask()
    network.route(question.number, route)
    assert network.replies() == []
    assert network.state(HOST) is None


@pytest.mark.parametrize(
    ("target", "sender"),
    [
        (FAR, 0),  # a probe (RFC 5227 section 2.1.1)
        (HOST, HOST),  # an announcement
        (0xE0000001, HOST),
        (0x7F000001, HOST),
        (0xFFFFFFFF, HOST),
        (0x0A0000FF, HOST),  # the link's own broadcast address
        (0, HOST),
    ],
)
def test_what_is_not_even_asked_about(network: ProxyNetwork, target: int, sender: int) -> None:
    assert network.ask(target, sender) == []


def test_the_routers_own_address_is_answered_without_a_question(network: ProxyNetwork) -> None:
    assert network.ask(OWN0) == []
    assert len(network.replies()) == 1


def test_a_foreign_sender_is_not_answered(network: ProxyNetwork) -> None:
    assert network.ask(sender=0xC0A80909) == []
    assert network.drops() == {"DROP_ARP_SENDER": 1}


def test_only_where_it_is_switched_on(network: ProxyNetwork) -> None:
    network.hear(REQUEST, HOST_MAC, 0x0A010002, HOST, TO_ALL, on=ETH1)
    assert network.questions() == []
    (question,) = network.ask()
    network.switch(on=False)
    assert network.ask() == []
    network.route(question.number, UNICAST)
    assert network.replies() == []


def test_open_questions_are_bounded_and_forgotten(network: ProxyNetwork) -> None:
    numbers = [question.number for offset in range(MAX_QUESTIONS + 10) for question in network.ask(FAR + offset)]
    assert len(numbers) == MAX_QUESTIONS
    network.advance(QUESTION_TIME_S)
    network.route(numbers[0], UNICAST)
    assert network.replies() == [], "too late"
    (question,) = network.ask()
    network.route(question.number, UNICAST)
    network.route(question.number, UNICAST)
    assert len(network.replies()) == 1


def test_the_interface_goes_down_before_the_answer(network: ProxyNetwork) -> None:
    (question,) = network.ask()
    network.control(RouterState(interfaces=[interface(up=False)]))
    network.route(question.number, UNICAST)
    assert network.replies() == []
