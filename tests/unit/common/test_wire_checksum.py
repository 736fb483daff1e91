"""The Internet checksum against the RFCs' own figures, and its incremental update against full recomputation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.wire.checksum import internet_checksum, ones_complement_sum, update_checksum

RFC_1071_EXAMPLE = bytes.fromhex("0001 f203 f4f5 f6f7")  # section 3
IPV4_HEADER = bytes.fromhex("4500 0073 0000 4000 4011 b861 c0a8 0001 c0a8 00c7")

words = st.integers(min_value=0, max_value=0xFFFF)


def summed_word_by_word(data: bytes) -> int:
    """RFC 1071 section 4.1, the C program, in Python."""
    total = 0
    for place in range(0, len(data) - 1, 2):
        total += data[place] << 8 | data[place + 1]
    if len(data) % 2:
        total += data[-1] << 8
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_worked_example_of_rfc_1071() -> None:
    assert ones_complement_sum(RFC_1071_EXAMPLE) == 0xDDF2
    assert internet_checksum(RFC_1071_EXAMPLE) == 0x220D


def test_captured_header_sums_to_all_ones() -> None:
    assert ones_complement_sum(IPV4_HEADER) == 0xFFFF
    assert internet_checksum(IPV4_HEADER[:10] + b"\0\0" + IPV4_HEADER[12:]) == 0xB861


@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        (b"", 0xFFFF),
        (b"\0\0\0\0", 0xFFFF),
        (b"\xff\xff", 0x0000),
        (b"\xff\xff\xff\xff", 0x0000),
        (b"\x01", 0xFEFF),  # an odd last byte is the high one of its word
        (b"\x00\x01\x80", 0x7FFE),
    ],
)
def test_edges(data: bytes, checksum: int) -> None:
    assert internet_checksum(data) == checksum


def test_a_sum_can_be_gone_on_from() -> None:
    assert ones_complement_sum(RFC_1071_EXAMPLE[4:], ones_complement_sum(RFC_1071_EXAMPLE[:4])) == 0xDDF2
    assert internet_checksum(b"", 0xDDF2) == 0x220D


@given(st.binary(max_size=200))
def test_agrees_with_the_program_of_rfc_1071(data: bytes) -> None:
    assert ones_complement_sum(data) == summed_word_by_word(data)


def test_the_example_for_which_rfc_1624_replaced_rfc_1141() -> None:
    # section 4: equation 2 gives 0xFFFF here, and a receiver would find the header damaged
    assert update_checksum(0xDD2F, 0x5555, 0x3285) == 0x0000


@pytest.mark.parametrize(
    ("checksum", "old", "new", "updated"),
    [
        (0x0000, 0x0000, 0x0000, 0x0000),
        (0x0000, 0x1234, 0x1234, 0x0000),
        (0xB861, 0x4011, 0x3F11, 0xB961),  # a router's TTL decrement in the captured header
        (0xFEFF, 0x4000, 0x3F00, 0x0000),  # the sum comes to 0xFFFF, which is the zero of a header that is not zero
        (0x0000, 0x3F00, 0x4000, 0xFEFF),
    ],
)
def test_update_edges(checksum: int, old: int, new: int, updated: int) -> None:
    assert update_checksum(checksum, old, new) == updated


@given(st.lists(words, min_size=1, max_size=20), st.data())
def test_update_agrees_with_recomputation(others: list[int], data: st.DataObject) -> None:
    """As any header that is not zero throughout: an IPv4 header begins with its version."""
    others[0] |= 0x4000
    place = data.draw(st.integers(min_value=0, max_value=len(others)))
    old, new = data.draw(words), data.draw(words)

    def header(word: int) -> bytes:
        return b"".join(value.to_bytes(2, "big") for value in [*others[:place], word, *others[place:]])

    before, after = (0xFFFF ^ summed_word_by_word(header(word)) for word in (old, new))
    assert update_checksum(before, old, new) == after
