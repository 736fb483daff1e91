"""Writing pcapng, the capture format of Wireshark (draft-ietf-opsawg-pcapng). Pure: fields in, blocks out.

One section, in this machine's byte order: each function returns a block, which stands for itself. Times are Unix time
in nanoseconds, and so are those of every interface here (if_tsresol 9).
"""

import struct
from collections.abc import Iterable
from enum import IntEnum
from typing import Final

LINKTYPE_ETHERNET: Final = 1  # https://www.tcpdump.org/linktypes.html
_SECTION_HEADER: Final = 0x0A0D0D0A  # section 4.1
_INTERFACE_DESCRIPTION: Final = 1  # section 4.2
_INTERFACE_STATISTICS: Final = 5  # section 4.5
_ENHANCED_PACKET: Final = 6  # section 4.3
_BYTE_ORDER: Final = 0x1A2B3C4D
_VERSION: Final = (1, 0)
_UNKNOWN_LENGTH: Final = 0xFFFF_FFFF_FFFF_FFFF
_NO_SNAP: Final = 0

# Options: section 3.5, and those of each block
_END_OF_OPTIONS: Final = 0
_COMMENT: Final = 1
_SHB_USER_APPLICATION: Final = 4
_IF_NAME: Final = 2
_IF_MAC: Final = 6
_IF_TSRESOL: Final = 9
_EPB_FLAGS: Final = 2
_ISB_START: Final = 2
_ISB_END: Final = 3
_ISB_DROPPED: Final = 5
_ISB_ACCEPTED: Final = 6
_ISB_DELIVERED: Final = 8
_NANOSECONDS: Final = 9  # 10 ** -9

_MAX_TEXT_BYTES: Final = 0xFFFF

Option = tuple[int, bytes]


class Direction(IntEnum):
    """Bits 0 and 1 of epb_flags."""

    UNKNOWN = 0
    INBOUND = 1
    OUTBOUND = 2


def section_header(application: str) -> bytes:
    """Return the block that begins a file."""
    body = struct.pack("=IHHQ", _BYTE_ORDER, *_VERSION, _UNKNOWN_LENGTH)
    return _block(_SECTION_HEADER, body, [(_SHB_USER_APPLICATION, _text(application))])


def interface_description(name: str, mac: bytes) -> bytes:
    """Return the block of an Ethernet interface; the first one is number 0.

    :param mac: 6 bytes; none where it has no address.
    """
    body = struct.pack("=HHI", LINKTYPE_ETHERNET, 0, _NO_SNAP)
    options = [(_IF_NAME, _text(name)), (_IF_TSRESOL, bytes((_NANOSECONDS,)))]
    return _block(_INTERFACE_DESCRIPTION, body, [*options, *([(_IF_MAC, mac)] if mac else [])])


def enhanced_packet(
    interface: int, time_ns: int, data: bytes, length: int, direction: Direction, comment: str = ""
) -> bytes:
    """Return the block of a frame.

    :param interface: its number in the file.
    :param data: the frame, or its first bytes; `length` is what it was on the wire.
    """
    stamp = max(0, time_ns)
    body = struct.pack("=IIIII", interface, stamp >> 32, stamp & 0xFFFF_FFFF, len(data), length) + _padded(data)
    options = [(_EPB_FLAGS, struct.pack("=I", direction))]
    if comment:
        options.insert(0, (_COMMENT, _text(comment)))
    return _block(_ENHANCED_PACKET, body, options)


def interface_statistics(interface: int, start_ns: int, end_ns: int, *, delivered: int, dropped: int) -> bytes:
    """Return the block that says how many frames of an interface are in the file, and how many were missed."""
    body = struct.pack("=III", interface, *divmod(end_ns, 1 << 32))
    options = [
        (_ISB_START, struct.pack("=II", *divmod(start_ns, 1 << 32))),
        (_ISB_END, struct.pack("=II", *divmod(end_ns, 1 << 32))),
        (_ISB_DROPPED, struct.pack("=Q", dropped)),
        (_ISB_ACCEPTED, struct.pack("=Q", delivered + dropped)),
        (_ISB_DELIVERED, struct.pack("=Q", delivered)),
    ]
    return _block(_INTERFACE_STATISTICS, body, options)


def _block(kind: int, body: bytes, options: Iterable[Option]) -> bytes:
    content = body + b"".join(struct.pack("=HH", code, len(value)) + _padded(value) for code, value in options)
    content += struct.pack("=HH", _END_OF_OPTIONS, 0)
    length = struct.pack("=I", 12 + len(content))
    return struct.pack("=I", kind) + length + content + length


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _text(text: str) -> bytes:
    return text.encode("utf-8", "replace")[:_MAX_TEXT_BYTES]
