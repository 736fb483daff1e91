"""`capture`: the frames that the services see, as pcapng into a file or a pipe."""

import os
import select
import signal
import stat
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final

from services.common import tap
from services.common.counters import BY_COLUMN, COLUMNS, Kind
from services.common.errors import HopwireError
from services.common.pcapng import (
    Direction,
    enhanced_packet,
    interface_description,
    interface_statistics,
    section_header,
)
from services.common.tap import Record, Wish
from services.control.cli.filter_grammar import compile_filter
from services.control.cli.grammar import Request
from services.control.cli.monitor import Presence
from services.control.cli.tapping import Tapping

STANDARD_OUTPUT: Final = "-"
_NO_INTERFACE: Final = "none"
_PAUSE_S: Final = 0.02
"""How long frames may lie in a tap before they are looked for."""
ATTACH_S: Final = 3.0
"""How long the services have to begin: each looks four times a second whether anybody asks."""
_PIPE_BYTES: Final = 4096  # PIPE_BUF of Linux: so much fits into a pipe that poll(2) calls writable
_STOP_LOOK_S: Final = 0.25
_BROKEN_PIPE: Final = 141  # as in `main`

Ask = Callable[[Request], Any]


class Stopped:
    """Becomes set on SIGINT and SIGTERM, while it is entered."""

    def __init__(self) -> None:
        self.is_set = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Stopped":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.is_set = True


class Sink:
    """Where blocks go. A pipe that nobody reads holds up only this program, and only until it is told to stop."""

    def __init__(self, target: str, stopped: Stopped) -> None:
        """Open a file, or take standard output.

        :raises HopwireError: it cannot be written, or is a terminal.
        """
        self._name = "standard output" if target == STANDARD_OUTPUT else target
        self._stopped = stopped
        if target == STANDARD_OUTPUT:
            if sys.stdout is None or sys.stdout.isatty():
                raise HopwireError(
                    "cannot write pcapng to a terminal; name a file, or pipe it: control-cli capture -w - | tshark -r -"
                )
            self._descriptor = os.dup(sys.stdout.fileno())
        else:
            try:
                self._descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            except OSError as error:
                raise HopwireError(f"cannot write {target}: {error.strerror}; name another file") from error
        mode = os.fstat(self._descriptor).st_mode
        self._may_block = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)

    def write(self, data: bytes) -> bool:
        """Write all of `data`; false where its reader has gone, or does not read and there is an end to it.

        :raises HopwireError: the disk is full, or fails.
        """
        view = memoryview(data)
        while view:
            if self._may_block and not select.select([], [self._descriptor], [], _STOP_LOOK_S)[1]:
                if self._stopped.is_set:
                    return False
                continue
            try:
                view = view[os.write(self._descriptor, view[:_PIPE_BYTES] if self._may_block else view) :]
            except BrokenPipeError:
                return False
            except OSError as error:
                raise HopwireError(f"cannot write {self._name}: {error.strerror}") from error
        return True

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


class PcapngWriter:
    """Turns records into blocks. Pure. An interface is described when its first frame comes."""

    def __init__(self, links: Mapping[int, tuple[str, bytes]], started_ns: int) -> None:
        """Begin a file.

        :param links: name and MAC of each interface, by index.
        """
        self._links = links
        self._started_ns = started_ns
        self._numbers: dict[int, int] = {}
        self._delivered: dict[int, int] = {}

    @property
    def frames(self) -> int:
        """How many there are in the file."""
        return sum(self._delivered.values())

    def begin(self) -> bytes:
        """Return what stands before all frames: the section, and the interfaces that are known."""
        return section_header("hopwire control-cli") + b"".join(self._number(index)[1] for index in self._links)

    def packet(self, record: Record) -> bytes:
        """Return a frame's block, behind that of its interface where it is the first one of it."""
        number, described = self._number(record.interface)
        self._delivered[record.interface] = self._delivered.get(record.interface, 0) + 1
        direction = {tap.RECEIVED: Direction.INBOUND, tap.SENT: Direction.OUTBOUND}.get(record.kind, Direction.UNKNOWN)
        return described + enhanced_packet(
            number, record.time_ns, record.data, record.length, direction, comment(record)
        )

    def end(self, missed: Mapping[int, int], ended_ns: int) -> bytes:
        """Return what stands behind all frames: what there is of each interface, and what was missed."""
        described = b"".join(self._number(index)[1] for index in missed)
        return described + b"".join(
            interface_statistics(
                number,
                self._started_ns,
                ended_ns,
                delivered=self._delivered.get(index, 0),
                dropped=missed.get(index, 0),
            )
            for index, number in self._numbers.items()
        )

    def _number(self, index: int) -> tuple[int, bytes]:
        number = self._numbers.get(index)
        if number is not None:
            return number, b""
        number = self._numbers[index] = len(self._numbers)
        name, mac = self._links.get(index, (_NO_INTERFACE if index == 0 else f"interface {index}", b""))
        return number, interface_description(name, mac)


