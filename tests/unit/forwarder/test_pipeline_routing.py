"""What becomes of a valid datagram, case by case: conformance rows 5 to 8, 25 to 30, 32 and 33."""

import pytest
from pipeline_rig import Bench
from pipeline_router import (
    DF,
    ETH0,
    ETH1,
    ETH1_MAC,
    ETH2,
    ETHERNET,
    FAR,
    GATEWAY_MAC,
    ICMP,
    TCP,
    UDP,
    bench_with,
    datagram,
)

from tests.oracle.router import Answer, Arrival, checksum, with_checksum

HOST, BROADCAST, MULTICAST = 0, 1, 2  # packet types


@pytest.fixture(scope="module")
def bench() -> Bench:
    return bench_with()


def verdict(bench: Bench, packet: bytes, packet_type: int = HOST) -> str:
    return bench.one(ETHERNET + packet, ETH0, packet_type).verdict


# --- TTL --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ttl", "expected"), [(0, "DROP_TTL_EXCEEDED"), (1, "DROP_TTL_EXCEEDED"), (2, "FORWARDED"), (255, "FORWARDED")]
)
def test_a_datagram_with_its_last_hop_used_up_is_not_forwarded(bench: Bench, ttl: int, expected: str) -> None:
    """Row 5. What the slow path quotes is what came: TTL and checksum as they were."""
    packet = datagram(ttl=ttl)
    answer = bench.one(ETHERNET + packet, ETH0)
    assert answer.verdict == expected
    if expected == "FORWARDED":
        assert answer.frame[22] == ttl - 1
    else:
        assert answer.frame == ETHERNET + packet


@pytest.mark.parametrize("ttl", [0, 1, 64])
def test_the_router_itself_is_reached_with_any_ttl(bench: Bench, ttl: int) -> None:
    """Row 6."""
    assert verdict(bench, datagram(destination="10.0.1.1", ttl=ttl)) == "LOCAL"
    echo = datagram(destination="10.0.1.1", ttl=ttl, protocol=ICMP, payload=bytes.fromhex("0800 f7ff 00000000"))
    assert verdict(bench, echo) == "ECHO_ANSWERED"


# --- Routes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("destination", "expected"),
    [
        ("198.51.100.7", ("FORWARDED", ETH1, "10.0.1.9")),
        ("198.51.100.200", ("HANDED", ETH2, "198.51.100.200")),  # the longer prefix
        ("10.0.1.77", ("HANDED", ETH1, "10.0.1.77")),
        ("10.0.0.2", ("FORWARDED", ETH0, "10.0.0.2")),  # out where it came in
    ],
)
def test_the_way_out(bench: Bench, destination: str, expected: tuple[str, int, str]) -> None:
    """Row 7."""
    answer = bench.one(ETHERNET + datagram("172.16.0.1", destination), ETH0)
    assert (answer.verdict, answer.interface, str(answer.next_hop)) == expected


@pytest.mark.parametrize(
    ("destination", "expected"),
    [
        ("100.64.0.1", "DROP_NO_ROUTE"),
        ("203.0.113.1", "DROP_BLACKHOLE"),
        ("203.0.113.65", "DROP_UNREACHABLE"),
        ("203.0.113.129", "DROP_PROHIBITED"),
    ],
)
def test_where_there_is_no_way(bench: Bench, destination: str, expected: str) -> None:
    """Row 8. A blackhole is silent: it does not even go to the slow path."""
    packet = datagram(destination=destination)
    fate = bench.forward([Arrival(ETHERNET + packet)], ETH0)
    assert fate.answers == [Answer(expected, ETHERNET + packet)]
    assert fate.slow == ([] if expected == "DROP_BLACKHOLE" else [0])


# --- Addresses --------------------------------------------------------------------------------------------------------

