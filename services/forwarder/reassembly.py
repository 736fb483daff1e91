"""Reassembly of datagrams to the router itself: RFC 791 section 3.2, RFC 815, pure.

Only ICMP comes here, for the echo requests in it; the kernel has its own copies of all fragments, puts them together
for whom else they concern, and tells the sender of those that never were complete (ICMP 11/1).

Fragments that overlap are dropped as a whole, and with them all that is still to come of their datagram (RFC 5722
section 4 says so of IPv6, for a reason that holds here too). Each fragment that is held is counted as waiting.
"""

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from services.common.counters import Counter
from services.common.wire import ipv4

LIFETIME_S: Final = 30.0
"""How long the first fragment waits for the last: Linux ipfrag_time; RFC 791 proposes 15 s, RFC 1122 3.3.2 60 s."""
MAX_BYTES: Final = 4 * 2**20
"""Of all held fragments: Linux ipfrag_high_thresh."""
FRAGMENT_COST_BYTES: Final = 256
"""What a held fragment takes beside its data, so that many small ones count for what they are."""
MAX_DATAGRAMS: Final = 1024
MAX_DATAGRAMS_OF_A_SOURCE: Final = 64
"""One that sends nothing but first fragments pushes out only its own."""


class Key(NamedTuple):
    """What the fragments of one datagram have in common (RFC 791 section 3.2); the protocol is always ICMP."""

    source: int
    destination: int
    identification: int


class Count(NamedTuple):
    """Something to be counted."""

    counter: Counter
    interface: int
    amount: int = 1


class Piece(NamedTuple):
    """One fragment's data."""

    start: int
    """Bytes from the begin of the datagram's data."""
    data: bytes
    interface: int
    """Index of the one it came in by."""

    @property
    def end(self) -> int:
        """Where the next one begins."""
        return self.start + len(self.data)


@dataclass
class _Partial:
    """A datagram of which something is missing."""

    expires_at: float
    pieces: list[Piece] = field(default_factory=list)
    """In order, without overlaps."""
    head: bytes = b""
    """The header of the first fragment, with its options."""
    total: int | None = None
    """Bytes of data, once the last fragment has said so."""
    data_bytes: int = 0
    refused: bool = False
    """Fragments overlapped: nothing more is taken."""

    def put(self, piece: Piece, *, is_last: bool) -> Counter | None:
        """Put a piece in its place, or return why it does not fit."""
        place = bisect_left(self.pieces, piece.start, key=lambda other: other.start)
        if place < len(self.pieces) and self.pieces[place][:2] == piece[:2]:
            return Counter.DROP_FRAGMENT_DUPLICATE
        before, behind = self.pieces[max(0, place - 1) : place], self.pieces[place : place + 1]
        if any(other.end > piece.start for other in before) or any(piece.end > other.start for other in behind):
            return Counter.DROP_FRAGMENT_OVERLAP
        # The last fragment's end is the datagram's: nothing lies behind it, and there is only one.
        end = piece.end if is_last else self.total
        last = self.pieces[-1].end if self.pieces else 0
        if end is not None and (max(last, piece.end) > end or self.total not in (None, end)):
            return Counter.DROP_FRAGMENT_OVERLAP
        self.pieces.insert(place, piece)
        self.total = end
        self.data_bytes += len(piece.data)
        return None

    def whole(self) -> bytes:
        """Return the datagram as its sender made it before it was cut; one longer than any can be, too."""
        data = b"".join(piece.data for piece in self.pieces)
        length = min(len(self.head) + len(data), ipv4.MAX_BYTES).to_bytes(2, "big")
        head = self.head[: ipv4.TOTAL_LENGTH] + length + self.head[ipv4.IDENTIFICATION : ipv4.FLAGS_FRAGMENT]
        return ipv4.with_checksum(head + bytes(2) + self.head[ipv4.TTL :]) + data


