"""The shell of the slow path: frames out of the batch or from arp in, what `slowpath` decides carried out."""

import time
from typing import Final

import numpy as np
import numpy.typing as npt

from services.common.counters import BY_COLUMN, NAT_REFUSALS, Counter, CounterBlock
from services.common.frame_ring import VIRTIO_BYTES
from services.common.insight import DropNote
from services.common.messages import Frame
from services.common.meters import Histogram
from services.forwarder.egress import Egress
from services.forwarder.handing import ArpHandover
from services.forwarder.pipeline import BATCH, Batch
from services.forwarder.rationing import TO_ARP, TO_SLOW_PATH
from services.forwarder.share import TimeShare
from services.forwarder.slowpath import SLOW_BUDGET_US, Actions, SlowFrame, SlowPath

UNREACHABLE_BUDGET: Final = 64
"""Frames of a batch from arp whose senders may be told. More could not be: a burst of errors is 50."""
_COST_S: Final = 60e-6
"""What an exception costs, about, before the first was measured."""
_BURST_S: Final = 0.05
"""Seconds that may be spent at once after a quiet time: some 800 pings."""


class SlowWork:
    """Sees to exceptions in the time that they may take; every frame given to it is counted."""

    def __init__(
        self,
        slow_path: SlowPath,
        counters: CounterBlock,
        egress: Egress,
        arp: ArpHandover,
        now: float,
        on_drop: DropNote,
    ) -> None:
        """Begin with a full burst of time."""
        self._on_drop = on_drop
        self._slow_path = slow_path
        self._counters = counters
        self._egress = egress
        self._arp = arp
        self._share = TimeShare(_COST_S, _BURST_S, now)

    def allow(self, allowance: npt.NDArray[np.int64], now: float, slept_s: float) -> None:
        """Tell the compiled code how many frames of its next batch may go to the slow path, and to arp.

        :param allowance: `Batch.allowance`
        :param slept_s: how long the forwarder has slept since the last call.
        """
        allowance[TO_SLOW_PATH] = min(BATCH, self._share.frames(now, slept_s))
        allowance[TO_ARP] = min(BATCH, self._arp.allowance(now, slept_s))

    def see_to(self, batch: Batch, slow: int, in_interface: int, area: npt.NDArray[np.uint8], now: float) -> None:
        """See to the frames of a batch that are left for the slow path; all come from one interface."""
        began = time.thread_time()
        actions = Actions()
        exceptions = 0
        for number in batch.slow[:slow].tolist():
            verdict = BY_COLUMN[batch.verdict[number]]
            start = int(batch.start[number])
            end = start + int(batch.length[number])
            exceptions += verdict is not Counter.HANDED  # those have a limit of their own
            if verdict is not Counter.HANDED and actions.cost_us >= SLOW_BUDGET_US:
                if verdict is not Counter.FORWARDED:  # such a one has gone already
                    reason = verdict if verdict in NAT_REFUSALS else Counter.DROP_SLOW_PATH_FULL
                    self._counters.add(reason, 1, in_interface)
                    self._on_drop(reason, in_interface, area[start:end].tobytes())
                continue
            frame = SlowFrame(
                verdict,
                in_interface,
                int(batch.packet_type[number]),
                area[start - VIRTIO_BYTES : end].tobytes(),
                int(batch.slot[number]),
                int(batch.next_hop[number]),
                int(batch.mtu[number]),
            )
            self._slow_path.handle(frame, now, actions)
        self._carry_out(actions, exceptions, began)
        duration_s = time.thread_time() - began
        self._counters.meters.observe_batch(Histogram.SLOW_PATH_FRAMES, Histogram.SLOW_PATH_NS, slow, duration_s)

    def unreachable(self, frames: list[Frame], now: float) -> None:
        """See to frames that arp hands back, because their next hop never answered."""
        began = time.thread_time()
        actions = Actions()
        for frame in frames[:UNREACHABLE_BUDGET]:
            self._counters.add(Counter.TAKEN, 1, frame.in_interface)
            self._slow_path.undeliverable(frame, now, actions)
        for frame in frames[UNREACHABLE_BUDGET:]:
            for counter in (Counter.TAKEN, Counter.DROP_HOST_UNREACHABLE, Counter.ICMP_SUPPRESSED):
                self._counters.add(counter, 1, frame.in_interface)
            self._on_drop(Counter.DROP_HOST_UNREACHABLE, frame.in_interface, bytes(frame.data[VIRTIO_BYTES:]))
        self._carry_out(actions, len(frames), began)

    def _carry_out(self, actions: Actions, exceptions: int, began: float) -> None:
        """Send what is to be sent, and put the time down: the thread's own, not what others had of the core."""
        for send in actions.send:
            self._egress.send(send.slot, send.frame)
        self._share.spend(exceptions, time.thread_time() - began)
        self._arp.resolve(actions.resolve)
