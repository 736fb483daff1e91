"""The frame ring: one producer (an ingress) hands frames to one consumer (the forwarder) in shared memory.

A file of the run directory holds, one after the other:

    header       one page of 64-bit words: what the ring is, and the words that both ends share, each on a cache
                 line of its own: HEAD (the producer's position), TAIL (the consumer's), SLEEPS
    descriptors  `slots` rows of four 64-bit words: POSITION, LENGTH, PACKET_TYPE, TIMESTAMP_NS
    area         the frames, each with its virtio network header directly before it

Positions only grow; position modulo size is the place. The consumer changes frames where they lie, and gives
them back by moving TAIL. A ring belongs to one run of its producer: a new run makes a new file and epoch.

Sleeping: the consumer sets SLEEPS, then looks at HEAD once more; the producer moves HEAD, then looks at SLEEPS.
A full fence between the two steps on either side makes sure that at least one of them sees the other.
"""

import mmap
import os
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from services.common.errors import HopwireError
from services.common.kernels import inlined, kernel
from services.common.memory import exchange, full_fence, load_acquire, read_position, store_release
from services.common.messages import MAX_FRAME_BYTES
from services.common.wire import ethernet, virtio_net

SLOTS: Final = 4096
AREA_BYTES: Final = 8 * 2**20  # 120 super-frames of 64 KiB: about 4 ms at 15 Gbit/s
STALE_NS: Final = 100_000_000
"""Frames older than this are not worth sending: TCP has retransmitted them (RFC 6298: 200 ms in Linux)."""

# Descriptor words
POSITION: Final = 0
LENGTH: Final = 1
PACKET_TYPE: Final = 2
TIMESTAMP_NS: Final = 3
DESCRIPTOR_WORDS: Final = 4

# Header words
_MAGIC, _VERSION, _EPOCH, _INTERFACE, _SLOTS, _AREA = range(6)
HEAD: Final = 16
TAIL: Final = 32
_SLEEPS: Final = 48
_HEADER_BYTES: Final = 4096
HEADER_WORDS: Final = _HEADER_BYTES // 8
_MAGIC_VALUE: Final = 0x676E_6972_7770_6F68  # "hopwring"
_VERSION_VALUE: Final = 1

_ALIGNMENT: Final = 64  # bytes of a cache line: two ends never write to the same one
VIRTIO_BYTES: Final = virtio_net.HEADER_BYTES
_MINIMUM_FRAME: Final = ethernet.HEADER_BYTES
_MAXIMUM_FRAME: Final = MAX_FRAME_BYTES

Words = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

FULL: Final = -1
INVALID: Final = -1


