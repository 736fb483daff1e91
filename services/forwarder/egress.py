"""Sending: one AF_PACKET socket an interface, a batch a system call (sendmmsg(2), packet(7))."""

import errno
import os
import socket
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from services.common import tap
from services.common.counters import MAX_INTERFACES, Counter, CounterBlock
from services.common.errors import HopwireError
from services.common.kernels import inlined, kernel, record
from services.common.memory import bytes_at
from services.common.observer import OBSERVER, Observer, Observing, is_watched, record_drop, show
from services.common.packet_filter import ABSENT
from services.common.system_calls import REALTIME, clock_ns, send_messages
from services.common.wire import virtio_net
from services.forwarder.pipeline import BATCH, QUEUES, Queues, counter_start

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

_DONT_WAIT: Final = int(socket.MSG_DONTWAIT)
_QUEUE_FULL: Final = (-errno.EAGAIN, -errno.ENOBUFS, -errno.ENOMEM)
_LINK_GONE: Final = (-errno.ENETDOWN, -errno.ENXIO, -errno.ENODEV, -errno.EBADF)
_INTERRUPTED: Final = -errno.EINTR
_VIRTIO: Final = virtio_net.HEADER_BYTES
_CLOSED: Final = -1

_FORWARDED: Final = int(Counter.FORWARDED)
_TX_BYTES: Final = int(Counter.TX_BYTES)
_TX_FULL: Final = int(Counter.DROP_TX_FULL)
_TX_FAILED: Final = int(Counter.DROP_TX_FAILED)


class Senders(NamedTuple):
    """What compiled code needs to send, by interface slot."""

    descriptors: npt.NDArray[np.int64]
    """(slots,) the sockets' file descriptors; -1: none."""
    rows: npt.NDArray[np.int64]
    """(slots,) where each interface's counters begin in the block."""
    messages: npt.NDArray[np.int64]
    """(slots,) the address of each slot's messages: BATCH of struct mmsghdr."""


SENDERS: Final = record(Senders, "int64[::1]", "int64[::1]", "int64[::1]")


@inlined
def _show_sent(queues: Any, slot: Any, first: Any, behind: Any, sent_ns: Any, observer: Any) -> None:
    """Show frames that have left."""
    interface = observer.interfaces[slot]
    for number in range(first, behind):
        address, octets = queues.vectors[slot, number]
        show(
            observer,
            tap.SENT,
            tap.SENT,
            sent_ns,
            interface,
            ABSENT,
            bytes_at(address, octets),
            _VIRTIO,
            octets - _VIRTIO,
        )


@inlined
def _lose(queues: Any, slot: Any, first: Any, behind: Any, reason: Any, observer: Any) -> None:
    """Record frames that could not be sent."""
    now_ns = clock_ns(REALTIME)
    interface = observer.interfaces[slot]
    for number in range(first, behind):
        address, octets = queues.vectors[slot, number]
        frame = bytes_at(address, octets)
        record_drop(observer, reason, now_ns, interface, frame, _VIRTIO, octets - _VIRTIO)
        if is_watched(observer):
            show(
                observer,
                tap.DROPPED,
                tap.DROPPED,
                now_ns,
                interface,
                reason,
                frame,
                _VIRTIO,
                octets - _VIRTIO,
            )


@inlined
def send_queue(queues: Any, senders: Any, counters: Any, slot: Any, counter: Any, observer: Any) -> None:
    """Send what is queued for a slot, without waiting, and count it as `counter`.

    A frame that the kernel refuses is passed over; a full queue or a lost link ends the batch.

    :param counters: the whole block, flat.
    """
    count = queues.queued[slot]
    queues.queued[slot] = 0
    row = senders.rows[slot]
    if senders.descriptors[slot] == _CLOSED:
        counters[row + _TX_FAILED] += count
        _lose(queues, slot, 0, count, _TX_FAILED, observer)
        return
    done = np.int64(0)
    octets = np.int64(0)
    sent = sent_ns = np.int64(0)
    while done < count:
        address = senders.messages[slot] + done * _MESSAGE_BYTES
        if is_watched(observer):
            sent_ns = clock_ns(REALTIME)  # before: an answer may come before the call returns
        result = send_messages(senders.descriptors[slot], address, count - done, _DONT_WAIT)
        if result > 0:
            for number in range(done, done + result):
                octets += queues.vectors[slot, number, 1]
            if is_watched(observer):
                _show_sent(queues, slot, done, done + result, sent_ns, observer)
            sent += result
            done += result
        elif result in _QUEUE_FULL:
            counters[row + _TX_FULL] += count - done
            _lose(queues, slot, done, count, _TX_FULL, observer)
            break
        elif result in _LINK_GONE:
            counters[row + _TX_FAILED] += count - done
            _lose(queues, slot, done, count, _TX_FAILED, observer)
            break
        elif result != _INTERRUPTED:
            counters[row + _TX_FAILED] += 1
            _lose(queues, slot, done, done + 1, _TX_FAILED, observer)
            done += 1
    counters[row + counter] += sent
    counters[row + _TX_BYTES] += octets - sent * _VIRTIO


