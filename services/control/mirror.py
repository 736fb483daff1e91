"""Keeps the routing information base equal to the kernel: announcements while all is well, a dump where it is not."""

from typing import Final

from services.control.netlink import DumpError, KernelNetlink
from services.control.rib import Rib

DUMP_ATTEMPTS: Final = 5
"""Dumps that may be cut short by changes before the service looks after its other work in between."""


class KernelMirror:
    """Follows the kernel."""

    def __init__(self, netlink: KernelNetlink, rib: Rib) -> None:
        self._netlink = netlink
        self._rib = rib
        self.dumps = 0
        """Dumps adopted so far."""

    def follow(self) -> bool:
        """Take all announcements that wait, and make a dump where they do not suffice.

        :return: whether the mirror is right now; if not, call again without waiting for an announcement.
        """
        self._apply_events()
        for _ in range(DUMP_ATTEMPTS):
            if not self._rib.unsettled:
                return True
            self._netlink.discard_events()
            try:
                self._rib.adopt(self._netlink.dump())
            except DumpError as error:
                self._rib.unsettled = str(error)
                continue
            self.dumps += 1
            self._apply_events()
        return not self._rib.unsettled

    def _apply_events(self) -> None:
        for event in self._netlink.events():
            self._rib.apply(event)
            if self._rib.unsettled:
                return
