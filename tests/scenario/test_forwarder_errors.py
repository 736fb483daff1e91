"""Which ICMP error a sender gets, its bytes, and when none may go: RFC 1812 section 4.3, conformance rows 5 to 20."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from forwarder_network import (
    ETH0,
    ETH1,
    ETH2,
    FAR,
    GATEWAY,
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
    TO_GROUP,
    TO_US,
    Network,
    checksum,
    datagram,
    interface,
    record,
)

from services.common.messages import Frame, RouterState

DF, MF = 0x4000, 0x2000

# 192.168.1.2 -> 192.168.0.2, UDP 33333 -> 33435, "hopwire!", TTL 1; its checksum by hand:
# 4500 + 0024 + 1234 + 0000 + 0111 + c0a8 + 0102 + c0a8 + 0002 = 1dabd, dabd + 1 = dabe, inverted 2541
DYING = bytes.fromhex("4500 0024 1234 0000 0111 2541 c0a80102 c0a80002 8235 829b 0010 0000 686f707769726521")


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    network = Network(tmp_path)
    yield network
    network.check_balance()


# --- Bytes by hand ----------------------------------------------------------------------------------------------------
# The quoted header adds ffff to an ICMP sum, the 16 bytes behind it ac5b: 8235 + 829b + 0010 + 0000 + 686f + 7077
# + 6972 + 6521 = 2ac59.


def test_time_exceeded_byte_for_byte(network: Network) -> None:
    """Rows 5, 18, 19, 20. ICMP: 0b00 + ffff + ac5b = 1b75a, b75b, inverted 48a4.

    IP: 45c0 + 0040 + 4001 + c0a8 + 0101 + c0a8 + 0102 = 20954, 0956, inverted f6a9.
    """
    network.receive(DYING, padding=10)
    (frame,) = network.sent
    assert frame.interface == ETH0
    assert frame.data == HOST1_MAC + MAC0 + b"\x08\x00" + bytes.fromhex(
        "45c0 0040 0000 0000 4001 f6a9 c0a80101 c0a80102 0b00 48a4 00000000"
    ) + DYING  # fmt: skip
    assert network.counted() == {
        "DROP_TTL_EXCEEDED": 1,
        "ICMP_ERRORS": 1,
        "GENERATED": 1,
        "GENERATED_SENT": 1,
    }


@pytest.mark.parametrize(
    ("last", "reason", "message"),
    [
        # 0300 + ffff + ac5b, inverted; then the code is added to the sum, so taken from the checksum
        ("c6336401", "DROP_NO_ROUTE", "0300 50a4"),  # 198.51.100.1, its route taken away
        ("cb007141", "DROP_UNREACHABLE", "0301 50a3"),  # 203.0.113.65
        ("cb007181", "DROP_PROHIBITED", "030d 5097"),  # 203.0.113.129
    ],
)
def test_destination_unreachable_byte_for_byte(network: Network, last: str, reason: str, message: str) -> None:
    """Row 8. The quote's own checksum is right, so whatever its destination, it adds ffff."""
    network.control(RouterState(routes=record("198.51.100.0/24", 0)))
    sent = DYING[:8] + b"\x40" + DYING[9:16] + bytes.fromhex(last) + DYING[20:]
    sent = sent[:10] + checksum(sent[:10] + b"\0\0" + sent[12:20]).to_bytes(2, "big") + sent[12:]
    network.receive(sent)
    (frame,) = network.sent
    assert frame.datagram == bytes.fromhex(f"45c0 0040 0000 0000 4001 f6a9 c0a80101 c0a80102 {message} 00000000") + sent
    assert network.counted()[reason] == 1


def test_a_blackhole_is_silent(network: Network) -> None:
    network.receive(datagram(destination="203.0.113.1"))
    assert network.sent == []
    assert network.counted() == {"DROP_BLACKHOLE": 1}