MARTIANS = {
    "0/8 as source": ("0.1.2.3", FAR, "DROP_MARTIAN_SOURCE"),
    "the unspecified address as source": ("0.0.0.0", FAR, "DROP_MARTIAN_SOURCE"),
    "loopback as source": ("127.0.0.1", FAR, "DROP_MARTIAN_SOURCE"),
    "multicast as source": ("224.0.0.5", FAR, "DROP_MARTIAN_SOURCE"),
    "class E as source": ("240.0.0.1", FAR, "DROP_MARTIAN_SOURCE"),
    "broadcast as source": ("255.255.255.255", FAR, "DROP_MARTIAN_SOURCE"),
    "an own address as source": ("10.0.0.1", FAR, "DROP_MARTIAN_SOURCE"),
    "another own address as source": ("10.0.1.1", FAR, "DROP_MARTIAN_SOURCE"),
    "an own address as source, to the router": ("10.0.0.1", "10.0.1.1", "DROP_MARTIAN_SOURCE"),
    "a directed broadcast as source": ("10.0.1.255", FAR, "DROP_MARTIAN_SOURCE"),
    "loopback as source, to the router": ("127.0.0.1", "10.0.0.1", "DROP_MARTIAN_SOURCE"),
    "0/8 as destination": ("10.0.0.2", "0.0.0.1", "DROP_MARTIAN_DESTINATION"),
    "loopback as destination": ("10.0.0.2", "127.0.0.1", "DROP_MARTIAN_DESTINATION"),
    "class E as destination, in spite of a route": ("10.0.0.2", "240.1.2.3", "DROP_MARTIAN_DESTINATION"),
    "the last but one address": ("10.0.0.2", "255.255.255.254", "DROP_MARTIAN_DESTINATION"),
    "link-local source": ("169.254.1.1", FAR, "DROP_LINK_LOCAL"),
    "link-local destination, in spite of a route": ("10.0.0.2", "169.254.1.1", "DROP_LINK_LOCAL"),
}


@pytest.mark.parametrize(("source", "destination", "expected"), MARTIANS.values(), ids=MARTIANS)
def test_addresses_that_are_not_forwarded(bench: Bench, source: str, destination: str, expected: str) -> None:
    """Rows 29 and 30."""
    fate = bench.forward([Arrival(ETHERNET + datagram(source, destination))], ETH0)
    assert fate.counters == {expected: 1, "TAKEN": 1}


def test_an_echo_request_from_an_own_address_is_not_answered(bench: Bench) -> None:
    echo = bytes.fromhex("0800 f7ff 00000000")
    assert verdict(bench, datagram("10.0.0.1", "10.0.1.1", protocol=ICMP, payload=echo)) == "DROP_MARTIAN_SOURCE"


@pytest.mark.parametrize("destination", ["1.0.0.0", "126.255.255.255", "128.0.0.0", "223.255.255.255"])
def test_the_addresses_beside_the_martians_are_good_ones(bench: Bench, destination: str) -> None:
    assert verdict(bench, datagram("10.0.0.2", destination)) == "DROP_NO_ROUTE"
    assert verdict(bench, datagram(destination, FAR)) == "FORWARDED"


@pytest.mark.parametrize("packet_type", [HOST, BROADCAST, MULTICAST])
@pytest.mark.parametrize("destination", ["255.255.255.255", "224.0.0.1", "224.0.0.5", "239.1.2.3"])
def test_groups_are_the_kernels_and_never_forwarded(bench: Bench, destination: str, packet_type: int) -> None:
    """Row 27."""
    assert verdict(bench, datagram(destination=destination, ttl=1), packet_type) == "LOCAL_GROUP"


def test_a_host_without_an_address_may_ask_for_one(bench: Bench) -> None:
    assert verdict(bench, datagram("0.0.0.0", "255.255.255.255"), BROADCAST) == "LOCAL_GROUP"


@pytest.mark.parametrize("destination", ["10.0.1.255", "10.0.0.255"])
@pytest.mark.parametrize("ttl", [64, 1])
def test_a_directed_broadcast_is_not_forwarded_and_no_error_tells_of_it(
    bench: Bench, destination: str, ttl: int
) -> None:
    """Row 28, and RFC 1812 section 4.3.2.7: it does not go to the slow path, whatever its TTL."""
    fate = bench.forward([Arrival(ETHERNET + datagram(destination=destination, ttl=ttl))], ETH0)
    assert fate.counters == {"DROP_DIRECTED_BROADCAST": 1, "TAKEN": 1}
    assert fate.slow == []


def test_a_broadcast_on_its_own_link_is_the_kernels(bench: Bench) -> None:
    assert verdict(bench, datagram(destination="10.0.0.255"), BROADCAST) == "LOCAL_GROUP"


