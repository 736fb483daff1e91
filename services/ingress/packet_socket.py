"""The AF_PACKET socket that frames come in by (packet(7), Documentation/networking/packet_mmap.rst)."""

import mmap
import os
import socket
import struct
from typing import Final

import numpy as np

from services.common.errors import HopwireError
from services.ingress.ring import Geometry

_SOL_PACKET: Final = 263  # linux/socket.h
_PACKET_RX_RING: Final = 5  # linux/if_packet.h
_PACKET_STATISTICS: Final = 6
_PACKET_VERSION: Final = 10
_PACKET_VNET_HDR: Final = 15
_PACKET_IGNORE_OUTGOING: Final = 23
_TPACKET_V2: Final = 1
_ETH_P_ALL: Final = 3

_SLOT_BYTES: Final = 65_536 + 4096
"""A super-frame of 64 KiB, its Ethernet and virtio headers, and what the kernel puts before them (90 bytes)."""
_BLOCK_BYTES: Final = 1 << 20
_SLOTS_PER_BLOCK: Final = _BLOCK_BYTES // _SLOT_BYTES


class PacketSocket:
    """All frames of one interface, received into a ring that this process reads without system calls.

    :ivar memory: the ring as bytes; `statuses` as 32-bit words; `geometry` its layout.
    """

    def __init__(self, interface_index: int, interface: str, ring_mib: int) -> None:
        """Open the ring on an interface; `ring_mib` is the kernel memory it takes.

        :raises HopwireError: no CAP_NET_RAW, no room for the ring, or a kernel without what it needs.
        """
        blocks = ring_mib
        self.geometry = Geometry(_BLOCK_BYTES, _SLOT_BYTES, _SLOTS_PER_BLOCK, blocks * _SLOTS_PER_BLOCK)
        try:
            # Protocol 0 receives nothing: no frame comes in before the ring is set up.
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        except PermissionError as error:
            raise HopwireError("cannot open an AF_PACKET socket: CAP_NET_RAW is missing; run as root") from error
        try:
            self._set_up(blocks)
            self._socket.bind((interface, _ETH_P_ALL))
            self._map = mmap.mmap(self._socket.fileno(), blocks * _BLOCK_BYTES)
        except OSError as error:
            self._socket.close()
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise HopwireError(f"cannot receive on {interface}: {reason}") from error
        if self._socket.getsockname()[0] != interface or socket.if_nametoindex(interface) != interface_index:
            self._socket.close()
            raise HopwireError(f"{interface} was renamed or replaced while it was opened; start again")
        self.memory = np.frombuffer(self._map, np.uint8)
        self.statuses = self.memory.view(np.uint32)

    def _set_up(self, blocks: int) -> None:
        options = (
            (_PACKET_VERSION, _TPACKET_V2, "TPACKET_V2"),
            (_PACKET_VNET_HDR, 1, "PACKET_VNET_HDR"),
            (_PACKET_IGNORE_OUTGOING, 1, "PACKET_IGNORE_OUTGOING (Linux 4.20)"),
        )
        for option, value, name in options:
            try:
                self._socket.setsockopt(_SOL_PACKET, option, value)
            except OSError as error:
                self._socket.close()
                raise HopwireError(f"this kernel has no {name}: {error.strerror}; use Linux 4.20 or newer") from error
        request = struct.pack("IIII", _BLOCK_BYTES, blocks, _SLOT_BYTES, blocks * _SLOTS_PER_BLOCK)
        try:
            self._socket.setsockopt(_SOL_PACKET, _PACKET_RX_RING, request)
        except OSError as error:
            self._socket.close()
            raise HopwireError(
                f"no kernel memory for a receive ring of {blocks} MiB: {error.strerror}; choose a smaller --ring-mib"
            ) from error

    def fileno(self) -> int:
        """Return the descriptor to poll: readable when a frame is there, in error when the interface went down."""
        return self._socket.fileno()

    def take_overruns(self) -> int:
        """Return how many frames the kernel dropped since the last call because the ring was full."""
        statistics = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        return int(struct.unpack("II", statistics)[1])

    def take_error(self) -> int:
        """Return and clear the socket's pending error (ENETDOWN when the interface went down), or 0."""
        return self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def close(self) -> None:
        """Stop receiving. Nobody may hold the arrays any more."""
        self.memory = np.zeros(0, np.uint8)
        self.statuses = np.zeros(0, np.uint32)
        self._map.close()  # it holds the socket open
        self._socket.close()
