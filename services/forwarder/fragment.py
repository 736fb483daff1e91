"""Fragmentation: RFC 791 section 3.2, pure."""

from services.common.wire import ipv4
from services.forwarder import options as ip_options


def copied_options(options: bytes) -> bytes:
    """Return the options that all fragments carry, padded to a multiple of 4 bytes.

    A malformed option ends the list.
    """
    found, _ = ip_options.parse(options)
    kept = b"".join(option.data for option in found if option.data[0] & ipv4.OPTION_COPIED)
    return kept + bytes(-len(kept) % 4)


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
        fragments.append(ipv4.with_checksum(bytes(head)) + part)
        start += len(part)
        if options:
            options = copied_options(options)
    return fragments
