"""Fragments: the later ones are translated as the first, which has the ports (RFC 4787 REQ-14).

First fragments are remembered for a while, in a bounded table. What overlaps a first fragment could put other ports
in its place (RFC 1858): it is dropped.
"""

from typing import Any, Final

import numpy as np

from services.common.kernels import inlined
from services.common.wire import ipv4
from services.forwarder.datagram import read16, read32
from services.forwarder.nat.keys import addresses_word, key_hash
from services.forwarder.nat.layout import (
    ABSENT,
    CHECK,
    FRAGMENT_ADDRESSES,
    FRAGMENT_CHECK,
    FRAGMENT_DEADLINE,
    FRAGMENT_END,
    FRAGMENT_FIRST_MS,
    FRAGMENT_ID,
    FRAGMENT_MS,
    FRAGMENT_PORTS,
    FRAGMENT_SESSION,
    FRAGMENT_WAYS,
    FRAGMENT_WORDS,
    FRAGMENTS,
    NOW,
    SESSION_WORDS,
)

_VALID: Final = 1 << 32

OVERLAP: Final = -2
"""Beside ABSENT: what `later_fragment` and `first_fragment` say of one that contradicts the first."""
UNKNOWN: Final = -3
"""The first fragment has not come."""


@inlined
def _name(area: Any, ip: Any) -> Any:
    return _VALID | np.int64(area[ip + ipv4.PROTOCOL]) << 16 | read16(area, ip + ipv4.IDENTIFICATION)


@inlined
def _find(nat: Any, addresses: Any, name: Any) -> Any:
    """Return where a datagram's entry begins, or ABSENT."""
    way = key_hash(nat, addresses, name) % (FRAGMENTS // FRAGMENT_WAYS) * FRAGMENT_WAYS
    for number in range(way, way + FRAGMENT_WAYS):
        at = number * FRAGMENT_WORDS
        if (
            nat.fragments[at + FRAGMENT_ADDRESSES] == addresses
            and nat.fragments[at + FRAGMENT_ID] == name
            and nat.fragments[at + FRAGMENT_DEADLINE] > nat.scalars[NOW]
        ):
            return np.int64(at)
    return np.int64(ABSENT)


@inlined
def _oldest(nat: Any, addresses: Any, name: Any) -> Any:
    way = key_hash(nat, addresses, name) % (FRAGMENTS // FRAGMENT_WAYS) * FRAGMENT_WAYS
    chosen = way
    for number in range(way + 1, way + FRAGMENT_WAYS):
        deadline = nat.fragments[number * FRAGMENT_WORDS + FRAGMENT_DEADLINE]
        if deadline < nat.fragments[chosen * FRAGMENT_WORDS + FRAGMENT_DEADLINE]:
            chosen = number
    return np.int64(chosen * FRAGMENT_WORDS)


@inlined
def is_first_fragment(area: Any, ip: Any) -> Any:
    """Tell whether a datagram is the first of several fragments."""
    word = read16(area, ip + ipv4.FLAGS_FRAGMENT)
    return word & ipv4.FLAG_MF != 0 and word & ipv4.OFFSET_MASK == 0


@inlined
def _check(nat: Any, session: Any) -> Any:
    return np.int64(0) if session == ABSENT else nat.sessions[(session >> 1) * SESSION_WORDS + CHECK]


@inlined
def remember_first(nat: Any, area: Any, ip: Any, ports: Any, session: Any) -> Any:
    """Remember a first fragment, before it is rewritten, and how its datagram is translated.

    :param session: session << 1 | direction, or ABSENT.
    :return: OVERLAP where another first fragment of the same datagram has other ports or another length; else 0.
    """
    addresses = addresses_word(read32(area, ip + ipv4.SOURCE), read32(area, ip + ipv4.DESTINATION))
    name = _name(area, ip)
    end = read16(area, ip + ipv4.TOTAL_LENGTH) - np.int64(area[ip] & 0xF) * 4
    at = _find(nat, addresses, name)
    if at != ABSENT:
        same = nat.fragments[at + FRAGMENT_PORTS] == ports and nat.fragments[at + FRAGMENT_END] == end
        age = nat.scalars[NOW] + FRAGMENT_MS - nat.fragments[at + FRAGMENT_DEADLINE]
        if not same and age < FRAGMENT_FIRST_MS:
            return np.int64(OVERLAP)
    else:
        at = _oldest(nat, addresses, name)
    nat.fragments[at + FRAGMENT_ADDRESSES] = addresses
    nat.fragments[at + FRAGMENT_ID] = name
    nat.fragments[at + FRAGMENT_SESSION] = session
    nat.fragments[at + FRAGMENT_DEADLINE] = nat.scalars[NOW] + FRAGMENT_MS
    nat.fragments[at + FRAGMENT_END] = end
    nat.fragments[at + FRAGMENT_PORTS] = ports
    nat.fragments[at + FRAGMENT_CHECK] = _check(nat, session)
    return np.int64(0)


@inlined
def later_fragment(nat: Any, area: Any, ip: Any) -> Any:
    """Return session << 1 | direction of a later fragment's datagram, or ABSENT, OVERLAP, UNKNOWN."""
    addresses = addresses_word(read32(area, ip + ipv4.SOURCE), read32(area, ip + ipv4.DESTINATION))
    at = _find(nat, addresses, _name(area, ip))
    if at == ABSENT:
        return np.int64(UNKNOWN)
    offset = (read16(area, ip + ipv4.FLAGS_FRAGMENT) & ipv4.OFFSET_MASK) * 8
    if offset < nat.fragments[at + FRAGMENT_END]:
        return np.int64(OVERLAP)
    session = nat.fragments[at + FRAGMENT_SESSION]
    has_ended = _check(nat, session) != nat.fragments[at + FRAGMENT_CHECK]
    return np.int64(UNKNOWN) if has_ended else session
