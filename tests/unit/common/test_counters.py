"""The counter block: cumulative counts that outlive their process, and what becomes of a damaged file."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from services.common.counters import BY_COLUMN, COLUMNS, DROPS, MAX_INTERFACES, Counter, CounterBlock, Kind
from services.common.errors import HopwireError

HEADER_BYTES = 16
ROW_BYTES = 8 * (COLUMNS + 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "counters" / "forwarder.bin"


def test_every_counter_says_what_it_counts() -> None:
    texts = [counter.text for counter in Counter]
    assert all(text and text == text.strip() for text in texts)
    assert len(set(texts)) == len(texts)


def test_columns_are_the_places_in_the_declaration() -> None:
    # members with one and the same value would be aliases, and share a column
    assert len(Counter.__members__) == COLUMNS
    assert [int(counter) for counter in Counter] == list(range(COLUMNS))
    assert [counter.name for counter in BY_COLUMN] == list(Counter.__members__)


def test_names_say_which_counters_are_drops() -> None:
    assert {counter.name for counter in DROPS} == {name for name in Counter.__members__ if name.startswith("DROP_")}
    assert all(counter.kind is Kind.DROPPED for counter in DROPS)


def test_a_new_block_has_counted_nothing(path: Path) -> None:
    block = CounterBlock(path)
    assert block.snapshot() == {}
    assert block.total(Counter.RX_FRAMES) == 0


def test_add_and_set(path: Path) -> None:
    block = CounterBlock(path)
    block.add(Counter.RX_FRAMES, 3, 7)
    block.add(Counter.RX_FRAMES, 2, 7)
    block.add(Counter.RX_FRAMES, 10, 9)
    block.add(Counter.BAD_MESSAGES)
    block.set(Counter.WAITING, 5, 9)
    block.set(Counter.WAITING, 4, 9)
    assert block.get(Counter.RX_FRAMES, 7) == 5
    assert block.total(Counter.RX_FRAMES) == 15
    assert block.snapshot() == {
        0: {"BAD_MESSAGES": 1},
        7: {"RX_FRAMES": 5},
        9: {"RX_FRAMES": 10, "WAITING": 4},
    }


def test_a_snapshot_names_only_what_was_counted(path: Path) -> None:
    block = CounterBlock(path)
    block.set(Counter.WAITING, 1, 3)
    block.set(Counter.WAITING, 0, 3)
    assert block.snapshot() == {}


def test_counts_outlive_the_process(path: Path) -> None:
    first = CounterBlock(path)
    first.add(Counter.FORWARDED, 11, 5)
    first.add(Counter.FORWARDED, 22, 4)
    first.close()
    second = CounterBlock(path)
    assert second.snapshot() == {5: {"FORWARDED": 11}, 4: {"FORWARDED": 22}}
    second.add(Counter.FORWARDED, 1, 4)
    second.add(Counter.FORWARDED, 1, 6)
    assert second.snapshot() == {5: {"FORWARDED": 11}, 4: {"FORWARDED": 23}, 6: {"FORWARDED": 1}}


def test_the_layout_that_kernels_rely_on(path: Path) -> None:
    block = CounterBlock(path)
    block.add(Counter.RX_BYTES, 0x1122, 42)
    first = block.row(42) * block.row_values
    assert block.values[first] == 42
    assert block.values[first + 1 + Counter.RX_BYTES] == 0x1122
    # and in the file: 16 bytes of header, row 0, then the row of interface 42
    data = path.read_bytes()
    assert struct.unpack_from("=q", data, HEADER_BYTES + ROW_BYTES) == (42,)
    assert struct.unpack_from("=q", data, HEADER_BYTES + ROW_BYTES + 8 + 8 * Counter.RX_BYTES) == (0x1122,)


def test_row_0_when_all_are_taken(path: Path) -> None:
    block = CounterBlock(path)
    rows = [block.row(index) for index in range(1, MAX_INTERFACES + 10)]
    assert rows == list(range(1, MAX_INTERFACES)) + [0] * 10
    block.add(Counter.RX_FRAMES, 1, MAX_INTERFACES + 5)
    assert block.snapshot() == {0: {"RX_FRAMES": 1}}
    block.close()
    assert CounterBlock(path).row(MAX_INTERFACES - 1) == MAX_INTERFACES - 1


@pytest.mark.parametrize("index", [-1, 0x8000_0000, 0xFFFF_FFFF])
def test_no_row_for_an_interface_that_there_cannot_be(path: Path, index: int) -> None:
    block = CounterBlock(path)
    block.add(Counter.DROP_UNKNOWN_INTERFACE, 1, index)
    assert block.snapshot() == {0: {"DROP_UNKNOWN_INTERFACE": 1}}


def write(place: int, value: int) -> Callable[[bytes], bytes]:
    """Return what puts a 64-bit number at a place of the file."""
    return lambda data: data[:place] + struct.pack("=q", value) + data[place + 8 :]


def row(number: int) -> int:
    return HEADER_BYTES + number * ROW_BYTES


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: b"", id="empty"),
        pytest.param(lambda data: data[:100], id="cut"),
        pytest.param(lambda data: data + b"\0", id="too long"),
        pytest.param(lambda data: b"X" + data[1:], id="other magic"),
        pytest.param(write(8, 0x1234_5678), id="other schema"),
        pytest.param(write(row(0), 3), id="row 0 of an interface"),
        pytest.param(write(row(2), 5), id="two rows of one interface"),
        pytest.param(write(row(3), 6), id="a gap in the rows"),
        pytest.param(write(row(2), -6), id="negative interface"),
        pytest.param(write(row(2), 2**31), id="interface out of range"),
        pytest.param(write(row(1) + 16, -1), id="negative count"),
        pytest.param(lambda data: data[:16] + b"\xa5" * (len(data) - 16), id="garbage"),
    ],
)
def test_another_version_or_damage_starts_from_zero(path: Path, damage: Callable[[bytes], bytes]) -> None:
    block = CounterBlock(path)
    block.add(Counter.RX_FRAMES, 3, 5)
    block.close()
    path.write_bytes(damage(path.read_bytes()))
    again = CounterBlock(path)
    assert again.snapshot() == {}
    again.add(Counter.RX_FRAMES, 1, 8)
    again.close()
    assert CounterBlock(path).snapshot() == {8: {"RX_FRAMES": 1}}
    assert [entry.name for entry in path.parent.iterdir()] == ["forwarder.bin"]


def test_a_process_that_still_counts_in_a_replaced_file_lives_on(path: Path) -> None:
    running = CounterBlock(path)
    running.add(Counter.RX_FRAMES, 3, 5)
    running.values[row(2) // 8 - 2] = 5  # damage, as its reader sees it
    assert CounterBlock(path).snapshot() == {}
    running.add(Counter.RX_FRAMES, 1, 5)
    assert running.get(Counter.RX_FRAMES, 5) == 4


def test_one_clear_line_when_it_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "counters").write_text("a file where a folder should be")
    with pytest.raises(HopwireError, match=r"cannot keep counters in .*/counters/arp\.bin: .*check the run directory"):
        CounterBlock(tmp_path / "counters" / "arp.bin")
