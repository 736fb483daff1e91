"""Following a publisher's state: the Clone pattern of the ZeroMQ guide (chapter 5), as a pure core.

Subscribe first, then ask for a snapshot; drop changes at or below its sequence number; a gap, a new epoch or a
silent publisher means a new snapshot.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final, Literal

from services.common.messages import StateEnvelope

HEARTBEAT_S: Final = 0.5
SILENCE_S: Final = 3.0
"""A publisher unheard for so long is asked again: six heartbeats."""
SNAPSHOT_RETRY_S: Final = 1.0

_VOID_EPOCHS: Final = 8

Action = Literal["apply", "ignore", "resync"]


@dataclass
class CloneTracker:
    """Where one subscriber stands in one publisher's sequence."""

    epoch: int = -1
    sequence: int = -1
    synchronised: bool = False
    _void: deque[int] = field(default_factory=lambda: deque(maxlen=_VOID_EPOCHS))
    """Epochs whose publications may still lie in the queue, although a snapshot of another one has come since."""
    _asked_at: float = field(default=float("-inf"))
    _heard_at: float = field(default=float("-inf"))

    def on_publication(self, envelope: StateEnvelope, now: float) -> Action:
        """Decide about a publication: apply it, ignore it, or ask for a snapshot.

        Publications that come while no snapshot is there must be kept back until one is.
        """
        if envelope.epoch in self._void:
            return "ignore"  # and no sign of life
        self._heard_at = now
        is_change = envelope.body is not None
        if envelope.epoch == self.epoch:
            if envelope.sequence <= self.sequence:
                return "ignore"
            if is_change and envelope.sequence == self.sequence + 1:
                self.sequence = envelope.sequence
                return "apply"
        else:
            self._void.append(envelope.epoch)  # unless the snapshot, which is now asked for, is of this epoch
        self.synchronised = False
        return "resync"

    def on_snapshot(self, envelope: StateEnvelope, now: float) -> Action:
        """Decide about a snapshot: the first and every newer one is applied."""
        self._heard_at = now
        if envelope.body is None:
            return "ignore"
        if envelope.epoch == self.epoch:
            if envelope.sequence < self.sequence or (self.synchronised and envelope.sequence == self.sequence):
                return "ignore"
        else:
            if self.epoch >= 0:
                self._void.append(self.epoch)
            if envelope.epoch in self._void:
                self._void.remove(envelope.epoch)
        self.epoch = envelope.epoch
        self.sequence = envelope.sequence
        self.synchronised = True
        return "apply"

    def should_ask(self, now: float) -> bool:
        """Tell whether to send a snapshot request now; true at most once a `SNAPSHOT_RETRY_S`."""
        silent = now - self._heard_at > SILENCE_S
        if (self.synchronised and not silent) or now - self._asked_at < SNAPSHOT_RETRY_S:
            return False
        self._asked_at = now
        return True
