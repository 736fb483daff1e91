"""Who has handed how many frames to whom inside messages: what a killed service had in its queues is found missing.

Messages of one sender keep their order, so one that says "120 frames came before these" to a receiver that has seen
100 tells it of 20 that never will come. Both ends count in their counter files, and so outlive their process.
"""

from typing import Final

from services.common.bus import FRAME_BATCHES
from services.common.counters import Counter, CounterBlock
from services.common.messages import MAX_BATCH_FRAMES, Handed, encode

ANNOUNCE_S: Final = 1.0
"""How often a sender says how much it has handed over, so that a loss is found without further frames."""
MOST_LOST: Final = 4 * FRAME_BATCHES * MAX_BATCH_FRAMES
"""More than the queues of both ends and the socket between them hold: a difference of more is another ledger's."""


class HandedLedger:
    """The sender's end: frames handed to one service."""

    def __init__(self, counters: CounterBlock, counter: Counter, interface: int = 0) -> None:
        """Go on where a predecessor ended.

        :param counter: HANDED_ARP or HANDED_FORWARDER.
        :param interface: of an ingress, its interface.
        """
        self._counters = counters
        self._counter = counter
        self._interface = interface
        self._announced_at = float("-inf")

    @property
    def handed(self) -> int:
        """Frames handed over so far."""
        return self._counters.get(self._counter, self._interface)

    def begin(self, frames: int) -> int:
        """Take note of frames before they are sent, since a kill may come in between; return `FrameBatch.handed`."""
        before = self.handed
        self._counters.add(self._counter, frames, self._interface)
        return before

    def undo(self, frames: int) -> None:
        """Take back what could not be sent."""
        self._counters.add(self._counter, -frames, self._interface)

    def message(self, *, answer: bool = False) -> bytes:
        """Return the message that says how much was handed over."""
        return encode(Handed(interface=self._interface, handed=self.handed, answer=answer))

    def due(self, now: float) -> bytes | None:
        """Return that message once a `ANNOUNCE_S`, but not before the first frame."""
        if now - self._announced_at < ANNOUNCE_S or not self.handed:
            return None
        self._announced_at = now
        return self.message()


class TakenLedger:
    """The receiver's end: frames of each sender that came. What did not is counted as DROP_RESTARTED."""

    def __init__(self, counters: CounterBlock) -> None:
        """Go on where a predecessor ended."""
        self._counters = counters

    def taken(self, sender: int = 0) -> int:
        """Return how many frames of a sender came or are lost; senders are named as in `Handed.interface`."""
        return self._counters.get(Counter.RECKONED, sender)

    def expect(self, sender: int, handed: int | None) -> None:
        """Compare with the sender's count; None is that of one who keeps none."""
        if handed is None or not self._has_row(sender):
            return
        lost = handed - self.taken(sender)
        if 0 < lost <= MOST_LOST:
            for counter in (Counter.TAKEN, Counter.DROP_RESTARTED):
                self._counters.add(counter, lost, sender)
        self._counters.set(Counter.RECKONED, handed, sender)

    def take(self, sender: int, handed: int | None, frames: int = 1) -> None:
        """Take note of frames of a batch whose header said `handed`."""
        if handed is not None and self._has_row(sender):
            self._counters.add(Counter.RECKONED, frames, sender)

    def _has_row(self, sender: int) -> bool:
        return sender == 0 or self._counters.row(sender) != 0
