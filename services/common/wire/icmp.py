"""ICMP (RFC 792; what may be answered and how: RFC 1812 section 4.3)."""

from typing import Final

from services.common.wire.checksum import internet_checksum

TYPE: Final = 0  # byte offsets from the start of the ICMP header
CODE: Final = 1
CHECKSUM: Final = 2
REST: Final = 4
HEADER_BYTES: Final = 8

ECHO_REPLY: Final = 0
DESTINATION_UNREACHABLE: Final = 3
SOURCE_QUENCH: Final = 4
REDIRECT: Final = 5
ECHO_REQUEST: Final = 8
TIME_EXCEEDED: Final = 11
PARAMETER_PROBLEM: Final = 12

REDIRECT_HOST: Final = 1  # code of type 5
POINTER_INDICATES_ERROR: Final = 0  # code of type 12
NETWORK_UNREACHABLE: Final = 0  # codes of type 3
HOST_UNREACHABLE: Final = 1
FRAGMENTATION_NEEDED: Final = 4
ADMINISTRATIVELY_PROHIBITED: Final = 13  # RFC 1812 section 5.2.7.1
TTL_EXCEEDED: Final = 0  # code of type 11

MAX_ERROR_BYTES: Final = 576
"""The longest datagram that carries an error: RFC 1812 section 4.3.2.3."""

_ERROR_TYPES: Final = frozenset({DESTINATION_UNREACHABLE, SOURCE_QUENCH, REDIRECT, TIME_EXCEEDED, PARAMETER_PROBLEM})


def is_error(icmp_type: int) -> bool:
    """Tell whether a message of this type is an error, about which no error may be sent (RFC 1122 3.2.2)."""
    return icmp_type in _ERROR_TYPES


def build(icmp_type: int, code: int, rest: int, data: bytes) -> bytes:
    """Return a message with its checksum; `rest` is the 32-bit word behind the checksum."""
    head = bytes((icmp_type, code, 0, 0)) + rest.to_bytes(4, "big")
    checksum = internet_checksum(head + data)
    return head[:CHECKSUM] + checksum.to_bytes(2, "big") + head[REST:] + data
