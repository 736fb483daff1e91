"""The neighbours whose MAC is known, as rows that compiled code reads: what to write over the front of a frame."""

from typing import Final

import numpy as np

from services.common.hash_table import ABSENT, HashTable

REWRITE_BYTES: Final = 12
"""Destination and source MAC, as they lie at the front of a frame."""

Owner = tuple[int, int]
"""Interface index and address."""


class NeighbourRows:
    """The rows, found by interface slot and address.

    :ivar table: a hash table from `slot << 32 | address` to a row.
    :ivar rewrites: (rows, REWRITE_BYTES)
    :ivar used: (rows,) set by each frame that is sent to the neighbour.
    """

    def __init__(self) -> None:
        """Begin without any."""
        self.table = HashTable()
        self.rewrites = np.zeros((64, REWRITE_BYTES), np.uint8)
        self.used = np.zeros(64, np.uint8)
        self._owners: list[Owner | None] = []
        self._free: list[int] = []

    def put(self, slot: int, address: int, rewrite: bytes, owner: Owner | None) -> None:
        """Set a neighbour's row; arp does not know of those without an owner."""
        key = slot << 32 | address
        row = self.table.get(key)
        if row == ABSENT:
            row = self._free.pop() if self._free else len(self._owners)
            if row == len(self._owners):
                self._owners.append(None)
            if row >= len(self.used):
                self.rewrites = np.concatenate([self.rewrites, np.zeros_like(self.rewrites)])
                self.used = np.concatenate([self.used, np.zeros_like(self.used)])
            self.table.put(key, row)
        self._owners[row] = owner
        self.rewrites[row] = np.frombuffer(rewrite, np.uint8)

    def remove(self, slot: int, address: int) -> None:
        """Forget a neighbour, where it is known."""
        key = slot << 32 | address
        row = self.table.get(key)
        if row != ABSENT:
            self.table.remove(key)
            self._owners[row] = None
            self.used[row] = 0
            self._free.append(row)

    def use(self, slot: int, address: int) -> bytes | None:
        """Return the rewrite of a neighbour, which counts as used, or None while it is not known."""
        row = self.table.get(slot << 32 | address)
        if row == ABSENT:
            return None
        self.used[row] = 1
        rewrite: bytes = self.rewrites[row].tobytes()
        return rewrite

    def mac(self, row: int) -> bytes:
        """Return the neighbour's MAC."""
        return self.rewrites[row, :6].tobytes()

    def owned(self) -> list[tuple[Owner, bytes]]:
        """Return owner and MAC of each neighbour that has one."""
        return [(owner, self.mac(row)) for row, owner in enumerate(self._owners) if owner is not None]

    def take_used(self) -> list[Owner]:
        """Return the owners of the rows that were used since the last call."""
        rows = np.flatnonzero(self.used).tolist()
        self.used[:] = 0
        return [owner for row in rows if row < len(self._owners) and (owner := self._owners[row]) is not None]