def test_fragmentation_needed_byte_for_byte(network: Network) -> None:
    """Rows 10 and 18: 1281 bytes with DF to an MTU of 1280; the quote stops at 576 bytes in all.

    ICMP: 0304 + 0500 + ffff (the quoted header) + 1111 (the payload's only word that is not 0) = 11914, 1915,
    inverted e6ea. IP: 45c0 + 0240 + 4001 + c0a8 + 0101 + c0a8 + 0102 = 20b54, 0b56, inverted f4a9.
    """
    sent = datagram(destination=FAR, payload=b"\x11\x11" + bytes(1259), word=DF)
    assert len(sent) == 1281
    network.receive(sent)
    (frame,) = network.sent
    assert frame.data[:14] == HOST1_MAC + MAC0 + b"\x08\x00"
    assert (
        frame.datagram
        == bytes.fromhex("45c0 0240 0000 0000 4001 f4a9 c0a80101 c0a80102 0304 e6ea 0000 0500") + sent[:548]
    )
    assert len(frame.datagram) == 576
    assert network.counted()["DROP_MTU_EXCEEDED"] == 1


def test_host_unreachable_byte_for_byte(network: Network) -> None:
    """Row 9: what arp gives back is quoted as it was to leave, with one hop less (RFC 1812 section 4.3.2.3)."""
    network.forget(ETH1, HOST2)
    network.receive(DYING[:8] + b"\x40\x11\xe6\x40" + DYING[12:])  # TTL 64: 2541 - 3f00
    (waiting,) = network.handed
    assert waiting == Frame(
        ETH0, ETH1, 0xC0A80002, TO_US, generated=False, data=PLAIN + MAC0 + HOST1_MAC + b"\x08\x00" + DYING[:8]
        + b"\x3f\x11\xe7\x40" + DYING[12:]
    )  # fmt: skip
    assert network.sent == []

    network.give_back(waiting._replace(data=memoryview(waiting.data)))
    (frame,) = network.sent
    assert frame.datagram == bytes.fromhex(
        "45c0 0040 0000 0000 4001 f6a9 c0a80101 c0a80102 0301 50a3 00000000"
    ) + DYING[:8] + b"\x3f\x11\xe7\x40" + DYING[12:]  # fmt: skip
    assert network.counted() == {
        "HANDED": 1,
        "DROP_HOST_UNREACHABLE": 1,
        "ICMP_ERRORS": 1,
        "GENERATED": 1,
        "GENERATED_SENT": 1,
    }


# --- The quote --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [20, 21, 28, 547, 548, 549, 1500])
def test_the_quote_is_what_was_sent_up_to_576_bytes_in_all(network: Network, length: int) -> None:
    """Row 18."""
    sent = datagram(payload=bytes(number % 251 for number in range(length - 20)), ttl=1)
    network.receive(sent, padding=30)
    assert [len(each.datagram) for each in network.sent] == [min(length + 28, 576)]
    (message,) = network.take_icmp()
    assert message.data == sent[:548]


def test_the_quote_has_the_options_too(network: Network) -> None:
    sent = datagram(ttl=1, options=bytes.fromhex("94040000 0707040000000000"))
    network.receive(sent)
    assert network.take_icmp()[0].data == sent


def test_the_quote_has_the_checksum_that_the_sender_left_to_the_hardware(network: Network) -> None:
    """UDP 10 bytes, checksum field with the pseudo-header's sum; finished by hand from byte 34 on."""
    half = datagram(payload=bytes.fromhex("8235 829b 000a 8276 1234"), ttl=1)
    # 8235 + 829b + 000a + 8276 + 1234 = 19984 -> 9985, inverted 667a
    finished = half[:26] + bytes.fromhex("667a") + half[28:]
    network.receive(
        half, virtio=bytes.fromhex("01 00 0000 0000") + (34).to_bytes(2, "little") + (6).to_bytes(2, "little")
    )
    assert network.take_icmp()[0].data == finished


def test_a_super_frame_is_told_the_mtu_too(network: Network) -> None:
    virtio = bytes((1, 1)) + b"".join(number.to_bytes(2, "little") for number in (54, 1448, 34, 16))
    tcp = bytes(12) + b"\x80" + bytes(19)
    sent = datagram(destination=FAR, payload=tcp + bytes(40_000), protocol=6, word=DF)
    network.receive(sent, virtio=virtio)
    (message,) = network.take_icmp()
    assert (message.icmp_type, message.code, message.rest) == (3, 4, 1280)
    assert message.data == sent[:548]


