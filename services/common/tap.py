"""The tap: a ring by which one service shows the frames that it sees to one client, a capture or a trace.

The client makes a file for each service, `taps/INSTANCE/NAME.tap` in the run directory, and holds it locked (flock(2))
for as long as it wants frames. The service finds the file in its housekeeping, says so in ATTACHED, and writes a record
for each frame that the client wants. It never waits for the client: where the ring is full, the frame is missed and
counted. A file that nobody holds locked any more is taken away, so that a client that was killed costs nothing.

    header   64-bit words in host order: what the client wants, HEAD (the service's position), TAIL (the client's),
             the filter's program, and how many frames were missed, by interface
    area     records, each at a multiple of 64 bytes and in one piece: RECORD_WORDS words, then the frame's bytes

A record whose KIND is PADDING fills up the end of the area. What the other end wrote is checked by both.
"""

import fcntl
import mmap
import os
import struct
from pathlib import Path
from typing import Final, NamedTuple

from services.common.packet_filter import ABSENT, INSTRUCTION_WORDS, MAX_INSTRUCTIONS, Instruction, Program, is_sound

# Words of the header
MAGIC: Final = 0
AREA_SIZE: Final = 1
KINDS: Final = 2
WANTED_INTERFACE: Final = 3
"""Index; 0: all."""
SNAP: Final = 4
INSTRUCTIONS: Final = 5
ATTACHED: Final = 8
"""The process id of the service, once it writes here."""
HEAD: Final = 16
TAIL: Final = 32
MISSED: Final = 48
PROGRAM_AT: Final = 64
MISSED_AT: Final = 1024
"""Pairs of an interface's index and how many of its frames were missed."""
MISSED_PAIRS: Final = 256
HEADER_WORDS: Final = 2048
_HEADER_BYTES: Final = HEADER_WORDS * 8

# Words of a record
BYTES: Final = 0
"""Of the whole record."""
KIND: Final = 1
TIME_NS: Final = 2
"""Unix time: when the kernel received the frame, or when it was sent or dropped."""
INTERFACE: Final = 3
"""Index: that it came in by, or left by; of a drop, that it is counted on."""
LENGTH: Final = 4
"""Of the Ethernet frame."""
CAPTURED: Final = 5
"""Bytes of it in the record."""
VERDICT: Final = 6
"""A column of `Counter`, or ABSENT."""
BATCH_NUMBER: Final = 7
BATCH_FRAMES: Final = 8
OUT_INTERFACE: Final = 9
NEXT_HOP: Final = 10
MTU: Final = 11
HAS_MAC: Final = 12
TAKEN_NS: Final = 13
"""When the forwarder took the batch."""
DECIDED_NS: Final = 14
"""When the verdicts on the batch were known."""
PACKET_TYPE: Final = 15
GSO_SIZE: Final = 16
"""Bytes of each segment, of a super-frame; else 0."""
SOURCE: Final = 17
"""The address that it leaves with where it is translated, and its destination; else 0."""
DESTINATION: Final = 18
RECORD_WORDS: Final = 19
RECORD_BYTES: Final = RECORD_WORDS * 8
ALIGNMENT: Final = 64

# Kinds of records, bits of KINDS
PADDING: Final = 0
RECEIVED: Final = 1
SENT: Final = 2
DROPPED: Final = 4

FULL: Final = -1
MAX_TAPS: Final = 8
"""That a service serves at a time."""
LARGEST_RECORD_BYTES: Final = 128 * 1024
_MAGIC_VALUE: Final = 0x7061_7472_6977_7068  # "hpwirtap"
_WORD: Final = struct.Struct("=q")
_RECORD: Final = struct.Struct(f"={RECORD_WORDS}q")


class Wish(NamedTuple):
    """What a client wants to see."""

    kinds: int
    """RECEIVED | SENT | DROPPED"""
    interface: int = 0
    """Index; 0 for all."""
    program: Program = ()
    snap: int = 1 << 17
    """Bytes of each frame at most."""


class Record(NamedTuple):
    """One frame, as a service saw it: the words of a record in their order, and the frame's bytes."""

    size: int
    kind: int
    time_ns: int
    interface: int
    length: int
    captured: int
    verdict: int = ABSENT
    batch_number: int = 0
    batch_frames: int = 0
    out_interface: int = 0
    next_hop: int = 0
    mtu: int = 0
    has_mac: int = 0
    taken_ns: int = 0
    decided_ns: int = 0
    packet_type: int = 0
    gso_size: int = 0
    source: int = 0
    destination: int = 0
    data: bytes = b""


