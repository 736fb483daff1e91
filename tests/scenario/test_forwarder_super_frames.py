"""Super-frames (GSO) that have to be cut: their parts exceed the next hop's MTU without DF, or they carry options."""

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from forwarder_network import ETH2, FAR, GATEWAY, Network, checksum, datagram, ip

TCP, DF = 6, 0x4000
DATA = bytes(number * 13 % 255 for number in range(20_000))
ACK, PSH = 0x10, 0x08


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    network = Network(tmp_path)
    yield network
    network.check_balance()


def virtio(gso_size: int, gso_type: int = 1) -> bytes:
    return struct.pack("=BBHHHH", 1, gso_type, 54, gso_size, 34, 16)


def tcp(data: bytes = DATA, *, word: int = 0, options: bytes = b"", protocol: int = TCP) -> bytes:
    head = struct.pack("!HHIIBBHHH", 1000, 80, 100, 77, 0x50, ACK | PSH, 500, 0xDEAD, 0)
    return datagram(destination=FAR, payload=head + data, protocol=protocol, word=word, options=options)


def reassembled(network: Network) -> list[bytes]:
    """What the receiver puts together: TCP segments, by identification, each with its checksum right."""
    pieces: dict[int, dict[int, bytes]] = {}
    for each in network.sent:
        packet = each.datagram
        header_bytes = 4 * (packet[0] & 15)
        assert len(packet) <= 1280
        assert checksum(packet[:header_bytes]) == 0
        word = int.from_bytes(packet[6:8], "big")
        pieces.setdefault(int.from_bytes(packet[4:6], "big"), {})[word & 0x1FFF] = packet[header_bytes:]
    segments = [b"".join(data for _, data in sorted(parts.items())) for parts in pieces.values()]
    for segment in segments:
        pseudo_header = network.sent[0].datagram[12:20] + struct.pack("!BBH", 0, TCP, len(segment))
        assert checksum(pseudo_header + segment) == 0
    return segments


def test_tcp_without_df_is_cut_into_segments_and_those_into_fragments(network: Network) -> None:
    network.receive(tcp(), virtio=virtio(8948))
    segments = reassembled(network)
    assert [len(segment) - 20 for segment in segments] == [8948, 8948, 2104]
    assert b"".join(segment[20:] for segment in segments) == DATA
    assert [int.from_bytes(segment[4:8], "big") for segment in segments] == [100, 9048, 17_996]
    assert [segment[13] for segment in segments] == [ACK, ACK, ACK | PSH]
    # 8968 bytes in pieces of 1256, and 2124 bytes: 8 + 8 + 2
    assert len(network.sent) == 18
    assert {each.datagram[8] for each in network.sent} == {63}
    assert network.counted() == {"FRAGMENTED": 1, "GENERATED": 18, "GENERATED_SENT": 18}


def test_with_df_the_sender_is_told(network: Network) -> None:
    network.receive(tcp(word=DF), virtio=virtio(8948))
    (error,) = network.take_icmp()
    assert (error.icmp_type, error.code, error.rest) == (3, 4, 1280)
    assert network.counted()["DROP_MTU_EXCEEDED"] == 1


def test_record_route_of_a_super_frame_is_in_every_part(network: Network) -> None:
    network.receive(tcp(options=bytes.fromhex("07070400 00000000"), word=DF), virtio=virtio(1232))
    segments = reassembled(network)
    assert b"".join(segment[20:] for segment in segments) == DATA
    assert {each.datagram[20:28].hex() for each in network.sent} == {"0707080a09000100"}
    assert network.counted()["OPTIONS_FILLED"] == 1


def test_the_parts_wait_for_their_next_hop_with_arp(network: Network) -> None:
    network.forget(ETH2, GATEWAY)
    network.receive(tcp(), virtio=virtio(8948))
    assert [(frame.out_interface, frame.next_hop, frame.generated) for frame in network.handed] == [
        (ETH2, ip(GATEWAY), True)
    ] * 18


@pytest.mark.parametrize(("frame", "gso_type"), [(tcp(protocol=17), 1), (tcp(word=0x2000), 1), (tcp(), 4)])
def test_headers_that_contradict_each_other(network: Network, frame: bytes, gso_type: int) -> None:
    network.receive(frame, virtio=virtio(8948, gso_type))
    assert network.sent == []
    assert network.counted() == {"DROP_GSO_UNFRAGMENTABLE": 1}


def test_absurdly_small_segments_are_not_made(network: Network) -> None:
    network.receive(tcp(options=bytes.fromhex("07070400 00000000")), virtio=virtio(70))
    assert network.sent == []
    assert network.counted() == {"DROP_SLOW_PATH_FULL": 1}


def test_the_cost_is_that_of_all_parts(network: Network) -> None:
    """A super-frame is not one frame's work."""
    network.receive(datagram(destination=FAR, ttl=1))
    one = network.cost_us
    network.receive(tcp(), virtio=virtio(8948))
    assert network.cost_us > 4 * one
    network.receive(*[tcp()] * 3, virtio=virtio(8948))
    assert network.cost_us > 12 * one
