"""`trace`: the way of single frames through the router, step by step."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from json import dumps
from pathlib import Path
from typing import Any, Final

from services.common import tap
from services.common.counters import BY_COLUMN, COLUMNS, Counter, Kind
from services.common.tap import Record, Wish
from services.common.wire import ethernet, ipv4, summary
from services.control.cli.capture import Ask, Stopped, await_attached, instances, read_links
from services.control.cli.filter_grammar import compile_filter
from services.control.cli.grammar import Request
from services.control.cli.monitor import Presence
from services.control.cli.router import RefusedError
from services.control.cli.tapping import Tapping
from services.control.steps import stages

_PAUSE_S: Final = 0.02
SENT_LIMIT_S: Final = 0.5
"""A frame that is forwarded has left after this, or never will."""
RESOLVED_LIMIT_S: Final = 5.0
"""One that waits for a MAC: three requests, a second each, and some time for the rest (`arp.multicast_solicit`)."""
_LIMITS_S: Final = {
    Counter.FORWARDED: SENT_LIMIT_S,
    Counter.FRAGMENTED: SENT_LIMIT_S,
    Counter.OPTIONS_FILLED: SENT_LIMIT_S,
    Counter.HANDED: RESOLVED_LIMIT_S,
}
"""Verdicts that something follows from. A reason to drop is the end."""

Key = tuple[bytes, ...]


@dataclass
class Traced:
    """A frame, and what became of it."""

    received: Record
    until: float
    sent: list[Record] = field(default_factory=list)
    dropped: Record | None = None

    @property
    def keys(self) -> set[Key]:
        """What it is known by: as it came, and as it leaves where it is translated."""
        return {_key(self.received.data), _key(_leaving(self.received))}

    @property
    def verdict(self) -> Counter:
        """What the fast path decided."""
        return BY_COLUMN[self.received.verdict]


class TraceBook:
    """Puts what was sent and dropped to what was received. Pure: records and the time come in, frames go out."""

    def __init__(self, most: int) -> None:
        """Follow so many frames."""
        self._left = most
        self._open: dict[Key, list[Traced]] = {}
        self._finished: list[Traced] = []

    @property
    def is_done(self) -> bool:
        """Whether all frames were followed to their end."""
        return self._left == 0 and not self._open and not self._finished

    def feed(self, records: Iterable[Record], now: float) -> None:
        """Take records in the order of time."""
        for record in records:
            if record.kind == tap.RECEIVED:
                self._begin(record, now)
            elif (traced := self._of(record)) is not None:
                if record.kind == tap.SENT:
                    traced.sent.append(record)
                else:
                    traced.dropped = record
                if traced.verdict in (Counter.FORWARDED, Counter.HANDED) or traced.dropped is not None:
                    self._finish(traced)

    def take(self, now: float) -> list[Traced]:
        """Return the frames whose way is at its end, or has lasted too long."""
        late = {id(one): one for waiting in self._open.values() for one in waiting if one.until <= now}
        for traced in late.values():
            self._finish(traced)
        finished, self._finished = self._finished, []
        return finished

    def _begin(self, record: Record, now: float) -> None:
        if self._left == 0 or not 0 <= record.verdict < COLUMNS:
            return
        self._left -= 1
        verdict = BY_COLUMN[record.verdict]
        traced = Traced(record, now + _LIMITS_S.get(verdict, 0.0))
        if verdict in _LIMITS_S:
            for key in traced.keys:
                self._open.setdefault(key, []).append(traced)
        else:
            self._finished.append(traced)

    def _of(self, record: Record) -> Traced | None:
        """Return the frame that a later record is of: the oldest one of the same datagram."""
        waiting = self._open.get(_key(record.data), [])
        return next((one for one in waiting if one.received.time_ns <= record.time_ns), None)

    def _finish(self, traced: Traced) -> None:
        for key in traced.keys:
            self._open[key] = [one for one in self._open[key] if one is not traced]
            if not self._open[key]:
                del self._open[key]
        self._finished.append(traced)


def _key(frame: bytes) -> Key:
    """Return what stays the same of a datagram on its way, also where it is cut: RFC 791 section 3.2."""
    header = frame[ethernet.HEADER_BYTES :]
    return (
        header[ipv4.IDENTIFICATION : ipv4.FLAGS_FRAGMENT],
        header[ipv4.PROTOCOL : ipv4.PROTOCOL + 1],
        header[ipv4.SOURCE : ipv4.HEADER_BYTES],
    )


def _leaving(record: Record) -> bytes:
    """Return a frame with the addresses that it leaves with."""
    if not record.source:
        return record.data
    at = ethernet.HEADER_BYTES + ipv4.SOURCE
    addresses = record.source.to_bytes(4, "big") + record.destination.to_bytes(4, "big")
    return record.data[:at] + addresses + record.data[at + len(addresses) :]


def shown(traced: Traced, name: Callable[[int], str], route: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a frame's way, in the keys of `trace -j`.

    :param name: of an interface, by index.
    :param route: what `route.get` answers for its destination; None where there is no way.
    """
    first = traced.received
    sent = [
        {"dev": name(one.interface), "length": one.length, "after_us": _us(one.time_ns - first.time_ns)}
        for one in traced.sent
    ]
    result: dict[str, Any] = {
        "time_ns": first.time_ns,
        "dev": name(first.interface),
        "length": first.length,
        "summary": summary.line(first.data, first.length),
        "verdict": traced.verdict.name,
        "text": traced.verdict.text,
        "steps": [stage._asdict() for stage in stages(traced.verdict)],
        "sent": sent,
        "dropped": BY_COLUMN[traced.dropped.verdict].name if traced.dropped is not None else None,
    }
    if first.taken_ns:
        result |= {
            "batch": first.batch_number,
            "batch_frames": first.batch_frames,
            "ingress_us": _us(first.taken_ns - first.time_ns),
            "decision_us": _us(first.decided_ns - first.taken_ns),
        }
        result |= {"sending_us": _us(traced.sent[0].time_ns - first.decided_ns)} if traced.sent else {}
    if first.gso_size:
        result["gso_size"] = first.gso_size
    if first.source:
        result["leaves_as"] = [ipv4.address_text(first.source), ipv4.address_text(first.destination)]
    if first.out_interface or first.next_hop:
        result |= {
            "route": route.get("prefix") if route else None,
            "next_hop": ipv4.address_text(first.next_hop),
            "out": name(first.out_interface),
            "mtu": first.mtu,
            "lladdr": _destination_mac(traced),
        }
    elif route:
        result["route"] = route.get("prefix")
    return result