@pytest.mark.parametrize("packet_type", [BROADCAST, MULTICAST, 77])
@pytest.mark.parametrize("destination", [FAR, "10.0.1.77", "100.64.0.1", "203.0.113.1"])
def test_unicast_in_a_link_layer_broadcast_is_not_forwarded(bench: Bench, destination: str, packet_type: int) -> None:
    """Row 25, and no error about it: 4.3.2.7."""
    fate = bench.forward([Arrival(ETHERNET + datagram(destination=destination, ttl=1), packet_type)], ETH0)
    assert fate.counters == {"DROP_LINK_BROADCAST": 1, "TAKEN": 1}


# --- To the router ----------------------------------------------------------------------------------------------------

TO_ROUTER = {
    "echo request": (ICMP, "0800 f7ff 00000000", 0, HOST, "ECHO_ANSWERED"),
    "echo request that may not be fragmented": (ICMP, "0800 f7ff 00000000", DF, HOST, "ECHO_ANSWERED"),
    "echo request to all stations": (ICMP, "0800 f7ff 00000000", 0, BROADCAST, "LOCAL"),
    "echo reply": (ICMP, "0000 ffff 00000000", 0, HOST, "LOCAL"),
    "unknown type 200": (ICMP, "c800 37ff 00000000", 0, HOST, "LOCAL"),
    "first fragment of an echo request": (ICMP, "0800 f7ff 00000000", 0x2000, HOST, "WAITING"),
    "last fragment of an echo request": (ICMP, "0800 f7ff 00000000", 1, HOST, "WAITING"),
    "fragment that is to all stations": (ICMP, "0800 f7ff 00000000", 1, BROADCAST, "LOCAL"),
    "fragment of UDP": (UDP, "0800 f7ff 00000000", 0x2000, HOST, "LOCAL"),
    "7 bytes of ICMP": (ICMP, "0800 f7ff 000000", 0, HOST, "LOCAL"),
    "TCP": (TCP, "00" * 20, 0, HOST, "LOCAL"),
    "UDP that begins like an echo request": (UDP, "0800 f7ff 00000000", 0, HOST, "LOCAL"),
    "OSPF": (89, "00" * 24, 0, HOST, "LOCAL"),
}


@pytest.mark.parametrize(("protocol", "payload", "word", "packet_type", "expected"), TO_ROUTER.values(), ids=TO_ROUTER)
def test_what_is_for_the_router(
    bench: Bench, protocol: int, payload: str, word: int, packet_type: int, expected: str
) -> None:
    packet = datagram(destination="10.0.0.1", protocol=protocol, payload=bytes.fromhex(payload), word=word)
    answer = bench.one(ETHERNET + packet + bytes(10), ETH0, packet_type)
    assert answer == Answer(expected, ETHERNET + packet)


@pytest.mark.parametrize("icmp_type", [0, 3, 5, 8, 11, 200])
def test_icmp_in_transit_is_forwarded_whatever_its_type(bench: Bench, icmp_type: int) -> None:
    """Row 23."""
    assert verdict(bench, datagram(protocol=ICMP, payload=bytes((icmp_type,)) + bytes(7))) == "FORWARDED"


# --- Header fields ----------------------------------------------------------------------------------------------------


def test_dscp_and_ecn_pass_untouched(bench: Bench) -> None:
    """Row 33: all 256 values."""
    fate = bench.forward([Arrival(ETHERNET + datagram(tos=tos)) for tos in range(256)], ETH0)
    assert [answer.frame[15] for answer in fate.answers] == list(range(256))
    assert {answer.verdict for answer in fate.answers} == {"FORWARDED"}


