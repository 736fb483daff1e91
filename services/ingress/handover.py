"""How an ingress hands frames to the forwarder: through shared memory, or inside ZeroMQ messages."""

from collections.abc import Callable
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import zmq

from services.common.bus import connected, try_send
from services.common.counters import Counter, CounterBlock
from services.common.endpoints import Endpoints
from services.common.frame_ring import LENGTH, PACKET_TYPE, POSITION, VIRTIO_BYTES, PrivateRing, RingProducer
from services.common.kernels import kernel
from services.common.ledger import HandedLedger
from services.common.memory import copy_bytes
from services.common.messages import DESCRIPTOR_DTYPE, MAX_BATCH_FRAMES, Bell, FrameBatch, encode

INLINE_AREA_BYTES: Final = 2 * 2**20


class Handover(Protocol):
    """Where `ring.walk` puts frames, and what happens then."""

    ring: RingProducer | PrivateRing

    def after_walk(self, frames: int, *, must_wake: bool) -> None:
        """Hand over the frames of a walk, `frames` of them since the last call."""

    def keep_house(self, now: float) -> None:
        """Do what is due now and then."""

    def close(self) -> None:
        """Let go: the interface is served no more."""


class SharedMemoryHandover:
    """Frames lie in a ring that the forwarder reads; a message is sent only to wake it."""

    def __init__(
        self, context: zmq.Context[Any], endpoints: Endpoints, interface: str, index: int, counters: CounterBlock
    ) -> None:
        """Make the ring of this run."""
        self._bell = connected(context, zmq.PUSH, endpoints.forwarder_bell)
        self.ring: RingProducer | PrivateRing = RingProducer(endpoints.ring(interface), index)
        self._message = encode(Bell(interface=interface, epoch=self.ring.epoch))
        self._count: Callable[[Counter], None] = lambda counter: counters.add(counter, 1, index)

    def after_walk(self, frames: int, *, must_wake: bool) -> None:
        """Ring the bell when the forwarder sleeps."""
        if not must_wake:
            return
        if try_send(self._bell, [self._message]):
            self._count(Counter.BELLS)
        elif isinstance(self.ring, RingProducer):
            self.ring.wake_later()

    def keep_house(self, now: float) -> None:
        """Do nothing: the ring itself tells how far both ends are."""

    def close(self) -> None:
        """Take the ring away."""
        if isinstance(self.ring, RingProducer):
            self.ring.remove()
        self._bell.close()


@kernel("int64", "uint8[::1]", "int64[:, ::1]", "int64", "int64", "uint8[::1]", "int64[:, ::1]")
def _gather(
    area: npt.NDArray[np.uint8],
    descriptors: npt.NDArray[np.int64],
    first: int,
    count: int,
    out: npt.NDArray[np.uint8],
    fields: npt.NDArray[np.int64],
) -> int:
    """Copy frames one behind the other to `out`; `fields` takes each one's packet type and bytes. Returns the bytes."""
    end = 0
    for number in range(count):
        slot = (first + number) % descriptors.shape[0]
        place = descriptors[slot, POSITION] % area.shape[0]
        length = VIRTIO_BYTES + descriptors[slot, LENGTH]
        copy_bytes(out, end, area, place, length)
        fields[number, 0] = descriptors[slot, PACKET_TYPE]
        fields[number, 1] = length
        end += length
    return end


class InlineHandover:
    """Frames travel inside messages: for an ingress that shares no memory with the forwarder."""

    def __init__(self, context: zmq.Context[Any], endpoints: Endpoints, index: int, counters: CounterBlock) -> None:
        """Connect to the forwarder."""
        self.ring: RingProducer | PrivateRing = PrivateRing(MAX_BATCH_FRAMES, INLINE_AREA_BYTES)
        self._frames = connected(context, zmq.PUSH, endpoints.forwarder_frames)
        self._ledger = HandedLedger(counters, Counter.HANDED_FORWARDER, index)
        self._index = index
        self._counters = counters
        self._head = 0
        self._bytes = np.zeros(INLINE_AREA_BYTES, np.uint8)
        self._fields = np.zeros((MAX_BATCH_FRAMES, 2), np.int64)

    def after_walk(self, frames: int, *, must_wake: bool) -> None:
        """Send the frames of the walk as one message; without a place for it they are dropped and counted."""
        if not frames:
            return
        ring = self.ring
        length = int(_gather(ring.area, ring.descriptors, self._head, frames, self._bytes, self._fields))
        descriptors = np.zeros(frames, DESCRIPTOR_DTYPE)
        descriptors["in_interface"] = self._index
        descriptors["packet_type"] = self._fields[:frames, 0]
        descriptors["bytes"] = self._fields[:frames, 1]
        header = encode(FrameBatch(purpose="ip", count=frames, handed=self._ledger.begin(frames)))
        self._head += frames
        if isinstance(ring, PrivateRing):
            ring.give_back_all()
        if not try_send(self._frames, [header, descriptors.tobytes(), self._bytes[:length].tobytes()]):
            self._ledger.undo(frames)
            self._counters.add(Counter.HANDED, -frames, self._index)
            self._counters.add(Counter.DROP_FORWARDER_FULL, frames, self._index)

    def keep_house(self, now: float) -> None:
        """Tell the forwarder how many frames it was handed."""
        if announcement := self._ledger.due(now):
            try_send(self._frames, [announcement])

    def close(self) -> None:
        """Close the socket."""
        self._frames.close()