def _destination_mac(traced: Traced) -> str | None:
    return ethernet.mac_text(traced.sent[0].data[: ethernet.MAC_BYTES]) if traced.sent else None


def _us(nanoseconds: int) -> float:
    return round(nanoseconds / 1000, 1)


def text(way: Mapping[str, Any]) -> str:
    """Return a frame's way for people."""
    lines = [f"{way['dev']}: {way['summary']}"]
    if "batch" in way:
        lines.append(_row("ingress", f"{way['ingress_us']:g} us from the kernel's receipt to the forwarder"))
        others = f"batch {way['batch']} of {way['batch_frames']} frame{'s' * (way['batch_frames'] != 1)}"
        lines.append(_row("forwarder", f"{others}, decided in {way['decision_us']:g} us"))
    details = _details(way)
    for step in way["steps"]:
        if step["result"] == "not reached":
            continue
        mark = "stops" if step["result"] == "stopped" else "ok"
        lines.append(_row(step["name"], f"{mark}: {details.get(step['name']) or step['text']}"))
    lines.append(_row("verdict", f"{way['verdict']}: {way['text']}"))
    lines += [
        _row("sent", f"by {one['dev']}, {one['length']} bytes, {one['after_us']:g} us after receipt")
        for one in way["sent"]
    ]
    if way["dropped"]:
        lines.append(_row("dropped", way["dropped"]))
    return "\n".join(lines) + "\n"


def _row(name: str, what: str) -> str:
    return f"  {name:<13} {what}"


def _details(way: Mapping[str, Any]) -> dict[str, str]:
    """Return what is known of single steps beyond what they ask."""
    if "next_hop" not in way:
        return {}
    mac = way["lladdr"] or "not known"
    details = {
        "translation": "leaves as {} > {}".format(*way["leaves_as"]) if "leaves_as" in way else "",
        "route": f"{way['route'] or 'a route'} to {way['next_hop']} dev {way['out']}",
        "mtu": f"{way['mtu']} bytes",
    }
    if way["verdict"] in ("FORWARDED", "FRAGMENTED", "OPTIONS_FILLED"):
        details["neighbour"] = f"{way['next_hop']} is {mac}"
    elif way["verdict"] == "HANDED":
        details["neighbour"] = f"{way['next_hop']}: MAC not known, handed to arp" + (
            f", which found {mac}" if way["lladdr"] else ""
        )
    return details if way["verdict"] != "DROP_MTU_EXCEEDED" else {"route": details["route"]}


def trace(
    run_dir: Path,
    params: Mapping[str, Any],
    timeout_s: float,
    ask: Ask,
    as_json: bool,
    write: Callable[[str], int],
    most: int,
) -> int:
    """Show the way of the next frames that match; return the exit status.

    :raises HopwireError: there is no router.
    """
    links, _ = read_links(ask, None)
    wish = Wish(tap.RECEIVED | tap.SENT | tap.DROPPED, 0, compile_filter(params.get("filter", "")))
    presence = Presence(run_dir, timeout_s)
    book = TraceBook(most)

    def name(index: int) -> str:
        return links[index][0] if index in links else f"interface {index}" if index else "none"

    with Stopped() as stopped:
        tapping = Tapping(run_dir, instances(ask), wish)
        try:
            await_attached(tapping, stopped)
            while not stopped.is_set and not book.is_done:
                book.feed(tapping.take(), time.monotonic())
                for traced in book.take(time.monotonic()):
                    way = shown(traced, name, _route(ask, traced))
                    if status := write(dumps(way, separators=(",", ":")) + "\n" if as_json else text(way)):
                        return status
                presence.check(time.monotonic())
                time.sleep(_PAUSE_S)
        finally:
            tapping.close()
    return 0


def _route(ask: Ask, traced: Traced) -> Mapping[str, Any] | None:
    fields = summary.describe(traced.received.data)
    if fields.get("ethertype") != ethernet.ETHERTYPE_IPV4 or "dst" not in fields:
        return None
    if traced.verdict.kind is Kind.DROPPED and not traced.received.next_hop:
        return None  # it was not looked up, or there is none
    try:
        destination = traced.received.destination
        looked_up = ipv4.address_text(destination) if destination else fields["dst"]
        found: Mapping[str, Any] = ask(Request("route.get", {"dst": looked_up}))
    except RefusedError:
        return None
    return found