@inlined
def reserve(words: Any, descriptors: Any, area_bytes: int, head: int, free_from: int, length: int) -> int:
    """Return the position for a frame of `length` bytes (virtio header included), or FULL.

    `head` is the producer's own position, `free_from` the first position behind its last frame.
    """
    tail = load_acquire(words, TAIL)
    slots = descriptors.shape[0]
    if head - tail >= slots:
        return FULL
    position = (free_from + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT
    to_end = area_bytes - position % area_bytes
    if to_end < length:
        position += to_end
    oldest = descriptors[tail % slots, POSITION] if tail < head else position
    return position if position + length - oldest <= area_bytes else FULL


@inlined
def publish(words: Any, head: int) -> bool:
    """Hand all frames before `head` to the consumer; true when it sleeps and the caller must wake it."""
    store_release(words, HEAD, head)
    full_fence()
    return bool(load_acquire(words, _SLEEPS) != 0 and exchange(words, _SLEEPS, np.int64(0)) != 0)


@inlined
def frame_start(descriptors: Any, area_bytes: int, position: int) -> int:
    """Return where in the area the Ethernet frame of a descriptor begins, or INVALID if it lies outside."""
    slot = position % descriptors.shape[0]
    place = descriptors[slot, POSITION]
    length = descriptors[slot, LENGTH]
    if place < 0 or length < _MINIMUM_FRAME or length > _MAXIMUM_FRAME:
        return INVALID
    place %= area_bytes
    return place + VIRTIO_BYTES if place + VIRTIO_BYTES + length <= area_bytes else INVALID


@kernel("boolean", "int64[::1]", "int64")
def go_to_sleep(words: Words, tail: int) -> bool:
    """Announce that the consumer sleeps; false, and no sleep, when a frame came in between."""
    store_release(words, _SLEEPS, np.int64(1))
    full_fence()
    if load_acquire(words, HEAD) != tail:
        exchange(words, _SLEEPS, np.int64(0))
        return False
    return True


@kernel("void", "int64[::1]", "int64")
def _give_back(words: Words, tail: int) -> None:
    store_release(words, TAIL, tail)


@kernel("void", "int64[::1]")
def wake(words: Words) -> None:
    """Announce that the consumer looks by itself."""
    exchange(words, _SLEEPS, np.int64(0))


@kernel("int64", "int64[::1]", "int64[:, ::1]", "int64", "int64", "int64")
def _first_fresh(words: Words, descriptors: Words, tail: int, head: int, oldest_ns: int) -> int:
    """Return the first position from `tail` on whose frame is not older than `oldest_ns`."""
    while tail < head and descriptors[tail % descriptors.shape[0], TIMESTAMP_NS] < oldest_ns:
        tail += 1
    return tail


class _Ring:
    """The mapping of one ring file, as arrays."""

    def __init__(self, file_descriptor: int, slots: int, area_bytes: int) -> None:
        self._map = mmap.mmap(file_descriptor, _file_bytes(slots, area_bytes))
        self.words: Words = np.frombuffer(self._map, np.int64, HEADER_WORDS)
        self.descriptors: Words = np.frombuffer(self._map, np.int64, slots * DESCRIPTOR_WORDS, _HEADER_BYTES).reshape(
            slots, DESCRIPTOR_WORDS
        )
        self.area: Bytes = np.frombuffer(self._map, np.uint8, area_bytes, _HEADER_BYTES + slots * DESCRIPTOR_WORDS * 8)

    @property
    def epoch(self) -> int:
        """The run of the producer that made this ring."""
        return int(self.words[_EPOCH])

    @property
    def interface_index(self) -> int:
        """The interface whose frames these are."""
        return int(self.words[_INTERFACE])


def _file_bytes(slots: int, area_bytes: int) -> int:
    return _HEADER_BYTES + slots * DESCRIPTOR_WORDS * 8 + area_bytes


class PrivateRing(_Ring):
    """A ring without a file, both of whose ends are in this process: frames gather in it for a message."""

    def __init__(self, slots: int = SLOTS, area_bytes: int = AREA_BYTES) -> None:
        super().__init__(-1, slots, area_bytes)

    def give_back_all(self) -> None:
        """Give every frame's memory back."""
        _give_back(self.words, read_position(self.words, HEAD))


class RingProducer(_Ring):
    """The producer's end. Kernels push through `reserve` and `publish` on the arrays."""

    def __init__(self, path: Path, interface_index: int, slots: int = SLOTS, area_bytes: int = AREA_BYTES) -> None:
        """Make a new ring at `path`, in place of an older one; a consumer of that one keeps its memory."""
        self._path = path
        fresh = path.with_suffix(".new")
        try:
            path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            fresh.unlink(missing_ok=True)
            descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise HopwireError(
                f"cannot make the frame ring {path}: {error.strerror}; check the run directory"
            ) from error
        try:
            os.posix_fallocate(descriptor, 0, _file_bytes(slots, area_bytes))
            super().__init__(descriptor, slots, area_bytes)
        except OSError as error:
            fresh.unlink()
            raise HopwireError(
                f"no room for the frame ring {path} ({_file_bytes(slots, area_bytes) >> 20} MiB): {error.strerror}"
            ) from error
        finally:
            os.close(descriptor)
        self.words[_EPOCH] = time.time_ns()
        self.words[_INTERFACE] = interface_index
        self.words[_SLOTS] = slots
        self.words[_AREA] = area_bytes
        self.words[_SLEEPS] = 1  # the first frame must ring: nobody knows of this ring yet
        self.words[_VERSION] = _VERSION_VALUE
        self.words[_MAGIC] = _MAGIC_VALUE
        fresh.rename(path)

    def wake_later(self) -> None:
        """Note that the consumer still sleeps, since the bell could not be sent."""
        self.words[_SLEEPS] = 1

    def remove(self) -> None:
        """Take the file away: the interface is served no more."""
        self._path.unlink(missing_ok=True)


class RingError(ValueError):
    """A file that is no ring of this version."""


class RingConsumer(_Ring):
    """The consumer's end."""

    def __init__(self, path: Path) -> None:
        """Attach to the ring at `path`.

        :raises RingError: the file is no ring of this version, or lies about its size.
        :raises OSError: it is not there, or not readable.
        """
        self._path = path
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            head = np.frombuffer(os.pread(descriptor, 64, 0).ljust(64, b"\0"), np.int64)
            slots, area_bytes = int(head[_SLOTS]), int(head[_AREA])
            if head[_MAGIC] != _MAGIC_VALUE or head[_VERSION] != _VERSION_VALUE:
                raise RingError(f"{path} is no frame ring of this version")
            if slots <= 0 or area_bytes <= 0 or status.st_size != _file_bytes(slots, area_bytes):
                raise RingError(f"{path} lies about its size")
            super().__init__(descriptor, slots, area_bytes)
        finally:
            os.close(descriptor)
        self._file = (status.st_dev, status.st_ino)
        self.position: Words = np.array([self.words[TAIL]], np.int64)
        """Where this end is, (1,): its own copy, since the producer could write to the shared one."""

    @property
    def tail(self) -> int:
        """The position of the oldest frame that is not given back."""
        return int(self.position[0])

    def is_current(self) -> bool:
        """Tell whether the file is still there and still this one."""
        try:
            status = self._path.stat()
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._file

    def available(self) -> int:
        """Return how many frames wait. A number below 0 or above the slots is a HEAD out of bounds: see `skip_all`."""
        return int(read_position(self.words, HEAD)) - self.tail

    def skip_stale(self, now_ns: int) -> int:
        """Give back frames older than 100 ms, unread; return how many. `now_ns` is Unix time."""
        head = self.tail + max(0, min(self.available(), len(self.descriptors)))
        fresh = int(_first_fresh(self.words, self.descriptors, self.tail, head, now_ns - STALE_NS))
        skipped = fresh - self.tail
        self.give_back(skipped)
        return skipped

    def skip_all(self) -> None:
        """Start again at HEAD, whatever it says: the positions make no sense."""
        self.position[0] = read_position(self.words, HEAD)
        _give_back(self.words, self.tail)

    def give_back(self, frames: int) -> None:
        """Return the oldest `frames` frames' memory to the producer."""
        self.position[0] += frames
        _give_back(self.words, self.tail)

    def go_to_sleep(self) -> bool:
        """Ask for a bell at the next frame; false when there is one already."""
        return bool(go_to_sleep(self.words, self.tail))

    def wake(self) -> None:
        """Ask for no bell."""
        wake(self.words)
