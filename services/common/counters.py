"""Every counter and drop reason, declared once: what a frame's verdict, a metric and the CLI call it.

Each frame that hopwire receives or makes ends in exactly one fate, so that at rest

    received + generated = sent + delivered + consumed + dropped + waiting

A service counts in a block of memory mapped from a file of the run directory: the counts are cumulative, and
outlive the process, so that a restart never makes a counter fall. Behind the counters are the service's `meters`.
"""

import hashlib
import mmap
import os
import struct
from enum import Enum, IntEnum
from pathlib import Path
from typing import Final

from services.common.errors import HopwireError
from services.common.meters import METER_VALUES, NAMES, Meters

MAX_INTERFACES: Final = 256
"""Rows of a block: interfaces that a service may meet in its life, by interface index. Row 0 is "none"."""
MAX_INTERFACE_INDEX: Final = 0x7FFF_FFFF  # a positive int in Linux


class Kind(Enum):
    """What a counter says about a frame."""

    RECEIVED = "received"
    GENERATED = "generated"
    SENT = "sent"
    DELIVERED = "delivered"
    CONSUMED = "consumed"
    DROPPED = "dropped"
    WAITING = "waiting"
    """A gauge: frames held right now."""
    DETAIL = "detail"
    """Says more about frames that another counter has counted already."""


