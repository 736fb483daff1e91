"""Control's routes and paths in the shape that the tables want: arrays of records."""

from typing import Final

import numpy as np
import numpy.typing as npt

from services.common.messages import ROUTE_BYTES, MessageError
from services.common.wire import ipv4

MAX_PATHS: Final = 1 << 20
"""A bound on path ids: control numbers them without gaps, and each takes 17 bytes."""

Column = npt.NDArray[np.int64]


def unpack(data: bytes) -> tuple[Column, Column, Column]:
    """Return the prefixes, lengths and path ids of packed routes (see `messages.pack_routes`).

    :raises MessageError: a cut record, a prefix with host bits or a length over 32, a path id out of bounds.
    """
    if len(data) % ROUTE_BYTES:
        raise MessageError("routes: the length is no multiple of a record")
    records = np.frombuffer(data, np.dtype([("prefix", "=u4"), ("length", "u1"), ("path", "=u4")]))
    prefixes, lengths, paths = (records[name].astype(np.int64) for name in ("prefix", "length", "path"))
    hosts = np.int64(0xFFFF_FFFF) >> np.minimum(lengths, 32)
    if (lengths > 32).any() or (prefixes & hosts).any() or (paths >= MAX_PATHS).any():
        raise MessageError("routes: a prefix with host bits, or longer than 32, or a path id out of bounds")
    return prefixes, lengths, paths


def usable_mtu(mtu: int) -> int:
    """Return an MTU that IPv4 can work with: no datagram is longer, and every link carries 68 bytes (RFC 791)."""
    return min(max(mtu, ipv4.MINIMUM_MTU), ipv4.MAX_BYTES)
