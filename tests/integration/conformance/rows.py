"""The rows of the scorecard: what a router must do, and which standard says so.

The tests of a row are named after it: `test_row_05_...` and `test_row_a3_...`.
"""

import re
from typing import Final

from scorecard import Row

_TEST_NAME: Final = re.compile(r"test_row_0*(a?\d+)_")


def _numbered(prefix: str, *rows: tuple[str, str]) -> tuple[Row, ...]:
    return tuple(Row(f"{prefix}{number}", *row) for number, row in enumerate(rows, start=1))


ROWS: Final = (
    *_numbered(
        "",
        ("malformed headers are dropped in silence", "RFC 1812 5.2.2"),
        ("a total length beyond the frame is dropped", "RFC 1812 5.2.2"),
        ("Ethernet padding is no part of the datagram", "RFC 894"),
        ("TTL falls by one, the checksum stays right", "RFC 1812 5.3.1, RFC 1624"),
        ("TTL 1 or 0: time exceeded", "RFC 1812 5.3.1"),
        ("TTL 1 to the router itself is delivered", "RFC 1812 5.2.3"),
        ("the longest prefix wins, also during changes", "RFC 1812 5.2.4.3"),
        ("no route, unreachable, prohibit, blackhole", "RFC 1812 5.2.7.1"),
        ("host unreachable when resolution failed, not before", "RFC 1812 3.3.2"),
        ("too large with DF: 3/4 with the next-hop MTU", "RFC 1191"),
        ("too large without DF: fragments", "RFC 791"),
        ("transit fragments pass one to one", "RFC 1812 5.2.6"),
        ("fragments to the router are reassembled", "RFC 1812 4.2.2.8"),
        ("no ICMP error about an ICMP error", "RFC 1812 4.3.2.7"),
        ("none about a fragment other than the first", "RFC 1812 4.3.2.7"),
        ("none about a broadcast or multicast", "RFC 1812 4.3.2.7"),
        ("none to a source that names no single host", "RFC 1812 4.3.2.7"),
        ("the quote is what was sent, at most 576 bytes in all", "RFC 1812 4.3.2.3"),
        ("an error's source: the interface it leaves by", "RFC 1812 4.3.2.4"),
        ("errors carry precedence 6", "RFC 1812 4.3.2.5"),
        ("errors are rate-limited, forwarding goes on", "RFC 1812 4.3.2.8"),
        ("echo to any own address is answered from it", "RFC 1812 4.3.3.6"),
        ("unknown ICMP: ignored here, forwarded in transit", "RFC 1122 3.2.2"),
        ("redirects", "RFC 1812 5.2.7.2"),
        ("unicast in a broadcast frame is not forwarded", "RFC 1812 5.3.4"),
        ("a frame for another MAC is never forwarded", "IEEE 802.3"),
        ("limited broadcast and multicast are not forwarded", "RFC 1812 5.3.5"),
        ("directed broadcast only where switched on", "RFC 2644"),
        ("martian addresses are dropped", "RFC 1812 5.3.7, RFC 6890"),
        ("169.254/16 is not forwarded", "RFC 3927 2.7"),
        ("reverse-path check: off, loose, strict", "RFC 3704"),
        ("options: pass, fill in, drop, complain", "RFC 1812 5.3.13, RFC 7126"),
        ("DSCP and ECN are untouched", "RFC 2474, RFC 3168"),
        ("ECMP: by flow, by weight, never reordered", "RFC 2992"),
        ("link or address gone: its routes too, and back", "RFC 1812 5.3.12"),
    ),
    *_numbered(
        "A",
        ("answers for own addresses of the interface only", "RFC 826"),
        ("refreshes whom it knows, learns whom it must", "RFC 826, RFC 1122"),
        ("an answer releases the queue once, in order", "RFC 1122 2.3.2.2"),
        ("one request a second, three, then failed", "RFC 1122 2.3.2.1"),
        ("the queue is bounded, the oldest goes first", "RFC 1122 2.3.2.2"),
        ("the states of a neighbour; permanent entries", "RFC 4861 7.3"),
        ("a changed MAC is followed, but not at once twice", "RFC 826"),
        ("a sweep neither grows the table nor stops flows", "Linux gc_thresh3"),
        ("invalid messages are neither answered nor believed", "RFC 1812 3.3.2"),
        ("announces, answers probes, defends", "RFC 5227"),
        ("proxy ARP where switched on", "RFC 1027"),
        ("link down flushes its entries", "RFC 1122 2.3.2.1"),
    ),
)


def row_of(test_name: str) -> str | None:
    """Return the number of the row that a test is named after; None where it is named after none."""
    found = _TEST_NAME.match(test_name)
    return found.group(1).upper() if found else None
