"""Receive packet steering (RPS) of a namespace's interfaces: `python -m services.launcher.bench.steering`.

By default the kernel forwards a veth frame on the core that sent it. With RPS it moves it to another one
(Documentation/networking/scaling.rst). The setting lives in sysfs, which shows the network namespace that it was
mounted in; so this program mounts its own, in a mount namespace that ends with it.
"""

import ctypes
import os
import sys
from pathlib import Path
from typing import Final

from services.common import netns
from services.launcher.probes import command

_CLONE_NEWNS: Final = 0x0002_0000  # linux/sched.h
_MS_REC: Final = 0x4000  # linux/mount.h
_MS_PRIVATE: Final = 1 << 18

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def steer(cpu_mask: int) -> None:
    """Set the cores that handle what the interfaces of the current network namespace receive; 0 switches RPS off."""
    _check(_libc.unshare(_CLONE_NEWNS), "unshare")
    _check(_libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None), "mount /")
    _check(_libc.mount(b"sysfs", b"/sys", b"sysfs", 0, None), "mount /sys")
    for queue in Path("/sys/class/net").glob("*/queues/rx-*/rps_cpus"):
        queue.write_text(f"{mask_text(cpu_mask)}\n")


def mask_text(cpu_mask: int) -> str:
    """Return a mask as the kernel reads and writes it: in hexadecimal, a comma after each 32 bits."""
    digits = f"{cpu_mask:x}"
    digits = digits.zfill(-(-len(digits) // 8) * 8)
    return ",".join(digits[place : place + 8] for place in range(0, len(digits), 8))


def main() -> None:
    """Read the arguments and set the mask."""
    parser = command.parser("steering", "Set the cores that handle received frames (RPS).")
    parser.add_argument("mask", type=lambda text: int(text, 16), help="a bit a core, hexadecimal; 0: off")
    options = parser.parse_args()

    def run() -> int:
        steer(options.mask)
        return 0

    if options.netns:
        netns.enter(options.netns)
    sys.exit(command.run("steering", None, run))


if __name__ == "__main__":
    main()