def comment(record: Record) -> str:
    """Return what there is to say about a frame: why it was dropped, and that it is a super-frame."""
    parts = []
    if 0 <= record.verdict < COLUMNS and BY_COLUMN[record.verdict].kind is Kind.DROPPED:
        reason = BY_COLUMN[record.verdict]
        parts.append(f"{reason.name}: {reason.text}")
    if record.gso_size:
        parts.append(f"super-frame (GSO), {record.gso_size} bytes a segment")
    return "; ".join(parts)


def read_links(ask: Ask, dev: str | None) -> tuple[dict[int, tuple[str, bytes]], int]:
    """Return name and MAC of each interface of the router's by index, and the index of the one that is asked for.

    :raises HopwireError: there is no such interface.
    """
    wanted = 0
    if dev is not None:
        (link,) = ask(Request("link.show", {"dev": dev}))
        wanted = link["ifindex"]
    links = {
        link["ifindex"]: (link["ifname"], bytes.fromhex(link["address"].replace(":", "")))
        for link in ask(Request("link.show", {}))
        if "policy" in link
    }
    if dev is not None and wanted not in links:
        names = ", ".join(name for name, _ in links.values())
        raise HopwireError(f"{dev} is no interface of the router's; there are: {names}")
    return links, wanted


def await_attached(tapping: Tapping, stopped: Stopped) -> None:
    """Wait until the services write their frames; say which do not.

    :raises HopwireError: none does.
    """
    deadline = time.monotonic() + ATTACH_S
    while (silent := tapping.silent()) and time.monotonic() < deadline and not stopped.is_set:
        time.sleep(_PAUSE_S)
    if "forwarder" in silent and not stopped.is_set:
        raise HopwireError(
            f"the forwarder shows no frames within {ATTACH_S:g} s: it is stopped, or {tap.MAX_TAPS} captures run"
        )
    if silent and not stopped.is_set:
        print(f"control-cli: without the frames of {', '.join(silent)}, which does not answer", file=sys.stderr)


def instances(ask: Ask) -> list[str]:
    """Return the services that see frames."""
    return [one["instance"] for one in ask(Request("status", {}))["services"] if one["up"]]


def capture(run_dir: Path, params: Mapping[str, Any], timeout_s: float, ask: Ask, target: str, most: int | None) -> int:
    """Write frames until it is told to stop, or there are `most`; return the exit status.

    :raises HopwireError: there is no router, or no such interface; the target cannot be written.
    """
    links, interface = read_links(ask, params.get("dev"))
    kinds = tap.DROPPED if params.get("drops") else tap.RECEIVED | tap.SENT
    wish = Wish(kinds, interface, compile_filter(params.get("filter", "")))
    with Stopped() as stopped:
        sink = Sink(target, stopped)
        tapping = Tapping(run_dir, instances(ask), wish)
        try:
            await_attached(tapping, stopped)
            where = "standard output" if target == STANDARD_OUTPUT else target
            print(f"control-cli: capturing to {where}; Ctrl-C ends it", file=sys.stderr, flush=True)
            return _run(tapping, PcapngWriter(links, time.time_ns()), sink, stopped, Presence(run_dir, timeout_s), most)
        finally:
            tapping.close()
            sink.close()


def _run(
    tapping: Tapping, writer: PcapngWriter, sink: Sink, stopped: Stopped, presence: Presence, most: int | None
) -> int:
    alive = sink.write(writer.begin())
    while alive and not stopped.is_set and (most is None or writer.frames < most):
        records = tapping.take()
        if most is not None:
            records = records[: most - writer.frames]
        if records:
            alive = sink.write(b"".join(writer.packet(record) for record in records))
        else:
            presence.check(time.monotonic())
            time.sleep(_PAUSE_S)
    if alive and stopped.is_set:
        last = tapping.take()[: None if most is None else most - writer.frames]
        alive = sink.write(b"".join(writer.packet(record) for record in last))
    missed = tapping.missed()
    alive = alive and sink.write(writer.end(missed, time.time_ns()))
    print(f"control-cli: {writer.frames} frames captured, {sum(missed.values())} missed", file=sys.stderr)
    return 0 if alive or stopped.is_set else _BROKEN_PIPE
