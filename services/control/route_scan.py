"""Route messages of rtnetlink(7) by the hundred thousand: compiled code finds the destinations, and which messages say
the same about them.

All of a route message but its table and destination goes unread into a blob. Equal blobs mean equal routes: only one
message of each kind is read by `netlink_messages.route_event`, which alone knows what the attributes mean. What is no
ordinary route message, or is malformed, is handed back as it is.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from services.common.kernels import inlined, kernel, record
from services.common.netlink import NLA_TYPE_MASK, NLM_F_DUMP_INTR, header
from services.control.kernel_types import (
    RT_TABLE_DEFAULT,
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    RouteBatch,
    RouteInfo,
)
from services.control.netlink_messages import (
    NLM_F_APPEND,
    NLM_F_REPLACE,
    RTA_DST,
    RTA_TABLE,
    RTM_DELROUTE,
    RTM_F_CLONED,
    RTM_NEWROUTE,
    route_event,
)
from services.control.route_kernels import FIRST, GONE, LAST, REPLACE

Octets = npt.NDArray[np.uint8]

_HEADER_BYTES: Final = 16  # struct nlmsghdr
_ROUTE_HEADER_BYTES: Final = 12  # struct rtmsg
_ATTRIBUTE_BYTES: Final = 4  # struct nlattr
_WORD_ATTRIBUTE_BYTES: Final = 8  # an attribute with 32 bits
_LEAST_BYTES: Final = _HEADER_BYTES + _ROUTE_HEADER_BYTES
_BLOB_HEADER_BYTES: Final = 8  # tos, protocol, scope, type, flags
_AF_INET: Final = 2
_REMEMBERED_BLOBS: Final = 65_536

# Columns of the array of messages
TABLE, KEY, OPERATION, BLOB = range(4)
_COLUMNS: Final = 4


class _Stop(NamedTuple):
    """Where a scan stopped: at a message that it does not understand, or behind the last datagram."""

    datagram: Any
    start: Any
    """Of the message: an offset in the data."""
    routes: Any
    """How many were found."""
    blobs: Any
    """How many different ones there are, those that were known before among them."""
    interrupted: Any
    """Not 0: a message bears NLM_F_DUMP_INTR."""


_STOP: Final = record(_Stop, "int64", "int64", "int64", "int64", "int64")


@inlined
def _u16(data: Any, place: Any) -> Any:
    return np.int64(data[place]) | np.int64(data[place + 1]) << 8


@inlined
def _u32(data: Any, place: Any) -> Any:
    return _u16(data, place) | _u16(data, place + 2) << 16


@inlined
def _be32(data: Any, place: Any) -> Any:
    return (
        np.int64(data[place]) << 24
        | np.int64(data[place + 1]) << 16
        | np.int64(data[place + 2]) << 8
        | np.int64(data[place + 3])
    )


@inlined
def _copy(source: Any, first: Any, count: Any, target: Any, place: Any) -> Any:
    """Copy octets; return the place behind them."""
    for number in range(count):
        target[place + number] = source[first + number]
    return place + count


class _Destination(NamedTuple):
    """What a message says of table and destination, and where its blob ends; -1 for a malformed message."""

    table: Any
    prefix: Any
    blob_end: Any


@inlined
def _split(data: Any, start: Any, end: Any, blobs: Any, blob: Any) -> Any:
    """Copy a message to `blobs` without table and destination, which are returned.

    :param start: of struct rtmsg.
    """
    table: Any = np.int64(data[start + 4])
    prefix: Any = np.int64(0)
    blobs[blob] = data[start + 3]
    blob_end = _copy(data, start + 5, _BLOB_HEADER_BYTES - 1, blobs, blob + 1)
    place = start + _ROUTE_HEADER_BYTES
    while place + _ATTRIBUTE_BYTES <= end:
        length = _u16(data, place)
        kind = _u16(data, place + 2) & NLA_TYPE_MASK
        if length < _ATTRIBUTE_BYTES or place + length > end:
            return _Destination(table, prefix, np.int64(-1))
        if kind in (RTA_DST, RTA_TABLE):
            if length != _WORD_ATTRIBUTE_BYTES:
                return _Destination(table, prefix, np.int64(-1))
            if kind == RTA_DST:
                prefix = _be32(data, place + _ATTRIBUTE_BYTES)
            else:
                number = _u32(data, place + _ATTRIBUTE_BYTES)
                table = number if number != 0 else np.int64(data[start + 4])
        else:
            blob_end = _copy(data, place, length, blobs, blob_end)
        place += (length + 3) & ~3
    return _Destination(table, prefix, blob_end)


@inlined
def _blob_number(blobs: Any, bounds: Any, count: Any, end: Any, slots: Any) -> Any:
    """Return the number of the blob that lies behind the last known one; it is `count` if there was none like it."""
    start = bounds[count]
    mixed = np.uint64(0xCBF2_9CE4_8422_2325)  # FNV-1a, 64 bits
    for place in range(start, end):
        mixed = (mixed ^ np.uint64(blobs[place])) * np.uint64(0x0000_0100_0000_01B3)
    mask = slots.shape[0] - 1
    slot = np.int64(mixed >> np.uint64(20)) & mask
    while slots[slot] != 0:
        other = np.int64(slots[slot]) - 1
        if bounds[other + 1] - bounds[other] == end - start:
            alike = np.int64(0)
            while alike < end - start and blobs[bounds[other] + alike] == blobs[start + alike]:
                alike += 1
            if alike == end - start:
                return other
        slot = (slot + 1) & mask
    slots[slot] = np.int32(count + 1)
    bounds[count + 1] = end
    return count


@inlined
def _operation(kind: Any, flags: Any) -> Any:
    if kind == RTM_DELROUTE:
        return GONE
    if flags & NLM_F_REPLACE:
        return REPLACE
    return LAST if flags & NLM_F_APPEND else FIRST


@kernel(
    _STOP,
    *("uint8[::1]", "int64[:, ::1]", "int64", "int64"),
    *("int64[:, ::1]", "int64", "uint8[::1]", "int64[::1]", "int64[::1]", "int32[::1]"),
)
def _scan(
    data: Any,
    datagrams: Any,
    datagram: int,
    start: int,
    routes: Any,
    blob_count: int,
    blobs: Any,
    blob_bounds: Any,
    examples: Any,
    slots: Any,
) -> Any:
    """Take apart the IPv4 route messages up to the next message of another kind.

    :param datagrams: (datagrams, 2) start and end of each in `data`.
    :param datagram: the first to look into, at the offset `start` in `data`.
    :param routes: (messages, 4) gets a row each route.
    :param blob_count: the known blobs, which lie in `blobs`, between `blob_bounds`.
    :param examples: gets where a message begins that has the blob.
    :param slots: the blobs' hash table, a power of two larger than there will be blobs.
    """
    count = 0
    interrupted = 0
    while datagram < datagrams.shape[0]:
        end = datagrams[datagram, 1]
        while start + _HEADER_BYTES <= end:
            length = _u32(data, start)
            kind = _u16(data, start + 4)
            flags = _u16(data, start + 6)
            interrupted |= flags & NLM_F_DUMP_INTR
            is_route = kind in (RTM_NEWROUTE, RTM_DELROUTE) and length >= _LEAST_BYTES and start + length <= end
            if not is_route:
                return _Stop(datagram, start, count, blob_count, interrupted)
            body = start + _HEADER_BYTES
            next_start = start + ((length + 3) & ~3)
            if data[body] != _AF_INET or _u32(data, body + 8) & RTM_F_CLONED:
                start = next_start
                continue
            found = _split(data, body, start + length, blobs, blob_bounds[blob_count])
            if found.blob_end < 0 or data[body + 1] > 32:
                return _Stop(datagram, start, count, blob_count, interrupted)
            if found.table in (RT_TABLE_LOCAL, RT_TABLE_MAIN, RT_TABLE_DEFAULT):
                number = _blob_number(blobs, blob_bounds, blob_count, found.blob_end, slots)
                if number == blob_count:
                    examples[number] = body
                    blob_count += 1
                routes[count, TABLE] = found.table
                routes[count, KEY] = found.prefix << 8 | data[body + 1]
                routes[count, OPERATION] = _operation(kind, flags)
                routes[count, BLOB] = number
                count += 1
            start = next_start
        datagram += 1
        if datagram < datagrams.shape[0]:
            start = datagrams[datagram, 0]
    return _Stop(datagram, start, count, blob_count, interrupted)


class Message(NamedTuple):
    """A message that is no ordinary one about a route."""

    kind: int
    flags: int
    payload: bytes


class RouteScanner:
    """Reads what datagrams of rtnetlink hold.

    :ivar interrupted: whether a message since this was last set to False said that its dump is no whole.
    """

    def __init__(self) -> None:
        self.interrupted = False
        self._known: dict[bytes, RouteInfo] = {}

    def read(self, data: Octets, datagrams: list[tuple[int, int]]) -> Iterator[RouteBatch | Message]:
        """Yield what the messages say, in order, routes in batches.

        :param datagrams: start and end of each in `data`.
        :raises struct.error: a route has an attribute that cannot be read.
        :raises ValueError: likewise.
        """
        bounds = np.array(datagrams, np.int64).reshape(-1, 2)
        octets = int((bounds[:, 1] - bounds[:, 0]).sum())
        most = octets // _LEAST_BYTES + 1
        routes = np.empty((most, _COLUMNS), np.int64)
        blobs, blob_bounds = np.empty(octets + _BLOB_HEADER_BYTES, np.uint8), np.zeros(most + 1, np.int64)
        examples, slots = np.empty(most, np.int64), np.zeros(2 << most.bit_length(), np.int32)
        infos: list[RouteInfo] = []
        datagram, start = 0, datagrams[0][0] if datagrams else 0
        while datagram < len(bounds):
            stop: _Stop = _scan(data, bounds, datagram, start, routes, len(infos), blobs, blob_bounds, examples, slots)
            self.interrupted = self.interrupted or bool(stop.interrupted)
            for number in range(len(infos), stop.blobs):
                blob = blobs[blob_bounds[number] : blob_bounds[number + 1]].tobytes()
                infos.append(self._info(blob, data, int(examples[number])))
            if stop.routes:
                yield _batch(routes[: stop.routes], infos)
            datagram, start = stop.datagram, stop.start
            if datagram < len(bounds):
                other, start = _message_at(data, start, datagrams[datagram][1])
                yield other

    def _info(self, blob: bytes, data: Octets, body: int) -> RouteInfo:
        """Return what a message says besides table and destination."""
        info = self._known.get(blob)
        if info is None:
            length, _, _ = header(data[body - _HEADER_BYTES : body].tobytes())
            event = route_event(RTM_NEWROUTE, 0, data[body : body - _HEADER_BYTES + length].tobytes())
            assert event is not None
            if len(self._known) >= _REMEMBERED_BLOBS:
                self._known.clear()
            info = self._known[blob] = event.info
        return info


def _batch(routes: npt.NDArray[np.int64], infos: list[RouteInfo]) -> RouteBatch:
    used, which = np.unique(routes[:, BLOB], return_inverse=True)
    return RouteBatch(
        routes[:, TABLE].astype(np.uint8),
        routes[:, KEY].copy(),
        routes[:, OPERATION].astype(np.uint8),
        tuple(infos[number] for number in used.tolist()),
        which.astype(np.int32),
    )


def _message_at(data: Octets, start: int, end: int) -> tuple[Message, int]:
    """Return the message at an offset, as `netlink.messages` would, and where the next one begins."""
    length, kind, flags = header(data[start : start + _HEADER_BYTES].tobytes())
    payload = data[start + _HEADER_BYTES : min(start + length, end)].tobytes()
    return Message(kind, flags, payload), start + (length + 3 & ~3)
