"""Record route and timestamp: RFC 791 section 3.1, byte by byte."""

import pytest

from services.forwarder.options import Malformed, Stamp, fill, for_echo_reply, milliseconds_since_midnight, parse

OWN = 0x0A000001  # 10.0.0.1
OTHER = 0x0A000101  # 10.0.1.1
NOON = 43_200_000  # 02932e00
HERE = Stamp(OWN, NOON, {OWN, OTHER}.__contains__)
THERE = Stamp(OTHER, NOON + 1, {OWN, OTHER}.__contains__)

FILLED = {
    "none": ("", ""),
    "no operations": ("01 01 01 00", "01 01 01 00"),
    "unknown": ("d9 04 12 34", "d9 04 12 34"),
    "router alert": ("94 04 00 00", "94 04 00 00"),
    "security": ("82 0b 0000 0000 0000 000000 00", "82 0b 0000 0000 0000 000000 00"),
    "record route, first": ("07 0b 04 00000000 00000000 00", "07 0b 08 0a000001 00000000 00"),
    "record route, second": ("07 0b 08 c0a80101 00000000 00", "07 0b 0c c0a80101 0a000001 00"),
    "record route, full": ("07 0b 0c c0a80101 c0a80102 00", "07 0b 0c c0a80101 c0a80102 00"),
    "record route, no room from the start": ("07 03 04 00", "07 03 04 00"),
    "record route behind others": ("01 94 04 00 00 07 07 04 00000000", "01 94 04 00 00 07 07 08 0a000001"),
    "record route behind the end": ("00 07 07 04 00000000", "00 07 07 04 00000000"),
    "record route inside another": ("d9 08 07 07 04 000000", "d9 08 07 07 04 000000"),
    "times": ("44 0c 05 00 00000000 00000000", "44 0c 09 00 02932e00 00000000"),
    "times, second": ("44 0c 09 00 00000001 00000000", "44 0c 0d 00 00000001 02932e00"),
    "times, full": ("44 08 09 00 00000001", "44 08 09 10 00000001"),
    "times, full, the fifteenth": ("44 08 09 e0 00000001", "44 08 09 f0 00000001"),
    "addresses and times": ("44 0c 05 01 00000000 00000000", "44 0c 0d 01 0a000001 02932e00"),
    "addresses and times, full": ("44 0c 0d 21 0a000009 00000001", "44 0c 0d 31 0a000009 00000001"),
    "prespecified, asked": ("44 0c 05 03 0a000101 00000000", "44 0c 0d 03 0a000101 02932e00"),
    "prespecified, another is asked": ("44 0c 05 03 0a000009 00000000", "44 0c 05 03 0a000009 00000000"),
    "prespecified, all have answered": ("44 0c 0d f3 0a000009 00000001", "44 0c 0d f3 0a000009 00000001"),
    "a flag that there is not": ("44 08 05 02 00000000", "44 08 05 02 00000000"),
    "both": ("07 07 04 00000000 44 08 05 00 00000000 00", "07 07 08 0a000001 44 08 09 00 02932e00 00"),
}


@pytest.mark.parametrize(("before", "after"), FILLED.values(), ids=FILLED)
def test_filling(before: str, after: str) -> None:
    assert fill(bytes.fromhex(before), HERE) == bytes.fromhex(after)


MALFORMED = {
    "no length": ("010101d9", 23),
    "length 0": ("01d90000", 21),
    "length 1": ("d9010000", 20),
    "beyond the header": ("01d90400", 21),
    "record route without a pointer": ("07020000", 21),
    "record route, pointer 3": ("0707030000000000", 22),
    "record route, pointer 0": ("01070700 00000000", 23),
    "record route, room for three bytes": ("0706040000000000", 22),
    "record route, room for one byte": ("07080800000000ff", 22),
    "record route twice": ("07070800000000 07070800000000 0000", 27),
    "timestamp of three bytes": ("44030500", 21),
    "timestamp, pointer 4": ("4408040000000000", 22),
    "timestamp, room for three bytes": ("4407050000000000", 22),
    "timestamp, no room for the time": ("44080501000000000000 0000", 22),
    "prespecified, no room for the time": ("44080503 0a000001", 22),
    "prespecified, no room for the address": ("44060503 0a000000", 22),
    "timestamp, sixteen found no room": ("440809f000000001", 23),
    "timestamp twice": ("44080900000000014408090000000001", 28),
    "behind one that is filled": ("07070400000000 d9", 27),
}