def test_the_paths_mtu_is_told_where_it_is_smaller(network: Network) -> None:
    network.route("198.51.100.0/25", ETH2, GATEWAY, mtu=1000)
    network.receive(datagram(destination=FAR, payload=bytes(981), word=DF))
    assert [(each.code, each.rest) for each in network.take_icmp()] == [(4, 1000)]
    network.receive(datagram(destination=FAR, payload=bytes(980), word=DF))
    assert [each.interface for each in network.sent] == [ETH2]


# --- Source, destination, TOS -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sender", "arrives", "leaves", "source", "mac"),
    [
        (HOST1, ETH0, ETH0, "192.168.1.1", HOST1_MAC + MAC0),
        (HOST2, ETH1, ETH1, "192.168.0.1", HOST2_MAC + MAC1),  # the address in the neighbour's network, not the first
        (HOST2, ETH0, ETH1, "192.168.0.1", HOST2_MAC + MAC1),  # by the interface it leaves by, not by which it came in
        (FAR, ETH2, ETH2, "10.9.0.1", GATEWAY_MAC + MAC2),  # in the gateway's network
    ],
)
def test_the_source_is_the_address_of_the_interface_it_leaves_by(
    network: Network, sender: str, arrives: int, leaves: int, source: str, mac: bytes
) -> None:
    """Rows 19 and 20."""
    network.receive(datagram(source=sender, destination="192.168.1.77", ttl=1, tos=0x28), on=arrives)
    (frame,) = network.sent
    assert frame.data[:12] == mac
    assert frame.datagram[1] == 0xC0
    assert frame.datagram[8] >= 64
    (message,) = network.take_icmp()
    assert (message.interface, message.source, message.destination) == (leaves, source, sender)


def test_a_link_without_addresses_borrows_one(network: Network) -> None:
    network.control(RouterState(interfaces=[interface(ETH2, MAC2, mtu=1280)]))
    network.receive(datagram(source=FAR, destination=HOST1, ttl=1), on=ETH2)
    assert [each.source for each in network.take_icmp()] == ["192.168.1.1"]


def test_a_sender_to_whom_there_is_no_way_gets_nothing(network: Network) -> None:
    network.receive(datagram(source="100.64.0.9", ttl=1))
    assert network.sent == []
    assert network.handed == []
    assert network.counted() == {"DROP_TTL_EXCEEDED": 1, "ICMP_SUPPRESSED": 1}


def test_an_error_whose_next_hop_is_not_known_goes_by_way_of_arp(network: Network) -> None:
    network.forget(ETH0, HOST1)
    network.receive(DYING)
    assert network.sent == []
    (frame,) = network.handed
    assert (frame.in_interface, frame.out_interface, frame.next_hop, frame.generated) == (0, ETH0, 0xC0A80102, True)
    assert frame.data == PLAIN + bytes(12) + b"\x08\x00" + bytes.fromhex(
        "45c0 0040 0000 0000 4001 f6a9 c0a80101 c0a80102 0b00 48a4 00000000"
    ) + DYING  # fmt: skip
    network.give_back(frame)  # its next hop never answers: there is nobody to be told
    assert network.sent == []
    assert network.counted()["DROP_HOST_UNREACHABLE"] == 1


# --- What gets no error -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("icmp_type", [3, 4, 5, 11, 12])
def test_no_error_about_an_error(network: Network, icmp_type: int) -> None:
    """Row 14."""
    network.receive(datagram(payload=bytes((icmp_type,)) + bytes(35), protocol=ICMP, ttl=1))
    assert network.sent == []
    assert network.counted() == {"DROP_TTL_EXCEEDED": 1, "ICMP_FORBIDDEN": 1}


@pytest.mark.parametrize("icmp_type", [0, 8, 13, 14, 17, 200])
def test_an_error_about_other_icmp(network: Network, icmp_type: int) -> None:
    network.receive(datagram(payload=bytes((icmp_type,)) + bytes(7), protocol=ICMP, ttl=1))
    assert [each.icmp_type for each in network.take_icmp()] == [11]


@pytest.mark.parametrize(("payload", "errors"), [(b"", 0), (b"\x08", 1), (b"\x03", 0)])
def test_icmp_that_is_cut_off_before_its_type_may_be_an_error(network: Network, payload: bytes, errors: int) -> None:
    network.receive(datagram(payload=payload, protocol=ICMP, ttl=1))
    assert len(network.sent) == errors


