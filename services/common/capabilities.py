"""The privileges of this process: capabilities(7)."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

_NUMBERS: Final = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13, "CAP_SYS_ADMIN": 21}  # linux/capability.h


def missing_capabilities(needed: Iterable[str]) -> list[str]:
    """Return those of these capabilities that the calling thread has not in effect."""
    lines = Path("/proc/thread-self/status").read_text(encoding="ascii", errors="replace").splitlines()
    fields = {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
    effective = int(fields["CapEff"], 16)
    return [name for name in needed if not effective >> _NUMBERS[name] & 1]
