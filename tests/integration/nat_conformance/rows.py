"""The rows of the scorecard of address translation: requirements of three RFCs in short, and bad input.

The tests of a row are named after it: `test_rfc4787_req03a_...` of row 4787-3a, `test_bad_02_...` of row B2. A row
without a letter stands for what its requirement says before the lettered ones.
"""

import re
from typing import Final

from scorecard import Row

_REQUIREMENT: Final = re.compile(r"test_rfc(4787|5382|5508)_req0*(\d+[a-z]?)_")
_BAD_INPUT: Final = re.compile(r"test_bad_0*(\d+)_")


def _of(rfc: str, *rows: tuple[str, ...]) -> tuple[Row, ...]:
    return tuple(Row(f"{rfc}-{row[0]}", row[1], f"RFC {rfc} {row[2]}", *row[3:]) for row in rows)


ROWS: Final = (
    *_of(
        "4787",
        ("1", "mapping is endpoint-independent", "4.1"),
        ("2", "an inside host has one outside address (paired)", "4.1"),
        ("3", "a port is never two mappings' (no overloading)", "4.2.1"),
        ("3a", "a source port from 1024 on becomes one from 1024 on", "4.2.1"),
        ("4", "port parity is kept", "4.2.2"),
        ("5", "UDP mappings last: 2 minutes at least, 5 by default", "4.3"),
        ("6", "what is sent renews the mapping", "4.3"),
        ("6a", "what is received renews it too", "4.3"),
        ("7", "outside addresses that conflict with inside ones", "4.4", "static"),
        ("8", "filtering is address-dependent", "5"),
        ("8a", "filtering can be chosen", "5"),
        ("9", "hairpinning", "6"),
        ("9a", "a hairpinned datagram has the outside source", "6"),
        ("10", "no gateways change payloads (SIP)", "7"),
        ("11", "behaviour is the same under all conditions", "8"),
        ("12", "no ICMP message ends a mapping", "9"),
        ("12a", "ICMP errors pass whoever sends them", "9"),
        ("12b", "destination unreachable passes", "9"),
        ("13", "too large with DF: 3/4 to the inside host", "10"),
        ("13a", "too large without DF: fragments, in order", "10"),
        ("14", "fragments pass, in order and out of it", "11"),
        ("14a", "a flood of fragments harms nothing else", "11"),
    ),
    *_of(
        "5382",
        ("1", "mapping is endpoint-independent", "4.1"),
        ("2", "all valid sequences, opened from either side", "4.2"),
        ("2a", "simultaneous open", "4.2"),
        ("3", "filtering is address-dependent", "4.3"),
        ("3a", "filtering can be chosen", "4.3"),
        ("4", "an unsolicited SYN is not answered", "4.3"),
        ("5", "idle sessions last: 2 h 4 min, others 4 min", "5"),
        ("6", "no gateways change payloads (FTP)", "6"),
        ("7", "a port is never two mappings'", "7.1"),
        ("8", "hairpinning", "7.2"),
        ("8a", "a hairpinned segment has the outside source", "7.2"),
        ("9", "destination unreachable is translated", "7.3"),
        ("10", "no ICMP message ends mapping or connection", "7.3"),
    ),
    *_of(
        "5508",
        ("1", "queries and their answers pass", "3.1"),
        ("1a", "an identifier is mapped whoever is asked", "3.1"),
        ("2", "query sessions last 60 s at least", "3.2"),
        ("3", "an error with a wrong checksum is dropped", "4.1"),
        ("3a", "so is one whose quoted header is damaged", "4.1"),
        ("3b", "options in the quote are traversed", "4.1"),
        ("3c", "the quoted transport checksum does not matter", "4.1"),
        ("3d", "extensions behind the quote are left alone", "4.1"),
        ("4", "errors from outside, of a mapping: all reverted", "4.2"),
        ("5", "errors from inside: all reverted, source translated", "4.2"),
        ("6", "an error neither renews nor ends a query session", "4.3"),
        ("7", "hairpinned errors, and queries of Basic NAT", "5"),
        ("7a", "they go to the source of what they quote", "5"),
        ("8", "a session refused: 3/13 to the sender", "6"),
        ("9", "policy against ICMP on an interface", "7", "optional"),
        ("10", "unreachable, time exceeded, echo of its own", "7"),
        ("11", "other ICMP is handled or dropped", "8"),
    ),
    Row("B1", "transport headers cut short or malformed", "RFC 9293 3.1, RFC 768"),
    Row("B2", "port 0", "RFC 6335 6"),
    Row("B3", "ICMP errors whose quote is short", "RFC 792"),
    Row("B4", "ICMP errors whose quote lies", "RFC 5508 4.2"),
    Row("B5", "fragments that overlap the first", "RFC 1858"),
    Row("B6", "protocols whose checksums cover the addresses", "RFC 4302, 4340, 3828"),
)


def row_of(test_name: str) -> str | None:
    """Return the number of the row that a test is named after; None where it is named after none."""
    if found := _REQUIREMENT.match(test_name):
        return f"{found.group(1)}-{found.group(2)}"
    found = _BAD_INPUT.match(test_name)
    return f"B{found.group(1)}" if found else None
