"""Datagrams larger than the next hop's MTU: RFC 791 section 3.2, conformance rows 11 and 12."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from forwarder_network import (
    ETH2,
    FAR,
    GATEWAY,
    GATEWAY_MAC,
    HOST1,
    MAC2,
    PLAIN,
    Network,
    checksum,
    datagram,
)

DF, MF = 0x4000, 0x2000


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    network = Network(tmp_path)
    yield network
    network.check_balance()


def test_a_datagram_one_byte_too_long_becomes_two_fragments(network: Network) -> None:
    sent = datagram(destination=FAR, payload=bytes(number % 251 for number in range(1261)), tos=0xB8)
    network.receive(sent, padding=4)
    assert {(each.interface, each.data[:14]) for each in network.sent} == {(ETH2, GATEWAY_MAC + MAC2 + b"\x08\x00")}
    first, second = (each.datagram for each in network.sent)
    # TTL 63, the same TOS, identification, protocol and addresses in both; by hand:
    # 45b8 + 04fc + 1234 + 2000 + 3f11 + c0a8 + 0102 + c633 + 6407 = 2a7dd -> a7df, inverted 5820
    assert first[:20] == bytes.fromhex("45b8 04fc 1234 2000 3f11 5820 c0a80102 c6336407")
    # 45b8 + 0019 + 1234 + 009d + 3f11 + c0a8 + 0102 + c633 + 6407 = 28397 -> 8399, inverted 7c66
    assert second[:20] == bytes.fromhex("45b8 0019 1234 009d 3f11 7c66 c0a80102 c6336407")
    assert first[20:] + second[20:] == sent[20:]
    assert network.counted() == {"FRAGMENTED": 1, "GENERATED": 2, "GENERATED_SENT": 2}


def test_one_of_exactly_the_mtu_passes_whole(network: Network) -> None:
    sent = datagram(destination=FAR, payload=bytes(1260))
    network.receive(sent)
    assert [each.datagram[20:] for each in network.sent] == [bytes(1260)]
    assert network.counted() == {"FORWARDED": 1}


def test_a_fragment_is_fragmented_again_and_a_small_one_passes(network: Network) -> None:
    """Rows 11 and 12: nothing is put together on the way, whatever the order."""
    data = bytes(number * 13 % 256 for number in range(4000))
    last = datagram(destination=FAR, payload=data[2960:], word=370)
    middle = datagram(destination=FAR, payload=data[1480:2960], word=MF | 185)
    first = datagram(destination=FAR, payload=data[:1480], word=MF)
    network.receive(last, first, middle)
    # 1040 bytes fit an MTU of 1280; the others become 1256 + 224 each
    parts = [(int.from_bytes(each.datagram[6:8], "big"), each.datagram[20:]) for each in network.sent]
    assert sorted((word & 0x1FFF, len(part)) for word, part in parts) == [
        (0, 1256),
        (157, 224),
        (185, 1256),
        (342, 224),
        (370, 1040),
    ]
    assert {word & 0x1FFF: bool(word & MF) for word, _ in parts} == {
        0: True,
        157: True,
        185: True,
        342: True,
        370: False,
    }
    assert b"".join(part for _, part in sorted((word & 0x1FFF, part) for word, part in parts)) == data
    assert all(checksum(each.datagram[:20]) == 0 for each in network.sent)
    assert network.counted() == {"FORWARDED": 1, "FRAGMENTED": 2, "GENERATED": 4, "GENERATED_SENT": 4}


def test_transit_fragments_pass_one_to_one(network: Network) -> None:
    """Row 12."""
    network.route("198.18.0.0/15", ETH2, GATEWAY)
    words = [MF, MF | 64, 128, MF | 32, MF | 96]
    network.receive(*(datagram(destination="198.18.0.1", payload=bytes(256), word=word) for word in words))
    assert [int.from_bytes(each.datagram[6:8], "big") for each in network.sent] == words
    assert network.counted() == {"FORWARDED": 5}


def test_fragments_wait_for_their_next_hop_with_arp(network: Network) -> None:
    network.forget(ETH2, GATEWAY)
    sent = datagram(destination=FAR, payload=bytes(1400))
    network.receive(sent)
    assert network.sent == []
    assert [(frame.out_interface, frame.next_hop, frame.generated) for frame in network.handed] == [
        (ETH2, 0x0A090009, True)
    ] * 2
    assert all(frame.data[:24] == PLAIN + bytes(12) + b"\x08\x00" for frame in network.handed)
    assert sum(len(frame.data) - 44 for frame in network.handed) == 1400
    network.give_back(*network.handed)
    # as with any datagram; about a fragment that is not the first there is no error (RFC 1812 section 4.3.2.7)
    (error,) = network.take_icmp()
    assert (error.destination, error.icmp_type, error.code) == (HOST1, 3, 1)
    assert error.data[:8] == bytes.fromhex("4500 04fc 1234 2000")
    assert network.counted()["ICMP_FORBIDDEN"] == 1


def test_a_checksum_left_to_the_hardware_is_finished_before_the_cut(network: Network) -> None:
    """No fragment can have its checksum finished later: it covers all of them."""
    head = bytes.fromhex("8235 829b 0514 aaaa")  # UDP, 1300 bytes, the field holds any sum
    sent = datagram(destination=FAR, payload=head + bytes(1292))
    network.receive(sent, virtio=bytes((1, 0, 0, 0, 0, 0)) + (34).to_bytes(2, "little") + (6).to_bytes(2, "little"))
    first, _ = (each.datagram for each in network.sent)
    # 8235 + 829b + 0514 + aaaa = 1b48e -> b48f, inverted 4b70
    assert first[20:28] == bytes.fromhex("8235 829b 0514 4b70")


def test_a_neighbour_that_only_fragments_go_to_is_in_use(network: Network) -> None:
    network.tables.take_used()
    network.receive(datagram(HOST1, FAR, bytes(1400)))
    assert network.tables.take_used() == [(ETH2, 0x0A090009)]
