"""The arrays of the translator, and what stands where in them.

A session has two keys, as its datagrams arrive: those of whoever began it, and those that come back. A datagram that
matches one key leaves as the reverse of the other. A key is two words: source << 32 | destination, and
kind << 32 | source port << 16 | destination port. A kind is a protocol; of ICMP queries the identifier is the port of
who asks, and answers have a kind of their own.

A mapping is what endpoint-independent mapping keeps of an inside endpoint (RFC 4787 section 4.1): the outside address
and port that all its sessions share.
"""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from services.common.counters import MAX_INTERFACES
from services.common.kernels import record
from services.common.nat_rules import SESSION_STATES
from services.common.wire import ipv4

Words = npt.NDArray[np.int64]

# --- a session's words
ORIGINAL: Final = 0
"""Two words: the key of the datagrams of who began the session."""
REPLY: Final = 2
"""Two words: the key of those that come back."""
DEADLINE: Final = 4
"""When the session ends unless a datagram comes: milliseconds of the monotonic clock."""
STATE: Final = 5
"""One of the states below, and the TCP flags seen so far, << 8."""
COUNTS: Final = 6
"""Four words: packets and bytes of IP, of who began, then of what came back."""
OPENED: Final = 10
"""Milliseconds of the monotonic clock."""
SOURCE_MAPPING: Final = 11
"""The mapping of who began it, or ABSENT."""
TARGET_MAPPING: Final = 12
"""The mapping that it came in by, or ABSENT."""
FLAGS: Final = 13
CHECK: Final = 15
"""A digest of what does not change; written last, and 0 in a free row."""
SESSION_WORDS: Final = 16  # two cache lines

SOURCE_MAPPED: Final = 1  # FLAGS
TARGET_MAPPED: Final = 2
INBOUND: Final = 4
"""The inside host is the one that it was opened to."""

# --- states
TCP_TRANSITORY: Final = 1
"""Opening, or closed by both ends or by a reset: RFC 5382 REQ-5."""
TCP_ESTABLISHED: Final = 2
UDP: Final = 3
ICMP: Final = 4
OTHER: Final = 5
STATES: Final = 6
STATE_NAMES: Final = ("free", *SESSION_STATES)

# --- kinds, beside the protocols themselves
ICMP_REQUEST: Final = ipv4.PROTOCOL_ICMP
ICMP_REPLY: Final = 0x100 | ipv4.PROTOCOL_ICMP
KIND_SHIFT: Final = 32
PORT_KINDS: Final = 3
"""TCP, UDP and ICMP queries each have ports of their own on every outside address."""

# --- a mapping's words
INSIDE_KEY: Final = 0
OUTSIDE_KEY: Final = 1
SESSIONS: Final = 2
MAPPING_WORDS: Final = 4

# --- a fragment's words: RFC 4787 REQ-14
FRAGMENT_ADDRESSES: Final = 0
FRAGMENT_ID: Final = 1
"""1 << 32 | protocol << 16 | identification; 0: free."""
FRAGMENT_SESSION: Final = 2
"""As `Batch.session`; ABSENT: not translated."""
FRAGMENT_DEADLINE: Final = 3
FRAGMENT_END: Final = 4
"""Bytes of the first fragment's data: what overlaps them is no part of the datagram."""
FRAGMENT_PORTS: Final = 5
FRAGMENT_CHECK: Final = 6
"""The CHECK of its session: a row may be another session's by now."""
FRAGMENT_WORDS: Final = 8
FRAGMENTS: Final = 2048
FRAGMENT_WAYS: Final = 4
FRAGMENT_MS: Final = 15_000  # RFC 1122 section 3.3.2 asks for more of a host, which holds whole datagrams
FRAGMENT_FIRST_MS: Final = 1_000
"""Within this another first fragment contradicts the one before it; later the identification is used once more."""

# --- scalars
ACTIVE: Final = 0
NOW: Final = 1
FILTERING: Final = 2
MAPPING: Final = 3
PORT_FIRST: Final = 4
PORT_LAST: Final = 5
TIMEOUTS: Final = 6
"""By state, milliseconds."""
HOST_LIMIT: Final = 12
SEED: Final = 13
MULTIPLIER: Final = 14
"""Odd: makes keys into others, so that nobody outside can choose which ones collide."""
FREE: Final = 15
"""Rows on the stack of free ones."""
FREE_MAPPINGS: Final = 16
HIGH: Final = 17
"""Rows that were ever in use since the table was empty: those that a sweep looks at."""
FLUSHED: Final = 18
"""Sessions opened up to now and before end at once; 0: none do."""
USED: Final = 20
"""By state, sessions."""
OPENED_SESSIONS: Final = 26
"""Since the table was made."""
SCALARS: Final = 32

# FILTERING and MAPPING: RFC 4787 sections 4.1 and 5
ENDPOINT_INDEPENDENT: Final = 0
ADDRESS_DEPENDENT: Final = 1
ADDRESS_AND_PORT_DEPENDENT: Final = 2

