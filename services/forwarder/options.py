"""The options of the IPv4 header: record route and timestamp, RFC 791 section 3.1, pure.

Where the RFC leaves something open, this does what Linux does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from services.common.wire import ipv4

_TYPE: Final = 0  # byte offsets in an option
_LENGTH: Final = 1
_POINTER: Final = 2
_OVERFLOW_FLAG: Final = 3  # of a timestamp: how many found no room, and which flag
_ROUTE_DATA: Final = 3
_TIMESTAMP_DATA: Final = 4

_TIME_ONLY: Final = 0  # flags of a timestamp
_ADDRESS_AND_TIME: Final = 1
_PRESPECIFIED: Final = 3
_MAX_OVERFLOW: Final = 15
_DAY_MS: Final = 86_400_000


class Option(NamedTuple):
    """One option of more than a byte."""

    place: int
    """Bytes from the first option's begin."""
    data: bytes
    """Type and length first."""


@dataclass(frozen=True)
class Malformed:
    """Options that break their format."""

    pointer: int
    """The byte of the datagram where it shows: what an ICMP parameter problem names (RFC 792)."""


@dataclass(frozen=True)
class Stamp:
    """What a router writes into options."""

    address: int
    time_ms: int
    """Since midnight UT."""
    is_own: Callable[[int], bool]
    """Tells whether an address is the router's."""


def milliseconds_since_midnight(unix_time_s: float) -> int:
    """Return the time of a timestamp option from seconds since 1970, UT."""
    return int(unix_time_s * 1000) % _DAY_MS


def parse(options: bytes) -> tuple[list[Option], int | None]:
    """Return the options up to the end or to the first malformed one, and the latter's place."""
    found: list[Option] = []
    place = 0
    while place < len(options) and options[place] != ipv4.OPTION_END:
        if options[place] == ipv4.OPTION_NOP:
            place += 1
            continue
        length = options[place + _LENGTH] if place + _LENGTH < len(options) else 0
        if length < 2 or place + length > len(options):
            return found, place
        found.append(Option(place, options[place : place + length]))
        place += length
    return found, None


def fill(options: bytes, stamp: Stamp) -> bytes | Malformed:
    """Return a header's options with this router recorded in them. Options of no such kind stay as they are."""
    found, broken = parse(options)
    filled = bytearray(options)
    seen = set()
    for place, data in found:
        kind = data[_TYPE]
        if kind not in _RECORDED:
            continue
        # Either appears at most once in a datagram (RFC 791 section 3.1).
        written = _TYPE if kind in seen else _record(data, stamp)
        if isinstance(written, int):
            return Malformed(ipv4.HEADER_BYTES + place + written)
        seen.add(kind)
        filled[place : place + len(data)] = written
    return bytes(filled) if broken is None else Malformed(ipv4.HEADER_BYTES + broken)


def for_echo_reply(options: bytes, arriving: Stamp, leaving: Stamp) -> bytes | Malformed:
    """Return the options of the reply to an echo request: its record route and timestamp, for the way back too.

    RFC 1122 section 3.2.2.6. As Linux does, the router is in them twice: with the address that the request was sent
    to, and where there is still room with that of the interface that the reply leaves by. Padded to 4 bytes.
    """
    filled = fill(options, arriving)
    if isinstance(filled, Malformed):
        return filled
    reply = bytearray()
    for _, data in parse(filled)[0]:
        if data[_TYPE] in _RECORDED:
            again = _record(data, leaving) if data[_POINTER] <= len(data) else data
            reply += data if isinstance(again, int) else again
    return bytes(reply) + bytes(-len(reply) % 4)


def _record_route(option: bytes, stamp: Stamp) -> bytes | int:
    """Return an option with the address recorded, or the byte of it that is wrong."""
    if len(option) < _ROUTE_DATA:
        return _LENGTH
    pointer = option[_POINTER]
    if pointer <= _ROUTE_DATA:
        return _POINTER
    if pointer > len(option):
        return option  # no room is left: it passes as it is
    return _written(option, stamp.address.to_bytes(4, "big"))


def _record_time(option: bytes, stamp: Stamp) -> bytes | int:
    """Return an option with the time recorded, or the byte of it that is wrong."""
    if len(option) < _TIMESTAMP_DATA:
        return _LENGTH
    pointer, flag = option[_POINTER], option[_OVERFLOW_FLAG] & 0xF
    if pointer <= _TIMESTAMP_DATA:
        return _POINTER
    if pointer > len(option):
        return _overflown(option, flag)
    time, address = stamp.time_ms.to_bytes(4, "big"), stamp.address.to_bytes(4, "big")
    if flag == _TIME_ONLY:
        return _written(option, time)
    if flag == _ADDRESS_AND_TIME:
        return _written(option, address + time)
    if flag == _PRESPECIFIED:
        # Only the router whose address stands next writes; one that is not asked lets it pass.
        wanted = option[pointer - 1 : pointer + 3]
        written = _written(option, wanted + time)
        is_asked = isinstance(written, int) or stamp.is_own(int.from_bytes(wanted, "big"))
        return written if is_asked else option
    return option


def _overflown(option: bytes, flag: int) -> bytes | int:
    """Count one more router that found no room."""
    if flag == _PRESPECIFIED:
        return option  # it holds all the addresses that were asked for
    if option[_OVERFLOW_FLAG] >> 4 == _MAX_OVERFLOW:
        return _OVERFLOW_FLAG
    return option[:_OVERFLOW_FLAG] + bytes((option[_OVERFLOW_FLAG] + 0x10,)) + option[_OVERFLOW_FLAG + 1 :]


def _written(option: bytes, entry: bytes) -> bytes | int:
    """Return an option with an entry at its pointer, and the pointer moved on; where the room is short, _POINTER.

    RFC 791 section 3.1: some room, but not enough, makes the whole datagram an error.
    """
    pointer = option[_POINTER]
    end = pointer - 1 + len(entry)
    if end > len(option):
        return _POINTER
    head = option[:_POINTER] + bytes((pointer + len(entry),)) + option[_POINTER + 1 : pointer - 1]
    return head + entry + option[end:]


def _record(option: bytes, stamp: Stamp) -> bytes | int:
    return _RECORDED[option[_TYPE]](option, stamp)


_RECORDED: Final = {ipv4.OPTION_RECORD_ROUTE: _record_route, ipv4.OPTION_TIMESTAMP: _record_time}
