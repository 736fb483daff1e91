"""pcapng blocks against bytes written down from the specification, on a little-endian machine."""

import sys

import pytest

from services.common.pcapng import (
    Direction,
    enhanced_packet,
    interface_description,
    interface_statistics,
    section_header,
)

pytestmark = pytest.mark.skipif(sys.byteorder != "little", reason="the bytes are those of a little-endian machine")


def test_section_header() -> None:
    assert section_header("hw") == bytes.fromhex(
        "0a0d0d0a 28000000 4d3c2b1a 0100 0000 ffffffffffffffff"
        "0400 0200 68770000"  # shb_userappl "hw"
        "0000 0000 28000000"
    )


def test_interface_description() -> None:
    assert interface_description("eth0", bytes.fromhex("020000000001")) == bytes.fromhex(
        "01000000 34000000 0100 0000 00000000"
        "0200 0400 65746830"  # if_name "eth0"
        "0900 0100 09000000"  # if_tsresol: nanoseconds
        "0600 0600 020000000001 0000"  # if_MACaddr
        "0000 0000 34000000"
    )


def test_enhanced_packet() -> None:
    block = enhanced_packet(1, 0x1122334455667788, b"\xaa\xbb\xcc\xdd\xee", 60, Direction.INBOUND, "why")
    assert block == bytes.fromhex(
        "06000000 3c000000 01000000 44332211 88776655 05000000 3c000000"
        "aabbccddee 000000"
        "0100 0300 77687900"  # opt_comment "why"
        "0200 0400 01000000"  # epb_flags: inbound
        "0000 0000 3c000000"
    )


def test_enhanced_packet_without_a_comment() -> None:
    block = enhanced_packet(0, 1, b"\x01\x02\x03\x04", 4, Direction.OUTBOUND)
    assert block == bytes.fromhex(
        "06000000 30000000 00000000 00000000 01000000 04000000 04000000 010203040200 0400 02000000 0000 0000 30000000"
    )


def test_interface_statistics() -> None:
    block = interface_statistics(2, 0x100000002, 0x300000004, delivered=10, dropped=3)
    assert block == bytes.fromhex(
        "05000000 58000000 02000000 03000000 04000000"
        "0200 0800 01000000 02000000"  # isb_starttime
        "0300 0800 03000000 04000000"  # isb_endtime
        "0500 0800 0300000000000000"  # isb_ifdrop
        "0600 0800 0d00000000000000"  # isb_filteraccept
        "0800 0800 0a00000000000000"  # isb_usrdeliv
        "0000 0000 58000000"
    )
