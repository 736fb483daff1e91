"""Traceroute: UDP datagrams with rising TTL, and who answers that they died (RFC 792, time exceeded).

The answers come through the socket's error queue (IP_RECVERR, ip(7)), so it needs no raw socket and no root.
"""

import argparse
import json
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final, TypedDict

from services.common.errors import HopwireError
from services.common.wire import icmp
from services.launcher.probes import command
from services.launcher.probes.icmp import error_name

_IP_RECVERR: Final = 11  # linux/in.h
_ORIGIN_ICMP: Final = 2  # SO_EE_ORIGIN_ICMP of linux/errqueue.h
_EXTENDED_ERROR = struct.Struct("=IBBBxII")  # sock_extended_err of linux/errqueue.h
_OFFENDER = struct.Struct("=HH4s")  # the sockaddr_in behind it: family, port, address
_ANCILLARY_BYTES: Final = 512
_FIRST_PORT: Final = 33_434  # where traceroutes start: ports that hardly anything listens on
_PORT_UNREACHABLE: Final = 3
_MAX_HOPS: Final = 255
_PAYLOAD: Final = b"hopwire traceroute"


class Answer(TypedDict):
    """Who answered one probe, and how."""

    source: str
    type: int
    code: int
    name: str
    rtt_us: float


class Hop(TypedDict):
    """The answers to the probes of one TTL; None for a probe without an answer."""

    ttl: int
    answers: list[Answer | None]


class TracerouteReport(TypedDict):
    """The path. `reached` tells whether the destination itself answered."""

    destination: str
    reached: bool
    hops: list[Hop]


@dataclass(frozen=True)
class Settings:
    """How to trace: probes for each TTL, and how long to wait for each answer."""

    destination: IPv4Address
    probes: int
    max_hops: int
    timeout_s: float


@dataclass(frozen=True)
class QueuedError:
    """An ICMP message from a socket's error queue."""

    source: IPv4Address
    type: int
    code: int


def parse_extended_error(data: bytes) -> QueuedError | None:
    """Read the control message of IP_RECVERR; None if it tells of no ICMP message."""
    if len(data) < _EXTENDED_ERROR.size + _OFFENDER.size:
        return None
    _errno, origin, icmp_type, code, _info, _data = _EXTENDED_ERROR.unpack_from(data)
    family, _port, address = _OFFENDER.unpack_from(data, _EXTENDED_ERROR.size)
    if origin != _ORIGIN_ICMP or family != socket.AF_INET:
        return None
    return QueuedError(IPv4Address(address), icmp_type, code)


def traceroute(settings: Settings, show: Callable[[Hop], None]) -> TracerouteReport:
    """Trace the path from the current namespace; `show` gets each hop as it is known.

    :raises HopwireError: the host itself has no route to the destination.
    """
    hops: list[Hop] = []
    for ttl in range(1, settings.max_hops + 1):
        first = (ttl - 1) * settings.probes
        answers = [_probe(settings, ttl, _FIRST_PORT + first + index) for index in range(settings.probes)]
        hop = Hop(ttl=ttl, answers=answers)
        hops.append(hop)
        show(hop)
        if any(answer is not None and answer["type"] != icmp.TIME_EXCEEDED for answer in answers):
            break
    final = [answer for answer in hops[-1]["answers"] if answer is not None]
    return TracerouteReport(
        destination=str(settings.destination),
        reached=any(answer["source"] == str(settings.destination) for answer in final),
        hops=hops,
    )


def _probe(settings: Settings, ttl: int, port: int) -> Answer | None:
    """Send one datagram from a socket of its own, so that a late answer to another cannot be taken for this one's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        udp.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
        sent_ns = time.monotonic_ns()
        try:
            udp.sendto(_PAYLOAD, (str(settings.destination), port))
        except OSError as error:
            raise HopwireError(f"cannot send to {settings.destination}: {error.strerror}; check the routes") from error
        poll = select.poll()
        poll.register(udp, 0)  # errors are reported without asking
        if not poll.poll(settings.timeout_s * 1000):
            return None
        now_ns = time.monotonic_ns()
        _data, ancillary, _flags, _name = udp.recvmsg(len(_PAYLOAD), _ANCILLARY_BYTES, socket.MSG_ERRQUEUE)
    for level, kind, content in ancillary:
        told = parse_extended_error(content) if (level, kind) == (socket.IPPROTO_IP, _IP_RECVERR) else None
        if told is not None:
            return Answer(
                source=str(told.source),
                type=told.type,
                code=told.code,
                name=error_name(told.type, told.code),
                rtt_us=(now_ns - sent_ns) / 1000,
            )
    return None


def line(hop: Hop) -> str:
    """Return a hop in one line for people: addresses, times, and what an answer said beyond the expected."""
    parts: list[str] = []
    previous = None
    for answer in hop["answers"]:
        if answer is None:
            parts.append("*")
            continue
        if answer["source"] != previous:
            parts.append(answer["source"])
            previous = answer["source"]
        parts.append(f"{answer['rtt_us'] / 1000:.3f} ms")
        if not is_usual(answer):
            parts.append(f"({answer['name']})")
    return f"{hop['ttl']:2}  {'  '.join(parts)}"


def is_usual(answer: Answer) -> bool:
    """Tell whether an answer is one that a healthy path gives: time exceeded, or port unreachable at its end."""
    return answer["type"] == icmp.TIME_EXCEEDED or (answer["type"], answer["code"]) == (
        icmp.DESTINATION_UNREACHABLE,
        _PORT_UNREACHABLE,
    )


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command.parser("traceroute", "Show the path to a host. Exit status 0 if the host answered, otherwise 1.")
    parser.add_argument("destination", type=command.address, help="the IPv4 address to trace")
    parser.add_argument("-q", "--probes", type=command.integer(1, 10), default=3, help="probes a hop (3)")
    parser.add_argument("-m", "--max-hops", type=command.integer(1, _MAX_HOPS), default=30, help="largest TTL (30)")
    parser.add_argument("-w", "--timeout", type=command.seconds, default=1.0, help="seconds to wait for an answer (1)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    arguments = _arguments(argv)
    settings = Settings(arguments.destination, arguments.probes, arguments.max_hops, arguments.timeout)

    def show(hop: Hop) -> None:
        if not arguments.json:
            print(line(hop), flush=True)

    def probe() -> int:
        report = traceroute(settings, show)
        if arguments.json:
            print(json.dumps(report))
        return 0 if report["reached"] else 1

    return command.run("traceroute", arguments.netns, probe)


if __name__ == "__main__":
    sys.exit(main())
