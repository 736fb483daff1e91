"""The translator as the forwarder's shell sees it: rules in, arrays out, upkeep between batches, questions."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from services.common.messages import Interface, NatFigures
from services.common.nat_rules import NatRules
from services.common.wire import ethernet, ipv4, virtio_net
from services.forwarder.nat.layout import (
    ACTIVE,
    CHECK,
    COUNTS,
    DEADLINE,
    FLUSHED,
    FREE,
    HIGH,
    KIND_SHIFT,
    MULTIPLIER,
    NOW,
    OPENED,
    OPENED_SESSIONS,
    ORIGINAL,
    PORT_KINDS,
    REPLY,
    SEED,
    SESSION_WORDS,
    STATE,
    STATE_NAMES,
    STATES,
    TIMEOUTS,
    UNUSED,
    USED,
    NatArrays,
    make_arrays,
)
from services.forwarder.nat.rules import RuleCompiler
from services.forwarder.nat.storage import SessionFile, make_file, open_file
from services.forwarder.nat.upkeep import copy_sessions, restore, sweep, take_up

SWEEP_ROWS: Final = 4096
"""Rows that one slice looks at: some 20 µs."""
SWEEP_ENDINGS: Final = 256
"""Sessions that one slice ends: some 100 µs."""
ROUND_S: Final = 0.25
"""The pause between two rounds over the table. A session that is used after its time has ended by that very use."""
_MS: Final = 1000
_HEADERS_BYTES: Final = virtio_net.HEADER_BYTES + ethernet.HEADER_BYTES + ipv4.HEADER_BYTES
_KIND_NAMES: Final = {ipv4.PROTOCOL_ICMP: "icmp", ipv4.PROTOCOL_TCP: "tcp", ipv4.PROTOCOL_UDP: "udp"}


class Translator:
    """Sessions, rules, and what is asked about them. Without rules there are no arrays, and nothing costs anything."""

    def __init__(self, path: Path) -> None:
        """Begin without rules; `path` is the file of the sessions."""
        self._path = path
        self._rules = NatRules()
        self.arrays: NatArrays = UNUSED
        self._file: SessionFile | None = None
        self._row = 0
        self._sweep_at = 0.0
        self.problems: list[str] = []
        """Rules that name what is not there, in words."""
        self.taken_up = 0
        """Sessions of a predecessor that go on."""

    @property
    def in_use(self) -> bool:
        """Tell whether there is any rule."""
        return self._file is not None

    def apply(
        self, rules: NatRules, interfaces: Mapping[int, Interface], slots: Mapping[str, int], now: float
    ) -> NatArrays:
        """Use these rules from now on; sessions go on unless there is no rule any more.

        :param interfaces: by slot.
        :param slots: of interfaces, by name.
        :return: the arrays, which may be others than before.
        :raises HopwireError: there is no room for the sessions.
        """
        if not rules.in_use:
            self.close()
            self._path.unlink(missing_ok=True)
            self.problems = []
            self._rules = rules
            return self.arrays
        if self._file is None or self._file.capacity != rules.max_sessions:
            self._open(rules, interfaces, slots, now)
        self._rules = rules
        self._write_rules(interfaces, slots)
        self.arrays.scalars[ACTIVE] = 1
        return self.arrays

    def _write_rules(self, interfaces: Mapping[int, Interface], slots: Mapping[str, int]) -> None:
        compiler = RuleCompiler(self.arrays, interfaces, slots)
        compiler.write(self._rules)
        self.problems = compiler.problems

    def _open(self, rules: NatRules, interfaces: Mapping[int, Interface], slots: Mapping[str, int], now: float) -> None:
        """Make the arrays, and take up the sessions of before: of another geometry, or of a predecessor."""
        old = self._file or open_file(self._path)
        if old is not None and old.capacity == rules.max_sessions:
            self._file = old
        else:
            self._file = make_file(self._path, rules.max_sessions, old.hashing if old else None)
            if old is not None:
                copy_sessions(old.words, self._file.words)
        self.arrays = make_arrays(self._file.capacity, self._file.words)
        scalars = self.arrays.scalars
        scalars[SEED], scalars[MULTIPLIER] = self._file.hashing
        self._rules = rules
        self._write_rules(interfaces, slots)
        self.tick(now)
        self.taken_up = int(take_up(self.arrays)) if old is not None else 0

    def tick(self, now: float) -> None:
        """Tell the time: seconds of the monotonic clock."""
        self.arrays.scalars[NOW] = int(now * _MS)

    def keep_house(self, now: float) -> None:
        """Close some of the sessions whose time is over; to be called between batches."""
        if now < self._sweep_at or not self.in_use:
            return
        self.tick(now)
        flushed = int(self.arrays.scalars[FLUSHED])
        self._row = int(sweep(self.arrays, self._row, SWEEP_ROWS, SWEEP_ENDINGS))
        if self._row == 0:
            self._sweep_at = now + ROUND_S
            if flushed and not self._flushing:
                self.arrays.scalars[FLUSHED] = 0
            self._flushing = False

    _flushing = False
    """Whether a flush came since the round began: it is over only with the next one."""

    def flush(self, now: float) -> int:
        """End all sessions; return how many there were. Their rows are freed little by little."""
        if not self.in_use:
            return 0
        self.tick(now)
        self.arrays.scalars[FLUSHED] = self.arrays.scalars[NOW]
        self._flushing = self._row != 0
        self._sweep_at = 0.0
        return self.sessions_in_use

    def close(self) -> None:
        """Let go of the sessions; the file keeps them."""
        self.arrays = UNUSED
        self._file = None
        self._row = 0

    # --- questions ---------------------------------------------------------------------------------------------------

    @property
    def sessions_in_use(self) -> int:
        """Return how many sessions there are, some of which may have ended."""
        return 0 if self._file is None else self._file.capacity - int(self.arrays.scalars[FREE])

    @property
    def opened(self) -> int:
        """Return how many sessions were opened since the table was made."""
        return int(self.arrays.scalars[OPENED_SESSIONS])

    def status(self) -> dict[str, Any]:
        """Return sessions by state, ports in use, and bounds. The keys are those of `nat` in docs/bus.md."""
        scalars = self.arrays.scalars
        states = {STATE_NAMES[state]: int(scalars[USED + state]) for state in range(1, STATES)}
        ports = []
        for number, address in enumerate(self.arrays.addresses.tolist()):
            if address:
                used = self.arrays.ports_used.reshape(-1, PORT_KINDS, 2)[number].sum(axis=1).tolist()
                ports.append({"address": address, "tcp": used[0], "udp": used[1], "icmp": used[2]})
        return {
            "in_use": self.in_use,
            "sessions": self.sessions_in_use,
            "capacity": self._file.capacity if self._file else 0,
            "opened": self.opened,
            "states": states,
            "ports": ports,
            "problems": self.problems,
            "memory_bytes": sum(array.nbytes for array in self.arrays),
        }

    def figures(self) -> NatFigures | None:
        """Return what the forwarder reports to control; None without rules."""
        if not self.in_use:
            return None
        told = self.status()
        ports = {ipv4.address_text(one.pop("address")): one for one in told["ports"]}
        return NatFigures(
            sessions=told["states"],
            capacity=told["capacity"],
            ports=ports,
        )

    def sessions(self, now: float, first: int, most: int) -> tuple[list[dict[str, Any]], int]:
        """Return sessions from row `first` on, `most` at most, and the row to go on with; 0: there are no more."""
        shown: list[dict[str, Any]] = []
        if not self.in_use:
            return shown, 0
        self.tick(now)
        high = int(self.arrays.scalars[HIGH])
        rows = self.arrays.sessions.reshape(-1, SESSION_WORDS)
        live = np.flatnonzero(rows[first:high, CHECK]) + first
        for row in live[:most].tolist():
            shown += self._shown(rows[row].tolist(), int(self.arrays.scalars[NOW]))
        return shown, int(live[most]) if len(live) > most else 0

    def _shown(self, words: list[int], now_ms: int) -> Iterator[dict[str, Any]]:
        flushed = int(self.arrays.scalars[FLUSHED])
        if words[DEADLINE] <= now_ms or (flushed and words[OPENED] <= flushed):
            return
        kind = words[ORIGINAL + 1] >> KIND_SHIFT & 0xFF
        state = words[STATE] & 0xFF
        idle_ms = now_ms + int(self.arrays.scalars[TIMEOUTS + state]) - words[DEADLINE]
        yield {
            "protocol": _KIND_NAMES.get(kind, str(kind)),
            "state": STATE_NAMES[state],
            "original": _endpoints(words[ORIGINAL], words[ORIGINAL + 1]),
            "reply": _endpoints(words[REPLY], words[REPLY + 1]),
            "age_s": round((now_ms - words[OPENED]) / _MS, 3),
            "idle_s": round(idle_ms / _MS, 3),
            "expires_s": round((words[DEADLINE] - now_ms) / _MS, 3),
            "packets": [words[COUNTS], words[COUNTS + 2]],
            "bytes": [words[COUNTS + 1], words[COUNTS + 3]],
        }


def restored(nat: NatArrays, frame: bytes) -> bytes:
    """Return a frame, behind its virtio network header, as it was before it was translated, if it was."""
    if not nat.scalars[ACTIVE] or len(frame) < _HEADERS_BYTES:
        return frame
    copy = np.frombuffer(bytearray(frame), np.uint8)
    return copy.tobytes() if restore(nat, copy) else frame


def _endpoints(addresses: int, ports: int) -> list[int]:
    """Return source, source port, destination, destination port of a key."""
    return [addresses >> 32 & 0xFFFF_FFFF, ports >> 16 & 0xFFFF, addresses & 0xFFFF_FFFF, ports & 0xFFFF]
