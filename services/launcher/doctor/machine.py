"""Checks of the machine: privileges, what its kernel offers, memory."""

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from services.common import guard
from services.common.errors import HopwireError
from services.launcher.doctor.finding import Finding, Level, fine, note
from services.launcher.environment import check_capabilities, check_packet_sockets

_MIB: Final = 2**20
_BASE_BYTES: Final = 400 * _MIB
"""What control, arp and forwarder take (measured: 280 MiB with a few routes)."""
_INGRESS_BYTES: Final = 250 * _MIB
"""What one ingress takes (measured: 240 MiB, most of it the kernel's receive ring and the frame ring)."""


def check_machine(interface_count: int, *, other_namespace: bool) -> Iterator[Finding]:
    """Check everything that does not depend on the namespace."""
    yield _attempt(
        lambda: check_capabilities(other_namespace=other_namespace), "this process has the privileges of a router"
    )
    yield _attempt(check_packet_sockets, "the kernel has packet sockets with TPACKET_V2 and PACKET_VNET_HDR")
    yield _guard_finding()
    yield memory_finding(Path("/proc/meminfo").read_text(encoding="ascii"), interface_count)


def _attempt(check: Callable[[], None], success: str) -> Finding:
    try:
        check()
    except HopwireError as error:
        return Finding.of_line(Level.WRONG, error.message)
    return fine(success)


def _guard_finding() -> Finding:
    try:
        guard.probe()
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            return note("whether the kernel has nftables for netdev ingress: only root can ask", "run it with sudo")
        return note(
            f"the kernel has no nftables for netdev ingress ({error.strerror}): frames that only pass cost it time",
            "use a kernel with CONFIG_NF_TABLES_NETDEV and CONFIG_NFT_FIB_NETDEV; all works without",
        )
    return fine("the kernel has nftables for netdev ingress: frames that only pass cost it nothing")


def memory_finding(meminfo: str, interface_count: int) -> Finding:
    """Judge the text of /proc/meminfo for a router with so many interfaces."""
    fields = dict(line.split(":", 1) for line in meminfo.splitlines() if ":" in line)
    available = int(fields["MemAvailable"].split()[0]) * 1024
    needed = _BASE_BYTES + interface_count * _INGRESS_BYTES
    if available < needed:
        return note(
            f"{available // _MIB} MiB of memory are free, and a router with {interface_count} interfaces takes up to "
            f"{needed // _MIB} MiB",
            "free some, or give the machine more",
        )
    return fine(f"{available // _MIB} MiB of memory are free")
