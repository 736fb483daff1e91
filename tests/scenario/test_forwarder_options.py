"""Options of datagrams in transit, and of echo requests to the router: RFC 1812 section 5.3.13, conformance row 32."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from forwarder_network import (
    ETH0,
    ETH1,
    ETH2,
    FAR,
    GATEWAY,
    HOST1,
    HOST2_MAC,
    ICMP,
    MAC1,
    TO_ALL,
    Network,
    checksum,
    datagram,
)

from services.common.counters import Counter

EMPTY_ROUTE = bytes.fromhex("07 07 04 00000000 00")
DF = 0x4000


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    network = Network(tmp_path)
    network.unix_time = 43_200.5
    yield network
    network.check_balance()


def test_record_route_byte_for_byte(network: Network) -> None:
    """The address is that of the interface it leaves by, in the network of the next hop: RFC 791 section 3.1."""
    network.receive(datagram(payload=bytes.fromhex("0102 0304"), options=EMPTY_ROUTE), padding=14)
    (sent,) = network.sent
    assert (sent.interface, sent.data[:14]) == (ETH1, HOST2_MAC + MAC1 + b"\x08\x00")
    # 4700 + 0020 + 1234 + 3f11 + c0a8 + 0102 + c0a8 + 0002 + 0707 + 08c0 + a800 + 0100 = 2d380 -> d382, inverted 2c7d
    head = bytes.fromhex("4700 0020 1234 0000 3f11 2c7d c0a80102 c0a80002")
    assert sent.datagram == head + bytes.fromhex("07 07 08 c0a80001 00 0102 0304")
    assert network.counted() == {"OPTIONS_FILLED": 1, "GENERATED": 1, "GENERATED_SENT": 1}


def test_the_address_towards_the_gateway(network: Network) -> None:
    network.receive(datagram(destination=FAR, options=EMPTY_ROUTE))
    assert network.sent[0].datagram[20:28] == bytes.fromhex("07 07 08 0a090001 00")


def test_timestamp(network: Network) -> None:
    network.receive(datagram(options=bytes.fromhex("44 0c 05 01 00000000 00000000")))
    # noon and half a second: 43,200,500 ms
    assert network.sent[0].datagram[20:32] == bytes.fromhex("44 0c 0d 01 c0a80001 02932ff4")
    assert checksum(network.sent[0].datagram[:32]) == 0


@pytest.mark.parametrize(
    ("address", "stamped"), [("0a090701", True), ("c0a80001", True), ("c0a80002", False), ("c0a801ff", False)]
)
def test_prespecified_addresses(network: Network, address: str, stamped: bool) -> None:
    """Any of the router's own addresses asks it."""
    network.receive(datagram(options=bytes.fromhex("44 0c 05 03" + address + "00000000")))
    pointer, time = ("0d", "02932ff4") if stamped else ("05", "00000000")
    assert network.sent[0].datagram[20:32] == bytes.fromhex("44 0c" + pointer + "03" + address + time)


def test_what_the_router_does_not_write_into_stays_on_the_fast_path(network: Network) -> None:
    for options in ("94040000", "d9041234", "01010100", "820b 0000 0000 0000 0000 00 00"):
        wanted = bytes.fromhex(options)
        network.receive(datagram(options=wanted))
        assert network.sent[-1].datagram[20 : 20 + len(wanted)] == wanted
    assert network.counted() == {"FORWARDED": 4}
    assert network.counters.total(Counter.SLOW_PATH) == 0


def test_a_malformed_option_is_reported(network: Network) -> None:
    """ICMP 12/0 with the pointer in the first byte of the word (RFC 792), about the datagram as it came."""
    sent = datagram(options=bytes.fromhex("01 07 07 03 00000000"), ttl=9)
    network.receive(sent)
    (error,) = network.take_icmp()
    assert (error.interface, error.source, error.destination) == (ETH0, "192.168.1.1", HOST1)
    assert (error.icmp_type, error.code, error.rest) == (12, 0, 23 << 24)
    assert error.data == sent
    assert network.counted() == {
        "DROP_OPTION_MALFORMED": 1,
        "ICMP_ERRORS": 1,
        "GENERATED": 1,
        "GENERATED_SENT": 1,
    }


