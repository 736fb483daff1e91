"""Measures a table of sessions that is full: its memory, and the pauses of its upkeep. Prints JSON.

`python -m services.forwarder.nat.measure`; `hopwire bench --nat` runs it.
"""

import json
import sys
import tempfile
import time
from ipaddress import IPv4Address
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np

from services.common.messages import Interface, InterfaceAddress
from services.common.nat_rules import MAX_SESSIONS, Masquerade, NatRules
from services.common.wire import ipv4
from services.forwarder.nat.choice import begin_session
from services.forwarder.nat.layout import ABSENT, KIND_SHIFT
from services.forwarder.nat.table import Translator

_SESSIONS: Final = 1_000_000
_INSIDE, _OUTSIDE = 0, 1  # slots
_OWN: Final = int(IPv4Address("192.0.2.1"))
_FIRST_HOST: Final = int(IPv4Address("10.0.0.1"))
_FIRST_REMOTE: Final = int(IPv4Address("198.18.0.1"))
_PORT: Final = 20_000
_MAPPINGS: Final = 40_000
"""Inside endpoints: as many as the outside address has ports by default."""
_AFTER_ALL_S: Final = 1e6
"""Later than any time-out."""
_ROUND_S: Final = 10.0


def _translator(path: Path) -> Translator:
    address = InterfaceAddress(address=_OWN, prefix_length=24)
    outside = Interface(index=2, name="out", mac=bytes(6), mtu=1500, up=True, addresses=[address])
    inside = Interface(index=1, name="in", mac=bytes(6), mtu=1500, up=True, addresses=[])
    rules = NatRules(
        masquerade=(Masquerade(interface="out"),), max_sessions=MAX_SESSIONS, max_sessions_per_host=MAX_SESSIONS
    )
    translator = Translator(path)
    translator.apply(rules, {_INSIDE: inside, _OUTSIDE: outside}, {"in": _INSIDE, "out": _OUTSIDE}, 1.0)
    return translator


def _fill(translator: Translator, sessions: int) -> int:
    """Open UDP sessions of as many inside endpoints as there are ports; return how many there are then."""
    ports = ipv4.PROTOCOL_UDP << KIND_SHIFT | _PORT << 16 | _PORT
    for number in range(sessions):
        round_, host = divmod(number, _MAPPINGS)
        remote = _FIRST_REMOTE + round_
        addresses = (_FIRST_HOST + host) << 32 | remote
        begin_session(translator.arrays, addresses, ports, remote, _PORT, ABSENT, _INSIDE, _OUTSIDE)
    return translator.sessions_in_use


def _pauses_ms(translator: Translator, now: float) -> list[float]:
    """Let upkeep go on until all sessions have ended; return the CPU time of each call."""
    pauses = []
    while translator.sessions_in_use:
        began = time.thread_time()
        translator.keep_house(now)
        pauses.append((time.thread_time() - began) * 1e3)
        now += _ROUND_S
    return pauses


def measure(sessions: int) -> dict[str, float]:
    """Return `sessions`, what they take in MB, and the pauses of upkeep while all of them end, in milliseconds."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "sessions.bin")
        translator = _translator(path)
        arrays = translator.arrays
        opened = _fill(translator, sessions)
        in_memory = sum(part.nbytes for part in arrays if isinstance(part, np.ndarray)) - arrays.sessions.nbytes
        pauses = _pauses_ms(translator, _AFTER_ALL_S)
        return {
            "sessions": opened,
            "capacity": MAX_SESSIONS,
            "run_directory_mb": path.stat().st_size / 1e6,
            "memory_mb": in_memory / 1e6,
            "median_pause_ms": median(pauses),
            "longest_pause_ms": max(pauses),
            "pauses": len(pauses),
        }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(_SESSIONS)) + "\n")
