"""Sessions: opened, kept alive, closed. TCP's state is followed just so far as to time out well (RFC 5382 REQ-5)."""

from typing import Any, Final

import numpy as np

from services.common.kernels import inlined, kernel
from services.common.wire import ipv4
from services.forwarder.datagram import mix
from services.forwarder.nat.keys import (
    destination_of,
    find_key,
    key_hash,
    key_place,
    kind_of,
    permit_key,
    put_key,
    remove_key,
    source_of,
)
from services.forwarder.nat.layout import (
    ABSENT,
    CHECK,
    COUNTS,
    DEADLINE,
    FLAGS,
    FLUSHED,
    FREE,
    HIGH,
    HOST_LIMIT,
    ICMP,
    ICMP_REPLY,
    ICMP_REQUEST,
    INBOUND,
    NAT,
    NOW,
    OPENED,
    OPENED_SESSIONS,
    ORIGINAL,
    OTHER,
    REPLY,
    SESSION_WORDS,
    SOURCE_MAPPING,
    STATE,
    TARGET_MAPPING,
    TCP_ESTABLISHED,
    TCP_TRANSITORY,
    TIMEOUTS,
    UDP,
    USED,
    NatArrays,
)
from services.forwarder.nat.mappings import count_less, count_more, counted, leave_mapping, use_mapping

FIN: Final = 0x01  # RFC 9293 section 3.1
SYN: Final = 0x02
RST: Final = 0x04
ACK: Final = 0x10

# What was seen of a TCP session: bits of STATE >> 8. Those of who began it; << 1 for what came back
_SEEN: Final = 0x01
_FIN_SEEN: Final = 0x04
_BOTH_SEEN: Final = 0x03
_BOTH_FIN: Final = 0x0C

# Why a session was not opened
TABLE_FULL: Final = -1
HOST_FULL: Final = -2
CLASH: Final = -3
"""The answers would be those of another session."""


@inlined
def session_check(nat: Any, at: Any) -> Any:
    """Return the digest of what does not change in a session; never 0."""
    value = np.uint64(nat.sessions[at + FLAGS]) ^ np.uint64(nat.sessions[at + OPENED])
    for place in range(4):
        value = mix(value ^ np.uint64(nat.sessions[at + ORIGINAL + place]))
    return np.int64(value | np.uint64(1))


@inlined
def state_of(kind: Any) -> Any:
    """Return the state that a session of a kind begins in."""
    if kind == ipv4.PROTOCOL_TCP:
        return np.int64(TCP_TRANSITORY)
    if kind == ipv4.PROTOCOL_UDP:
        return np.int64(UDP)
    return np.int64(ICMP if kind in (ICMP_REQUEST, ICMP_REPLY) else OTHER)


@inlined
def inside_host(nat: Any, at: Any) -> Any:
    """Return the inside host that a session is counted for."""
    if nat.sessions[at + FLAGS] & INBOUND:
        return source_of(nat.sessions[at + REPLY])
    return source_of(nat.sessions[at + ORIGINAL])


@inlined
def has_ended(nat: Any, session: Any) -> Any:
    """Tell whether a session's time is over, or it was flushed."""
    at = session * SESSION_WORDS
    if nat.sessions[at + DEADLINE] <= nat.scalars[NOW]:
        return True
    return nat.scalars[FLUSHED] != 0 and nat.sessions[at + OPENED] <= nat.scalars[FLUSHED]


@inlined
def enter(nat: Any, session: Any) -> None:
    """Count a session whose words are written, and make it found: all that is not in the file follows from them."""
    at = session * SESSION_WORDS
    for direction in range(2):
        key = key_place(session, direction)
        hashed = key_hash(nat, nat.sessions[key], nat.sessions[key + 1])
        put_key(nat, hashed, session << 1 | direction)
    source = nat.sessions[at + SOURCE_MAPPING]
    if source != ABSENT:
        use_mapping(nat, source)
        remote = destination_of(nat.sessions[at + ORIGINAL])
        count_more(nat, nat.permit_keys, nat.permit_values, permit_key(source, remote))
    if nat.sessions[at + TARGET_MAPPING] != ABSENT:
        use_mapping(nat, nat.sessions[at + TARGET_MAPPING])
    count_more(nat, nat.host_keys, nat.host_values, inside_host(nat, at))
    nat.scalars[USED + (nat.sessions[at + STATE] & 0xFF)] += 1


@kernel("void", NAT, "int64")
def close_session(nat: NatArrays, session: int) -> None:
    """End a session: its row is free, and a mapping without sessions goes."""
    at = session * SESSION_WORDS
    nat.sessions[at + CHECK] = 0
    for direction in range(2):
        key = key_place(session, direction)
        remove_key(nat, key_hash(nat, nat.sessions[key], nat.sessions[key + 1]), session << 1 | direction)
    source = nat.sessions[at + SOURCE_MAPPING]
    if source != ABSENT:
        remote = destination_of(nat.sessions[at + ORIGINAL])
        count_less(nat, nat.permit_keys, nat.permit_values, permit_key(source, remote))
        leave_mapping(nat, source)
    if nat.sessions[at + TARGET_MAPPING] != ABSENT:
        leave_mapping(nat, nat.sessions[at + TARGET_MAPPING])
    count_less(nat, nat.host_keys, nat.host_values, inside_host(nat, at))
    nat.scalars[USED + (nat.sessions[at + STATE] & 0xFF)] -= 1
    nat.free[nat.scalars[FREE]] = session
    nat.scalars[FREE] += 1


