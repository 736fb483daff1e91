"""Keeps the routing information base equal to the kernel: announcements while all is well, a dump where it is not."""

from collections.abc import Iterator
from typing import Final, Protocol

from services.control.kernel_types import DumpError, KernelEvent
from services.control.rib import KernelDump, Rib

DUMP_ATTEMPTS: Final = 5
"""Dumps that may be cut short by changes before the service looks after its other work in between."""


class KernelSource(Protocol):
    """Where announcements and dumps come from: `services.control.netlink.KernelNetlink`."""

    def events(self) -> Iterator[KernelEvent]:
        """Return the announcements that wait."""

    def discard_events(self) -> None:
        """Throw the announcements that wait away."""

    def dump(self) -> KernelDump:
        """Return all that there is, or raise `DumpError`."""


class KernelMirror:
    """Follows the kernel.

    :ivar dumps: how many there were; each after the first because announcements did not suffice.
    :ivar dump_reason: why the last one was made.
    """

    def __init__(self, source: KernelSource, rib: Rib) -> None:
        self._source = source
        self._rib = rib
        self.dumps = 0
        self.dump_reason = ""

    def follow(self) -> bool:
        """Take all announcements that wait, and make a dump where they do not suffice.

        What waits when a dump begins is thrown away: the dump tells of it. An announcement from before it, applied
        after it, could bring back what the kernel has removed in silence.

        :return: whether the mirror is right now; if not, call again without waiting for an announcement.
        """
        self._apply_events()
        for _ in range(DUMP_ATTEMPTS):
            if not self._rib.unsettled:
                return True
            reason = self._rib.unsettled
            self._source.discard_events()
            try:
                self._rib.adopt(self._source.dump())
            except DumpError as error:
                self._rib.unsettled = str(error)
                continue
            self.dumps += 1
            self.dump_reason = reason
            self._apply_events()
        return not self._rib.unsettled

    def _apply_events(self) -> None:
        for event in self._source.events():
            self._rib.apply(event)
            if self._rib.unsettled:
                return
