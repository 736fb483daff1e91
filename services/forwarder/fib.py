"""Longest prefix match: DIR-24-8 (Gupta, Lin, McKeown, "Routing Lookups in Hardware at Memory Access Speeds", 1998).

One table has an entry for each /24, and a block of 256 entries stands behind those that hold longer prefixes. An
entry is 32 bits: whether a block follows, the length of the prefix it came from, and a path (what to do), or the
number of the block. An entry of 0 says that only the default route can match, so that this one never fills the
table; untouched parts of the table take no memory.
"""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from services.common import hash_table
from services.common.hash_table import ABSENT, HashTable
from services.common.kernels import inlined, kernel, record
from services.common.wire.ipv4 import prefix_mask

MAX_PATH: Final = (1 << 24) - 1
NO_PATH: Final = 0

_BLOCK: Final = np.uint32(1 << 31)
_LENGTH_SHIFT: Final = np.uint32(24)
_LENGTH_MASK: Final = np.uint32(0x3F)
_INDEX_MASK: Final = np.uint32(MAX_PATH)
_BLOCK_ENTRIES: Final = 256
_SMALL: Final = 1 << 16
"""Elements of an array that is copied in some ten microseconds."""

Entries = npt.NDArray[np.uint32]


class FibArrays(NamedTuple):
    """What compiled code reads of a FIB."""

    by_24: Entries
    """(2**24,) entries, by the address's first 24 bits."""
    blocks: Entries
    """(blocks * 256,) entries, by block and the address's last 8 bits."""
    default: Entries
    """(1,) the path of 0.0.0.0/0, or NO_PATH."""


FIB: Final = record(FibArrays, "uint32[::1]", "uint32[::1]", "uint32[::1]")


@inlined
def lookup(fib: Any, address: Any) -> Any:
    """Return the path of the longest prefix that holds `address`, or NO_PATH."""
    entry = fib.by_24[address >> 8]
    if entry & _BLOCK:
        entry = fib.blocks[np.int64(entry & _INDEX_MASK) * _BLOCK_ENTRIES + (address & 0xFF)]
    if entry == 0:
        entry = fib.default[0]
    return np.int64(entry & _INDEX_MASK)


@inlined
def _entry(length: int, path: Any) -> Any:
    return np.uint32(path) | np.uint32(length) << _LENGTH_SHIFT if path else np.uint32(0)


@inlined
def _length(entry: Any) -> Any:
    return np.int64((entry >> _LENGTH_SHIFT) & _LENGTH_MASK)


@inlined
def _key(prefix: int, length: int) -> int:
    return prefix << 6 | length | 1 << 40  # bit 40: no key is 0


@inlined
def _paint(entries: Any, first: Any, count: int, length: int, entry: Any, exactly: bool) -> None:
    """Set entries of prefixes up to `length` (or `exactly` of that length) to `entry`."""
    for place in range(first, first + count):
        there = _length(entries[place])
        if there == length if exactly else there <= length:
            entries[place] = entry


@inlined
def _paint_prefix(fib: Any, prefix: int, length: int, entry: Any, exactly: bool) -> None:
    """Do `_paint` for all entries of a prefix of up to 24 bits, blocks included."""
    by_24, blocks = fib.by_24, fib.blocks
    first = prefix >> 8
    for place in range(first, first + (1 << (24 - length))):
        if by_24[place] & _BLOCK:
            start = np.int64(by_24[place] & _INDEX_MASK) * _BLOCK_ENTRIES
            _paint(blocks, start, _BLOCK_ENTRIES, length, entry, exactly)
        else:
            _paint(by_24, place, 1, length, entry, exactly)


@inlined
def _insert(fib: Any, free: Any, prefix: int, length: int, path: int) -> None:
    """Add a prefix of 1 to 32 bits. `free[0]` is the count of free blocks, whose numbers stand behind it."""
    entry = _entry(length, path)
    if length <= 24:
        _paint_prefix(fib, prefix, length, entry, False)
        return
    by_24, blocks = fib.by_24, fib.blocks
    place = prefix >> 8
    if not by_24[place] & _BLOCK:
        block = free[free[0]]
        free[0] -= 1
        start = np.int64(block) * _BLOCK_ENTRIES
        for entry_place in range(start, start + _BLOCK_ENTRIES):
            blocks[entry_place] = by_24[place]
        by_24[place] = _BLOCK | np.uint32(block)
    start = np.int64(by_24[place] & _INDEX_MASK) * _BLOCK_ENTRIES
    _paint(blocks, start + (prefix & 0xFF), 1 << (32 - length), length, entry, False)


@inlined
def _covering_entry(keys: Any, values: Any, prefix: int, length: int) -> Any:
    """Return the entry of the longest shorter prefix, the default route left out."""
    for shorter in range(length - 1, 0, -1):
        place = hash_table.find(keys, _key(prefix & (0xFFFFFFFF << (32 - shorter)), shorter))
        if place != ABSENT:
            return _entry(shorter, np.int64(values[place]))
    return np.uint32(0)


@inlined
def _withdraw(fib: Any, free: Any, prefix: int, length: int, cover: Any) -> None:
    """Replace a prefix's entries by those of `cover`, and free its block when no longer prefix is left in it."""
    if length <= 24:
        _paint_prefix(fib, prefix, length, cover, True)
        return
    by_24, blocks = fib.by_24, fib.blocks
    place = prefix >> 8
    block = np.int64(by_24[place] & _INDEX_MASK)
    start = block * _BLOCK_ENTRIES
    _paint(blocks, start + (prefix & 0xFF), 1 << (32 - length), length, cover, True)
    for entry_place in range(start, start + _BLOCK_ENTRIES):
        if _length(blocks[entry_place]) > 24:
            return
    by_24[place] = blocks[start]
    free[0] += 1
    free[free[0]] = block


