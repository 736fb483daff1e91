"""Later fragments that came before their first one: held, within bounds, until that one says who they belong to.

RFC 4787 REQ-14 asks for both: fragments out of order are translated, and nobody can fill memory with them. Pure.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from services.common.counters import Counter, CounterBlock
from services.common.insight import DropNote, nobody
from services.common.wire import virtio_net
from services.forwarder.nat.layout import NatArrays
from services.forwarder.nat.upkeep import knows_fragment

_VIRTIO: Final = virtio_net.HEADER_BYTES
MAX_FRAGMENTS: Final = 256
MAX_BYTES: Final = 2**20
HOLD_S: Final = 2.0
"""The rest of a datagram is under way at once, or lost."""


@dataclass(frozen=True)
class HeldFragment:
    """A frame that waits."""

    in_interface: int
    packet_type: int
    data: bytes
    """The virtio network header, then the Ethernet frame."""
    until: float


class FragmentQueue:
    """All that wait, each counted as waiting on the interface that it came in by."""

    def __init__(self, counters: CounterBlock, on_drop: DropNote = nobody) -> None:
        """Begin with none.

        :param on_drop: takes note of each fragment that is dropped here.
        """
        self._counters = counters
        self._on_drop = on_drop
        self._held: list[HeldFragment] = []
        self._bytes = 0

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._held)

    def hold(self, in_interface: int, packet_type: int, data: bytes, now: float) -> None:
        """Keep a fragment; where there is no room it is dropped, and counted."""
        if len(self._held) >= MAX_FRAGMENTS or self._bytes + len(data) > MAX_BYTES:
            self._drop(in_interface, data)
            return
        self._held.append(HeldFragment(in_interface, packet_type, data, now + HOLD_S))
        self._bytes += len(data)
        self._counters.add(Counter.WAITING, 1, in_interface)
        self._counters.add(Counter.NAT_FRAGMENT_HELD, 1, in_interface)

    def released(self, nat: NatArrays, now: float) -> list[HeldFragment]:
        """Return those whose first fragment has come, which are held no more; drop those whose time is over."""
        free: list[HeldFragment] = []
        kept: list[HeldFragment] = []
        for fragment in self._held:
            if knows_fragment(nat, np.frombuffer(bytearray(fragment.data), np.uint8)):
                free.append(fragment)
            elif fragment.until > now:
                kept.append(fragment)
                continue
            else:
                self._drop(fragment.in_interface, fragment.data)
            self._counters.add(Counter.WAITING, -1, fragment.in_interface)
        self._held = kept
        self._bytes = sum(len(fragment.data) for fragment in kept)
        return free

    def _drop(self, in_interface: int, data: bytes) -> None:
        self._counters.add(Counter.DROP_NAT_FRAGMENT, 1, in_interface)
        self._on_drop(Counter.DROP_NAT_FRAGMENT, in_interface, data[_VIRTIO:])


def laid_out(fragment: HeldFragment, time_ns: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return memory and the descriptor of a frame, as the fast path takes them.

    :param time_ns: Unix time, for the record of its drop.
    """
    area = np.frombuffer(bytearray(fragment.data), np.uint8)
    length = len(fragment.data) - _VIRTIO
    return area, np.array([(0, length, fragment.packet_type, time_ns)], np.int64)
