"""Ping: ICMP echo over a raw socket (RFC 792), with every reply, every ICMP error and what was wrong with them."""

import argparse
import contextlib
import json
import os
import socket
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final, TypedDict, final

from services.common.wire import icmp, ipv4
from services.launcher.probes import command
from services.launcher.probes.icmp import Damaged, EchoReply, IcmpError, echo_request, error_name, parse

_IP_MTU_DISCOVER: Final = 10  # linux/in.h, like the next two
_IP_PMTUDISC_DONT: Final = 0
_IP_PMTUDISC_PROBE: Final = 3  # DF in every datagram, and a path MTU learned before does not count
_MAX_PAYLOAD_BYTES: Final = ipv4.MAX_BYTES - ipv4.HEADER_BYTES - 8
_MAX_COUNT: Final = 1_000_000
_MAX_TTL: Final = 255
_RECEIVE_BUFFER_BYTES: Final = 1 << 20
_SEQUENCES: Final = 1 << 16


@final
class Reply(TypedDict):
    """An answer, with the TTL it arrived with."""

    sequence: int
    ttl: int
    rtt_us: float


@final
class Error(TypedDict):
    """An ICMP error about one of the requests; `mtu` (bytes) only in "fragmentation needed"."""

    sequence: int
    source: str
    type: int
    code: int
    name: str
    mtu: int | None


@final
class SendError(TypedDict):
    """A request that the host's own kernel did not send, and why."""

    sequence: int
    reason: str


class Rtt(TypedDict):
    """Round-trip times in microseconds."""

    min: float
    avg: float
    median: float
    max: float


class PingReport(TypedDict):
    """What came of a ping. `sent` leaves out what the host's kernel refused.

    `wrong` counts replies with a bad checksum, another payload than was sent, or from another address.
    """

    destination: str
    sent: int
    received: int
    duplicates: int
    wrong: int
    rtt_us: Rtt | None
    replies: list[Reply]
    errors: list[Error]
    send_errors: list[SendError]


@dataclass(frozen=True)
class Settings:
    """How to ping. `payload_bytes` leaves out the ICMP header; `flood` sends the next when one is answered."""

    destination: IPv4Address
    count: int
    interval_s: float
    payload_bytes: int
    ttl: int
    timeout_s: float
    dont_fragment: bool
    flood: bool


class EchoTracker:
    """Matches what comes back to what was sent. Pure; times are nanoseconds of one clock."""

    def __init__(self, destination: IPv4Address, identifier: int, payload: bytes) -> None:
        """Track requests with this 16-bit identifier and payload."""
        self._destination = destination
        self._identifier = identifier
        self._payload = payload
        self._waiting: dict[int, tuple[int, int]] = {}
        """Sequence number on the wire: the request's own number, and when it was sent."""
        self._report = PingReport(
            destination=str(destination),
            sent=0,
            received=0,
            duplicates=0,
            wrong=0,
            rtt_us=None,
            replies=[],
            errors=[],
            send_errors=[],
        )

    def request(self, sequence: int) -> bytes:
        """Return the request of that number; on the wire the numbers wrap after 65535."""
        return echo_request(self._identifier, sequence % _SEQUENCES, self._payload)

    def sent(self, sequence: int, sent_ns: int) -> None:
        """Note that a request is out."""
        self._report["sent"] += 1
        self._waiting[sequence % _SEQUENCES] = (sequence, sent_ns)

    def refused(self, sequence: int, reason: str) -> SendError:
        """Note that the host's kernel did not send a request."""
        error = SendError(sequence=sequence, reason=reason)
        self._report["send_errors"].append(error)
        return error

    def received(self, datagram: bytes, now_ns: int) -> Reply | Error | None:
        """Take in a datagram from its IP header on, and return what it says about a request, if anything."""
        message = parse(datagram)
        if message is None:
            return None
        if isinstance(message, Damaged):
            self._report["wrong"] += message.source == self._destination
            return None
        if message.identifier != self._identifier:
            return None
        if isinstance(message, EchoReply):
            return self._reply(message, now_ns)
        return self._error(message) if message.destination == self._destination else None

    def _error(self, message: IcmpError) -> Error:
        own_number, _sent_ns = self._waiting.get(message.sequence, (message.sequence, 0))
        if message.type != icmp.REDIRECT:  # which comes beside an answer, not in its place
            self._waiting.pop(message.sequence, None)
        error = Error(
            sequence=own_number,
            source=str(message.source),
            type=message.type,
            code=message.code,
            name=error_name(message.type, message.code),
            mtu=message.mtu,
        )
        self._report["errors"].append(error)
        return error

    def _reply(self, message: EchoReply, now_ns: int) -> Reply | None:
        if message.source != self._destination or message.payload != self._payload:
            self._report["wrong"] += 1
            return None
        if message.sequence not in self._waiting:
            self._report["duplicates"] += 1
            return None
        sequence, sent_ns = self._waiting.pop(message.sequence)
        reply = Reply(sequence=sequence, ttl=message.ttl, rtt_us=(now_ns - sent_ns) / 1000)
        self._report["received"] += 1
        self._report["replies"].append(reply)
        return reply

    def is_waiting(self, sequence: int | None = None) -> bool:
        """Tell whether that request, or any, has not been answered yet."""
        return bool(self._waiting) if sequence is None else sequence % _SEQUENCES in self._waiting

    def report(self) -> PingReport:
        """Return what came of it."""
        times = [reply["rtt_us"] for reply in self._report["replies"]]
        if times:
            self._report["rtt_us"] = Rtt(
                min=min(times), avg=statistics.fmean(times), median=statistics.median(times), max=max(times)
            )
        return self._report


