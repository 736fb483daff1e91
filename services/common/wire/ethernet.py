"""Ethernet II framing (IEEE 802.3 clause 3; RFC 894 for IPv4 on it)."""

from typing import Final

DESTINATION: Final = 0  # byte offsets in the frame
SOURCE: Final = 6
ETHERTYPE: Final = 12
HEADER_BYTES: Final = 14
MAC_BYTES: Final = 6

ETHERTYPE_IPV4: Final = 0x0800  # IANA, IEEE 802 numbers
ETHERTYPE_ARP: Final = 0x0806
ETHERTYPE_VLAN: Final = 0x8100
ETHERTYPE_IPV6: Final = 0x86DD

BROADCAST: Final = b"\xff" * MAC_BYTES
NO_MAC: Final = bytes(MAC_BYTES)

# Packet types that AF_PACKET gives with each frame: linux/if_packet.h
PACKET_HOST: Final = 0
PACKET_BROADCAST: Final = 1
PACKET_MULTICAST: Final = 2
PACKET_OTHERHOST: Final = 3


def header(destination: bytes, source: bytes, ethertype: int) -> bytes:
    """Return the 14-byte header."""
    return destination + source + ethertype.to_bytes(2, "big")


def ethertype_of(frame: bytes) -> int:
    """Return the EtherType of a frame of at least 14 bytes."""
    return int.from_bytes(frame[ETHERTYPE:HEADER_BYTES], "big")


def is_group(mac: bytes) -> bool:
    """Tell whether `mac` is a multicast or broadcast address (the I/G bit, IEEE 802 clause 8.2)."""
    return bool(mac[0] & 1)


def mac_text(mac: bytes) -> str:
    """Return `mac` as `02:00:00:00:00:01`."""
    return mac.hex(":")
