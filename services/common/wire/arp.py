"""ARP for IPv4 over Ethernet (RFC 826; constants from IANA, arp-parameters)."""

import struct
from dataclasses import dataclass
from typing import Final

from services.common.wire import ethernet
from services.common.wire.errors import WireError

HARDWARE_ETHERNET: Final = 1
REQUEST: Final = 1
REPLY: Final = 2
MESSAGE_BYTES: Final = 28

_FORMAT = struct.Struct("!HHBBH6sI6sI")


@dataclass(frozen=True)
class ArpMessage:
    """One ARP message. Hardware addresses are 6 bytes, protocol addresses integers in host order."""

    operation: int
    sender_mac: bytes
    sender_ip: int
    target_mac: bytes
    target_ip: int


def parse(payload: bytes) -> ArpMessage:
    """Read an ARP message from the bytes behind the Ethernet header.

    :raises WireError: shorter than 28 bytes, or not Ethernet and IPv4 with their address lengths (RFC 826,
        "Packet Reception"), or an operation other than request and reply.
    """
    if len(payload) < MESSAGE_BYTES:
        raise WireError("message shorter than 28 bytes")
    hardware, protocol, hardware_length, protocol_length, operation, *addresses = _FORMAT.unpack_from(payload)
    if hardware != HARDWARE_ETHERNET or hardware_length != ethernet.MAC_BYTES:
        raise WireError("hardware type or length is not Ethernet's")
    if protocol != ethernet.ETHERTYPE_IPV4 or protocol_length != 4:
        raise WireError("protocol type or length is not IPv4's")
    if operation not in (REQUEST, REPLY):
        raise WireError("operation is neither request nor reply")
    return ArpMessage(operation, *addresses)


def build(message: ArpMessage) -> bytes:
    """Return the 28 bytes of `message`."""
    return _FORMAT.pack(
        HARDWARE_ETHERNET,
        ethernet.ETHERTYPE_IPV4,
        ethernet.MAC_BYTES,
        4,
        message.operation,
        message.sender_mac,
        message.sender_ip,
        message.target_mac,
        message.target_ip,
    )
