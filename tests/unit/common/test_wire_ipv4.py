"""The IPv4 header and ICMP messages against captures and headers made by hand."""

import pytest

from services.common.wire import icmp, ipv4
from services.common.wire.ipv4 import Ipv4Header

# UDP from 192.168.0.1 to 192.168.0.199, 115 bytes in all, don't fragment
HEADER = bytes.fromhex("4500 0073 0000 4000 4011 b861 c0a8 0001 c0a8 00c7")
# The last fragment of a datagram with a record route option: 24 bytes of header, offset 185 * 8 bytes
WITH_OPTION = bytes.fromhex("46c0 0020 1c46 00b9 0106 b016 0a00 0001 e000 0002 0100 0000")


def test_parse() -> None:
    assert ipv4.parse(HEADER + b"payload") == Ipv4Header(
        header_length=20,
        tos=0,
        total_length=115,
        identification=0,
        flags_fragment=0x4000,
        ttl=64,
        protocol=17,
        checksum=0xB861,
        source=0xC0A80001,
        destination=0xC0A800C7,
    )


def test_flags_and_offset() -> None:
    header = ipv4.parse(HEADER)
    assert (header.dont_fragment, header.more_fragments, header.fragment_offset) == (True, False, 0)
    middle = ipv4.parse(HEADER[:6] + b"\x3f\xff" + HEADER[8:])
    assert (middle.dont_fragment, middle.more_fragments, middle.fragment_offset) == (False, True, 0x1FFF)
    reserved = ipv4.parse(HEADER[:6] + b"\x80\x00" + HEADER[8:])
    assert (reserved.dont_fragment, reserved.more_fragments, reserved.fragment_offset) == (False, False, 0)


def test_header_length_counts_words() -> None:
    header = ipv4.parse(WITH_OPTION)
    assert (header.header_length, header.total_length, header.fragment_offset) == (24, 32, 185)


def test_build_header() -> None:
    built = ipv4.build_header(0xC0A80001, 0xC0A800C7, 17, 95, flags_fragment=0x4000)
    assert built == HEADER


def test_build_header_with_everything() -> None:
    built = ipv4.build_header(
        0x0A000001,
        0xE0000002,
        6,
        8,
        ttl=1,
        tos=0xC0,
        identification=0x1C46,
        flags_fragment=185,
        options=bytes.fromhex("01000000"),
    )
    assert built == WITH_OPTION


def test_text() -> None:
    assert ipv4.address_text(0xC0A800C7) == "192.168.0.199"
    assert ipv4.address_text(0) == "0.0.0.0"
    assert ipv4.prefix_text(0x0A000000, 8) == "10.0.0.0/8"


@pytest.mark.parametrize(
    ("length", "mask"), [(0, 0), (1, 0x8000_0000), (8, 0xFF00_0000), (31, 0xFFFF_FFFE), (32, 0xFFFF_FFFF)]
)
def test_prefix_mask(length: int, mask: int) -> None:
    assert ipv4.prefix_mask(length) == mask


@pytest.mark.parametrize(
    ("address", "single"),
    [
        (0x00000000, False),
        (0x00FFFFFF, False),
        (0x01000000, True),
        (0x7EFFFFFF, True),
        (0x7F000001, False),
        (0x80000000, True),
        (0xDFFFFFFF, True),
        (0xE0000001, False),
        (0xEFFFFFFF, False),
        (0xF0000000, False),
        (0xFFFFFFFF, False),
    ],
)
def test_what_can_be_one_host(address: int, single: bool) -> None:
    assert ipv4.names_single_host(address) is single


def test_icmp_build() -> None:
    # The echo request of Windows' ping: id 1, sequence number 1, 32 letters; its checksum is 0x4d5a in every capture
    letters = b"abcdefghijklmnopqrstuvwabcdefghi"
    assert icmp.build(8, 0, 0x0001_0001, letters) == bytes.fromhex("0800 4d5a 0001 0001") + letters


def test_icmp_build_with_an_odd_byte() -> None:
    # words 0b00 0000 0000 0000 ff00 sum to 0a01 after the carry
    assert icmp.build(11, 0, 0, b"\xff") == bytes.fromhex("0b00 f5fe 0000 0000 ff")


def test_icmp_errors_are_those_of_rfc_1122() -> None:
    assert {number for number in range(256) if icmp.is_error(number)} == {3, 4, 5, 11, 12}