class Counter(IntEnum):
    """All counters; the value is the column in a block."""

    kind: Kind
    text: str

    def __new__(cls, kind: Kind, text: str) -> "Counter":
        """Give each member the next column, its kind and its explanation."""
        column = len(cls.__members__)
        member = int.__new__(cls, column)
        member._value_ = column
        member.kind = kind
        member.text = text
        return member

    RX_FRAMES = Kind.RECEIVED, "frames received"
    RX_BYTES = Kind.DETAIL, "bytes received, Ethernet header included"
    GENERATED = Kind.GENERATED, "frames made here: ICMP, ARP, fragments"
    FORWARDED = Kind.SENT, "received frames sent on, by the interface they left by"
    GENERATED_SENT = Kind.SENT, "generated frames sent"
    TX_BYTES = Kind.DETAIL, "bytes sent, Ethernet header included"
    LOCAL = Kind.DELIVERED, "IPv4 to the router itself, left to the kernel"
    LOCAL_GROUP = Kind.DELIVERED, "IPv4 multicast and broadcast, left to the kernel, never forwarded"
    NOT_IPV4 = Kind.DELIVERED, "neither IPv4 nor ARP, left to the kernel"
    ECHO_ANSWERED = Kind.CONSUMED, "echo requests to the router, answered"
    FRAGMENTED = Kind.CONSUMED, "datagrams and super-frames replaced by their parts"
    OPTIONS_FILLED = Kind.CONSUMED, "datagrams replaced by copies with record route or timestamp filled in"
    REASSEMBLED = Kind.CONSUMED, "fragments to the router joined to the rest of their datagram"
    ARP_HANDLED = Kind.CONSUMED, "ARP messages taken by the resolver"
    WAITING = Kind.WAITING, "frames that wait for their next hop's MAC, or for the rest of their datagram"

    # Link layer: decided by ingress, or by what it knows
    DROP_RX_OVERRUN = Kind.DROPPED, "the kernel's receive ring was full"
    DROP_FORWARDER_FULL = Kind.DROPPED, "the ring or queue to the forwarder was full"
    DROP_ARP_FULL = Kind.DROPPED, "the queue to arp was full, or arp was away"
    DROP_RUNT = Kind.DROPPED, "shorter than an Ethernet header"
    DROP_SNAPPED = Kind.DROPPED, "longer than a super-frame of 64 KiB, or than a slot of the receive ring"
    DROP_VLAN = Kind.DROPPED, "carries a VLAN tag, so belongs to another interface"
    DROP_STALE = Kind.DROPPED, "older than 100 ms when a restarted forwarder found it"
    DROP_RING_ENTRY = Kind.DROPPED, "a ring entry points outside its area, or lies about its length"
    DROP_UNKNOWN_INTERFACE = Kind.DROPPED, "the interface is not known, or not up"
    DROP_FOREIGN_MAC = Kind.DROPPED, "addressed to another station's MAC"
    DROP_LINK_BROADCAST = Kind.DROPPED, "unicast IPv4 in a link-layer broadcast or multicast (RFC 1812 5.3.4)"

    # IPv4 header: RFC 1812 section 5.2.2
    DROP_IP_SHORT = Kind.DROPPED, "fewer than 20 bytes of IPv4"
    DROP_IP_VERSION = Kind.DROPPED, "the version is not 4"
    DROP_IP_HEADER_LENGTH = Kind.DROPPED, "the header length is below 20, or more than the datagram"
    DROP_IP_CHECKSUM = Kind.DROPPED, "the header's checksum is wrong"
    DROP_IP_TOTAL_LENGTH = Kind.DROPPED, "the total length is less than the header"
    DROP_IP_TRUNCATED = Kind.DROPPED, "the total length is more than the frame holds"

    # Routing: RFC 1812 section 5.2 and 5.3
    DROP_MARTIAN_SOURCE = Kind.DROPPED, "a source no host can have (RFC 1812 5.3.7)"
    DROP_MARTIAN_DESTINATION = Kind.DROPPED, "a destination no host can have (RFC 1812 5.3.7)"
    DROP_LINK_LOCAL = Kind.DROPPED, "169.254/16 is never forwarded (RFC 3927 2.7)"
    DROP_REVERSE_PATH = Kind.DROPPED, "no way back to the source, or not by this interface (RFC 3704)"
    DROP_TTL_EXCEEDED = Kind.DROPPED, "the TTL ran out (ICMP 11/0)"
    DROP_NO_ROUTE = Kind.DROPPED, "no route to the destination (ICMP 3/0)"
    DROP_BLACKHOLE = Kind.DROPPED, "a blackhole route, silently"
    DROP_UNREACHABLE = Kind.DROPPED, "an unreachable route (ICMP 3/1)"
    DROP_PROHIBITED = Kind.DROPPED, "a prohibit route (ICMP 3/13)"
    DROP_DIRECTED_BROADCAST = Kind.DROPPED, "a broadcast to a connected network (RFC 2644)"
    DROP_MTU_EXCEEDED = Kind.DROPPED, "larger than the MTU, and may not be fragmented (ICMP 3/4)"
    DROP_GSO_UNFRAGMENTABLE = Kind.DROPPED, "a super-frame to be cut whose headers do not say how"
    DROP_SOURCE_ROUTED = Kind.DROPPED, "carries a source route option (RFC 7126)"
    DROP_OPTION_MALFORMED = Kind.DROPPED, "an option that breaks RFC 791 3.1 (ICMP 12/0)"
    DROP_HOST_UNREACHABLE = Kind.DROPPED, "the next hop did not answer ARP (ICMP 3/1)"
    DROP_ICMP_CHECKSUM = Kind.DROPPED, "an ICMP message to the router whose checksum is wrong"
    DROP_FRAGMENT_INVALID = Kind.DROPPED, "a fragment to the router that no datagram can have (RFC 791 3.2)"
    DROP_FRAGMENT_DUPLICATE = Kind.DROPPED, "a fragment to the router that was there already"
    DROP_FRAGMENT_OVERLAP = Kind.DROPPED, "fragments to the router that contradict each other: all of the datagram"
    DROP_REASSEMBLY_FULL = Kind.DROPPED, "too many fragments to the router wait: the oldest datagram goes"
    DROP_REASSEMBLY_TIMEOUT = Kind.DROPPED, "the rest of a datagram to the router did not come in time"
    DROP_SLOW_PATH_FULL = Kind.DROPPED, "the slow path's budget for the batch was used up"

    # Address translation: RFC 4787, RFC 5382, RFC 5508
    DROP_NAT_MALFORMED = Kind.DROPPED, "to be translated, but its transport header is cut short, or has port 0"
    DROP_NAT_ICMP = Kind.DROPPED, "an ICMP error to be translated whose quote is short, lies, or is of no session"
    DROP_NAT_FRAGMENT = Kind.DROPPED, "a fragment to be translated that contradicts its first one, or never saw it"
    DROP_NAT_PROTOCOL = Kind.DROPPED, "to be translated, but its protocol cannot be"
    DROP_NAT_FILTERED = Kind.DROPPED, "to a mapping, from a host or port that it has not sent to (RFC 4787 5)"
    DROP_NAT_NO_SESSION = Kind.DROPPED, "to a port of the translator that no session has, or a reset of none"
    DROP_NAT_TO_ROUTER = Kind.DROPPED, "translated to an address of the router itself"
    DROP_NAT_TABLE_FULL = Kind.DROPPED, "a new session refused: the table is full (ICMP 3/13)"
    DROP_NAT_PORTS_FULL = Kind.DROPPED, "a new session refused: the outside address has no free port (ICMP 3/13)"
    DROP_NAT_HOST_LIMIT = Kind.DROPPED, "a new session refused: its inside host has as many as it may (ICMP 3/13)"
    DROP_NAT_CLASH = Kind.DROPPED, "a new session refused: its answers would be those of another (ICMP 3/13)"

    DROP_TX_FULL = Kind.DROPPED, "the interface's transmit queue was full"
    DROP_TX_FAILED = Kind.DROPPED, "the kernel refused to send the frame"

    # arp
    DROP_ARP_MALFORMED = Kind.DROPPED, "an ARP message that breaks RFC 826"
    DROP_ARP_SENDER = Kind.DROPPED, "an ARP message whose sender no host of this link can be"
    DROP_NEIGHBOUR_QUEUE = Kind.DROPPED, "too many frames wait for this neighbour: the oldest goes"
    DROP_NEIGHBOUR_TABLE = Kind.DROPPED, "the neighbour table is full"
    DROP_ARP_REQUESTS = Kind.DROPPED, "no more ARP requests may be sent on the interface in this second"
    DROP_RESTARTED = Kind.DROPPED, "held by a service that was killed, or on the way to one"

    # More about frames that are counted above, and about the bus
    HANDED = Kind.DETAIL, "frames handed to another service"
    TAKEN = Kind.DETAIL, "frames taken from another service"
    HANDED_ARP = Kind.DETAIL, "frames handed to arp inside messages"
    HANDED_FORWARDER = Kind.DETAIL, "frames handed to the forwarder inside messages"
    RECKONED = Kind.DETAIL, "frames handed to this service inside messages that came, or are known to be lost"
    BELLS = Kind.DETAIL, "wake-ups sent to the forwarder"
    BATCHES = Kind.DETAIL, "batches worked off"
    SLOW_PATH = Kind.DETAIL, "frames the slow path decided about"
    NAT_FRAGMENT_HELD = Kind.DETAIL, "fragments held until the first one of their datagram came, or time was over"
    ICMP_ERRORS = Kind.DETAIL, "ICMP errors generated"
    ICMP_SUPPRESSED = Kind.DETAIL, "ICMP errors withheld by a rate limit"
    ICMP_FORBIDDEN = Kind.DETAIL, "ICMP errors withheld because RFC 1812 4.3.2.7 forbids them"
    REDIRECTS = Kind.DETAIL, "ICMP redirects generated"
    REDIRECTS_SUPPRESSED = Kind.DETAIL, "ICMP redirects withheld by a rate limit"
    ARP_REQUESTS_SENT = Kind.DETAIL, "ARP requests sent"
    ARP_REPLIES_SENT = Kind.DETAIL, "ARP replies sent"
    BAD_MESSAGES = Kind.DETAIL, "malformed messages from the bus, dropped"
    BAD_RINGS = Kind.DETAIL, "frame rings refused because their header is wrong"


