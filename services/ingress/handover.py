"""How an ingress hands frames to the forwarder: through shared memory, or inside ZeroMQ messages."""

from collections.abc import Callable
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import zmq

from services.common.bell import Bell
from services.common.bus import connected, is_running, try_send
from services.common.coalesce import STRETCH_NS
from services.common.counters import Counter, CounterBlock
from services.common.endpoints import Endpoints
from services.common.frame_ring import (
    LENGTH,
    PACKET_TYPE,
    POSITION,
    VIRTIO_BYTES,
    PrivateRing,
    RingConsumer,
    RingError,
    RingProducer,
)
from services.common.kernels import kernel
from services.common.ledger import HandedLedger
from services.common.memory import copy_bytes
from services.common.messages import DESCRIPTOR_DTYPE, MAX_BATCH_FRAMES, FrameBatch, encode
from services.ingress.reception import NO_BELL

INLINE_AREA_BYTES: Final = 2 * 2**20


class Handover(Protocol):
    """Where `ring.walk` puts frames, and what happens then."""

    ring: RingProducer | PrivateRing

    bell: int
    """The descriptor that wakes the forwarder; NO_BELL where messages carry the frames."""
    stretch_ns: int
    """How long the compiled loop may go on before `hand_over` is called."""

    def hand_over(self, frames: int) -> None:
        """Hand over the frames that came since the last call, where the ring alone does not."""

    def keep_house(self, now: float) -> None:
        """Do what is due now and then."""

    def close(self) -> None:
        """Let go: the interface is served no more."""


class SharedMemoryHandover:
    """Frames lie in a ring that the forwarder reads; a bell only wakes it."""

    def __init__(self, endpoints: Endpoints, interface: str, index: int, counters: CounterBlock) -> None:
        """Make the ring of this run."""
        self._bell = Bell(endpoints.forwarder_bell)
        self.bell = self._bell.fileno()
        self.stretch_ns = STRETCH_NS
        self._endpoints = endpoints
        self._path = endpoints.ring(interface)
        self._count: Callable[[Counter, int], None] = lambda counter, frames: counters.add(counter, frames, index)
        self._write_off()
        self.ring: RingProducer | PrivateRing = RingProducer(self._path, index)

    def hand_over(self, frames: int) -> None:
        """Do nothing: the forwarder reads the ring."""

    def keep_house(self, now: float) -> None:
        """Do nothing: the ring itself tells how far both ends are."""

    def close(self) -> None:
        """Take the ring away."""
        self._write_off()
        if isinstance(self.ring, RingProducer):
            self.ring.remove()
        self._bell.close()

    def _write_off(self) -> None:
        """Count the frames of a ring as dropped that goes while no forwarder is there to work them off."""
        if is_running(self._endpoints, "forwarder"):
            return
        try:
            ring = RingConsumer(self._path)
        except (OSError, RingError):
            return  # there is none, or nobody can say what it held
        left = ring.available()
        if 0 < left <= len(ring.descriptors):
            self._count(Counter.HANDED, -left)
            self._count(Counter.DROP_RESTARTED, left)


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
        self.bell = NO_BELL
        self.stretch_ns = 0  # each walk is a message
        self._frames = connected(context, zmq.PUSH, endpoints.forwarder_frames)
        self._ledger = HandedLedger(counters, Counter.HANDED_FORWARDER, index)
        self._index = index
        self._counters = counters
        self._head = 0
        self._bytes = np.zeros(INLINE_AREA_BYTES, np.uint8)
        self._fields = np.zeros((MAX_BATCH_FRAMES, 2), np.int64)

    def hand_over(self, frames: int) -> None:
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
