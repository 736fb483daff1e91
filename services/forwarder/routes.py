"""Control's routes and paths in the shape that the tables want: arrays of records."""

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from services.common.messages import ROUTE_BYTES, ROUTE_DTYPE, MessageError, RouterState
from services.common.wire import ipv4
from services.forwarder.fib import NO_PATH, Column, Fib, Room
from services.forwarder.paths import Groups

MAX_PATHS: Final = 1 << 20
"""A bound on path ids: control numbers them without gaps, and each takes 17 bytes."""

PIECE_COST: Final = 2048
"""Routes of a piece, each with what it paints of the table: a fraction of a millisecond."""
_ENTRIES_A_COST: Final = 512


class PackedRoutes:
    """Routes as control packed them (see `messages.pack_routes`), whole and in pieces that take little time each.

    :ivar paths: (routes,) their path ids; 0 withdraws.
    :ivar pieces: the bounds of the pieces: (pieces + 1,).
    """

    def __init__(self, data: bytes) -> None:
        """Check the records.

        :raises MessageError: a cut record, a prefix with host bits or a length over 32, a path id out of bounds.
        """
        if len(data) % ROUTE_BYTES:
            raise MessageError("routes: the length is no multiple of a record")
        self._records = np.frombuffer(data, ROUTE_DTYPE)
        lengths = self._records["length"]
        self.paths = self._records["path"]
        hosts = np.uint64(0xFFFF_FFFF) >> np.minimum(lengths, 32).astype(np.uint64)
        if (lengths > 32).any() or (self._records["prefix"] & hosts).any() or (self.paths >= MAX_PATHS).any():
            raise MessageError("routes: a prefix with host bits, or longer than 32, or a path id out of bounds")
        costs = _COSTS[lengths].cumsum() // PIECE_COST
        self.pieces = [0, *(np.flatnonzero(np.diff(costs)) + 1).tolist(), len(costs)] if len(costs) else [0]

    def __len__(self) -> int:
        """Return the number of routes."""
        return len(self._records)

    def columns(self, first: int = 0, end: int | None = None) -> tuple[Column, Column, Column]:
        """Return prefixes, lengths and path ids of some."""
        some = self._records[first:end]
        return some["prefix"].astype(np.int64), some["length"].astype(np.int64), some["path"].astype(np.int64)


_COSTS: Final = 1 + np.array([0, *((1 << max(0, 24 - length)) // _ENTRIES_A_COST for length in range(1, 33))], np.int64)


class RouterUpdate(NamedTuple):
    """A state of control that is ready to be taken over."""

    state: RouterState
    routes: PackedRoutes
    slots: Mapping[int, int]
    """The interfaces' slots, by index."""
    groups: Groups
    fib: Fib | None
    """Of a snapshot: the whole FIB."""
    room: Room | None
    """Of a change: the room that it needs in the FIB."""

    @property
    def pieces(self) -> int:
        """How many pieces its routes come in."""
        return 0 if self.fib is not None else len(self.routes.pieces) - 1


def check_paths(routes: PackedRoutes, state: RouterState, kinds: npt.NDArray[np.uint8]) -> None:
    """Check that each path that a state's routes use is in it, or known already.

    :param kinds: (paths,) of the known ones; 0 for none.
    :raises MessageError: it is not.
    """
    described = [path.id for path in state.paths]
    known = np.zeros(max(len(kinds), *described, int(routes.paths.max(initial=0))) + 1, np.bool_)
    if not state.full:
        known[: len(kinds)] = kinds != 0
    known[[NO_PATH, *described]] = True
    if not known[routes.paths].all():
        raise MessageError("routes: a path that nobody has described")


def usable_mtu(mtu: int) -> int:
    """Return an MTU that IPv4 can work with: no datagram is longer, and every link carries 68 bytes (RFC 791)."""
    return min(max(mtu, ipv4.MINIMUM_MTU), ipv4.MAX_BYTES)