@pytest.mark.parametrize(("options", "pointer"), MALFORMED.values(), ids=MALFORMED)
def test_the_byte_that_is_wrong_is_named(options: str, pointer: int) -> None:
    """RFC 792: the pointer counts from the datagram's first byte, and options begin at byte 20."""
    assert fill(bytes.fromhex(options), HERE) == Malformed(pointer)


def test_all_bytes_give_options_of_the_same_length_or_an_error() -> None:
    for kind in (7, 68, 217):
        for length in range(16):
            for pointer in range(16):
                for flag in (0x00, 0x01, 0x03, 0xF0, 0xF1, 0x09):
                    options = bytes((kind, length, pointer, flag)) + bytes(8)
                    filled = fill(options, HERE)
                    if isinstance(filled, Malformed):
                        assert 20 <= filled.pointer < 32
                    else:
                        assert len(filled) == 12


def test_the_list_ends_at_the_end_or_at_a_malformed_option() -> None:
    assert parse(bytes.fromhex("01 d903ff 9404ffff 00 ff")) == (
        [(1, bytes.fromhex("d903ff")), (4, bytes.fromhex("9404ffff"))],
        None,
    )
    assert parse(bytes.fromhex("d903ff ff")) == ([(0, bytes.fromhex("d903ff"))], 3)


REPLIES = {
    "none": ("01010100", ""),
    "what says nothing to the sender is left out": ("94040000 d9040000", ""),
    "record route": ("07 0f 04 00000000 00000000 00000000 00", "07 0f 0c 0a000001 0a000101 00000000 00"),
    "record route with room for one": ("07 0b 08 c0a80101 00000000 00", "07 0b 0c c0a80101 0a000001 00"),
    "record route without room": ("07 07 08 c0a80101 00", "07 07 08 c0a80101 00"),
    "record route with room for one and a half": ("07 0a 04 00000000 ffffff 0000", "07 0a 08 0a000001 ffffff 0000"),
    "times": ("44 0c 05 00 00000000 00000000", "44 0c 0d 00 02932e00 02932e01"),
    "times with room for one": ("44 08 05 00 00000000", "44 08 09 00 02932e00"),
    "times without room": ("44 08 09 00 00000001", "44 08 09 10 00000001"),
    "both asked": (
        "44 14 05 03 0a000001 00000000 0a000101 00000000",
        "44 14 15 03 0a000001 02932e00 0a000101 02932e01",
    ),
}


@pytest.mark.parametrize(("request_options", "expected"), REPLIES.values(), ids=REPLIES)
def test_the_options_of_an_echo_reply(request_options: str, expected: str) -> None:
    """RFC 1122 section 3.2.2.6; twice in it as Linux is: when the request comes, and when the reply leaves."""
    options = bytes.fromhex(request_options.ljust(8, "0"))
    reply = for_echo_reply(options, HERE, THERE)
    assert isinstance(reply, bytes)
    wanted = bytes.fromhex(expected)
    assert reply == wanted + bytes(-len(wanted) % 4)


def test_a_request_with_malformed_options_has_no_reply() -> None:
    assert for_echo_reply(bytes.fromhex("07070300 00000000"), HERE, THERE) == Malformed(22)


@pytest.mark.parametrize(
    ("unix_time_s", "expected"), [(0.0, 0), (0.25, 250), (86_399.999, 86_399_999), (86_400.0, 0), (1e9, 6_400_000)]
)
def test_milliseconds_since_midnight(unix_time_s: float, expected: int) -> None:
    """1,000,000,000 s is 2001-09-09 01:46:40 UT."""
    assert milliseconds_since_midnight(unix_time_s) == expected
