"""A hash table in flat arrays: 64-bit keys, open addressing with linear probing, no tombstones.

Keys are positive; 0 marks a free place. A table is used by kernels through `find`, and kept at most half full.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from services.common.kernels import inlined, kernel

_MULTIPLIER: Final = np.uint64(0x9E37_79B9_7F4A_7C15)  # 2**64 / golden ratio: Knuth, TAOCP 3, section 6.4
ABSENT: Final = -1

Keys = npt.NDArray[np.int64]
Values = npt.NDArray[np.int32]


@inlined
def _home(keys: Any, key: int) -> Any:
    mixed = np.uint64(key) * _MULTIPLIER
    return np.int64((mixed >> np.uint64(32)) & np.uint64(keys.shape[0] - 1))


@inlined
def find(keys: Any, key: int) -> Any:
    """Return the place of `key` in the table, or ABSENT."""
    place = _home(keys, key)
    while keys[place] != 0:
        if keys[place] == key:
            return place
        place = (place + 1) & (keys.shape[0] - 1)
    return ABSENT


@inlined
def put(keys: Any, values: Any, key: int, value: Any) -> bool:
    """Set `key`; true when it is new. There must be a free place."""
    place = _home(keys, key)
    while keys[place] != 0:
        if keys[place] == key:
            values[place] = value
            return False
        place = (place + 1) & (keys.shape[0] - 1)
    keys[place] = key
    values[place] = value
    return True


@inlined
def remove(keys: Any, values: Any, key: int) -> bool:
    """Take `key` out, closing the gap in its probe sequence; true when it was there."""
    gap = find(keys, key)
    if gap == ABSENT:
        return False
    mask = keys.shape[0] - 1
    place = gap
    while True:
        place = (place + 1) & mask
        if keys[place] == 0:
            break
        home = _home(keys, keys[place])
        if (place - home) & mask >= (place - gap) & mask:
            keys[gap] = keys[place]
            values[gap] = values[place]
            gap = place
    keys[gap] = 0
    return True


@kernel("void", "int64[::1]", "int32[::1]", "int64[::1]", "int32[::1]")
def _move(keys: Keys, values: Values, new_keys: Keys, new_values: Values) -> None:
    for place in range(keys.shape[0]):
        if keys[place] != 0:
            put(new_keys, new_values, keys[place], values[place])


@kernel("int64", "int64[::1]", "int64")
def _find(keys: Keys, key: int) -> Any:
    return find(keys, key)


@kernel("boolean", "int64[::1]", "int32[::1]", "int64", "int32")
def _put(keys: Keys, values: Values, key: int, value: int) -> bool:
    return put(keys, values, key, value)


@kernel("boolean", "int64[::1]", "int32[::1]", "int64")
def _remove(keys: Keys, values: Values, key: int) -> bool:
    return remove(keys, values, key)


class HashTable:
    """A growing table. Kernels that call `put` and `remove` on the arrays themselves keep `used` right."""

    def __init__(self, capacity: int = 1024) -> None:
        """Make an empty table; `capacity` is a power of two."""
        self.keys: Keys = np.zeros(capacity, np.int64)
        self.values: Values = np.zeros(capacity, np.int32)
        self.used = 0

    def with_room(self, more: int) -> tuple[Keys, Values]:
        """Return the arrays, or larger ones of the same content, where `more` keys leave them at most half full."""
        capacity = len(self.keys)
        while (self.used + more) * 2 > capacity:
            capacity *= 2
        if capacity == len(self.keys):
            return self.keys, self.values
        keys, values = np.zeros(capacity, np.int64), np.zeros(capacity, np.int32)
        _move(self.keys, self.values, keys, values)
        return keys, values

    def make_room(self, more: int) -> None:
        """Grow until `more` keys can come and the table is still at most half full."""
        self.keys, self.values = self.with_room(more)

    def get(self, key: int) -> int:
        """Return the value of `key`, or ABSENT."""
        place = _find(self.keys, key)
        return ABSENT if place == ABSENT else int(self.values[place])

    def put(self, key: int, value: int) -> None:
        """Set `key` to a value of 0 or more."""
        self.make_room(1)
        self.used += bool(_put(self.keys, self.values, key, value))

    def remove(self, key: int) -> None:
        """Take `key` out, if it is there."""
        self.used -= bool(_remove(self.keys, self.values, key))