COLUMNS: Final = len(Counter)
BY_COLUMN: Final = tuple(Counter)
DROPS: Final = tuple(counter for counter in Counter if counter.kind is Kind.DROPPED)
NAT_REFUSALS: Final = frozenset(
    {
        Counter.DROP_NAT_TABLE_FULL,
        Counter.DROP_NAT_PORTS_FULL,
        Counter.DROP_NAT_HOST_LIMIT,
        Counter.DROP_NAT_CLASH,
    }
)
"""New sessions refused. Some of their senders are told (RFC 5508 REQ-8)."""

_VALUE_BYTES: Final = 8
_ROW_VALUES: Final = COLUMNS + 1  # the interface index, then the counters
_HEADER = struct.Struct("=8sQ")
_MAGIC: Final = b"hopwirec"
SCHEMA: Final = int.from_bytes(hashlib.sha256(",".join((*Counter.__members__, *NAMES)).encode()).digest()[:8], "little")
"""Another one where the columns are others."""

METERS_START: Final = MAX_INTERFACES * _ROW_VALUES
"""Where in a block the service's meters begin, behind the rows."""
_FILE_BYTES: Final = _HEADER.size + (METERS_START + METER_VALUES) * _VALUE_BYTES


def _values(block: mmap.mmap) -> memoryview:
    return memoryview(block)[_HEADER.size :].cast("q")