OPTIONS = {
    "no operation": ("01010100", "FORWARDED"),
    "router alert": ("94040000", "FORWARDED"),
    "record route": ("0707040000000000", "OPTIONS_FILLED"),
    "timestamp": ("4408050000000000", "OPTIONS_FILLED"),
    "record route behind no operations": ("0101010101070300", "OPTIONS_FILLED"),
    "record route behind the end": ("0007030400000000", "FORWARDED"),
    "no operation and end": ("01010100", "FORWARDED"),
    "no length": ("010101d9", "OPTIONS_FILLED"),  # the slow path tells the sender what is wrong
    "length 1": ("d9010000", "OPTIONS_FILLED"),
    "length beyond the header": ("d9050000", "OPTIONS_FILLED"),
    "source route behind a malformed option": ("d9010083 07040000", "OPTIONS_FILLED"),
    "unknown": ("d9040000", "FORWARDED"),
    "loose source route": ("8307040a00010100", "DROP_SOURCE_ROUTED"),
    "strict source route": ("8907040a00010100", "DROP_SOURCE_ROUTED"),
    "source route that is used up": ("8307080a00010100", "DROP_SOURCE_ROUTED"),
    "source route behind others": ("01 0703 04 830704 0a000101 00".replace(" ", ""), "DROP_SOURCE_ROUTED"),
    "source route behind the end": ("00830704", "FORWARDED"),
    "source route inside another option": ("4408050083070400", "OPTIONS_FILLED"),
    "source route inside an unknown option": ("d908050083070400", "FORWARDED"),
    "source route type in the last byte": ("01010183", "DROP_SOURCE_ROUTED"),
}


@pytest.mark.parametrize(("options", "expected"), OPTIONS.values(), ids=OPTIONS)
def test_options(bench: Bench, options: str, expected: str) -> None:
    """Row 32: unknown options pass, source routes do not (RFC 7126)."""
    packet = datagram(options=bytes.fromhex(options))
    answer = bench.one(ETHERNET + packet, ETH0)
    assert answer.verdict == expected
    assert answer.frame[34 : 34 + len(options) // 2] == bytes.fromhex(options)


def test_a_source_route_that_names_the_router_is_not_followed_either(bench: Bench) -> None:
    """The router is the destination until a source route is used up: RFC 791 section 3.1."""
    assert verdict(bench, datagram(destination="10.0.0.1", options=bytes.fromhex("8307040a00010900"))) == (
        "DROP_SOURCE_ROUTED"
    )


# --- Checksum ---------------------------------------------------------------------------------------------------------


def with_header_checksum(wanted: int) -> bytes:
    """A datagram whose identification is such that its header's checksum is `wanted`."""
    blank = datagram()
    # Ones' complement: the identification takes up what is missing.
    missing = (checksum_field(blank) - wanted) % 0xFFFF
    packet = datagram(identification=missing)
    assert checksum_field(packet) == wanted
    return packet


def checksum_field(packet: bytes) -> int:
    return int.from_bytes(packet[10:12], "big")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (0xFEFE, 0xFFFE),
        (0xFEFF, 0x0000),  # and not 0xFFFF, which RFC 1141 would give: RFC 1624 section 2
        (0xFF00, 0x0001),
        (0xFFFE, 0x00FF),
        (0x0000, 0x0100),
        (0x0001, 0x0101),
        (0x1234, 0x1334),
    ],
)
def test_the_checksum_round_zero(bench: Bench, before: int, after: int) -> None:
    answer = bench.one(ETHERNET + with_header_checksum(before), ETH0)
    assert answer.verdict == "FORWARDED"
    assert checksum_field(answer.frame[14:]) == after
    assert checksum(answer.frame[14:34]) == 0


def test_a_checksum_of_ones_says_the_same_as_zero(bench: Bench) -> None:
    packet = with_header_checksum(0)
    answer = bench.one(ETHERNET + packet[:10] + b"\xff\xff" + packet[12:], ETH0)
    assert answer.verdict == "FORWARDED"
    assert checksum_field(answer.frame[14:]) == 0x0100


def test_the_checksum_of_every_ttl_and_protocol(bench: Bench) -> None:
    """Row 4: against a sum over the whole header, made anew."""
    for protocol in range(0, 256, 5):
        packets = [datagram(ttl=ttl, protocol=protocol, identification=ttl * 251) for ttl in range(2, 256)]
        for packet, answer in zip(
            packets, bench.forward([Arrival(ETHERNET + packet) for packet in packets], ETH0).answers, strict=True
        ):
            expected = with_checksum(packet[:8] + bytes((packet[8] - 1,)) + packet[9:])
            assert answer.frame == GATEWAY_MAC + ETH1_MAC + b"\x08\x00" + expected
