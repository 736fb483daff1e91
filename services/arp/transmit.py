"""The AF_PACKET sockets that frames leave by (packet(7)): one an interface, never blocking."""

import errno
import socket
from collections.abc import Mapping
from typing import Final

import structlog

from services.common.counters import Counter
from services.common.errors import HopwireError

_SOL_PACKET: Final = 263  # linux/socket.h
_PACKET_VNET_HDR: Final = 15  # linux/if_packet.h
_PACKET_QDISC_BYPASS: Final = 20
_SO_SNDBUFFORCE: Final = 32  # asm-generic/socket.h
_RECEIVE_NOTHING: Final = 0  # as protocol: packet(7)

SEND_BUFFER_BYTES: Final = 4 * 2**20
"""The kernel's memory for frames under way: a neighbour's whole queue leaves at once, and each frame counts there with
its bookkeeping (skb truesize). The default (net.core.wmem_default) holds fewer than 100 full-sized frames."""

_QUEUE_FULL: Final = frozenset({errno.EAGAIN, errno.ENOBUFS})
_DEVICE_GONE: Final = frozenset({errno.ENXIO, errno.ENODEV})


class Transmitter:
    """Sends frames, each with its virtio network header in front."""

    def __init__(self, log: structlog.stdlib.BoundLogger) -> None:
        """Check that sockets can be opened.

        :raises HopwireError: CAP_NET_RAW is missing, or the kernel has no PACKET_VNET_HDR.
        """
        self._log = log
        self._sockets: dict[int, socket.socket] = {}
        self._failed: set[int] = set()
        try:
            _open().close()
        except OSError as error:
            raise HopwireError(f"cannot open an AF_PACKET socket: {error.strerror}; arp needs one") from error

    def serve(self, interfaces: Mapping[int, str]) -> None:
        """Hold a socket for each of these interfaces (names by index) and for no other.

        One that cannot be opened is tried again at the next call: the interface may just be going or coming.
        """
        if self._sockets.keys() == interfaces.keys():
            return
        for index in self._sockets.keys() - interfaces.keys():
            self._sockets.pop(index).close()
        self._failed &= interfaces.keys()
        for index in interfaces.keys() - self._sockets.keys():
            self._open_on(index, interfaces[index])

    @property
    def interfaces(self) -> list[int]:
        """The indices of the interfaces with a socket."""
        return sorted(self._sockets)

    def send(self, interface: int, data: bytes) -> Counter | None:
        """Send a virtio network header and the frame behind it; return the drop reason where that fails."""
        packet_socket = self._sockets.get(interface)
        if packet_socket is None:
            return Counter.DROP_TX_FAILED
        try:
            packet_socket.send(data)
        except OSError as error:
            if error.errno in _DEVICE_GONE:
                self._sockets.pop(interface).close()
            return Counter.DROP_TX_FULL if error.errno in _QUEUE_FULL else Counter.DROP_TX_FAILED
        return None

    def close(self) -> None:
        """Close all sockets."""
        self.serve({})

    def _open_on(self, index: int, name: str) -> None:
        try:
            self._sockets[index] = _open_bound(index)
        except OSError as error:
            if index not in self._failed:
                self._failed.add(index)
                self._log.warning("cannot send on interface", interface=name, reason=error.strerror)
            return
        self._failed.discard(index)
        self._log.info("sending on interface", interface=name)


def _open_bound(index: int) -> socket.socket:
    packet_socket = _open()
    try:
        # By its present name: it may have been renamed since control told of it.
        packet_socket.bind((socket.if_indextoname(index), _RECEIVE_NOTHING))
    except OSError:
        packet_socket.close()
        raise
    return packet_socket


def _open() -> socket.socket:
    try:
        packet_socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, _RECEIVE_NOTHING)
    except PermissionError as error:
        raise HopwireError("cannot open an AF_PACKET socket: CAP_NET_RAW is missing; run as root") from error
    try:
        _set_up(packet_socket)
    except (OSError, HopwireError):
        packet_socket.close()
        raise
    return packet_socket


def _set_up(packet_socket: socket.socket) -> None:
    packet_socket.setblocking(False)
    try:
        packet_socket.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        packet_socket.setsockopt(_SOL_PACKET, _PACKET_QDISC_BYPASS, 1)
    except OSError as error:
        raise HopwireError(
            f"this kernel has no PACKET_VNET_HDR or PACKET_QDISC_BYPASS: {error.strerror}; use Linux 4.20 or newer"
        ) from error
    try:
        packet_socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, SEND_BUFFER_BYTES)
    except PermissionError:  # without CAP_NET_ADMIN: as much as net.core.wmem_max allows
        packet_socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
