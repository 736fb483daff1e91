"""ICMP messages of the probes, against bytes put together by hand from RFC 792."""

from ipaddress import IPv4Address

import pytest

from services.launcher.probes.icmp import Damaged, EchoReply, IcmpError, echo_request, error_name, parse

# identifier 0x1234, sequence number 1, payload "abcd"
REQUEST = bytes.fromhex("0800 2104 1234 0001 61626364")
REPLY = bytes.fromhex("0000 2904 1234 0001 61626364")

# 32 bytes in all, TTL 62, from 192.168.0.2 to 192.168.1.2; the kernel checks this checksum, and we do not
FROM_HOST2 = bytes.fromhex("45000020 00000000 3e010000 c0a80002 c0a80102")
# 56 bytes in all, TTL 64, from 192.168.1.1 to 192.168.1.2
FROM_ROUTER = bytes.fromhex("45c00038 00000000 40010000 c0a80101 c0a80102")

# what an error quotes: the header of a datagram from 192.168.1.2 to 192.168.0.2, and 8 bytes of the request
QUOTE = bytes.fromhex("45000020 12344000 01010000 c0a80102 c0a80002 0800 2104 1234 0001")
TIME_EXCEEDED = bytes.fromhex("0b00 9f1b 0000 0000") + QUOTE
FRAGMENTATION_NEEDED = bytes.fromhex("0304 a217 0000 0500") + QUOTE  # MTU 0x500

HOST2 = IPv4Address("192.168.0.2")
ROUTER = IPv4Address("192.168.1.1")


def test_echo_request() -> None:
    assert echo_request(0x1234, 1, b"abcd") == REQUEST


def test_echo_reply() -> None:
    assert parse(FROM_HOST2 + REPLY) == EchoReply(HOST2, 62, 0x1234, 1, b"abcd")


def test_reply_behind_ip_options() -> None:
    with_options = bytes.fromhex("46000024 00000000 3e010000 c0a80002 c0a80102 01010101")
    assert parse(with_options + REPLY) == EchoReply(HOST2, 62, 0x1234, 1, b"abcd")


def test_time_exceeded() -> None:
    assert parse(FROM_ROUTER + TIME_EXCEEDED) == IcmpError(ROUTER, 11, 0, None, HOST2, 0x1234, 1)


def test_fragmentation_needed_tells_the_mtu() -> None:
    assert parse(FROM_ROUTER + FRAGMENTATION_NEEDED) == IcmpError(ROUTER, 3, 4, 1280, HOST2, 0x1234, 1)


@pytest.mark.parametrize("index", range(len(REPLY)))
def test_any_flipped_bit_is_damage(index: int) -> None:
    broken = bytearray(REPLY)
    broken[index] ^= 0x10
    assert parse(FROM_HOST2 + broken) == Damaged(HOST2)


def test_truncated_message_is_damage() -> None:
    assert parse(FROM_HOST2 + REPLY[:7]) == Damaged(HOST2)


def test_somebody_elses_echo_request() -> None:
    assert parse(FROM_HOST2 + REQUEST) is None


@pytest.mark.parametrize(
    "message",
    [
        "0b00 9f0b 0000 0000 45000020 12344000 01110000 c0a80102 c0a80002 0800 2104 1234 0001",  # about UDP
        "0b00 a71b 0000 0000 45000020 12344000 01010000 c0a80102 c0a80002 0000 2104 1234 0001",  # about a reply
        "0b00 9dab 0000 0000 45000020 1234",  # a quote that ends inside the header
        "0b00 b150 0000 0000 45000020 12344000 01010000 c0a80102 c0a80002 0800 2104",  # or inside the ICMP header
    ],
)
def test_error_about_something_else(message: str) -> None:
    assert parse(FROM_ROUTER + bytes.fromhex(message)) is None


def test_error_names() -> None:
    assert error_name(3, 0) == "network unreachable"
    assert error_name(3, 4) == "fragmentation needed"
    assert error_name(11, 0) == "time exceeded"
    assert error_name(3, 99) == "ICMP type 3 code 99"
