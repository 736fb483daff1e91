"""Sending: one AF_PACKET socket an interface, a batch a system call (sendmmsg(2), packet(7))."""

import ctypes
import errno
import os
import socket
from typing import Final

import numpy as np
import numpy.typing as npt

from services.common.counters import Counter, CounterBlock
from services.common.errors import HopwireError
from services.common.wire import virtio_net
from services.forwarder.pipeline import BATCH, Queues

_SOL_PACKET: Final = 263  # linux/socket.h
_PACKET_VNET_HDR: Final = 15  # linux/if_packet.h
_PACKET_QDISC_BYPASS: Final = 20
_SO_SNDBUFFORCE: Final = 32  # asm-generic/socket.h
_SEND_BUFFER_BYTES: Final = 8 * 2**20

# struct mmsghdr on 64-bit Linux: struct msghdr (56 bytes), the bytes sent, padding
_MESSAGE_BYTES: Final = 64
_VECTOR_FIELD: Final = 16  # msg_iov
_VECTOR_COUNT_FIELD: Final = 24  # msg_iovlen
_VECTOR_BYTES: Final = 16

_QUEUE_FULL: Final = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM})
_LINK_GONE: Final = frozenset({errno.ENETDOWN, errno.ENXIO, errno.ENODEV, errno.EBADF})

_libc = ctypes.CDLL(None, use_errno=True)
_libc.sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)
_libc.sendmmsg.restype = ctypes.c_int


class Egress:
    """All transmit sockets, and the queues that the fast path fills for them."""

    def __init__(self, queues: Queues, counters: CounterBlock) -> None:
        """Prepare the message headers once: each points at its place in the queue's vectors."""
        self._queues = queues
        self._counters = counters
        self._sockets: dict[int, tuple[socket.socket, int]] = {}
        slots = len(queues.queued)
        self._messages = np.zeros((slots, BATCH, _MESSAGE_BYTES), np.uint8)
        fields = self._messages.view(np.int64)
        places = np.arange(slots * BATCH, dtype=np.int64).reshape(slots, BATCH)
        fields[:, :, _VECTOR_FIELD // 8] = queues.vectors.ctypes.data + places * _VECTOR_BYTES
        fields[:, :, _VECTOR_COUNT_FIELD // 8] = 1

    def open(self, slot: int, interface_index: int, name: str) -> None:
        """Open the socket of an interface slot, in place of an older one.

        :raises HopwireError: CAP_NET_RAW is missing, or the kernel has no PACKET_VNET_HDR.
        :raises OSError: the interface is gone.
        """
        self.close(slot)
        try:
            # Protocol 0: this socket receives nothing.
            sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        except PermissionError as error:
            raise HopwireError("cannot open an AF_PACKET socket: CAP_NET_RAW is missing; run as root") from error
        try:
            sender.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
            sender.setsockopt(_SOL_PACKET, _PACKET_QDISC_BYPASS, 1)
            sender.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SEND_BUFFER_BYTES)
            sender.bind((name, 0))
        except PermissionError as error:
            sender.close()
            raise HopwireError("cannot set up a transmit socket: CAP_NET_ADMIN is missing; run as root") from error
        except OSError:
            sender.close()
            raise
        self._sockets[slot] = (sender, interface_index)

    def close(self, slot: int) -> None:
        """Close the socket of a slot, if there is one."""
        if slot in self._sockets:
            self._sockets.pop(slot)[0].close()

    def open_slots(self) -> dict[int, int]:
        """Return the interface index of each slot that has a socket."""
        return {slot: index for slot, (_, index) in self._sockets.items()}

    def flush(self, slot: int) -> None:
        """Send what the fast path has queued for a slot, and count it."""
        count = int(self._queues.queued[slot])
        self._queues.queued[slot] = 0
        if slot not in self._sockets:
            self._counters.add(Counter.DROP_TX_FAILED, count)
            return
        sender, index = self._sockets[slot]
        lengths = self._queues.vectors[slot, :count, 1]
        sent = _send_all(sender.fileno(), self._messages[slot].ctypes.data, count, lengths)
        self._count(index, sent, Counter.FORWARDED)

    def send(
        self,
        slot: int,
        frame: bytes,
        header: bytes = virtio_net.PLAIN,
        counter: Counter = Counter.GENERATED_SENT,
    ) -> None:
        """Send one frame behind its virtio network header, and count it."""
        if slot not in self._sockets:
            self._counters.add(Counter.DROP_TX_FAILED)
            return
        sender, index = self._sockets[slot]
        data = ctypes.create_string_buffer(header + frame, len(header) + len(frame))
        vector = np.array([ctypes.addressof(data), len(data)], np.int64)
        message = np.zeros(_MESSAGE_BYTES // 8, np.int64)
        message[_VECTOR_FIELD // 8] = vector.ctypes.data
        message[_VECTOR_COUNT_FIELD // 8] = 1
        sent = _send_all(sender.fileno(), message.ctypes.data, 1, vector[1:])
        self._count(index, sent, counter)

    def _count(self, index: int, sent: "_Sent", counter: Counter) -> None:
        self._counters.add(counter, sent.frames, index)
        self._counters.add(Counter.TX_BYTES, sent.octets, index)
        if sent.full:
            self._counters.add(Counter.DROP_TX_FULL, sent.full, index)
        if sent.failed:
            self._counters.add(Counter.DROP_TX_FAILED, sent.failed, index)


class _Sent:
    """What became of a queue: frames and bytes sent, frames dropped."""

    __slots__ = ("failed", "frames", "full", "octets")

    def __init__(self) -> None:
        self.frames = self.octets = self.full = self.failed = 0


def _send_all(descriptor: int, messages: int, count: int, lengths: npt.NDArray[np.int64]) -> _Sent:
    """Send `count` messages from the address `messages` on, without waiting.

    A frame that the kernel refuses is passed over; a full queue or a lost link ends the batch.
    """
    result = _Sent()
    done = 0
    while done < count:
        sent = _libc.sendmmsg(descriptor, messages + done * _MESSAGE_BYTES, count - done, socket.MSG_DONTWAIT)
        if sent > 0:
            result.frames += sent
            result.octets += int(lengths[done : done + sent].sum()) - sent * virtio_net.HEADER_BYTES
            done += sent
            continue
        reason = ctypes.get_errno()
        if reason in _QUEUE_FULL:
            result.full += count - done
            break
        if reason in _LINK_GONE:
            result.failed += count - done
            break
        if reason != errno.EINTR:
            result.failed += 1
            done += 1
    return result


def error_text(error: OSError) -> str:
    """Return the kernel's phrase for an error."""
    return os.strerror(error.errno) if error.errno else str(error)
