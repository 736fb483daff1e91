"""Row 32: IP options. Row 33: the type of service."""

import struct
import time

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.packet import Packet

from conformance.datagrams import (
    PARAMETER_PROBLEM,
    after_hop,
    carries,
    carries_any,
    checksum,
    icmp_about,
    icmp_error,
    ip_bytes,
    next_identification,
    with_checksum,
)
from conformance.network import Network

OUTGOING = bytes((10, 0, 2, 1))
"""The router's address on h2's link: a router gives that of the interface it sends on (RFC 1812 section 4.2.2.2)."""
DAY_MS = 86_400_000


def _with_options(net: Network, options: bytes, destination: str | None = None) -> Packet:
    """Return a datagram from h1 to h2 with these options, padded to 32 bits, by hand."""
    padded = options.ljust(-(-len(options) // 4) * 4, b"\0")
    plain = bytes(net.udp(dst=destination))
    head = bytes((0x45 + len(padded) // 4,)) + plain[1:2] + (len(plain) + len(padded)).to_bytes(2, "big")
    return IP(with_checksum(head + plain[4:20] + padded + plain[20:]))


def _options_out(net: Network, options: bytes) -> bytes:
    """Send a datagram with options and return those that come out; all else must be as after any hop."""
    datagram = _with_options(net, options)
    out = ip_bytes(net.forwarded(datagram))
    end = 20 + -(-len(options) // 4) * 4
    plain = after_hop(datagram)
    assert checksum(out[:end]) == 0
    assert (out[:10], out[12:20], out[end:]) == (plain[:10], plain[12:20], plain[end:])
    return out[20 : 20 + len(options)]


@pytest.mark.parametrize(
    "option",
    [
        b"\x01\x01\x01\x01",
        b"\x01\x01\x01\x00",
        b"\x00\xff\xff\xff",
        b"\x94\x04\x00\x00",
        b"\x1e\x04\xab\xcd",
        b"\x9e\x08abcdef",
        b"\xde\x02\x01\x00",
    ],
    ids=[
        "no_operation",
        "end",
        "bytes_after_the_end",
        "router_alert",
        "experiment",
        "copied_experiment",
        "empty_experiment",
    ],
)
def test_row_32_options_pass(net: Network, option: bytes) -> None:
    assert _options_out(net, option)[: 4 if option[0] else 1] == option[: 4 if option[0] else 1]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"\x07\x0b\x04" + bytes(8), b"\x07\x0b\x08" + OUTGOING + bytes(4)),
        (b"\x07\x0b\x08\x0a\x09\x09\x09" + bytes(4), b"\x07\x0b\x0c\x0a\x09\x09\x09" + OUTGOING),
        (b"\x07\x07\x08\x0a\x09\x09\x09", b"\x07\x07\x08\x0a\x09\x09\x09"),
        (b"\x01\x07\x07\x04" + bytes(4), b"\x01\x07\x07\x08" + OUTGOING),
    ],
    ids=["empty", "half_full", "full", "behind_another"],
)
def test_row_32_record_route_is_filled_in(net: Network, before: bytes, after: bytes) -> None:
    assert _options_out(net, before) == after


def _is_now(stamp: bytes) -> bool:
    """Tell whether four bytes are the milliseconds since midnight UT of about now."""
    (value,) = struct.unpack("!I", stamp)
    now = int(time.time() * 1000) % DAY_MS
    return min((value - now) % DAY_MS, (now - value) % DAY_MS) < 60_000


def test_row_32_timestamp_is_filled_in(net: Network) -> None:
    out = _options_out(net, b"\x44\x0c\x05\x00" + bytes(8))
    assert out[:4] == b"\x44\x0c\x09\x00"
    assert _is_now(out[4:8])
    assert out[8:] == bytes(4)


@pytest.mark.linux_differs("Linux gives the address of the interface that it came in by, against RFC 1812 4.2.2.2")
def test_row_32_timestamp_with_addresses_is_filled_in(net: Network) -> None:
    out = _options_out(net, b"\x44\x0c\x05\x01" + bytes(8))
    assert out[:8] == b"\x44\x0c\x0d\x01" + OUTGOING
    assert _is_now(out[8:12])


def test_row_32_timestamp_for_another_router_stays_empty(net: Network) -> None:
    option = b"\x44\x0c\x05\x03\x0a\x09\x09\x09" + bytes(4)
    assert _options_out(net, option) == option


def test_row_32_timestamp_that_asks_for_this_router(net: Network) -> None:
    out = _options_out(net, b"\x44\x0c\x05\x03" + OUTGOING + bytes(4))
    assert out[:8] == b"\x44\x0c\x0d\x03" + OUTGOING
    assert _is_now(out[8:12])


def test_row_32_full_timestamp_counts_the_overflow(net: Network) -> None:
    assert _options_out(net, b"\x44\x08\x09\x20" + b"\1\2\3\4") == b"\x44\x08\x09\x30" + b"\1\2\3\4"


@pytest.mark.parametrize("kind", [0x83, 0x89], ids=["loose", "strict"])
@pytest.mark.parametrize("pointer", [4, 8], ids=["to_do", "done"])
def test_row_32_source_routes_are_dropped(net: Network, kind: int, pointer: int) -> None:
    datagram = _with_options(net, bytes((kind, 7, pointer)) + bytes((172, 19, 0, 1)))
    with net.router.counted(DROP_SOURCE_ROUTED=1):
        net.h1.send_ip(datagram)
        net.flush()
    assert [frame for frame in net.heard_anywhere(carries(datagram)) if not icmp_error(bytes(frame))] == []


def test_row_32_source_route_with_the_router_as_its_hop_is_dropped(net: Network) -> None:
    datagram = _with_options(net, b"\x83\x07\x04" + bytes((172, 19, 0, 1)), net.h1.gateway)
    net.h1.send_ip(datagram)
    net.flush()
    assert net.h3.heard(lambda frame: frame[18:20] == bytes(datagram)[4:6]) == []


@pytest.mark.parametrize(
    ("options", "pointer"),
    [
        (b"\x07\x28\x04\x00", 20),
        (b"\x07\x02\x04\x00", 21),
        (b"\x07\x07\x03" + bytes(4), 22),
        (b"\x01\x44\x08\x04\x00" + bytes(4), 23),
        (b"\x44\x28\x05\x00", 20),
        (b"\x44\x08\x09\xf0" + bytes(4), 23),
        (b"\x1e\x00\x00\x00", 20),
        (b"\x1e\x08\x00\x00", 20),
    ],
    ids=[
        "record_route_beyond_the_header",
        "record_route_too_short",
        "record_route_pointer_below_4",
        "timestamp_pointer_below_5",
        "timestamp_beyond_the_header",
        "timestamp_overflow_overflows",
        "length_0",
        "length_beyond_the_header",
    ],
)
def test_row_32_malformed_option_is_a_parameter_problem(net: Network, options: bytes, pointer: int) -> None:
    """RFC 792: the pointer names the octet where the error was found: the option's or one of its fields'."""
    datagram = _with_options(net, options)
    net.h1.send_ip(datagram)
    (error,) = net.h1.wait_to_hear("parameter problem", icmp_about(datagram, PARAMETER_PROBLEM))
    assert pointer <= error[ICMP].ptr <= pointer + 2 or 20 <= error[ICMP].ptr <= pointer
    assert len(net.heard_anywhere(lambda frame: icmp_error(frame) or carries(datagram)(frame))) == 1


def test_row_32_malformed_options_to_the_router_too(net: Network) -> None:
    datagram = _with_options(net, b"\x07\x28\x04\x00", net.h1.gateway)
    net.h1.send_ip(datagram)
    net.h1.wait_to_hear("parameter problem", icmp_about(datagram, PARAMETER_PROBLEM))


def test_row_33_dscp_and_ecn_are_untouched(net: Network) -> None:
    datagrams = [bytes(net.udp(tos=tos)) for tos in range(256)]
    for datagram in datagrams:
        net.h1.send_ip(datagram)
    net.h2.wait_to_hear("all of them", carries_any(datagrams), len(datagrams))
    assert [ip_bytes(frame) for frame in net.h2.heard(carries_any(datagrams))] == [after_hop(one) for one in datagrams]


@pytest.mark.parametrize("tos", [0x03, 0xFF])
def test_row_33_fragments_keep_them_too(net: Network, tos: int) -> None:
    datagram = net.udp(size=1400, tos=tos, id=next_identification())
    with net.router.mtu("eth1", 1280):
        net.h1.send_ip(datagram)
        fragments = net.h2.wait_to_hear("both fragments", carries(datagram), 2)
    assert [frame[IP].tos for frame in fragments] == [tos, tos]
