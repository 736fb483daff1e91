"""The IPv4 header (RFC 791 section 3.1) and the address blocks with rules of their own (RFC 6890)."""

import struct
from dataclasses import dataclass
from typing import Final

from services.common.wire.checksum import internet_checksum

VERSION_IHL: Final = 0  # byte offsets from the start of the IP header
TOS: Final = 1
TOTAL_LENGTH: Final = 2
IDENTIFICATION: Final = 4
FLAGS_FRAGMENT: Final = 6
TTL: Final = 8
PROTOCOL: Final = 9
CHECKSUM: Final = 10
SOURCE: Final = 12
DESTINATION: Final = 16
HEADER_BYTES: Final = 20
MAX_BYTES: Final = 65_535

FLAG_DF: Final = 0x4000  # in the 16-bit word of flags and fragment offset
FLAG_MF: Final = 0x2000
OFFSET_MASK: Final = 0x1FFF

OPTION_END: Final = 0  # IANA, ip-parameters: IPv4 option types
OPTION_NOP: Final = 1
OPTION_RECORD_ROUTE: Final = 7
OPTION_TIMESTAMP: Final = 68
OPTION_LSRR: Final = 131
OPTION_SSRR: Final = 137
OPTION_COPIED: Final = 0x80  # RFC 791 section 3.1: the option goes into every fragment

PROTOCOL_ICMP: Final = 1
PROTOCOL_TCP: Final = 6
PROTOCOL_UDP: Final = 17

DEFAULT_TTL: Final = 64  # IANA, ip-parameters; RFC 1700
TOS_INTERNETWORK_CONTROL: Final = 0xC0  # precedence 6, for ICMP errors: RFC 1812 section 4.3.2.5
MINIMUM_MTU: Final = 68  # RFC 791: every link carries so much

LIMITED_BROADCAST: Final = 0xFFFF_FFFF

_FORMAT = struct.Struct("!BBHHHBBHII")


@dataclass(frozen=True)
class Ipv4Header:
    """The header's fields; lengths in bytes, addresses as integers in host order."""

    header_length: int
    tos: int
    total_length: int
    identification: int
    flags_fragment: int
    ttl: int
    protocol: int
    checksum: int
    source: int
    destination: int

    @property
    def dont_fragment(self) -> bool:
        """Tell whether DF is set."""
        return bool(self.flags_fragment & FLAG_DF)

    @property
    def more_fragments(self) -> bool:
        """Tell whether MF is set."""
        return bool(self.flags_fragment & FLAG_MF)

    @property
    def fragment_offset(self) -> int:
        """The fragment offset in units of 8 bytes."""
        return self.flags_fragment & OFFSET_MASK


def parse(datagram: bytes) -> Ipv4Header:
    """Read the header's fields from a datagram that was validated before (at least 20 bytes)."""
    version_ihl, *fields = _FORMAT.unpack_from(datagram)
    return Ipv4Header((version_ihl & 0xF) * 4, *fields)


def build_header(
    source: int,
    destination: int,
    protocol: int,
    payload_length: int,
    *,
    ttl: int = DEFAULT_TTL,
    tos: int = 0,
    identification: int = 0,
    flags_fragment: int = 0,
    options: bytes = b"",
) -> bytes:
    """Return a header with its checksum; `options` must be padded to a multiple of 4 bytes."""
    length = HEADER_BYTES + len(options)
    head = _FORMAT.pack(
        0x40 | length // 4,
        tos,
        length + payload_length,
        identification,
        flags_fragment,
        ttl,
        protocol,
        0,
        source,
        destination,
    )
    return with_checksum(head + options)


def with_checksum(header: bytes) -> bytes:
    """Return a header, options included, with its checksum computed anew."""
    checksum = internet_checksum(header[:CHECKSUM] + bytes(2) + header[CHECKSUM + 2 :])
    return header[:CHECKSUM] + checksum.to_bytes(2, "big") + header[CHECKSUM + 2 :]


def address_text(address: int) -> str:
    """Return an address in dotted decimal."""
    return ".".join(str(byte) for byte in address.to_bytes(4, "big"))


def prefix_text(prefix: int, prefix_length: int) -> str:
    """Return a prefix as `10.0.0.0/8`."""
    return f"{address_text(prefix)}/{prefix_length}"


def prefix_mask(prefix_length: int) -> int:
    """Return the 32-bit mask of a prefix length 0..32."""
    return (0xFFFF_FFFF << (32 - prefix_length)) & 0xFFFF_FFFF


def names_single_host(address: int) -> bool:
    """Tell whether an address can be one host's: not 0/8, 127/8, multicast or 240/4 (RFC 1812 4.3.2.7)."""
    first = address >> 24
    return first not in (0, 127) and first < 224