class Reassembly:
    """All datagrams of which something is missing. `now` is handed in; what is to be counted is returned."""

    def __init__(self) -> None:
        """Hold nothing."""
        self._partials: dict[Key, _Partial] = {}  # the oldest first
        self._of_source: dict[int, dict[Key, None]] = {}
        self._held_bytes = 0

    def add(self, datagram: bytes, interface: int, now: float) -> tuple[bytes | None, list[Count]]:
        """Take a fragment; return the datagram when it is complete, and what is to be counted.

        A complete datagram stands in for the fragment that completed it, whose fate the caller counts.

        :param interface: index of the interface that it came in by.
        """
        header = ipv4.parse(datagram)
        piece = Piece(header.fragment_offset * 8, datagram[header.header_length : header.total_length], interface)
        if not _is_possible(header, piece):
            return None, [Count(Counter.DROP_FRAGMENT_INVALID, interface)]
        key = Key(header.source, header.destination, header.identification)
        counts = [] if key in self._partials else self._begin(key, now)
        partial = self._partials[key]
        if partial.refused:
            return None, [*counts, Count(Counter.DROP_FRAGMENT_OVERLAP, interface)]
        reason = partial.put(piece, is_last=not header.more_fragments)
        if reason is Counter.DROP_FRAGMENT_OVERLAP:
            counts += self._let_go(partial, reason)
            partial.refused = True
        if reason is not None:
            return None, [*counts, Count(reason, interface)]
        self._held_bytes += _cost(piece)
        if piece.start == 0:
            partial.head = datagram[: header.header_length]
        if partial.data_bytes == partial.total:
            return self._complete(key, partial, piece)
        counts.append(Count(Counter.WAITING, interface))
        while self._held_bytes > MAX_BYTES:
            counts += self._drop(next(iter(self._partials)), Counter.DROP_REASSEMBLY_FULL)
        return None, counts

    def expire(self, now: float) -> list[Count]:
        """Drop what has waited for too long."""
        expired = []
        for key, partial in self._partials.items():
            if partial.expires_at > now:
                break
            expired.append(key)
        return [count for key in expired for count in self._drop(key, Counter.DROP_REASSEMBLY_TIMEOUT)]

    def _begin(self, key: Key, now: float) -> list[Count]:
        """Begin a datagram; where there are too many, the oldest goes: of its source, or else of all."""
        siblings = self._of_source.get(key.source, {})
        counts = []
        if len(siblings) >= MAX_DATAGRAMS_OF_A_SOURCE:
            counts = self._drop(next(iter(siblings)), Counter.DROP_REASSEMBLY_FULL)
        elif len(self._partials) >= MAX_DATAGRAMS:
            counts = self._drop(next(iter(self._partials)), Counter.DROP_REASSEMBLY_FULL)
        self._partials[key] = _Partial(now + LIFETIME_S)
        self._of_source.setdefault(key.source, {})[key] = None
        return counts

    def _complete(self, key: Key, partial: _Partial, last: Piece) -> tuple[bytes | None, list[Count]]:
        """Return the datagram, and the fates of its fragments but the last that came."""
        whole = partial.whole()
        self._held_bytes -= _cost(last)
        partial.pieces.remove(last)
        if len(whole) > ipv4.MAX_BYTES:  # the options of its header were not known before the first fragment came
            reason = Counter.DROP_FRAGMENT_INVALID
            return None, [*self._drop(key, reason), Count(reason, last.interface)]
        return whole, self._drop(key, Counter.REASSEMBLED)

    def _drop(self, key: Key, reason: Counter) -> list[Count]:
        """Forget a datagram; its fragments are counted."""
        siblings = self._of_source[key.source]
        del siblings[key]
        if not siblings:
            del self._of_source[key.source]
        return self._let_go(self._partials.pop(key), reason)

    def _let_go(self, partial: _Partial, reason: Counter) -> list[Count]:
        """Empty a datagram: what was held waits no more, and has another fate."""
        gone, partial.pieces = partial.pieces, []
        self._held_bytes -= sum(_cost(piece) for piece in gone)
        fates = ((Count(Counter.WAITING, piece.interface, -1), Count(reason, piece.interface)) for piece in gone)
        return [count for fate in fates for count in fate]


def _is_possible(header: ipv4.Ipv4Header, piece: Piece) -> bool:
    """Tell whether a fragment can be part of a datagram: RFC 791 section 3.1, fragment offset and total length."""
    if not piece.data or (header.more_fragments and len(piece.data) % 8):
        return False
    return ipv4.HEADER_BYTES + piece.end <= ipv4.MAX_BYTES


def _cost(piece: Piece) -> int:
    return len(piece.data) + FRAGMENT_COST_BYTES
