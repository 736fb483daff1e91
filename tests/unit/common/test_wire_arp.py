"""ARP messages typed from captures, and anything at all."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.common.wire import arp
from services.common.wire.arp import ArpMessage
from services.common.wire.errors import WireError

# A Linux host asks for its neighbour, captured on a veth pair
REQUEST = bytes.fromhex("0001 0800 06 04 0001 02000000000a c0a80701 000000000000 c0a80702")
REPLY = bytes.fromhex("0001 0800 06 04 0002 02000000000b c0a80702 02000000000a c0a80701")

MAC_A = bytes.fromhex("02000000000a")
MAC_B = bytes.fromhex("02000000000b")
ADDRESS_A = 0xC0A80701
ADDRESS_B = 0xC0A80702


def test_parse_request() -> None:
    assert arp.parse(REQUEST) == ArpMessage(1, MAC_A, ADDRESS_A, bytes(6), ADDRESS_B)


def test_parse_reply_behind_which_the_frame_is_padded() -> None:
    assert arp.parse(REPLY + b"\xa5" * 18) == ArpMessage(2, MAC_B, ADDRESS_B, MAC_A, ADDRESS_A)


def test_build() -> None:
    assert arp.build(ArpMessage(1, MAC_A, ADDRESS_A, bytes(6), ADDRESS_B)) == REQUEST
    assert arp.build(ArpMessage(2, MAC_B, ADDRESS_B, MAC_A, ADDRESS_A)) == REPLY


@pytest.mark.parametrize(
    ("payload", "rule"),
    [
        (b"", "shorter than 28"),
        (REQUEST[:27], "shorter than 28"),
        (b"\x00\x06" + REQUEST[2:], "hardware"),  # IEEE 802 Networks
        (REQUEST[:4] + b"\x08" + REQUEST[5:], "hardware"),
        (REQUEST[:2] + b"\x86\xdd" + REQUEST[4:], "protocol"),
        (REQUEST[:5] + b"\x10" + REQUEST[6:], "protocol"),
        (REQUEST[:6] + b"\x00\x00" + REQUEST[8:], "operation"),
        (REQUEST[:6] + b"\x00\x03" + REQUEST[8:], "operation"),  # RARP request
        (REQUEST[:6] + b"\x01\x01" + REQUEST[8:], "operation"),
    ],
)
def test_each_rule_broken(payload: bytes, rule: str) -> None:
    with pytest.raises(WireError, match=rule):
        arp.parse(payload)


@given(st.one_of(st.binary(max_size=64), st.binary(min_size=20, max_size=40).map(lambda tail: REQUEST[:7] + tail)))
@example(REQUEST)
@example(REPLY)
def test_any_bytes_parse_or_give_the_one_error(payload: bytes) -> None:
    try:
        message = arp.parse(payload)
    except WireError:
        return
    assert arp.build(message) == payload[:28]