@inlined
def find_live(nat: Any, hashed: Any, addresses: Any, ports: Any) -> Any:
    """Return session << 1 | direction of a key, or ABSENT; a session whose time is over is closed."""
    found = find_key(nat, hashed, addresses, ports)
    if found != ABSENT and has_ended(nat, found >> 1):
        close_session(nat, found >> 1)
        return np.int64(ABSENT)
    return found


@kernel("int64", NAT, "int64", "int64", "int64", "int64", "int64", "int64", "int64")
def open_session(
    nat: NatArrays, addresses: int, ports: int, back: int, back_ports: int, source: int, target: int, flags: int
) -> Any:
    """Open a session; return its number, or why it is refused.

    :param addresses: with `ports` the key of its first datagram; `back`, `back_ports`: of what will come back.
    :param source: mapping of who begins it, or ABSENT; `target`: the mapping that it comes in by, or ABSENT.
    """
    if nat.scalars[FREE] == 0:
        return TABLE_FULL
    host = source_of(back) if flags & INBOUND else source_of(addresses)
    if counted(nat, nat.host_keys, nat.host_values, host) >= nat.scalars[HOST_LIMIT]:
        return HOST_FULL
    if find_live(nat, key_hash(nat, back, back_ports), back, back_ports) != ABSENT:
        return CLASH
    if find_live(nat, key_hash(nat, addresses, ports), addresses, ports) != ABSENT:
        return CLASH
    nat.scalars[FREE] -= 1
    session = np.int64(nat.free[nat.scalars[FREE]])
    nat.scalars[HIGH] = max(nat.scalars[HIGH], session + 1)
    at = session * SESSION_WORDS
    nat.sessions[at + ORIGINAL] = addresses
    nat.sessions[at + ORIGINAL + 1] = ports
    nat.sessions[at + REPLY] = back
    nat.sessions[at + REPLY + 1] = back_ports
    state = state_of(kind_of(ports))
    nat.sessions[at + STATE] = state
    nat.sessions[at + DEADLINE] = nat.scalars[NOW] + nat.scalars[TIMEOUTS + state]
    for place in range(4):
        nat.sessions[at + COUNTS + place] = 0
    nat.sessions[at + OPENED] = nat.scalars[NOW]
    nat.sessions[at + SOURCE_MAPPING] = source
    nat.sessions[at + TARGET_MAPPING] = target
    nat.sessions[at + FLAGS] = flags
    nat.sessions[at + CHECK] = session_check(nat, at)
    enter(nat, session)
    nat.scalars[OPENED_SESSIONS] += 1
    return session


@inlined
def _next_tcp(word: Any, direction: Any, flags: Any) -> Any:
    """Return STATE after a segment: RFC 5382 REQ-5, RFC 7857 section 2.

    Established is what was seen of both ends and not closed by both: also what was under way before it was seen here.
    """
    seen = word >> 8
    if flags & RST:
        # Either end may go on nevertheless (RFC 7857 section 2.2): what then comes of both makes it established again.
        return np.int64(TCP_TRANSITORY)
    if flags & SYN and seen & _BOTH_FIN:
        seen = np.int64(0)  # the ports are used once more
    seen |= _SEEN << direction
    if flags & FIN:
        seen |= _FIN_SEEN << direction
    established = seen & _BOTH_SEEN == _BOTH_SEEN and seen & _BOTH_FIN != _BOTH_FIN
    return seen << 8 | (TCP_ESTABLISHED if established else TCP_TRANSITORY)


@inlined
def keep_alive(nat: Any, found: Any, flags: Any, octets: Any) -> None:
    """Take note of a datagram of a session: its state, its deadline, its counts.

    :param found: session << 1 | direction.
    :param flags: of TCP, else 0.
    """
    at = (found >> 1) * SESSION_WORDS
    direction = found & 1
    word = nat.sessions[at + STATE]
    state = word & 0xFF
    if state in (TCP_TRANSITORY, TCP_ESTABLISHED):
        after = _next_tcp(word, direction, flags)
        if after != word:
            nat.sessions[at + STATE] = after
            nat.scalars[USED + state] -= 1
            state = after & 0xFF
            nat.scalars[USED + state] += 1
    nat.sessions[at + DEADLINE] = nat.scalars[NOW] + nat.scalars[TIMEOUTS + state]
    nat.sessions[at + COUNTS + 2 * direction] += 1
    nat.sessions[at + COUNTS + 2 * direction + 1] += octets
