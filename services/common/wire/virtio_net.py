"""The virtio network header that PACKET_VNET_HDR puts before each frame (virtio 1.2 section 5.1.6).

It says what the sender left to be done: a checksum to finish, a super-frame to cut. A router hands it on
unchanged, so that whoever needs the work done does it.
"""

import struct
from dataclasses import dataclass
from typing import Final

from services.common.wire.checksum import internet_checksum

FLAGS: Final = 0  # byte offsets; all fields are little-endian on AF_PACKET of x86 and ARM: native order
GSO_TYPE: Final = 1
HEADER_LENGTH: Final = 2
GSO_SIZE: Final = 4
CHECKSUM_START: Final = 6
CHECKSUM_OFFSET: Final = 8
HEADER_BYTES: Final = 10

FLAG_NEEDS_CHECKSUM: Final = 1  # VIRTIO_NET_HDR_F_NEEDS_CSUM

GSO_NONE: Final = 0
GSO_TCPV4: Final = 1
GSO_UDP: Final = 3
GSO_TCPV6: Final = 4
GSO_UDP_L4: Final = 5
GSO_ECN: Final = 0x80

PLAIN: Final = bytes(HEADER_BYTES)
"""The header of a frame that is complete as it stands."""

_FORMAT = struct.Struct("=BBHHHH")


@dataclass(frozen=True)
class VirtioNetHeader:
    """The fields of one header; lengths and offsets in bytes from the start of the Ethernet header."""

    flags: int
    gso_type: int
    header_length: int
    gso_size: int
    checksum_start: int
    checksum_offset: int

    @property
    def needs_checksum(self) -> bool:
        """Tell whether the checksum field holds only the pseudo-header's sum."""
        return bool(self.flags & FLAG_NEEDS_CHECKSUM)

    @property
    def is_gso(self) -> bool:
        """Tell whether this is a super-frame that stands for several frames on the wire."""
        return self.gso_type & ~GSO_ECN != GSO_NONE


def parse(data: bytes) -> VirtioNetHeader:
    """Read the header from the first 10 bytes of `data`."""
    return VirtioNetHeader(*_FORMAT.unpack_from(data))


def finish_checksum(header: VirtioNetHeader, frame: bytes) -> bytes:
    """Return an Ethernet frame with the checksum that its sender left to the hardware.

    The checksum field holds the pseudo-header's sum; the finished one covers all from `checksum_start` on
    (virtio 1.2 section 5.1.6.2). Offsets that point outside the frame leave it as it is.
    """
    place = header.checksum_start + header.checksum_offset
    if not header.needs_checksum or place + 2 > len(frame):
        return frame
    checksum = internet_checksum(frame[header.checksum_start :])
    # 0 says "no checksum" in UDP (RFC 768); its equal in ones' complement says the same in TCP.
    return frame[:place] + (checksum or 0xFFFF).to_bytes(2, "big") + frame[place + 2 :]