def record_bytes(captured: int) -> int:
    """Return the bytes of a record with so many bytes of a frame."""
    return (RECORD_BYTES + captured + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


class TapError(ValueError):
    """A file that is no tap of this version, or contradicts itself."""


class TapReader:
    """The client's end. It makes the files, and takes them away."""

    def __init__(self, folder: Path, name: str, wish: Wish, area_bytes: int) -> None:
        """Make a tap for the service whose folder this is.

        :param area_bytes: a multiple of ALIGNMENT that holds the largest record.
        :raises OSError: the run directory is not writable, or full.
        """
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._path = folder / f"{name}.tap"
        fresh = self._path.with_suffix(".new")
        self._descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.posix_fallocate(self._descriptor, 0, _HEADER_BYTES + area_bytes)
            os.pwrite(self._descriptor, _head(wish, area_bytes), 0)
            self._map = mmap.mmap(self._descriptor, _HEADER_BYTES + area_bytes, prot=mmap.PROT_READ)
            fresh.rename(self._path)
        except OSError:
            os.close(self._descriptor)
            fresh.unlink(missing_ok=True)
            raise
        self._area_bytes = area_bytes
        self._tail = 0

    @property
    def attached(self) -> int:
        """The process id of the service that writes here; 0 while there is none."""
        return self._word(ATTACHED)

    def take(self, most: int) -> list[Record]:
        """Return the next records, and give their memory back.

        :raises TapError: the service wrote what makes no sense.
        """
        head = self._word(HEAD)
        if not 0 <= head - self._tail <= self._area_bytes or head % ALIGNMENT:
            raise TapError(f"{self._path}: its positions make no sense")
        records: list[Record] = []
        while self._tail < head and len(records) < most:
            place = self._tail % self._area_bytes
            words = _RECORD.unpack_from(self._map, _HEADER_BYTES + place) if words_fit(place, self._area_bytes) else ()
            size = words[BYTES] if words else self._area_bytes - place
            if size <= 0 or size % ALIGNMENT or place + size > self._area_bytes:
                raise TapError(f"{self._path}: a record makes no sense")
            if words and words[KIND] != PADDING:
                start = _HEADER_BYTES + place + RECORD_BYTES
                captured = max(0, min(words[CAPTURED], size - RECORD_BYTES))
                records.append(Record._make([*words, self._map[start : start + captured]]))
            self._tail += size
        os.pwrite(self._descriptor, _WORD.pack(self._tail), TAIL * 8)
        return records

    def missed(self) -> dict[int, int]:
        """Return how many wanted frames found no room, by interface index."""
        words = struct.unpack(f"={2 * MISSED_PAIRS}q", os.pread(self._descriptor, 2 * MISSED_PAIRS * 8, MISSED_AT * 8))
        return {index: count for index, count in zip(words[::2], words[1::2], strict=True) if count}

    def close(self) -> None:
        """Take the tap away."""
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._map.close()

    def _word(self, place: int) -> int:
        # a system call, not a load from the mapping: what was written before it is seen behind it
        return int(_WORD.unpack(os.pread(self._descriptor, 8, place * 8))[0])


def words_fit(place: int, area_bytes: int) -> bool:
    """Tell whether a record's words lie inside the area: the last 64 bytes may be padding of its own."""
    return place + RECORD_BYTES <= area_bytes


def _head(wish: Wish, area_bytes: int) -> bytes:
    words = [0] * HEADER_WORDS
    words[MAGIC], words[AREA_SIZE] = _MAGIC_VALUE, area_bytes
    words[KINDS], words[WANTED_INTERFACE], words[SNAP] = wish.kinds, wish.interface, wish.snap
    flat = [number for instruction in wish.program for number in instruction]
    words[INSTRUCTIONS] = len(wish.program)
    words[PROGRAM_AT : PROGRAM_AT + len(flat)] = flat
    return struct.pack(f"={HEADER_WORDS}q", *words)


class Tap:
    """The service's end, for Python. Compiled code writes by itself (`observer`), in the same process."""

    def __init__(self, path: Path) -> None:
        """Attach to the tap at `path`.

        :raises TapError: it is no tap of this version, or lies about its size or its program.
        :raises OSError: it is not there any more.
        """
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self.wish, self.area_bytes = _read_head(self._descriptor, path)
            self.memory = mmap.mmap(self._descriptor, _HEADER_BYTES + self.area_bytes)
        except (OSError, TapError):
            os.close(self._descriptor)
            raise
        os.pwrite(self._descriptor, _WORD.pack(os.getpid()), ATTACHED * 8)

    @property
    def name(self) -> str:
        """The file's name."""
        return self._path.name

    def is_held(self) -> bool:
        """Tell whether its client is still there."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False

    def wants(self, kinds: int, interface: int) -> bool:
        """Tell whether the client may want a frame; its filter is another question."""
        return bool(self.wish.kinds & kinds) and self.wish.interface in (0, interface)

    def write(self, record: Record) -> None:
        """Write a record, of which `size` and `captured` are seen to here; it is missed where there is no room."""
        data = record.data[: self.wish.snap]
        size = record_bytes(len(data))
        head, place = self._reserve(size)
        if head == FULL:
            self._count_missed(record.interface)
            return
        words = record._replace(size=size, captured=len(data))[:RECORD_WORDS]
        _RECORD.pack_into(self.memory, _HEADER_BYTES + place, *words)
        start = _HEADER_BYTES + place + RECORD_BYTES
        self.memory[start : start + len(data)] = data
        os.pwrite(self._descriptor, _WORD.pack(head + size), HEAD * 8)

    def close(self, *, remove: bool) -> None:
        """Let go of the file; `remove` takes it away, since its client is gone."""
        if remove:
            self._path.unlink(missing_ok=True)
        else:
            os.pwrite(self._descriptor, _WORD.pack(0), ATTACHED * 8)
        os.close(self._descriptor)

    def _reserve(self, size: int) -> tuple[int, int]:
        """Return the position and place for a record, behind padding where it needs some; FULL where it has no room."""
        head, tail = self._word(HEAD), self._word(TAIL)
        place = head % self.area_bytes
        to_end = self.area_bytes - place
        padding = to_end if to_end < size else 0
        if not 0 <= head - tail <= self.area_bytes - padding - size:
            return FULL, FULL
        if padding:
            if words_fit(place, self.area_bytes):
                _RECORD.pack_into(self.memory, _HEADER_BYTES + place, padding, PADDING, *[0] * (RECORD_WORDS - 2))
            head, place = head + padding, 0
        return head, place

    def _count_missed(self, interface: int) -> None:
        self._put(MISSED, self._word(MISSED) + 1)
        for pair in range(MISSED_PAIRS):
            place = MISSED_AT + 2 * pair
            index, count = self._word(place), self._word(place + 1)
            if index == interface or not count:
                self._put(place, interface)
                self._put(place + 1, count + 1)
                return

    def _word(self, place: int) -> int:
        return int(_WORD.unpack_from(self.memory, place * 8)[0])

    def _put(self, place: int, value: int) -> None:
        _WORD.pack_into(self.memory, place * 8, value)


def _read_head(descriptor: int, path: Path) -> tuple[Wish, int]:
    """Return what a file's client wants, and the bytes of its area; everything in it is checked."""
    head = struct.unpack(f"={HEADER_WORDS}q", os.pread(descriptor, _HEADER_BYTES, 0).ljust(_HEADER_BYTES, b"\0"))
    area_bytes, wish = head[AREA_SIZE], _wish(head)
    if head[MAGIC] != _MAGIC_VALUE or os.fstat(descriptor).st_size != _HEADER_BYTES + area_bytes:
        raise TapError(f"{path} is no tap of this version")
    if area_bytes < LARGEST_RECORD_BYTES or area_bytes % ALIGNMENT or not is_sound(wish.program):
        raise TapError(f"{path}: its size or its filter makes no sense")
    if head[HEAD] % ALIGNMENT or not 0 <= head[HEAD] - head[TAIL] <= area_bytes:
        raise TapError(f"{path}: its positions make no sense")
    return wish, area_bytes


def _wish(head: tuple[int, ...]) -> Wish:
    count = max(0, min(head[INSTRUCTIONS], MAX_INSTRUCTIONS + 1))
    flat = head[PROGRAM_AT : PROGRAM_AT + count * INSTRUCTION_WORDS]
    program: list[Instruction] = [
        (flat[at], flat[at + 1], flat[at + 2], flat[at + 3], flat[at + 4], flat[at + 5])
        for at in range(0, len(flat), INSTRUCTION_WORDS)
    ]
    return Wish(head[KINDS], head[WANTED_INTERFACE], program, max(0, head[SNAP]))


class TapFolder:
    """The taps of one service, as they come and go."""

    def __init__(self, folder: Path) -> None:
        """Attach to nothing yet; call `refresh`."""
        self._folder = folder
        self._changed_ns = 0
        self.taps: list[Tap] = []

    def refresh(self) -> bool:
        """Attach to new taps, let go of those whose client is gone; tell whether anything has changed."""
        gone = [tap for tap in self.taps if not tap.is_held()]
        for tap in gone:
            self.taps.remove(tap)
            tap.close(remove=True)
        try:
            changed_ns = self._folder.stat().st_mtime_ns
        except OSError:
            return bool(gone)
        if changed_ns == self._changed_ns:
            return bool(gone)
        self._changed_ns = changed_ns
        return self._attach() or bool(gone)

    def close(self) -> None:
        """Let go of all."""
        for tap in self.taps:
            tap.close(remove=False)
        self.taps = []

    def _attach(self) -> bool:
        known = {tap.name for tap in self.taps}
        before = len(self.taps)
        for path in sorted(self._folder.glob("*.tap")):
            if path.name in known or len(self.taps) >= MAX_TAPS:
                continue
            try:
                tap = Tap(path)
            except (OSError, TapError):
                continue  # its client waits in vain, and says so
            if tap.is_held():
                self.taps.append(tap)
            else:
                tap.close(remove=True)
        return len(self.taps) != before
