"""The flight recorder's file: what Python writes and reads, and what it makes of files that are something else."""

import os
import struct
from pathlib import Path

import pytest

from services.common.counters import Counter
from services.common.errors import HopwireError
from services.common.recording import (
    BEGUN,
    DONE,
    Dropped,
    Recording,
    RecordingError,
    read_recording,
    row_start,
)

REASONS = (Counter.DROP_NO_ROUTE, Counter.DROP_TTL_EXCEEDED)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "drops" / "forwarder.bin"


def dropped(number: int, reason: Counter = Counter.DROP_NO_ROUTE, length: int = 60) -> Dropped:
    return Dropped(reason, 1_000_000 + number, 7, length, bytes([number % 256]) * length)


def set_word(path: Path, word: int, value: int) -> None:
    with path.open("r+b") as file:
        file.seek(word * 8)
        file.write(struct.pack("=q", value))


def test_the_last_64_frames_of_each_reason_are_kept_in_their_order(path: Path) -> None:
    recording = Recording(path, REASONS)
    for number in range(100):
        recording.add(dropped(number))
    recording.add(dropped(5, Counter.DROP_TTL_EXCEEDED))
    found = read_recording(path)
    assert [one.time_ns for one in found if one.reason is Counter.DROP_NO_ROUTE] == [
        1_000_000 + number for number in range(36, 100)
    ]
    assert [one for one in found if one.reason is Counter.DROP_TTL_EXCEEDED] == [dropped(5, Counter.DROP_TTL_EXCEEDED)]


def test_of_a_long_frame_the_first_128_bytes_are_kept_and_its_length(path: Path) -> None:
    Recording(path, REASONS).add(dropped(3, length=1514))
    (one,) = read_recording(path)
    assert (one.length, one.data, one.interface) == (1514, bytes([3]) * 128, 7)


def test_frames_outlive_their_process(path: Path) -> None:
    recording = Recording(path, REASONS)
    recording.add(dropped(1))
    recording.close()
    Recording(path, REASONS).add(dropped(2))
    assert [one.time_ns for one in read_recording(path)] == [1_000_001, 1_000_002]


def test_a_reason_without_a_row_is_passed_over(path: Path) -> None:
    recording = Recording(path, REASONS)
    recording.add(dropped(1, Counter.DROP_VLAN))
    assert read_recording(path) == []


def test_other_reasons_mean_a_new_file(path: Path) -> None:
    Recording(path, REASONS).add(dropped(1))
    Recording(path, REASONS[:1])
    assert read_recording(path) == []


def test_an_entry_that_is_being_written_is_left_out(path: Path) -> None:
    recording = Recording(path, REASONS)
    for number in range(64):
        recording.add(dropped(number))
    set_word(path, row_start(0) + BEGUN, 65)  # the 65th goes where the first lay
    assert [one.time_ns - 1_000_000 for one in read_recording(path)] == list(range(1, 64))


def test_what_a_killed_process_had_begun_does_not_count(path: Path) -> None:
    Recording(path, REASONS).add(dropped(1))
    set_word(path, row_start(0) + BEGUN, 2)
    recording = Recording(path, REASONS)
    assert [one.time_ns for one in read_recording(path)] == [1_000_001]
    recording.add(dropped(2))
    assert [one.time_ns for one in read_recording(path)] == [1_000_001, 1_000_002]


@pytest.mark.parametrize(
    "content", [b"", b"x", bytes(2**20), os.urandom(2**20)], ids=["empty", "short", "zero", "random"]
)
def test_another_file_is_refused_by_the_reader_and_replaced_by_the_writer(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(RecordingError):
        read_recording(path)
    Recording(path, REASONS).add(dropped(1))
    assert len(read_recording(path)) == 1


def test_positions_that_make_no_sense_are_read_without_harm(path: Path) -> None:
    Recording(path, REASONS).add(dropped(1))
    for value in (-(2**62), 2**62):
        set_word(path, row_start(0) + DONE, value)
        assert len(read_recording(path)) <= 64


def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "drops").write_text("a file where the folder should be")
    with pytest.raises(HopwireError, match=r"cannot record drops in .*; check the run directory"):
        Recording(tmp_path / "drops" / "x.bin", REASONS)
