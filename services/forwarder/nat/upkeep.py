"""Upkeep of the sessions between batches, a slice at a time, and what a restarted forwarder makes of its file."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from services.common.kernels import inlined, kernel
from services.common.wire import ethernet, ipv4, virtio_net
from services.forwarder.datagram import read32
from services.forwarder.nat.fragments import UNKNOWN, later_fragment
from services.forwarder.nat.headers import kind_at, ports_at, rewrite
from services.forwarder.nat.keys import (
    addresses_word,
    destination_of,
    destination_port_of,
    endpoint_key,
    find_key,
    key_hash,
    key_place,
    kind_of,
    reverse_addresses,
    reverse_kind,
    reverse_ports,
    source_of,
    source_port_of,
)
from services.forwarder.nat.layout import (
    ABSENT,
    CHECK,
    COUNTS,
    DEADLINE,
    FLAGS,
    FREE,
    HIGH,
    KIND_SHIFT,
    MAPPING_WORDS,
    MAX_ADDRESSES,
    NAT,
    NOW,
    OPENED,
    ORIGINAL,
    OTHER,
    OUTSIDE_KEY,
    REPLY,
    SESSION_WORDS,
    SOURCE_MAPPED,
    SOURCE_MAPPING,
    STATE,
    TARGET_MAPPED,
    TARGET_MAPPING,
    TCP_ESTABLISHED,
    TCP_TRANSITORY,
    TIMEOUTS,
    NatArrays,
    Words,
)
from services.forwarder.nat.mappings import (
    address_number,
    find_inside,
    find_outside,
    leave_mapping,
    open_mapping,
    pool_name_of_address,
    use_mapping,
)
from services.forwarder.nat.sessions import close_session, enter, has_ended, session_check, state_of

_ETHERNET: Final = ethernet.HEADER_BYTES
_VIRTIO: Final = virtio_net.HEADER_BYTES
_MAX_TIMEOUT_MS: Final = 10**10


@kernel("int64", NAT, "int64", "int64", "int64")
def sweep(nat: NatArrays, first: int, rows: int, endings: int) -> Any:
    """Close sessions whose time is over, among `rows` rows from `first` on, `endings` of them at most.

    :return: the row to go on with; 0: the round is complete.
    """
    last = min(first + rows, nat.scalars[HIGH])
    ended = 0
    for session in range(first, last):
        if nat.sessions[session * SESSION_WORDS + CHECK] != 0 and has_ended(nat, session):
            close_session(nat, session)
            ended += 1
            if ended >= endings:
                return session + 1
    if last < nat.scalars[HIGH]:
        return last
    if nat.scalars[FREE] * SESSION_WORDS == nat.sessions.shape[0]:
        nat.scalars[HIGH] = 0
    return 0


# --- taking sessions up again -----------------------------------------------------------------------------------------


@inlined
def _is_sound(nat: Any, at: Any) -> Any:
    """Tell whether a row holds a session that a predecessor may have left there."""
    if nat.sessions[at + CHECK] == 0 or nat.sessions[at + CHECK] != session_check(nat, at):
        return False
    kind = kind_of(nat.sessions[at + ORIGINAL + 1])
    state = nat.sessions[at + STATE] & 0xFF
    fitting = state == state_of(kind) or (kind == ipv4.PROTOCOL_TCP and state == TCP_ESTABLISHED)
    if not fitting or not TCP_TRANSITORY <= state <= OTHER or nat.sessions[at + STATE] >> 8 > 0xF:
        return False
    for place in range(4):
        if nat.sessions[at + COUNTS + place] < 0:
            return False
    if kind_of(nat.sessions[at + REPLY + 1]) != reverse_kind(kind) or nat.sessions[at + OPENED] > nat.scalars[NOW]:
        return False
    # also whatever a shorter timeout of today would have ended by now
    if nat.sessions[at + DEADLINE] > nat.scalars[NOW] + _MAX_TIMEOUT_MS:
        return False
    nat.sessions[at + DEADLINE] = min(nat.sessions[at + DEADLINE], nat.scalars[NOW] + nat.scalars[TIMEOUTS + state])
    return nat.sessions[at + DEADLINE] > nat.scalars[NOW]


@inlined
def _number_of(nat: Any, address: Any) -> Any:
    """Return the number of an outside address, a new one where it has none; ABSENT when all are taken."""
    number = address_number(nat, address)
    if number != ABSENT:
        return number
    for place in range(MAX_ADDRESSES):
        if nat.addresses[place] == 0:
            nat.addresses[place] = address
            return np.int64(place)
    return np.int64(ABSENT)


@inlined
def _remap(nat: Any, kind: Any, inside: Any, inside_port: Any, outside: Any, outside_port: Any) -> Any:
    """Return the mapping between two endpoints, made where it is missing; ABSENT where another contradicts it."""
    number = _number_of(nat, outside)
    if number == ABSENT:
        return np.int64(ABSENT)
    name = pool_name_of_address(nat, number)
    outside_key = endpoint_key(kind, outside, outside_port, 0)
    mapping = find_inside(nat, kind, inside, inside_port, name)
    if mapping != ABSENT:
        same = nat.mappings[mapping * MAPPING_WORDS + OUTSIDE_KEY] == outside_key
        return mapping if same else np.int64(ABSENT)
    if find_outside(nat, kind, outside, outside_port) != ABSENT:
        return np.int64(ABSENT)
    return open_mapping(nat, endpoint_key(kind, inside, inside_port, name), outside_key, number)


@inlined
def _take_up(nat: Any, session: Any) -> Any:
    """Enter the session of a row into all that is not in the file; tell whether it fits in."""
    at = session * SESSION_WORDS
    if not _is_sound(nat, at):
        return False
    for direction in range(2):
        key = key_place(session, direction)
        addresses = nat.sessions[key]
        ports = nat.sessions[key + 1]
        if find_key(nat, key_hash(nat, addresses, ports), addresses, ports) != ABSENT:
            return False
    flags = nat.sessions[at + FLAGS]
    original = nat.sessions[at + ORIGINAL]
    original_ports = nat.sessions[at + ORIGINAL + 1]
    reply = nat.sessions[at + REPLY]
    reply_ports = nat.sessions[at + REPLY + 1]
    kind = kind_of(original_ports)
    source = np.int64(ABSENT)
    target = np.int64(ABSENT)
    if flags & SOURCE_MAPPED:
        inside_port = source_port_of(original_ports)
        outside_port = destination_port_of(reply_ports)
        source = _remap(nat, kind, source_of(original), inside_port, destination_of(reply), outside_port)
        if source == ABSENT:
            return False
        use_mapping(nat, source)
    if flags & TARGET_MAPPED:
        inside_port = source_port_of(reply_ports)
        outside_port = destination_port_of(original_ports)
        target = _remap(nat, kind, source_of(reply), inside_port, destination_of(original), outside_port)
        if target == ABSENT:
            if source != ABSENT:
                leave_mapping(nat, source)
            return False
    nat.sessions[at + SOURCE_MAPPING] = source
    nat.sessions[at + TARGET_MAPPING] = target
    enter(nat, session)
    if source != ABSENT:
        leave_mapping(nat, source)
    return True


@kernel("int64", NAT)
def take_up(nat: NatArrays) -> int:
    """Make everything anew from the rows of sessions, those that are not sound are freed; return how many are."""
    free = 0
    kept = 0
    capacity = nat.sessions.shape[0] // SESSION_WORDS
    for step in range(capacity):
        session = np.int64(capacity - 1 - step)
        if _take_up(nat, session):
            kept += 1
            nat.scalars[HIGH] = max(nat.scalars[HIGH], session + 1)
        else:
            nat.sessions[session * SESSION_WORDS + CHECK] = 0
            nat.free[free] = session
            free += 1
    nat.scalars[FREE] = free
    return kept


@kernel("int64", "int64[::1]", "int64[::1]")
def copy_sessions(old: Words, new: Words) -> int:
    """Copy the rows that are in use to the front of a larger or smaller table; return how many were."""
    capacity = new.shape[0] // SESSION_WORDS
    used = 0
    for session in range(old.shape[0] // SESSION_WORDS):
        if old[session * SESSION_WORDS + CHECK] != 0 and used < capacity:
            for place in range(SESSION_WORDS):
                new[used * SESSION_WORDS + place] = old[session * SESSION_WORDS + place]
            used += 1
    return used


# --- what Python asks -------------------------------------------------------------------------------------------------


@kernel("boolean", NAT, "uint8[::1]")
def restore(nat: NatArrays, frame: npt.NDArray[np.uint8]) -> bool:
    """Make a translated frame, behind its virtio network header, what it was when it came; false: it is of no session.

    For the ICMP errors about it, whose quote is for whoever sent it.
    """
    start = np.int64(_VIRTIO)
    ip = start + _ETHERNET
    kind = kind_at(frame, ip)
    if kind < 0:
        return False
    addresses = addresses_word(read32(frame, ip + ipv4.SOURCE), read32(frame, ip + ipv4.DESTINATION))
    at = ip + np.int64(frame[ip] & 0xF) * 4
    ports = np.int64(kind) << KIND_SHIFT | ports_at(frame, at, kind)
    back = reverse_addresses(addresses)
    back_ports = reverse_ports(ports)
    found = find_key(nat, key_hash(nat, back, back_ports), back, back_ports)
    if found == ABSENT:
        return False
    came = key_place(found >> 1, 1 - (found & 1))
    came_addresses = nat.sessions[came]
    came_ports = nat.sessions[came + 1]
    rewrite(frame, start, kind, source_of(came_addresses), destination_of(came_addresses), came_ports & 0xFFFF_FFFF)
    return True


@kernel("boolean", NAT, "uint8[::1]")
def knows_fragment(nat: NatArrays, frame: npt.NDArray[np.uint8]) -> bool:
    """Tell whether the first fragment of a later fragment's datagram has come; the frame as in `restore`."""
    found: int = later_fragment(nat, frame, np.int64(_VIRTIO + _ETHERNET))
    return found != UNKNOWN
