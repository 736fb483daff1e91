"""How netlink(7) frames what it carries: messages one after the other, attributes within them.

For the few questions that every service asks at its start: importing pyroute2 for them would cost each process a
third of a second and 20 MiB.
"""

import struct
from collections.abc import Iterator
from typing import Final

# linux/netlink.h
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
NLM_F_REQUEST: Final = 0x001
NLM_F_ACK: Final = 0x004
NLM_F_DUMP_INTR: Final = 0x010
NLM_F_DUMP: Final = 0x300
NLM_F_CREATE: Final = 0x400
_NLA_F_NESTED: Final = 0x8000
NLA_TYPE_MASK: Final = 0x3FFF

RECEIVE_BYTES: Final = 65_536  # netlink_dump of Linux fills 32 KiB at most

_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # nlattr: length, type
_ERROR = struct.Struct("=i")  # nlmsgerr begins with minus the errno; 0 in an acknowledgement


def message(kind: int, flags: int, sequence: int, payload: bytes) -> bytes:
    """Return a request."""
    return _HEADER.pack(_HEADER.size + len(payload), kind, NLM_F_REQUEST | flags, sequence, 0) + payload


def header(data: bytes, offset: int = 0) -> tuple[int, int, int]:
    """Return the length of a message, its own header at the least, its type and its flags."""
    length, kind, flags, _sequence, _port = _HEADER.unpack_from(data, offset)
    return max(length, _HEADER.size), kind, flags


def messages(datagram: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield the type, flags and payload of each message in what one receive gave."""
    offset = 0
    while offset + _HEADER.size <= len(datagram):
        length, kind, flags = header(datagram, offset)
        yield kind, flags, datagram[offset + _HEADER.size : offset + length]
        offset += length + 3 & ~3


def error_number(payload: bytes) -> int:
    """Return the errno in the payload of an NLMSG_ERROR; 0 in an acknowledgement."""
    return -int(_ERROR.unpack_from(payload)[0])


def attribute(kind: int, payload: bytes) -> bytes:
    """Return an attribute, padded."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(payload), kind) + payload + bytes(-len(payload) % 4)


def nested(kind: int, *attributes_inside: bytes) -> bytes:
    """Return an attribute made of attributes."""
    return attribute(_NLA_F_NESTED | kind, b"".join(attributes_inside))


def attributes(payload: bytes) -> dict[int, bytes]:
    """Return the attributes in a payload by type; the last of those that occur more than once."""
    found = {}
    offset = 0
    while offset + _ATTRIBUTE.size <= len(payload):
        length, kind = _ATTRIBUTE.unpack_from(payload, offset)
        length = max(length, _ATTRIBUTE.size)
        found[kind & NLA_TYPE_MASK] = payload[offset + _ATTRIBUTE.size : offset + length]
        offset += length + 3 & ~3
    return found