@kernel("int64", FIB, "int64[::1]", "int64[::1]", "int32[::1]", "int64[::1]", "int64[::1]", "int64[::1]")
def _apply(fib: Any, free: Any, keys: Any, values: Any, prefixes: Any, lengths: Any, paths: Any) -> int:
    """Carry out changes in order (path NO_PATH withdraws); return by how much the number of prefixes grew."""
    grown = 0
    for number in range(prefixes.shape[0]):
        prefix, length, path = prefixes[number], lengths[number], paths[number]
        key = _key(prefix, length)
        if path != NO_PATH:
            grown += hash_table.put(keys, values, key, np.int32(path))
            if length == 0:
                fib.default[0] = np.uint32(path)
            else:
                _insert(fib, free, prefix, length, path)
        elif hash_table.remove(keys, values, key):
            grown -= 1
            if length == 0:
                fib.default[0] = np.uint32(0)
            else:
                _withdraw(fib, free, prefix, length, _covering_entry(keys, values, prefix, length))
    return grown


@kernel("int64", "int64[::1]", "int64[::1]", "int64[::1]", "int64[::1]")
def _count_new(keys: Any, prefixes: Any, lengths: Any, paths: Any) -> int:
    """Return how many prefixes of changes that `_apply` would add."""
    count = 0
    for number in range(prefixes.shape[0]):
        new = paths[number] != NO_PATH
        count += new and hash_table.find(keys, _key(prefixes[number], lengths[number])) == ABSENT
    return count


@kernel("int64", FIB, "int64")
def _lookup(fib: FibArrays, address: int) -> Any:
    return lookup(fib, address)


@kernel("int64", "int64[::1]", "int64")
def _matched_length(keys: Any, address: int) -> int:
    """Return the length of the longest prefix that holds `address`, or ABSENT."""
    for length in range(32, -1, -1):
        if hash_table.find(keys, _key(address & (0xFFFFFFFF << (32 - length)), length)) != ABSENT:
            return length
    return ABSENT


Column = npt.NDArray[np.int64]


class Room(NamedTuple):
    """Arrays of a FIB with its content, large enough for changes to come."""

    keys: npt.NDArray[np.int64]
    values: npt.NDArray[np.int32]
    blocks: Entries
    free: npt.NDArray[np.int64]


class Fib:
    """A set of prefixes with a path each, and the tables that answer for any address."""

    def __init__(self, expected: int = 0) -> None:
        """Make an empty FIB, with room for the expected number of prefixes."""
        self.arrays = FibArrays(np.zeros(1 << 24, np.uint32), np.zeros(0, np.uint32), np.zeros(1, np.uint32))
        self._free = np.zeros(1, np.int64)
        self._prefixes = HashTable()
        self._prefixes.make_room(expected)

    def __len__(self) -> int:
        """Return the number of prefixes."""
        return self._prefixes.used

    def apply(self, prefixes: Column, lengths: Column, paths: Column) -> None:
        """Carry out changes in order: prefixes without host bits, their lengths, their paths (NO_PATH withdraws)."""
        self.take(self.room(prefixes, lengths, paths))
        self.carry_out(prefixes, lengths, paths)

    def has_room(self, count: int) -> bool:
        """Tell whether so many prefixes can come without large arrays that have to grow."""
        keys, blocks = len(self._prefixes.keys), len(self.arrays.blocks)
        return (keys <= _SMALL or (self._prefixes.used + count) * 2 <= keys) and (
            blocks <= _SMALL or count <= self._free[0]
        )

    def room(self, prefixes: Column, lengths: Column, paths: Column) -> Room:
        """Return the room that changes need, without any effect: another thread may make it, and this one go on."""
        new = len(prefixes)
        if (self._prefixes.used + new) * 2 > len(self._prefixes.keys):
            new = int(_count_new(self._prefixes.keys, prefixes, lengths, paths))
        keys, values = self._prefixes.with_room(new)
        networks = np.unique(prefixes[(lengths > 24) & (paths != NO_PATH)] >> 8)
        missing = int(np.count_nonzero(self.arrays.by_24[networks] & _BLOCK == 0)) - int(self._free[0])
        if missing <= 0:
            return Room(keys, values, self.arrays.blocks, self._free)
        there, count = len(self.arrays.blocks) // _BLOCK_ENTRIES, int(self._free[0])
        more = max(missing, there, 16)
        blocks = np.zeros((there + more) * _BLOCK_ENTRIES, np.uint32)
        blocks[: len(self.arrays.blocks)] = self.arrays.blocks
        free = np.zeros(there + more + 1, np.int64)
        free[1 : count + 1] = self._free[1 : count + 1]
        free[count + 1 : count + more + 1] = np.arange(there, there + more)
        free[0] = count + more
        return Room(keys, values, blocks, free)

    def take(self, room: Room) -> None:
        """Use the room that was made since the last change."""
        self._prefixes.keys, self._prefixes.values = room.keys, room.values
        self._free = room.free
        self.arrays = self.arrays._replace(blocks=room.blocks)

    def carry_out(self, prefixes: Column, lengths: Column, paths: Column) -> None:
        """Do what `apply` does, where there is room."""
        self._prefixes.used += int(
            _apply(self.arrays, self._free, self._prefixes.keys, self._prefixes.values, prefixes, lengths, paths)
        )

    def lookup(self, address: int) -> int:
        """Return the path for an address, or NO_PATH."""
        return int(_lookup(self.arrays, address))

    def matched_prefix(self, address: int) -> tuple[int, int] | None:
        """Return the prefix and its length that `lookup` follows for an address."""
        length = int(_matched_length(self._prefixes.keys, address))
        return None if length == ABSENT else (address & prefix_mask(length), length)
