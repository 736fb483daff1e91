"""What a service shows of the frames it sees, from Python: the flight recorder's drops, and the taps' frames."""

import time
from collections.abc import Callable
from typing import Final

from services.common import tap
from services.common.counters import DROPS, Counter
from services.common.endpoints import Endpoints
from services.common.packet_filter import fields_of, matches
from services.common.recording import DATA_BYTES, Dropped, Recording
from services.common.tap import Record, Tap, TapFolder
from services.common.wire import virtio_net

DropNote = Callable[[Counter, int, bytes], None]
"""Takes note of a dropped frame: its reason, the index of its interface, and the frame without its virtio header."""
_VIRTIO: Final = virtio_net.HEADER_BYTES


def nobody(_reason: Counter, _interface: int, _frame: bytes) -> None:
    """Take note of nothing."""


class Insight:
    """A service's recording and its taps. Nothing here waits for whoever looks."""

    def __init__(self, endpoints: Endpoints, instance: str, reasons: tuple[Counter, ...] = DROPS) -> None:
        """Go on recording behind what a predecessor did.

        :param reasons: those that the service can give.
        :raises HopwireError: the recording cannot be made.
        """
        self.recording = Recording(endpoints.drops(instance), reasons)
        self._folder = TapFolder(endpoints.taps(instance))

    @property
    def taps(self) -> list[Tap]:
        """The taps that are there."""
        return self._folder.taps

    def refresh(self) -> bool:
        """See to taps that came or went; tell whether any did."""
        return self._folder.refresh()

    def dropped(self, reason: Counter, interface: int, frame: bytes, kinds: int = tap.DROPPED) -> None:
        """Record a frame that is dropped.

        :param kinds: also RECEIVED where nobody has shown the frame yet.
        """
        now_ns = time.time_ns()
        self.recording.add(Dropped(reason, now_ns, interface, len(frame), frame[:DATA_BYTES]))
        if self.taps:
            kind = tap.RECEIVED if kinds & tap.RECEIVED else tap.DROPPED
            self._show(kinds, Record(0, kind, now_ns, interface, len(frame), 0, int(reason), data=frame))

    def received(self, interface: int, frame: bytes, fate: Counter) -> None:
        """Show a frame that has come in, and what became of it."""
        if self.taps:
            record = Record(0, tap.RECEIVED, time.time_ns(), interface, len(frame), 0, int(fate), data=frame)
            self._show(tap.RECEIVED, record)

    def sent(self, interface: int, data: bytes, sent_ns: int) -> None:
        """Show a frame that has left at a Unix time: its virtio network header, and the frame."""
        if self.taps:
            frame = data[_VIRTIO:]
            gso_size = int.from_bytes(data[virtio_net.GSO_SIZE : virtio_net.GSO_SIZE + 2], "little")
            record = Record(0, tap.SENT, sent_ns, interface, len(frame), 0, data=frame, gso_size=gso_size)
            self._show(tap.SENT, record)

    def close(self) -> None:
        """Let go of the files."""
        self._folder.close()
        self.recording.close()

    def _show(self, kinds: int, record: Record) -> None:
        fields: list[int] = []
        for each in self.taps:
            if not each.wants(kinds, record.interface):
                continue
            fields = fields or fields_of(record.data, record.length)
            if matches(each.wish.program, fields):
                each.write(record)
