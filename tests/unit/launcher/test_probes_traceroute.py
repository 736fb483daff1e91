"""Reading of a socket's error queue, and hops in words."""

import sys
from ipaddress import IPv4Address

import pytest

from services.launcher.probes.traceroute import Answer, Hop, QueuedError, is_usual, line, parse_extended_error

pytestmark = pytest.mark.skipif(sys.byteorder != "little", reason="the kernel's structures here are little endian")

# sock_extended_err (errno 113, origin ICMP, type 11, code 0), then sockaddr_in (AF_INET, port 0, 192.168.1.1)
TIME_EXCEEDED = bytes.fromhex("71000000 02 0b 00 00 00000000 00000000 0200 0000 c0a80101 0000000000000000")
# the same structures from the host's own kernel: errno 90, origin local, MTU 1280, no address
LOCAL = bytes.fromhex("5a000000 01 00 00 00 00050000 00000000 0000 0000 00000000 0000000000000000")


def answer(source: str, icmp_type: int, code: int, name: str, rtt_us: float) -> Answer:
    return Answer(source=source, type=icmp_type, code=code, name=name, rtt_us=rtt_us)


def test_icmp_message() -> None:
    assert parse_extended_error(TIME_EXCEEDED) == QueuedError(IPv4Address("192.168.1.1"), 11, 0)


def test_error_of_the_host_itself() -> None:
    assert parse_extended_error(LOCAL) is None


def test_too_short() -> None:
    assert parse_extended_error(TIME_EXCEEDED[:23]) is None


def test_line_names_an_address_once() -> None:
    router = [answer("192.168.1.1", 11, 0, "time exceeded", us) for us in (120.0, 80.0)]
    assert line(Hop(ttl=1, answers=[*router, None])) == " 1  192.168.1.1  0.120 ms  0.080 ms  *"


def test_line_of_two_paths_and_an_odd_answer() -> None:
    answers: list[Answer | None] = [
        answer("10.0.0.1", 11, 0, "time exceeded", 1000.0),
        answer("10.0.0.2", 3, 1, "host unreachable", 2000.0),
    ]
    assert line(Hop(ttl=12, answers=answers)) == "12  10.0.0.1  1.000 ms  10.0.0.2  2.000 ms  (host unreachable)"


@pytest.mark.parametrize(
    ("icmp_type", "code", "usual"), [(11, 0, True), (3, 3, True), (3, 1, False), (3, 13, False), (5, 1, False)]
)
def test_usual_answers(icmp_type: int, code: int, usual: bool) -> None:
    assert is_usual(answer("10.0.0.1", icmp_type, code, "", 1.0)) is usual
