"""The router answers echo requests: RFC 1812 section 4.3.3.6, conformance rows 6, 13 and 22."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from forwarder_network import (
    ETH0,
    ETH1,
    ETH2,
    FAR,
    GATEWAY_MAC,
    HOST1,
    HOST1_MAC,
    HOST2,
    HOST2_MAC,
    ICMP,
    MAC0,
    MAC1,
    MAC2,
    PLAIN,
    TO_ALL,
    Network,
    checksum,
    datagram,
)

# Echo request, identifier 1234, sequence 1, "hopwire!": 0800 + 1234 + 0001 + 686f + 7077 + 6972 + 6521 = 1c1ae ->
# c1af, inverted 3e50. The reply's type is 0: 800 less in the sum, 800 more in the checksum: 4650.
REQUEST = bytes.fromhex("0800 3e50 1234 0001 686f707769726521")
REPLY = bytes.fromhex("0000 4650 1234 0001 686f707769726521")
NO_FRAGMENTS, DF, MF = 0, 0x4000, 0x2000


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    network = Network(tmp_path)
    yield network
    network.check_balance()


def echo(
    source: str, destination: str, message: bytes = REQUEST, *, ttl: int = 64, tos: int = 0, word: int = 0
) -> bytes:
    return datagram(source, destination, message, protocol=ICMP, ttl=ttl, tos=tos, word=word)


def test_a_reply_byte_for_byte(network: Network) -> None:
    """4500 + 0024 + 00ff + 0000 + 4001 + c0a8 + 0101 + c0a8 + 0102 = 20977, 0979, inverted f686."""
    # 192.168.1.2 -> 192.168.1.1, identification 00ff; the same words in the sum as the reply has
    request = bytes.fromhex("4500 0024 00ff 0000 4001 f686 c0a80102 c0a80101") + REQUEST
    network.receive(request, padding=20)
    (frame,) = network.sent
    assert frame.interface == ETH0
    assert frame.data == HOST1_MAC + MAC0 + b"\x08\x00" + bytes.fromhex(
        "4500 0024 00ff 0000 4001 f686 c0a80101 c0a80102"
    ) + REPLY  # fmt: skip
    assert network.counted() == {"ECHO_ANSWERED": 1, "GENERATED": 1, "GENERATED_SENT": 1}


OWN = ("192.168.1.1", "192.168.0.1", "192.168.0.254", "10.9.0.1", "10.9.7.1")


@pytest.mark.parametrize("address", OWN)
@pytest.mark.parametrize(
    ("source", "on", "macs"),
    [
        (HOST1, ETH0, HOST1_MAC + MAC0),
        (HOST2, ETH1, HOST2_MAC + MAC1),
        (FAR, ETH2, GATEWAY_MAC + MAC2),
        (FAR, ETH0, GATEWAY_MAC + MAC2),
    ],
)
def test_every_own_address_answers_from_itself_to_every_side(
    network: Network, address: str, source: str, on: int, macs: bytes
) -> None:
    """Row 22."""
    network.receive(echo(source, address), on=on)
    (frame,) = network.sent
    assert frame.data[:12] == macs
    (message,) = network.take_icmp()
    assert (message.source, message.destination) == (address, source)
    assert (message.icmp_type, message.code, message.rest) == (0, 0, 0x12340001)
    assert message.data == b"hopwire!"


@pytest.mark.parametrize("length", [0, 1, 7, 56, 1472])
def test_the_data_comes_back_whole(network: Network, length: int) -> None:
    data = bytes(number * 7 % 256 for number in range(length))
    head = bytes.fromhex("0800 0000 abcd 0102")
    network.receive(
        echo(HOST1, OWN[0], head[:2] + checksum(head + data).to_bytes(2, "big") + head[4:] + data), padding=18
    )
    (message,) = network.take_icmp()
    assert message.data == data
    assert message.rest == 0xABCD0102


@pytest.mark.parametrize("ttl", [0, 1, 2, 255])
def test_any_ttl_reaches_the_router_and_the_reply_has_one_of_its_own(network: Network, ttl: int) -> None:
    """Row 6."""
    network.receive(echo(HOST1, OWN[0], ttl=ttl))
    assert network.sent[0].datagram[8] == 64


@pytest.mark.parametrize("tos", [0, 0x10, 0xB8, 0xFF])
def test_the_reply_has_the_requests_tos(network: Network, tos: int) -> None:
    """RFC 1812 section 4.3.2.5."""
    network.receive(echo(HOST1, OWN[0], tos=tos))
    assert network.sent[0].datagram[1] == tos


@pytest.mark.parametrize(
    "message", [REQUEST[:2] + b"\x3e\x51" + REQUEST[4:], REQUEST[:2] + b"\0\0" + REQUEST[4:], REQUEST[:-1] + b"?"]
)
def test_a_wrong_checksum_is_not_answered(network: Network, message: bytes) -> None:
    network.receive(echo(HOST1, OWN[0], message))
    assert network.sent == []
    assert network.counted() == {"DROP_ICMP_CHECKSUM": 1}


def test_an_odd_byte_counts_in_the_checksum(network: Network) -> None:
    message = REQUEST + b"\x01"  # 0100 more in the sum: 3e50 - 0100 = 3d50
    network.receive(echo(HOST1, OWN[0], message))
    assert network.sent == []
    network.receive(echo(HOST1, OWN[0], message[:2] + b"\x3d\x50" + message[4:]))
    assert len(network.take_icmp()) == 1


def test_a_reply_waits_for_its_next_hop_with_arp(network: Network) -> None:
    network.forget(ETH0, HOST1)
    network.receive(echo(HOST1, OWN[0]))
    assert network.sent == []
    (frame,) = network.handed
    assert (frame.in_interface, frame.out_interface, frame.next_hop, frame.generated) == (0, ETH0, 0xC0A80102, True)
    assert frame.data[:24] == PLAIN + bytes(12) + b"\x08\x00"
    assert frame.data[44:] == REPLY


def test_a_requester_to_whom_there_is_no_way_gets_nothing(network: Network) -> None:
    network.receive(echo("100.64.0.9", OWN[0]))
    assert network.sent == []
    assert network.counted() == {"ECHO_ANSWERED": 1, "GENERATED": 1, "DROP_NO_ROUTE": 1}


@pytest.mark.parametrize("word", [NO_FRAGMENTS, MF, 1])
def test_requests_to_all_are_left_to_the_kernel(network: Network, word: int) -> None:
    network.receive(echo(HOST1, OWN[0], word=word), packet_type=TO_ALL)
    assert network.sent == []
    assert network.counted() == {"LOCAL": 1}


def test_echo_between_hosts_is_nothing_to_the_router(network: Network) -> None:
    network.receive(echo(HOST1, HOST2))
    assert network.sent[0].datagram[20:] == REQUEST
    assert network.counted() == {"FORWARDED": 1}


def test_a_reply_longer_than_the_mtu_leaves_in_fragments(network: Network) -> None:
    """From the side with MTU 1500 to a host behind one of 1280."""
    data = bytes(number * 11 % 256 for number in range(1400))
    head = bytes.fromhex("0800 0000 abcd 0102")
    network.receive(echo(FAR, OWN[0], head[:2] + checksum(head + data).to_bytes(2, "big") + head[4:] + data))
    first, second = (each.datagram for each in network.sent)
    assert [len(first), len(second)] == [1276, 20 + 1408 - 1256]  # 1256 is the largest multiple of 8 up to 1260
    assert [first[6:8], second[6:8]] == [b"\x20\x00", (1256 // 8).to_bytes(2, "big")]
    reply = first[20:] + second[20:]
    assert checksum(reply) == 0
    assert reply[8:] == data
    assert network.counted() == {"ECHO_ANSWERED": 1, "GENERATED": 2, "GENERATED_SENT": 2}