def ping(settings: Settings, show: Callable[[Reply | Error | SendError], None]) -> PingReport:
    """Ping from the current namespace and return the report; `show` gets each event as it happens.

    Ctrl-C ends it early.

    :raises PermissionError: the process may not open a raw socket.
    """
    payload = bytes(index & 0xFF for index in range(settings.payload_bytes))
    tracker = EchoTracker(settings.destination, os.getpid() % _SEQUENCES, payload)
    # after a Ctrl-C the user wants the report of what was sent so far
    with _icmp_socket(settings) as raw, contextlib.suppress(KeyboardInterrupt):
        _exchange(raw, settings, tracker, show)
    return tracker.report()


def _icmp_socket(settings: Settings) -> socket.socket:
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    raw.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, settings.ttl)
    discover = _IP_PMTUDISC_PROBE if settings.dont_fragment else _IP_PMTUDISC_DONT
    raw.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, discover)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
    return raw


def _exchange(
    raw: socket.socket, settings: Settings, tracker: EchoTracker, show: Callable[[Reply | Error | SendError], None]
) -> None:
    target = (str(settings.destination), 0)
    start_s = time.monotonic()
    for sequence in range(1, settings.count + 1):
        request = tracker.request(sequence)
        sent_ns = time.monotonic_ns()
        try:
            raw.sendto(request, target)
        except OSError as error:
            show(tracker.refused(sequence, os.strerror(error.errno or 0)))
        else:
            tracker.sent(sequence, sent_ns)
        is_last = sequence == settings.count
        if settings.flood or is_last:
            until_s = time.monotonic() + settings.timeout_s
        else:
            until_s = start_s + sequence * settings.interval_s
        while (left_s := until_s - time.monotonic()) > 0:
            if (is_last and not tracker.is_waiting()) or (settings.flood and not tracker.is_waiting(sequence)):
                break
            raw.settimeout(left_s)
            try:
                datagram = raw.recv(ipv4.MAX_BYTES)
            except TimeoutError:
                break
            event = tracker.received(datagram, time.monotonic_ns())
            if event is not None:
                show(event)


def _line(event: Reply | Error | SendError) -> str:
    if "reason" in event:
        return f"request {event['sequence']} was not sent: {event['reason']}"
    if "rtt_us" in event:
        return f"reply to {event['sequence']}: ttl {event['ttl']}, {event['rtt_us'] / 1000:.3f} ms"
    mtu = "" if event["mtu"] is None else f", MTU {event['mtu']}"
    numbers = f"type {event['type']} code {event['code']}"
    return f"error about {event['sequence']} from {event['source']}: {event['name']} ({numbers}{mtu})"


def summary(report: PingReport) -> str:
    """Return a report in one line for people."""
    lost = report["sent"] - report["received"]
    parts = [f"{report['sent']} sent, {report['received']} received, {lost} lost"]
    parts += [f"{report[key]} {key}" for key in ("duplicates", "wrong") if report[key]]
    if report["rtt_us"] is not None:
        times = "/".join(f"{report['rtt_us'][key] / 1000:.3f}" for key in ("min", "avg", "median", "max"))
        parts.append(f"RTT min/avg/median/max {times} ms")
    return ", ".join(parts)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command.parser("ping", "Send ICMP echo requests. Exit status 0 if any was answered, otherwise 1.")
    parser.add_argument("destination", type=command.address, help="the IPv4 address to ping")
    parser.add_argument("-c", "--count", type=command.integer(1, _MAX_COUNT), default=5, help="requests (5)")
    parser.add_argument("-i", "--interval", type=command.seconds, default=1.0, help="seconds between them (1)")
    parser.add_argument(
        "-s", "--size", type=command.integer(0, _MAX_PAYLOAD_BYTES), default=56, help="payload bytes (56)"
    )
    parser.add_argument("-t", "--ttl", type=command.integer(1, _MAX_TTL), default=ipv4.DEFAULT_TTL, help="TTL (64)")
    parser.add_argument(
        "-W", "--timeout", type=command.seconds, default=1.0, help="seconds to wait for the last answer (1)"
    )
    parser.add_argument("-M", "--dont-fragment", action="store_true", help="set DF")
    parser.add_argument("-f", "--flood", action="store_true", help="send the next as soon as the last is answered")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    arguments = _arguments(argv)
    settings = Settings(
        destination=arguments.destination,
        count=arguments.count,
        interval_s=arguments.interval,
        payload_bytes=arguments.size,
        ttl=arguments.ttl,
        timeout_s=arguments.timeout,
        dont_fragment=arguments.dont_fragment,
        flood=arguments.flood,
    )

    def show(event: Reply | Error | SendError) -> None:
        if not (arguments.json or arguments.flood):
            print(_line(event), flush=True)

    def probe() -> int:
        report = ping(settings, show)
        print(json.dumps(report) if arguments.json else summary(report))
        return 0 if report["received"] else 1

    return command.run("ping", arguments.netns, probe)


if __name__ == "__main__":
    sys.exit(main())
