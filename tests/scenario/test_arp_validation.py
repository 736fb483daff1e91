"""Which ARP messages and frames are believed: RFC 826, RFC 1812 section 3.3.2."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from arp_network import (
    BROADCAST,
    ETH0,
    HOST,
    HOST_MAC,
    MAC0,
    NEW_MAC,
    OWN0,
    REQUEST,
    TO_ALL,
    TO_ANOTHER,
    TO_US,
    Network,
    arp_payload,
    interface,
)

from services.common.counters import Counter
from services.common.messages import Frame, NextHop, RouterState
from services.common.messages import Path as RoutePath


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    network = Network(tmp_path)
    yield network
    network.check_balance()


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
