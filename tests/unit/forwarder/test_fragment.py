"""Fragmentation, by the rules of RFC 791 section 3.2: what is put together again is what was cut."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.forwarder.fragment import copied_options, fragment
from tests.oracle.router import checksum, with_checksum

DF, MF, OFFSET = 0x4000, 0x2000, 0x1FFF
ROUTER_ALERT = bytes.fromhex("94040000")  # copied
RECORD_ROUTE = bytes.fromhex("0707040000000000")  # not copied, and its end of list
SECURITY = bytes.fromhex("820b000000000000000000") + b"\x00"  # copied


def datagram(payload: bytes, word: int = 0, options: bytes = b"", tos: int = 0x28) -> bytes:
    head = struct.pack(
        "!BBHHHBBH4s4s",
        0x45 + len(options) // 4,
        tos,
        20 + len(options) + len(payload),
        0xBEEF,
        word,
        17,
        99,
        0,
        bytes((10, 1, 2, 3)),
        bytes((10, 4, 5, 6)),
    )
    return with_checksum(head + options + payload)


def reassembled(parts: list[bytes]) -> tuple[bytes, int, bool]:
    """Put fragments together: their data, the offset of the first in bytes, and whether more must follow."""
    pieces = []
    for part in parts:
        header_bytes = 4 * (part[0] & 15)
        total_length, word = struct.unpack_from("!HxxH", part, 2)
        assert checksum(part[:header_bytes]) == 0
        assert total_length == len(part)
        pieces.append((8 * (word & OFFSET), bool(word & MF), part[header_bytes:]))
    pieces.sort()
    end = pieces[0][0]
    for offset, more, data in pieces:
        assert offset == end, "a gap, or an overlap"
        assert data
        assert not more or len(data) % 8 == 0
        end += len(data)
    assert all(more for _, more, _ in pieces[:-1])
    return b"".join(data for _, _, data in pieces), pieces[0][0], pieces[-1][1]


def test_known_bytes() -> None:
    """60 bytes of data to an MTU of 68: 48 and 12, by hand.

    4528 + 0044 + beef + 2000 + 1163 + 0a01 + 0203 + 0a04 + 0506 = 150cc -> 50cd, inverted af32;
    4528 + 0020 + beef + 0006 + 1163 + 0a01 + 0203 + 0a04 + 0506 = 130ae -> 30af, inverted cf50.
    """
    first, second = fragment(datagram(bytes(range(60))), 68)
    assert first == bytes.fromhex("4528 0044 beef 2000 1163 af32 0a010203 0a040506") + bytes(range(48))
    assert second == bytes.fromhex("4528 0020 beef 0006 1163 cf50 0a010203 0a040506") + bytes(range(48, 60))


OPTIONS = (
    b"",
    ROUTER_ALERT,
    RECORD_ROUTE,
    SECURITY,
    RECORD_ROUTE[:7] + b"\x01" + ROUTER_ALERT,
    SECURITY + b"\x01" * 28,
)


@settings(max_examples=400, derandomize=True, deadline=None)
@given(
    length=st.integers(1, 3000),
    mtu=st.one_of(st.integers(68, 200), st.integers(68, 3100), st.sampled_from((576, 1280, 1500))),
    offset=st.sampled_from((0, 1, 185, 7000)),
    more=st.booleans(),
    keep=st.booleans(),
    options=st.sampled_from(OPTIONS),
)
def test_what_is_put_together_again_is_what_was_cut(
    length: int, mtu: int, offset: int, more: bool, keep: bool, options: bytes
) -> None:
    payload = bytes(number * 31 % 256 for number in range(length // 8 * 8 or 8 if more else length))
    whole = datagram(payload, (MF if more else 0) | (DF if keep else 0) | offset, options)
    parts = fragment(whole, mtu)
    assert all(len(part) <= mtu for part in parts)
    assert reassembled(parts) == (payload, 8 * offset, more)
    for part in parts:
        assert part[1] == 0x28  # TOS
        assert part[4:6] == b"\xbe\xef"
        assert part[6] & 0xC0 == (0x40 if keep else 0)  # DF kept, the reserved bit clear
        assert part[8:10] == whole[8:10]
        assert part[12:20] == whole[12:20]
    # no fragment could have been longer
    for part in parts[:-1]:
        assert len(part) + 8 > mtu
    # cut again, on a link with a smaller MTU, it is still the same
    again = [smaller for part in parts for smaller in fragment(part, max(68, mtu // 3))]
    assert reassembled(again) == (payload, 8 * offset, more)
    assert [len(part) for part in fragment(parts[0], mtu)] == [len(parts[0])]


def test_a_datagram_of_exactly_the_mtu_stays_whole() -> None:
    whole = datagram(bytes(1260), options=ROUTER_ALERT[:0])
    assert fragment(whole, 1280) == [whole]
    assert [len(part) for part in fragment(whole, 1279)] == [20 + 1256, 20 + 4]


def test_the_first_fragment_has_all_options_the_others_those_with_the_copied_flag() -> None:
    options = RECORD_ROUTE[:7] + b"\x01" + ROUTER_ALERT
    first, *others = fragment(datagram(bytes(200), options=options), 84)
    assert first[0] == 0x48
    assert first[20:32] == options
    assert len(others) > 1
    for part in others:
        assert part[0] == 0x46
        assert part[20:24] == ROUTER_ALERT


def test_without_copied_options_later_fragments_have_more_room() -> None:
    parts = fragment(datagram(bytes(100), options=RECORD_ROUTE), 68)
    assert [(part[0], len(part)) for part in parts] == [(0x47, 28 + 40), (0x45, 20 + 48), (0x45, 20 + 12)]


@pytest.mark.parametrize(
    ("options", "copied"),
    [
        ("", ""),
        ("01010101", ""),
        ("00940400", ""),  # behind the end of the list
        ("94040000", "94040000"),
        ("0194040000000000", "94040000"),  # no operations are padding
        ("820b000000000000000000 00", "820b000000000000000000 00"),
        ("8304040a 94040000", "8304040a 94040000"),
        ("07030494 04000000", "94040000"),
        ("94000000", ""),  # a length of 0 would never end
        ("94010000", ""),
        ("94ff0000", ""),  # one that reaches past the header
        ("01010194", ""),  # cut off before its length
        ("9404000007ff0000", "94040000"),  # what was right before it stays
        ("83030494 040000 00", "83030494 04000000"),  # padded
    ],
)
def test_copied_options(options: str, copied: str) -> None:
    assert copied_options(bytes.fromhex(options)) == bytes.fromhex(copied)


def test_bytes_behind_the_datagram_are_not_sent() -> None:
    whole = datagram(bytes(100))
    assert reassembled(fragment(whole + b"padding", 68))[0] == bytes(100)


def test_no_mtu_is_too_small_to_get_on() -> None:
    """Every link carries 68 bytes (RFC 791); with the longest header they hold 8 of data."""
    whole = datagram(bytes(64), options=b"\x82\x28" + bytes(38))
    assert whole[0] == 0x4F
    assert [len(part) for part in fragment(whole, 0)] == [68] * 8