@kernel("void", QUEUES, SENDERS, "int64[::1]", "int64", "int64", OBSERVER)
def _send_queue(
    queues: Queues, senders: Senders, counters: npt.NDArray[np.int64], slot: int, counter: int, observer: Observer
) -> None:
    send_queue(queues, senders, counters, slot, counter, observer)


class Egress:
    """All transmit sockets, and the queues that the fast path fills for them."""

    def __init__(self, queues: Queues, counters: CounterBlock, observing: Observing) -> None:
        """Prepare the message headers once: each points at its place in the queue's vectors."""
        self._queues = queues
        self._counters = counters
        self._observing = observing
        self.block = np.frombuffer(counters.values, np.int64)
        """The counters as compiled code takes them."""
        self._sockets: dict[int, tuple[socket.socket, int]] = {}
        self._messages = np.zeros((MAX_INTERFACES, BATCH, _MESSAGE_BYTES), np.uint8)
        fields = self._messages.view(np.int64)
        places = np.arange(MAX_INTERFACES * BATCH, dtype=np.int64).reshape(MAX_INTERFACES, BATCH)
        fields[:, :, _VECTOR_FIELD // 8] = queues.vectors.ctypes.data + places * _VECTOR_BYTES
        fields[:, :, _VECTOR_COUNT_FIELD // 8] = 1
        slots = np.arange(MAX_INTERFACES, dtype=np.int64)
        self.senders = Senders(
            np.full(MAX_INTERFACES, _CLOSED, np.int64),
            np.full(MAX_INTERFACES, counter_start(counters, 0), np.int64),
            self._messages.ctypes.data + slots * BATCH * _MESSAGE_BYTES,
        )

    def serve(self, wanted: Mapping[int, tuple[int, str]]) -> list[tuple[str, str]]:
        """Have a socket for each of these slots, and for no other.

        :param wanted: index and name of each slot's interface.
        :return: the names of those that cannot send, and why.
        :raises HopwireError: see `open`.
        """
        failed = []
        for slot, index in self.open_slots().items():
            if wanted.get(slot, (None, ""))[0] != index:
                self.close(slot)
        for slot, (index, name) in wanted.items():
            if slot not in self._sockets:
                try:
                    self.open(slot, index, name)
                except OSError as error:
                    failed.append((name, _error_text(error)))
        return failed

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
        self.senders.rows[slot] = counter_start(self._counters, interface_index)
        self._observing.interfaces[slot] = interface_index
        self.senders.descriptors[slot] = sender.fileno()

    def close(self, slot: int) -> None:
        """Close the socket of a slot, if there is one."""
        if slot in self._sockets:
            self.senders.descriptors[slot] = _CLOSED
            self.senders.rows[slot] = counter_start(self._counters, 0)
            self._observing.interfaces[slot] = 0
            self._sockets.pop(slot)[0].close()

    def open_slots(self) -> dict[int, int]:
        """Return the interface index of each slot that has a socket."""
        return {slot: index for slot, (_, index) in self._sockets.items()}

    def flush(self, slot: int) -> None:
        """Send what is queued for a slot, and count it."""
        _send_queue(self._queues, self.senders, self.block, slot, Counter.FORWARDED, self._observing.arrays)

    def send(
        self,
        slot: int,
        frame: bytes,
        header: bytes = virtio_net.PLAIN,
        counter: Counter = Counter.GENERATED_SENT,
    ) -> None:
        """Send one frame behind its virtio network header, and count it. The slot's queue must be empty."""
        data = np.frombuffer(header + frame, np.uint8)
        self._queues.vectors[slot, 0] = (data.ctypes.data, len(data))
        self._queues.queued[slot] = 1
        _send_queue(self._queues, self.senders, self.block, slot, counter, self._observing.arrays)


def _error_text(error: OSError) -> str:
    """Return the kernel's phrase for an error."""
    return os.strerror(error.errno) if error.errno else str(error)
