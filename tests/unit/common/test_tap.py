"""The tap: records through the ring, its bounds, clients that go, and files that are something else."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.common.tap import (
    AREA_SIZE,
    HEAD,
    HEADER_WORDS,
    INSTRUCTIONS,
    LARGEST_RECORD_BYTES,
    MAX_TAPS,
    RECEIVED,
    SENT,
    TAIL,
    Record,
    Tap,
    TapError,
    TapFolder,
    TapReader,
    Wish,
)

AREA = LARGEST_RECORD_BYTES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "taps" / "forwarder"


@pytest.fixture
def reader(folder: Path) -> Iterator[TapReader]:
    made = TapReader(folder, "one", Wish(RECEIVED | SENT), AREA)
    yield made
    made.close()


def record(number: int, length: int = 60, interface: int = 3) -> Record:
    return Record(0, RECEIVED, number, interface, length, 0, data=bytes([number % 256]) * length)


def set_word(path: Path, word: int, value: int) -> None:
    with path.open("r+b") as file:
        file.seek(word * 8)
        file.write(struct.pack("=q", value))


def test_records_come_out_as_they_went_in(folder: Path, reader: TapReader) -> None:
    tap = Tap(folder / "one.tap")
    assert reader.attached == os.getpid()
    for number in range(5):
        tap.write(record(number, 60 + number)._replace(verdict=4, next_hop=2**32 - 1, gso_size=1448))
    taken = reader.take(3) + reader.take(99)
    assert [one.data for one in taken] == [bytes([number]) * (60 + number) for number in range(5)]
    assert {(one.verdict, one.next_hop, one.gso_size, one.interface) for one in taken} == {(4, 2**32 - 1, 1448, 3)}
    assert [(one.length, one.captured) for one in taken] == [(60 + number, 60 + number) for number in range(5)]


@pytest.mark.parametrize("length", [1, 60, 1514, 65_549])
def test_records_go_round_the_end_of_the_ring_whole(folder: Path, reader: TapReader, length: int) -> None:
    tap = Tap(folder / "one.tap")
    for number in range(3 * AREA // (length + 137)):
        tap.write(record(number, length))
        (one,) = reader.take(9)
        assert (one.time_ns, one.data) == (number, bytes([number % 256]) * length)
    assert reader.missed() == {}


def test_what_finds_no_room_is_missed_and_counted_by_interface(folder: Path, reader: TapReader) -> None:
    tap = Tap(folder / "one.tap")
    for number in range(1000):
        tap.write(record(number, 1000, interface=number % 2))
    taken = reader.take(10_000)
    missed = reader.missed()
    assert [one.time_ns for one in taken] == list(range(len(taken)))
    assert 0 < len(taken) < 1000
    assert len(taken) + sum(missed.values()) == 1000
    assert set(missed) == {0, 1}
    tap.write(record(7))
    assert [one.time_ns for one in reader.take(9)] == [7], "and it goes on"


def test_a_wish_names_kinds_and_interface_and_bytes(folder: Path) -> None:
    reader = TapReader(folder, "two", Wish(SENT, interface=5, snap=20), AREA)
    tap = Tap(folder / "two.tap")
    assert [tap.wants(kind, index) for kind, index in ((SENT, 5), (RECEIVED, 5), (SENT, 6))] == [True, False, False]
    tap.write(record(1, 60))
    (one,) = reader.take(9)
    assert (one.length, one.captured, len(one.data)) == (60, 20, 20)
    reader.close()


class TestFolder:
    def test_taps_come_and_go(self, folder: Path) -> None:
        taps = TapFolder(folder)
        assert not taps.refresh(), "there is not even a folder"
        reader = TapReader(folder, "one", Wish(SENT), AREA)
        assert taps.refresh()
        assert [tap.name for tap in taps.taps] == ["one.tap"]
        assert not taps.refresh()
        reader.close()
        assert taps.refresh()
        assert taps.taps == []

    def test_a_client_that_was_killed_leaves_nothing(self, folder: Path) -> None:
        """The lock goes with the process that held it: a child that makes a tap and ends without a word."""
        if (child := os.fork()) == 0:
            TapReader(folder, "one", Wish(SENT), AREA)
            os._exit(0)
        os.waitpid(child, 0)
        assert (folder / "one.tap").exists()
        taps = TapFolder(folder)
        taps.refresh()
        assert taps.taps == []
        assert not (folder / "one.tap").exists()

    def test_no_more_than_so_many(self, folder: Path) -> None:
        readers = [TapReader(folder, str(number), Wish(SENT), AREA) for number in range(MAX_TAPS + 1)]
        taps = TapFolder(folder)
        taps.refresh()
        assert sum(1 for reader in readers if reader.attached) == len(taps.taps) == MAX_TAPS
        for reader in readers:
            reader.close()

    @pytest.mark.parametrize("content", [b"", bytes(100), bytes(2**18), os.urandom(2**18)])
    def test_another_file_is_left_alone(self, folder: Path, content: bytes) -> None:
        folder.mkdir(parents=True)
        (folder / "x.tap").write_bytes(content)
        taps = TapFolder(folder)
        assert not taps.refresh()


@pytest.mark.parametrize(
    ("word", "value"),
    [(AREA_SIZE, 64), (AREA_SIZE, AREA + 1), (INSTRUCTIONS, 1000), (HEAD, 1), (HEAD, -64), (TAIL, 64), (HEAD, 2**40)],
)
def test_a_header_that_contradicts_itself_is_refused(folder: Path, reader: TapReader, word: int, value: int) -> None:
    set_word(folder / "one.tap", word, value)
    with pytest.raises(TapError):
        Tap(folder / "one.tap")


def test_a_program_that_would_not_end_is_refused(folder: Path) -> None:
    reader = TapReader(folder, "loop", Wish(SENT, program=[(0, 1, 0, 1, 0, 0)]), AREA)
    with pytest.raises(TapError):
        Tap(folder / "loop.tap")
    reader.close()


@pytest.mark.parametrize("tail", [-(2**40), 2**40, 64])
def test_a_client_that_lies_about_its_position_harms_nobody(folder: Path, reader: TapReader, tail: int) -> None:
    tap = Tap(folder / "one.tap")
    set_word(folder / "one.tap", TAIL, tail)
    for number in range(10):
        tap.write(record(number))
    assert sum(reader.missed().values()) == 10


@pytest.mark.parametrize(("at", "value"), [(0, 0), (0, -64), (0, 63), (0, 2**40)])
def test_a_record_that_makes_no_sense_is_an_error_for_its_reader(
    folder: Path, reader: TapReader, at: int, value: int
) -> None:
    Tap(folder / "one.tap").write(record(1))
    set_word(folder / "one.tap", HEADER_WORDS + at, value)
    with pytest.raises(TapError):
        reader.take(1)
