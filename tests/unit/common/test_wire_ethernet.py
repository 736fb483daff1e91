"""Ethernet headers by hand."""

from services.common.wire import ethernet

FRAME = bytes.fromhex("02000000000b 02000000000a 0800 4500")


def test_header() -> None:
    destination, source = bytes.fromhex("02000000000b"), bytes.fromhex("02000000000a")
    assert ethernet.header(destination, source, 0x0800) == FRAME[:14]


def test_ethertype() -> None:
    assert ethernet.ethertype_of(FRAME) == 0x0800
    assert ethernet.ethertype_of(bytes(12) + b"\x08\x06") == 0x0806


def test_group_bit_is_the_first_on_the_wire() -> None:
    assert ethernet.is_group(b"\xff" * 6)
    assert ethernet.is_group(bytes.fromhex("01005e000001"))  # 224.0.0.1, RFC 1112 section 6.4
    assert ethernet.is_group(bytes.fromhex("33330000000a"))
    assert not ethernet.is_group(bytes.fromhex("02000000000a"))
    assert not ethernet.is_group(bytes.fromhex("fe0000000001"))


def test_mac_text() -> None:
    assert ethernet.mac_text(bytes.fromhex("02000000000a")) == "02:00:00:00:00:0a"
