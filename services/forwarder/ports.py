"""Where frames come from: one frame ring an interface, and batches inside messages."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import structlog

from services.common.counters import MAX_INTERFACE_INDEX, Counter, CounterBlock
from services.common.endpoints import Endpoints
from services.common.frame_ring import (
    DESCRIPTOR_WORDS,
    LENGTH,
    PACKET_TYPE,
    POSITION,
    TIMESTAMP_NS,
    VIRTIO_BYTES,
    RingConsumer,
    RingError,
)
from services.common.messages import (
    DESCRIPTOR_BYTES,
    DESCRIPTOR_DTYPE,
    MAX_FRAME_BYTES,
    FrameBatch,
    MessageError,
)
from services.forwarder.pipeline import BATCH, counter_row, counter_start
from services.forwarder.resolution import NO_SLOT
from services.forwarder.rings import RING_COLUMNS, ring_row

_INLINE_BYTES: Final = BATCH * (VIRTIO_BYTES + MAX_FRAME_BYTES)


@dataclass
class Port:
    """One interface's ring, and the row its frames are counted in."""

    ring: RingConsumer
    row: npt.NDArray[np.int64]
    area_address: int

    @property
    def interface_index(self) -> int:
        """The interface that the frames came in by."""
        return self.ring.interface_index


class Ports:
    """All rings that this forwarder reads. A ring's file appears with its ingress, and goes with it."""

    def __init__(self, endpoints: Endpoints, counters: CounterBlock, log: structlog.stdlib.BoundLogger) -> None:
        """Attach to nothing yet; call `refresh`."""
        self._folder = endpoints.rings
        self._counters = counters
        self._log = log
        self._ports: dict[Path, Port] = {}
        self._changed_ns = 0
        """When the folder had changed last at the last look."""
        self._refused: dict[Path, int] = {}
        """The inode of a file that is no ring: each is reported once."""

    def current(self) -> list[Port]:
        """Return the ports, in the order of the table's rows."""
        return list(self._ports.values())

    def table(self, slots: Mapping[int, int]) -> npt.NDArray[np.int64]:
        """Return the rows for `forward_rings`, one a port; `slots` gives each interface's."""
        table = np.zeros((len(self._ports), RING_COLUMNS), np.int64)
        for number, port in enumerate(self._ports.values()):
            counters = counter_start(self._counters, port.interface_index)
            table[number] = ring_row(port.ring, slots.get(port.interface_index, NO_SLOT), counters)
        return table

    def has_changed(self) -> bool:
        """Tell whether a ring has come or gone since the last time."""
        try:
            changed_ns = self._folder.stat().st_mtime_ns
        except FileNotFoundError:
            changed_ns = 0  # no ingress has run yet
        before, self._changed_ns = self._changed_ns, changed_ns
        return changed_ns != before

    def refresh(self, now_ns: int) -> list[Port]:
        """Attach to new rings and let go of those whose file is gone or replaced.

        :param now_ns: Unix time: frames older than 100 ms that lie in a newly found ring are dropped and counted.
        :return: ports let go, whose last frames are still to be worked off.
        """
        let_go = [self._ports.pop(path) for path, port in list(self._ports.items()) if not port.ring.is_current()]
        for path in self._folder.glob("*.ring"):
            if path not in self._ports:
                self._attach(path, now_ns)
        return let_go

    def _attach(self, path: Path, now_ns: int) -> None:
        try:
            ring = _open(path)
        except FileNotFoundError:
            return  # its ingress took it away in this very moment
        except (RingError, OSError) as error:
            inode = _inode(path)
            if self._refused.get(path) != inode:
                self._refused[path] = inode
                self._counters.add(Counter.BAD_RINGS)
                self._log.warning("ring refused", path=str(path), reason=str(error))
            return
        stale = ring.skip_stale(now_ns)
        if stale:
            self._counters.add(Counter.TAKEN, stale, ring.interface_index)
            self._counters.add(Counter.DROP_STALE, stale, ring.interface_index)
        row = counter_row(self._counters, ring.interface_index)
        self._ports[path] = Port(ring, row, ring.area.ctypes.data)
        self._log.info("attached to ring", path=path.name, interface_index=ring.interface_index, stale=stale)


def _open(path: Path) -> RingConsumer:
    ring = RingConsumer(path)
    if not 0 < ring.interface_index <= MAX_INTERFACE_INDEX:
        raise RingError(f"{path} names no interface")
    return ring


def _inode(path: Path) -> int:
    """Return the number of a file, or 0 when it is gone by now."""
    try:
        return path.stat().st_ino
    except OSError:
        return 0


class InlineArea:
    """Memory for frames that came inside a message, laid out as the fast path wants them."""

    def __init__(self) -> None:
        """Make room for one batch of the largest frames; untouched pages take no memory."""
        self.area = np.zeros(_INLINE_BYTES, np.uint8)
        self.area_address = self.area.ctypes.data
        self.descriptors = np.zeros((BATCH, DESCRIPTOR_WORDS), np.int64)

    def load(self, header: FrameBatch, parts: list[bytes]) -> int:
        """Check a batch and keep it; return the index of the interface that its frames came in by.

        :raises MessageError: descriptors and bytes do not agree, or the frames are of several interfaces.
        """
        if len(parts) != 2 or len(parts[0]) != header.count * DESCRIPTOR_BYTES:
            raise MessageError("frames: descriptors do not agree with the count")
        fields = np.frombuffer(parts[0], DESCRIPTOR_DTYPE)
        lengths = fields["bytes"].astype(np.int64)
        if (lengths < VIRTIO_BYTES).any() or (lengths > VIRTIO_BYTES + MAX_FRAME_BYTES).any():
            raise MessageError("frames: a length is out of bounds")
        if int(lengths.sum()) != len(parts[1]):
            raise MessageError("frames: bytes left over, or missing")
        if (fields["in_interface"] != fields["in_interface"][0]).any():
            raise MessageError("frames: of more than one interface")
        if not 0 < fields["in_interface"][0] <= MAX_INTERFACE_INDEX:
            raise MessageError("frames: of no interface")
        self._ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        self._packet_types = fields["packet_type"]
        self._bytes = np.frombuffer(parts[1], np.uint8)
        self._received_ns = time.time_ns()  # the message does not say it
        return int(fields["in_interface"][0])

    def place(self, first: int) -> int:
        """Copy up to BATCH frames of the batch, from number `first` on, into the area; return how many."""
        ends = self._ends[first : first + BATCH + 1]
        count = len(ends) - 1
        if count <= 0:
            return 0
        begin, end = int(ends[0]), int(ends[-1])
        self.area[: end - begin] = self._bytes[begin:end]
        self.descriptors[:count, POSITION] = ends[:-1] - begin
        self.descriptors[:count, LENGTH] = np.diff(ends) - VIRTIO_BYTES
        self.descriptors[:count, PACKET_TYPE] = self._packet_types[first : first + count]
        self.descriptors[:count, TIMESTAMP_NS] = self._received_ns
        return count
