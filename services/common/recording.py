"""The flight recorder: the last dropped frames of each reason, kept in a file of the run directory.

A service writes one file, `drops/INSTANCE.bin`, and nobody else does. It holds 64-bit words in host order:

    header       MAGIC, SCHEMA, ROWS; from COLUMNS_AT on, the reason of each row as a column of `Counter`
    row          BEGUN and DONE (how many frames were ever recorded), then KEPT entries; frame n is in entry n % KEPT
    entry        TIME_NS, INTERFACE, LENGTH, CAPTURED, and DATA_BYTES of the frame

The writer moves BEGUN, writes the entry, then moves DONE; whoever reads DONE, the entries, then BEGUN knows which of
them are whole. Compiled code writes through `observer`; this module is for Python, and reads and writes with system
calls (pread(2), pwrite(2)), which come in order on every machine. The frames outlive the process that dropped them.
"""

import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from services.common.counters import BY_COLUMN, DROPS, SCHEMA, Counter
from services.common.errors import HopwireError

KEPT: Final = 64
"""Frames kept of each reason: the last ones."""
DATA_BYTES: Final = 128
"""Of each frame: the headers, with all of IPv4's and TCP's options, and a little more."""

# Words of the header
MAGIC: Final = 0
SCHEMA_AT: Final = 1
ROWS: Final = 2
COLUMNS_AT: Final = 8
HEADER_WORDS: Final = 128
# Words of a row, a cache line
BEGUN: Final = 0
DONE: Final = 1
ROW_HEADER_WORDS: Final = 8
# Words of an entry
TIME_NS: Final = 0
INTERFACE: Final = 1
LENGTH: Final = 2
CAPTURED: Final = 3
DATA: Final = 4
ENTRY_WORDS: Final = DATA + DATA_BYTES // 8
ROW_WORDS: Final = ROW_HEADER_WORDS + KEPT * ENTRY_WORDS

_WORD_BYTES: Final = 8
_MAGIC_VALUE: Final = 0x7064_7269_7770_6F68  # "hopwirdp"
_SCHEMA_VALUE: Final = (SCHEMA ^ (KEPT << 32 | ENTRY_WORDS)) & 0x7FFF_FFFF_FFFF_FFFF
_WORD: Final = struct.Struct("=q")
_ENTRY: Final = struct.Struct(f"=4q{DATA_BYTES}s")


class Dropped(NamedTuple):
    """A frame that was dropped."""

    reason: Counter
    time_ns: int
    """Unix time: when it was received, or when it was dropped where nobody knows that any more."""
    interface: int
    """Index of the interface that it is counted on; 0 for none."""
    length: int
    """Bytes of the Ethernet frame."""
    data: bytes
    """Its first `DATA_BYTES`."""


def row_start(row: int) -> int:
    """Return the word at which a row begins."""
    return HEADER_WORDS + row * ROW_WORDS


