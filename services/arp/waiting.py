"""The datagrams that wait for their next hop's MAC (RFC 1122 section 2.3.2.2), bounded in every direction."""

from collections import OrderedDict, deque

from services.arp.deadlines import Key
from services.common.messages import Frame
from services.common.parameters import ArpParameters


class WaitingFrames:
    """A queue a next hop. Where a bound is reached the oldest frame goes.

    The bounds are `max_waiting_frames` and `max_waiting_bytes` for each next hop, and `max_total_waiting_bytes` in
    all, for which the queue gives way that began first. A frame's bytes are those of its data, virtio header included.
    """

    def __init__(self) -> None:
        """Begin with no frame."""
        self._queues: OrderedDict[Key, deque[Frame]] = OrderedDict()
        self._bytes: dict[Key, int] = {}
        self._total_bytes = 0

    def add(self, key: Key, frame: Frame, limits: ArpParameters) -> list[Frame]:
        """Append a copy of a frame, and return the frames that had to go for it, perhaps this one."""
        copy = frame._replace(data=bytes(frame.data))  # the original would keep its whole batch in memory
        queue = self._queues.setdefault(key, deque())
        queue.append(copy)
        self._account(key, len(copy.data))
        gone = []
        while queue and (len(queue) > limits.max_waiting_frames or self._bytes[key] > limits.max_waiting_bytes):
            gone.append(self._drop_oldest(key))
        while self._total_bytes > limits.max_total_waiting_bytes:
            gone.append(self._drop_oldest(next(iter(self._queues))))
        return gone

    def take(self, key: Key) -> list[Frame]:
        """Remove the frames that wait for a next hop, and return them in the order they came."""
        self._total_bytes -= self._bytes.pop(key, 0)
        return list(self._queues.pop(key, ()))

    def take_all(self) -> list[Frame]:
        """Remove all frames and return them."""
        return [frame for key in list(self._queues) for frame in self.take(key)]

    def count(self, key: Key) -> int:
        """Return how many frames wait for a next hop."""
        return len(self._queues.get(key, ()))

    def octets(self, key: Key) -> int:
        """Return how many bytes they have."""
        return self._bytes.get(key, 0)

    def octets_by_interface(self) -> dict[int, int]:
        """Return how many bytes wait, by interface."""
        sums: dict[int, int] = {}
        for (interface, _), octets in self._bytes.items():
            sums[interface] = sums.get(interface, 0) + octets
        return sums

    def _account(self, key: Key, change: int) -> None:
        self._bytes[key] = self._bytes.get(key, 0) + change
        self._total_bytes += change

    def _drop_oldest(self, key: Key) -> Frame:
        queue = self._queues[key]
        frame = queue.popleft()
        self._account(key, -len(frame.data))
        if not queue:
            del self._queues[key], self._bytes[key]
        return frame