def _existing(path: Path) -> mmap.mmap | None:
    """Map the block at `path`; None where there is none of this version, or it is damaged."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if os.fstat(descriptor).st_size != _FILE_BYTES:
            return None
        block = mmap.mmap(descriptor, _FILE_BYTES)
    finally:
        os.close(descriptor)
    with _values(block) as values:
        if block[: _HEADER.size] == _HEADER.pack(_MAGIC, SCHEMA) and _is_sound(values):
            return block
    block.close()
    return None


def _is_sound(values: memoryview) -> bool:
    """Tell whether the rows in use are the first ones, each of an interface of its own, and no count is negative."""
    none, *indices = values[:METERS_START:_ROW_VALUES].tolist()
    used = [index for index in indices if index]
    return (
        none == 0
        and used == indices[: len(used)]
        and len(set(used)) == len(used)
        and max(used, default=0) <= MAX_INTERFACE_INDEX
        and min(values) >= 0
    )


def _fresh(path: Path) -> mmap.mmap:
    """Map a new block at `path`; whoever has mapped an older one keeps it."""
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    try:
        # on a full tmpfs a hole would end the process by SIGBUS as soon as it counts
        os.posix_fallocate(descriptor, 0, _FILE_BYTES)
        os.pwrite(descriptor, _HEADER.pack(_MAGIC, SCHEMA), 0)
        block = mmap.mmap(descriptor, _FILE_BYTES)
        fresh.rename(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    return block


class CounterBlock:
    """One service's counters: a row an interface, a column a counter, in shared memory.

    :ivar values: a flat, writable `memoryview` of 64-bit integers; row r begins at `r * row_values` with the
        interface index, its counter c stands at `r * row_values + 1 + c`. Compiled code wraps it as an array.
    :ivar meters: what the service measures of itself, behind the rows.
    """

    row_values: Final = _ROW_VALUES

    def __init__(self, path: Path) -> None:
        """Open the block at `path`; one of another version, or damaged, starts again from zero.

        :raises HopwireError: the file cannot be made, or there is no room for it.
        """
        try:
            self._map = _existing(path) or _fresh(path)
        except OSError as error:
            raise HopwireError(f"cannot keep counters in {path}: {error.strerror}; check the run directory") from error
        self.values = _values(self._map)
        self.meters = Meters(self.values[METERS_START:])
        self._rows: dict[int, int] = {
            index: row for row, index in enumerate(self.values[:METERS_START:_ROW_VALUES].tolist()) if index or row == 0
        }

    def row(self, interface_index: int) -> int:
        """Return the row of an interface, taking a new one at first sight; row 0 when all are taken.

        Row 0 also counts what says it came from an interface that there cannot be.
        """
        row = self._rows.get(interface_index)
        if row is None:
            row = len(self._rows)
            if row >= MAX_INTERFACES or not 0 < interface_index <= MAX_INTERFACE_INDEX:
                return 0
            self._rows[interface_index] = row
            self.values[row * _ROW_VALUES] = interface_index
        return row

    def add(self, counter: Counter, amount: int = 1, interface_index: int = 0) -> None:
        """Add `amount` frames (or bytes) to an interface's counter."""
        self.values[self.row(interface_index) * _ROW_VALUES + 1 + counter] += amount

    def set(self, counter: Counter, value: int, interface_index: int = 0) -> None:
        """Set a gauge."""
        self.values[self.row(interface_index) * _ROW_VALUES + 1 + counter] = value

    def get(self, counter: Counter, interface_index: int = 0) -> int:
        """Return an interface's counter."""
        return self.values[self.row(interface_index) * _ROW_VALUES + 1 + counter]

    def total(self, counter: Counter) -> int:
        """Return a counter's sum over all interfaces."""
        return sum(self.values[row * _ROW_VALUES + 1 + counter] for row in self._rows.values())

    def write_off_waiting(self) -> None:
        """Count the frames as dropped that waited in a predecessor that was killed."""
        for interface_index in list(self._rows):
            if waiting := self.get(Counter.WAITING, interface_index):
                self.set(Counter.WAITING, 0, interface_index)
                self.add(Counter.DROP_RESTARTED, waiting, interface_index)

    def snapshot(self) -> dict[int, dict[str, int]]:
        """Return the counters that are not zero, by interface index and counter name."""
        rows: dict[int, dict[str, int]] = {}
        for interface_index, row in self._rows.items():
            first = row * _ROW_VALUES + 1
            values = self.values[first : first + COLUMNS].tolist()
            counted = {counter.name: value for counter, value in zip(Counter, values, strict=True) if value}
            if counted:
                rows[interface_index] = counted
        return rows

    def close(self) -> None:
        """Let go of the memory; the counts stay in the file."""
        self.meters.values.release()
        self.values.release()
        self._map.close()