@pytest.mark.parametrize(("word", "errors"), [(MF, 1), (DF, 1), (1, 0), (MF | 1, 0), (0x1FFF, 0), (DF | 185, 0)])
def test_no_error_about_a_fragment_other_than_the_first(network: Network, word: int, errors: int) -> None:
    """Row 15."""
    network.receive(datagram(ttl=1, word=word))
    assert len(network.sent) == errors
    assert network.counted().get("ICMP_FORBIDDEN", 0) == 1 - errors


@pytest.mark.parametrize("packet_type", [TO_ALL, TO_GROUP])
@pytest.mark.parametrize("destination", [HOST2, "100.64.0.1", "203.0.113.129", FAR])
def test_no_error_about_a_link_layer_broadcast(network: Network, destination: str, packet_type: int) -> None:
    """Row 16."""
    network.receive(datagram(destination=destination, ttl=1, payload=bytes(1300), word=DF), packet_type=packet_type)
    assert network.sent == []


@pytest.mark.parametrize("destination", ["192.168.0.255", "192.168.1.255", "255.255.255.255", "224.0.0.9"])
@pytest.mark.parametrize("ttl", [1, 64])
def test_no_error_about_an_ip_broadcast_or_multicast(network: Network, destination: str, ttl: int) -> None:
    """Row 16."""
    network.receive(datagram(destination=destination, ttl=ttl))
    assert network.sent == []
    assert network.handed == []


@pytest.mark.parametrize(
    "source", ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.168.1.255"]
)
def test_no_error_to_a_source_that_is_no_single_host(network: Network, source: str) -> None:
    """Row 17."""
    network.receive(datagram(source=source, ttl=1))
    assert network.sent == []
    assert network.counted() == {"DROP_MARTIAN_SOURCE": 1}


# --- What arp gives back ----------------------------------------------------------------------------------------------


def test_each_sender_of_a_frame_that_waited_is_told(network: Network) -> None:
    """Row 9."""
    network.forget(ETH1, HOST2)
    network.receive(datagram(), datagram(source=FAR), datagram(identification=7), datagram(word=1))
    assert [frame.next_hop for frame in network.handed] == [0xC0A80002] * 4
    network.give_back(*network.handed)
    messages = network.take_icmp()
    assert [each.destination for each in messages] == [HOST1, FAR, HOST1]  # none about the fragment
    assert {(each.icmp_type, each.code) for each in messages} == {(3, 1)}


@pytest.mark.parametrize("length", [0, 10, 24, 43])
def test_a_frame_too_short_for_a_datagram_is_counted_and_not_read(network: Network, length: int) -> None:
    network.give_back(Frame(ETH0, ETH1, 0xC0A80002, TO_US, generated=False, data=bytes(length)))
    assert network.counted() == {"DROP_HOST_UNREACHABLE": 1}


@pytest.mark.parametrize("source", ["0.0.0.0", "127.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"])
def test_the_slow_path_itself_knows_whom_not_to_tell(network: Network, source: str) -> None:
    data = PLAIN + MAC0 + HOST1_MAC + b"\x08\x00" + datagram(source=source)
    network.give_back(Frame(ETH0, ETH1, 0xC0A80002, TO_US, generated=False, data=data))
    assert network.counted() == {"DROP_HOST_UNREACHABLE": 1, "ICMP_FORBIDDEN": 1}


@pytest.mark.parametrize("packet_type", [TO_ALL, TO_GROUP])
def test_what_came_to_all_and_could_not_leave_is_not_answered(network: Network, packet_type: int) -> None:
    data = PLAIN + MAC0 + HOST1_MAC + b"\x08\x00" + datagram()
    network.give_back(Frame(ETH0, ETH1, 0xC0A80002, packet_type, generated=False, data=data))
    assert network.sent == []
    assert network.counted() == {"DROP_HOST_UNREACHABLE": 1, "ICMP_FORBIDDEN": 1}


def test_noise_from_arp_does_no_harm(network: Network) -> None:
    """Whatever stands in such a frame: header lengths that lie, a virtio header that points anywhere."""
    for number in range(256):
        noise = bytes((number * 7 + at * number) % 256 for at in range(44 + number))
        network.give_back(Frame(ETH0, ETH1, 1, TO_US, generated=False, data=noise))
    assert network.counted()["DROP_HOST_UNREACHABLE"] == 256