class Recording:
    """The writer's end, for Python."""

    def __init__(self, path: Path, reasons: Iterable[Counter] = DROPS) -> None:
        """Open the file at `path`, and go on behind what a predecessor recorded; another version's starts anew.

        :param reasons: those that the service can give.
        :raises HopwireError: the file cannot be made, or there is no room for it.
        """
        self.rows: dict[Counter, int] = {reason: row for row, reason in enumerate(reasons)}
        self.words = HEADER_WORDS + len(self.rows) * ROW_WORDS
        try:
            self._descriptor = self._existing(path)
            if self._descriptor < 0:
                self._descriptor = self._fresh(path)
        except OSError as error:
            raise HopwireError(f"cannot record drops in {path}: {error.strerror}; check the run directory") from error
        for row in self.rows.values():  # a killed predecessor may have begun one
            self._put(row_start(row) + BEGUN, self._get(row_start(row) + DONE))

    def fileno(self) -> int:
        """Return the file's descriptor, for those who map it."""
        return self._descriptor

    def add(self, dropped: Dropped) -> None:
        """Record a frame; one of a reason that this file has no row for is passed over."""
        row = self.rows.get(dropped.reason)
        if row is None:
            return
        start = row_start(row)
        number = self._get(start + DONE)
        self._put(start + BEGUN, number + 1)
        kept = dropped.data[:DATA_BYTES]
        entry = _ENTRY.pack(dropped.time_ns, dropped.interface, dropped.length, len(kept), kept)
        place = start + ROW_HEADER_WORDS + number % KEPT * ENTRY_WORDS
        os.pwrite(self._descriptor, entry, place * _WORD_BYTES)
        self._put(start + DONE, number + 1)

    def close(self) -> None:
        """Close the file; what it holds stays."""
        os.close(self._descriptor)

    def _head(self) -> bytes:
        words = [0] * HEADER_WORDS
        words[MAGIC], words[SCHEMA_AT], words[ROWS] = _MAGIC_VALUE, _SCHEMA_VALUE, len(self.rows)
        words[COLUMNS_AT : COLUMNS_AT + len(self.rows)] = self.rows
        return struct.pack(f"={HEADER_WORDS}q", *words)

    def _existing(self, path: Path) -> int:
        """Open the file at `path`; -1 where there is none of this version."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return -1
        head = self._head()
        if os.fstat(descriptor).st_size == self.words * _WORD_BYTES and os.pread(descriptor, len(head), 0) == head:
            return descriptor
        os.close(descriptor)
        return -1

    def _fresh(self, path: Path) -> int:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        try:
            # on a full tmpfs a hole would end the process by SIGBUS as soon as it records
            os.posix_fallocate(descriptor, 0, self.words * _WORD_BYTES)
            os.pwrite(descriptor, self._head(), 0)
            fresh.rename(path)
        except OSError:
            os.close(descriptor)
            fresh.unlink(missing_ok=True)
            raise
        return descriptor

    def _get(self, word: int) -> int:
        return int(_WORD.unpack(os.pread(self._descriptor, _WORD_BYTES, word * _WORD_BYTES))[0])

    def _put(self, word: int, value: int) -> None:
        os.pwrite(self._descriptor, _WORD.pack(value), word * _WORD_BYTES)


class RecordingError(ValueError):
    """A file that is no recording of this version."""


def read_recording(path: Path) -> list[Dropped]:
    """Return the frames in a file that may be written to at this moment, those of one reason in their order.

    :raises OSError: it is not there, or not readable.
    :raises RecordingError: it is no recording of this version.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        head = _words(descriptor, 0, HEADER_WORDS)
        rows = head[ROWS]
        if head[MAGIC] != _MAGIC_VALUE or head[SCHEMA_AT] != _SCHEMA_VALUE or not 0 <= rows <= len(DROPS):
            raise RecordingError(f"{path} is no recording of this version")
        return [
            dropped
            for row, column in enumerate(head[COLUMNS_AT : COLUMNS_AT + rows])
            for dropped in _read_row(descriptor, row_start(row), BY_COLUMN[column])
        ]
    finally:
        os.close(descriptor)


def _words(descriptor: int, first: int, count: int) -> tuple[int, ...]:
    data = os.pread(descriptor, count * _WORD_BYTES, first * _WORD_BYTES)
    return struct.unpack(f"={count}q", data.ljust(count * _WORD_BYTES, b"\0"))


def _read_row(descriptor: int, start: int, reason: Counter) -> list[Dropped]:
    (done,) = _words(descriptor, start + DONE, 1)
    if not done:
        return []
    entries_bytes = KEPT * ENTRY_WORDS * _WORD_BYTES
    entries = os.pread(descriptor, entries_bytes, (start + ROW_HEADER_WORDS) * _WORD_BYTES).ljust(entries_bytes, b"\0")
    (begun,) = _words(descriptor, start + BEGUN, 1)
    found = []
    for number in range(max(0, begun - KEPT, done - KEPT), done):
        time_ns, interface, length, captured, data = _ENTRY.unpack_from(entries, number % KEPT * _ENTRY.size)
        found.append(Dropped(reason, time_ns, interface, length, data[: max(0, min(captured, DATA_BYTES))]))
    return found
