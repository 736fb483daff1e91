"""Fragmentation: RFC 791 section 3.2, pure."""

from typing import Final

from services.common.wire import ipv4
from services.common.wire.checksum import internet_checksum

_OPTION_END: Final = 0
_OPTION_NOP: Final = 1
_COPIED: Final = 0x80  # RFC 791 section 3.1: the option goes into every fragment


def copied_options(options: bytes) -> bytes:
    """Return the options that all fragments carry, padded to a multiple of 4 bytes.

    A malformed option ends the list.
    """
    kept = bytearray()
    place = 0
    while place < len(options) and options[place] != _OPTION_END:
        if options[place] == _OPTION_NOP:
            place += 1
            continue
        length = options[place + 1] if place + 1 < len(options) else 0
        if length < 2 or place + length > len(options):
            break
        if options[place] & _COPIED:
            kept += options[place : place + length]
        place += length
    return bytes(kept) + bytes(-len(kept) % 4)


def fragment(datagram: bytes, mtu: int) -> list[bytes]:
    """Cut a datagram into fragments of at most `mtu` bytes. One that is a fragment can be cut again."""
    header = ipv4.parse(datagram)
    mtu = max(mtu, ipv4.MINIMUM_MTU)
    options = datagram[ipv4.HEADER_BYTES : header.header_length]
    payload = datagram[header.header_length : header.total_length]
    fragments = []
    start = 0
    while start < len(payload):
        room = mtu - ipv4.HEADER_BYTES - len(options)
        if len(payload) - start > room:
            room = room // 8 * 8  # offsets count units of 8 bytes
        part = payload[start : start + room]
        last = start + len(part) == len(payload)
        more = header.more_fragments or not last
        flags = (ipv4.FLAG_MF if more else 0) | header.flags_fragment & ipv4.FLAG_DF
        head = bytearray(datagram[: ipv4.HEADER_BYTES] + options)
        head[ipv4.VERSION_IHL] = 0x40 | len(head) // 4
        head[ipv4.TOTAL_LENGTH : ipv4.TOTAL_LENGTH + 2] = (len(head) + len(part)).to_bytes(2, "big")
        offset = header.fragment_offset + start // 8
        head[ipv4.FLAGS_FRAGMENT : ipv4.FLAGS_FRAGMENT + 2] = (flags | offset).to_bytes(2, "big")
        head[ipv4.CHECKSUM : ipv4.CHECKSUM + 2] = bytes(2)
        head[ipv4.CHECKSUM : ipv4.CHECKSUM + 2] = internet_checksum(bytes(head)).to_bytes(2, "big")
        fragments.append(bytes(head) + part)
        start += len(part)
        options = copied_options(options)
    return fragments