# --- rules
MAX_ADDRESSES: Final = 64
MAX_POOLS: Final = 64
POOL_ADDRESSES: Final = 16
MAX_FORWARDS: Final = 256
FORWARD_KIND: Final = 0
FORWARD_ADDRESS: Final = 1
FORWARD_FIRST: Final = 2
FORWARD_LAST: Final = 3
FORWARD_TO: Final = 4
FORWARD_TO_PORT: Final = 5
FORWARD_WORDS: Final = 6
MAX_ONE_TO_ONE: Final = 64
PORTS: Final = 65_536
PORT_USED: Final = 1
PORT_RESERVED: Final = 2

ABSENT: Final = -1


class NatArrays(NamedTuple):
    """What compiled code reads and writes. A capacity is the number of sessions at most."""

    scalars: Words
    """(SCALARS,)"""
    sessions: Words
    """(capacity * SESSION_WORDS,), in a file of the run directory; all else is made from it."""
    places: Words
    """(2**n,) open addressing: hash << 32 | (session << 1 | direction) + 1."""
    free: npt.NDArray[np.int32]
    mappings: Words
    free_mappings: npt.NDArray[np.int32]
    inside_keys: Words
    inside_values: npt.NDArray[np.int32]
    """Hash tables (see `hash_table`): inside endpoint → mapping."""
    outside_keys: Words
    outside_values: npt.NDArray[np.int32]
    """Outside endpoint → mapping."""
    permit_keys: Words
    permit_values: npt.NDArray[np.int32]
    """Mapping and remote address → sessions to it: who may answer with address-dependent filtering."""
    host_keys: Words
    host_values: npt.NDArray[np.int32]
    """Inside host → its sessions."""
    ports: npt.NDArray[np.uint8]
    """(MAX_ADDRESSES * PORT_KINDS * PORTS,) PORT_USED, PORT_RESERVED."""
    ports_used: Words
    """(MAX_ADDRESSES * PORT_KINDS * 2,) ports of the range that are not free, even ones and odd ones."""
    addresses: Words
    """(MAX_ADDRESSES,) outside addresses by number; 0: none."""
    address_slots: Words
    """(MAX_ADDRESSES,) the interface slot that an address is on; 0: no rule names the address any more."""
    translate: npt.NDArray[np.uint8]
    """(slots * slots,) by in and out: the pool that sources are translated to; 0: they are not."""
    pools: Words
    """(MAX_POOLS * (1 + POOL_ADDRESSES),) how many addresses, then their numbers."""
    forwards: Words
    """(1 + MAX_FORWARDS * FORWARD_WORDS,) how many, then each."""
    one_to_one: Words
    """(1 + MAX_ONE_TO_ONE * 2,) how many, then outside address number and inside address."""
    fragments: Words
    """(FRAGMENTS * FRAGMENT_WORDS,)"""


_WORDS: Final = "int64[::1]"
_SMALL: Final = "int32[::1]"
_BYTES: Final = "uint8[::1]"
NAT: Final = record(
    NatArrays,
    *(_WORDS, _WORDS, _WORDS, _SMALL, _WORDS, _SMALL),
    *(_WORDS, _SMALL) * 4,
    *(_BYTES, _WORDS, _WORDS, _WORDS, _BYTES, _WORDS, _WORDS, _WORDS, _WORDS),
)


def _power_of_two(least: int) -> int:
    return 1 << max(4, (least - 1).bit_length())


def make_arrays(capacity: int, sessions: Words | None = None) -> NatArrays:
    """Return the arrays of a translator without sessions and rules. Pages that are never touched take no memory.

    :param capacity: sessions at most; 0: a translator that is not in use.
    :param sessions: the memory for them, all zero; by default the process's own.
    """
    if sessions is None:
        sessions = np.zeros(capacity * SESSION_WORDS, np.int64)
    places = _power_of_two(2 * capacity)
    tables: list[Any] = []
    for _ in range(4):
        tables += [np.zeros(places, np.int64), np.zeros(places, np.int32)]
    in_use = capacity > 0
    arrays = NatArrays._make(
        [
            np.zeros(SCALARS, np.int64),
            sessions,
            np.zeros(2 * places, np.int64),
            np.arange(capacity, dtype=np.int32)[::-1].copy(),
            np.zeros(capacity * MAPPING_WORDS, np.int64),
            np.arange(capacity, dtype=np.int32)[::-1].copy(),
            *tables,
            np.zeros(MAX_ADDRESSES * PORT_KINDS * PORTS if in_use else 1, np.uint8),
            np.zeros(MAX_ADDRESSES * PORT_KINDS * 2, np.int64),
            np.zeros(MAX_ADDRESSES, np.int64),
            np.zeros(MAX_ADDRESSES, np.int64),
            np.zeros(MAX_INTERFACES**2 if in_use else 1, np.uint8),
            np.zeros(MAX_POOLS * (1 + POOL_ADDRESSES), np.int64),
            np.zeros(1 + MAX_FORWARDS * FORWARD_WORDS, np.int64),
            np.zeros(1 + MAX_ONE_TO_ONE * 2, np.int64),
            np.zeros(FRAGMENTS * FRAGMENT_WORDS, np.int64),
        ]
    )
    arrays.scalars[FREE] = arrays.scalars[FREE_MAPPINGS] = capacity
    return arrays


UNUSED: Final = make_arrays(0)
"""Of a router without NAT rules."""