def test_no_report_where_none_is_allowed(network: Network) -> None:
    bad = bytes.fromhex("07 07 03 00000000 00")
    network.receive(datagram(options=bad, word=100))
    network.receive(datagram(options=bad, protocol=ICMP, payload=bytes.fromhex("0301 0000 00000000")))
    network.receive(datagram(options=bad), packet_type=TO_ALL)
    assert network.sent == []
    assert network.counted() == {"DROP_OPTION_MALFORMED": 2, "ICMP_FORBIDDEN": 2, "DROP_LINK_BROADCAST": 1}


def test_other_fates_come_first(network: Network) -> None:
    network.receive(
        datagram(options=EMPTY_ROUTE, ttl=1),
        datagram(destination="100.64.0.1", options=EMPTY_ROUTE),
        datagram(options=EMPTY_ROUTE[:7] + bytes.fromhex("83 07 04 00000000 0000")),
    )
    assert [(each.icmp_type, each.code) for each in network.take_icmp()] == [(11, 0), (3, 0)]
    counted = network.counted()
    assert [counted[f"DROP_{name}"] for name in ("TTL_EXCEEDED", "NO_ROUTE", "SOURCE_ROUTED")] == [1, 1, 1]


def test_a_datagram_with_options_that_is_too_long_is_fragmented(network: Network) -> None:
    """Record route is in the first fragment only: its copied flag is 0 (RFC 791 section 3.1)."""
    data = bytes(number % 251 for number in range(1400))
    network.receive(datagram(destination=FAR, payload=data, options=EMPTY_ROUTE))
    first, second = (each.datagram for each in network.sent)
    assert (first[0], second[0]) == (0x47, 0x45)
    assert first[20:28] == bytes.fromhex("07 07 08 0a090001 00")
    assert first[28:] + second[20:] == data
    assert max(len(first), len(second)) <= 1280
    assert (checksum(first[:28]), checksum(second[:20])) == (0, 0)


def test_one_that_may_not_be_fragmented_is_reported(network: Network) -> None:
    sent = datagram(destination=FAR, payload=bytes(1253), options=EMPTY_ROUTE, word=DF)
    network.receive(sent)
    (error,) = network.take_icmp()
    assert (error.icmp_type, error.code, error.rest) == (3, 4, 1280)
    assert error.data == sent[:548]
    assert network.counted()["DROP_MTU_EXCEEDED"] == 1
    network.receive(datagram(destination=FAR, payload=bytes(1252), options=EMPTY_ROUTE, word=DF))
    assert len(network.sent[0].datagram) == 1280


def test_one_whose_next_hop_is_not_known_waits_with_arp_and_its_sender_learns_of_a_failure(network: Network) -> None:
    network.forget(ETH2, GATEWAY)
    network.receive(datagram(destination=FAR, options=EMPTY_ROUTE))
    (frame,) = network.handed
    assert frame.data[44:52] == bytes.fromhex("07 07 08 0a090001 00")
    network.give_back(frame)
    (error,) = network.take_icmp()
    assert (error.destination, error.icmp_type, error.code) == (HOST1, 3, 1)


# --- Echo to the router -----------------------------------------------------------------------------------------------

# Echo request, identifier 1234, sequence 1, no data: 0800 + 1234 + 0001 = 1a35, inverted e5ca
REQUEST = bytes.fromhex("0800 e5ca 1234 0001")


def test_an_echo_reply_has_the_way_there_and_back(network: Network) -> None:
    """The address that was asked, then that of the interface towards the sender: as Linux, RFC 1122 3.2.2.6."""
    options = bytes.fromhex("07 0f 04 00000000 00000000 00000000 00")
    network.receive(datagram(destination="10.9.0.1", payload=REQUEST, protocol=ICMP, options=options))
    sent = network.sent[0].datagram
    assert sent[20:36] == bytes.fromhex("07 0f 0c 0a090001 c0a80101 00000000 00")
    (message,) = network.take_icmp()
    assert (message.source, message.icmp_type) == ("10.9.0.1", 0)


def test_malformed_options_of_an_echo_request_are_the_kernels_to_report(network: Network) -> None:
    """It sees them too, and does not look whether it is to answer before it looks at the options."""
    network.receive(
        datagram(destination="10.9.0.1", payload=REQUEST, protocol=ICMP, options=bytes.fromhex("07070300 00000000"))
    )
    assert network.sent == []
    assert network.counted() == {"LOCAL": 1}


def test_other_options_are_not_in_the_reply(network: Network) -> None:
    network.receive(
        datagram(destination="192.168.1.1", payload=REQUEST, protocol=ICMP, options=bytes.fromhex("94040000"))
    )
    assert network.sent[0].datagram[0] == 0x45
    assert len(network.take_icmp()) == 1
