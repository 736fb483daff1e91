"""Netlink's framing, on bytes written by hand after netlink(7)."""

import struct

from services.common import netlink


def test_a_request_is_a_header_and_its_payload() -> None:
    assert netlink.message(18, netlink.NLM_F_DUMP, 7, b"abcd") == struct.pack("=IHHII", 20, 18, 0x301, 7, 0) + b"abcd"


def test_attributes_are_padded_to_four_bytes() -> None:
    assert netlink.attribute(3, b"lo\0") == struct.pack("=HH", 7, 3) + b"lo\0\0"
    assert netlink.attribute(3, b"") == struct.pack("=HH", 4, 3)


def test_nested_attributes_are_marked() -> None:
    inside = struct.pack("=HHI", 8, 1, 9)
    assert netlink.nested(4, inside, inside) == struct.pack("=HH", 20, 0x8004) + inside + inside


def test_messages_of_one_datagram_come_one_after_the_other() -> None:
    first = struct.pack("=IHHII", 19, 16, 0x10, 1, 0) + b"abc" + b"\xa5"  # one byte of padding
    second = struct.pack("=IHHIIi", 20, netlink.NLMSG_ERROR, 0, 1, 0, -95)
    found = list(netlink.messages(first + second))
    assert found == [(16, 0x10, b"abc"), (2, 0, struct.pack("=i", -95))]
    assert netlink.error_number(found[1][2]) == 95


def test_attributes_are_found_by_type_without_their_flags() -> None:
    payload = struct.pack("=HH3sxHHI", 7, 3, b"lo\0", 8, 0x8004, 1500)
    assert netlink.attributes(payload) == {3: b"lo\0", 4: struct.pack("=I", 1500)}


def test_a_length_that_cannot_be_does_not_go_round_for_ever() -> None:
    assert list(netlink.messages(bytes(32))) == [(0, 0, b""), (0, 0, b"")]
    assert netlink.attributes(bytes(8)) == {0: b""}
