"""What a new session becomes: its destination by rule or mapping, its source by pool, rule or mapping."""

from typing import Any, Final, NamedTuple

import numpy as np

from services.common.counters import MAX_INTERFACES, Counter
from services.common.kernels import inlined, kernel, record
from services.common.wire import ipv4
from services.forwarder.nat.keys import (
    addresses_word,
    destination_of,
    destination_port_of,
    endpoint_key,
    find_key,
    key_hash,
    kind_of,
    ports_word,
    reverse_kind,
    source_of,
    source_port_of,
)
from services.forwarder.nat.layout import (
    ABSENT,
    ADDRESS_DEPENDENT,
    ENDPOINT_INDEPENDENT,
    FILTERING,
    FORWARD_ADDRESS,
    FORWARD_FIRST,
    FORWARD_KIND,
    FORWARD_LAST,
    FORWARD_TO,
    FORWARD_TO_PORT,
    FORWARD_WORDS,
    ICMP_REPLY,
    ICMP_REQUEST,
    INBOUND,
    MAPPING,
    MAPPING_WORDS,
    NAT,
    OUTSIDE_KEY,
    PORTS,
    SOURCE_MAPPED,
    TARGET_MAPPED,
    NatArrays,
)
from services.forwarder.nat.layout import INSIDE_KEY as INSIDE
from services.forwarder.nat.mappings import (
    choose_port,
    find_inside,
    find_outside,
    first_port,
    last_port,
    leave_mapping,
    may_answer,
    open_mapping,
    outside_number,
    paired_address,
    pool_name,
    port_random,
    port_row,
    use_mapping,
)
from services.forwarder.nat.sessions import HOST_FULL, TABLE_FULL, open_session

_PORT_TRIES: Final = 256
"""Ports tried with address-and-port-dependent mapping, where a port may serve several sessions."""

_TABLE_FULL: Final = int(Counter.DROP_NAT_TABLE_FULL)
_PORTS_FULL: Final = int(Counter.DROP_NAT_PORTS_FULL)
_HOST_LIMIT: Final = int(Counter.DROP_NAT_HOST_LIMIT)
_CLASH: Final = int(Counter.DROP_NAT_CLASH)
_NO_SESSION: Final = int(Counter.DROP_NAT_NO_SESSION)


class Target(NamedTuple):
    """Where a datagram to an outside address goes. All fields are integers."""

    address: Any
    """The inside host; 0: nowhere."""
    port: Any
    mapping: Any
    """That it came in by, or ABSENT: a rule's."""
    filtered: Any
    """1: there is a mapping, but the sender is a stranger to it."""


TARGET: Final = record(Target, "int64", "int64", "int64", "int64")


@inlined
def _no_target(filtered: Any) -> Any:
    return Target(np.int64(0), np.int64(0), np.int64(ABSENT), np.int64(filtered))


@inlined
def _mapped(nat: Any, mapping: Any, remote: Any, from_inside: Any) -> Any:
    filtering = nat.scalars[FILTERING]
    passes = from_inside or filtering == ENDPOINT_INDEPENDENT
    if not passes and not (filtering == ADDRESS_DEPENDENT and may_answer(nat, mapping, remote)):
        return _no_target(1)
    inside = nat.mappings[mapping * MAPPING_WORDS + INSIDE]
    return Target(inside >> 16 & 0xFFFF_FFFF, inside & 0xFFFF, mapping, np.int64(0))


@kernel(TARGET, NAT, "int64", "int64", "int64")
def find_target(nat: NatArrays, addresses: int, ports: int, in_slot: int) -> Any:
    """Return where a new session to an outside address goes: by one-to-one rule, forwarding rule, or mapping.

    Filtering is for those outside: a host behind this router that comes by an outside address is let through.
    """
    number = outside_number(nat, destination_of(addresses))
    if number == ABSENT:
        return _no_target(0)
    kind = kind_of(ports)
    port = destination_port_of(ports)
    for place in range(nat.one_to_one[0]):
        if nat.one_to_one[1 + place * 2] == number:
            return Target(nat.one_to_one[2 + place * 2], port, np.int64(ABSENT), np.int64(0))
    for place in range(nat.forwards[0]):
        at = 1 + place * FORWARD_WORDS
        if (
            nat.forwards[at + FORWARD_KIND] == kind
            and nat.forwards[at + FORWARD_ADDRESS] == number
            and nat.forwards[at + FORWARD_FIRST] <= port <= nat.forwards[at + FORWARD_LAST]
        ):
            to_port = nat.forwards[at + FORWARD_TO_PORT] + port - nat.forwards[at + FORWARD_FIRST]
            return Target(nat.forwards[at + FORWARD_TO], to_port, np.int64(ABSENT), np.int64(0))
    if kind in (ipv4.PROTOCOL_TCP, ipv4.PROTOCOL_UDP) and nat.scalars[MAPPING] == ENDPOINT_INDEPENDENT:
        mapping = find_outside(nat, kind, destination_of(addresses), port)
        if mapping != ABSENT:
            return _mapped(nat, mapping, source_of(addresses), in_slot != nat.address_slots[number])
    return _no_target(0)


@inlined
def source_pool(nat: Any, in_slot: Any, out_slot: Any) -> Any:
    """Return the pool that sources are translated to on this way; 0: none."""
    return np.int64(nat.translate[in_slot * MAX_INTERFACES + out_slot])


@inlined
def one_to_one_outside(nat: Any, source: Any, in_slot: Any, out_slot: Any) -> Any:
    """Return the number of the outside address that a one-to-one rule gives to a source on this way, or ABSENT."""
    for place in range(nat.one_to_one[0]):
        number = nat.one_to_one[1 + place * 2]
        if nat.one_to_one[2 + place * 2] == source and nat.address_slots[number] == out_slot and in_slot != out_slot:
            return np.int64(number)
    return np.int64(ABSENT)


@inlined
def _forwarded_from(nat: Any, kind: Any, source: Any, port: Any, out_slot: Any) -> Any:
    """Return outside address number << 16 | port where a forwarding rule leads to this very endpoint, or ABSENT.

    What a server behind such a rule sends by itself comes from where it is reached: mapping stays endpoint-independent.
    """
    for place in range(nat.forwards[0]):
        at = 1 + place * FORWARD_WORDS
        first = nat.forwards[at + FORWARD_TO_PORT]
        last = first + nat.forwards[at + FORWARD_LAST] - nat.forwards[at + FORWARD_FIRST]
        if (
            nat.forwards[at + FORWARD_KIND] == kind
            and nat.forwards[at + FORWARD_TO] == source
            and first <= port <= last
            and nat.address_slots[nat.forwards[at + FORWARD_ADDRESS]] == out_slot
        ):
            return nat.forwards[at + FORWARD_ADDRESS] << 16 | (nat.forwards[at + FORWARD_FIRST] + port - first)
    return np.int64(ABSENT)


@inlined
def _refusal(code: Any) -> Any:
    if code == TABLE_FULL:
        return np.int64(_TABLE_FULL)
    return np.int64(_HOST_LIMIT) if code == HOST_FULL else np.int64(_CLASH)


@inlined
def _shared_port(nat: Any, kind: Any, number: Any, source: Any, wanted: Any, back: Any, target_port: Any) -> Any:
    """Return a port whose answers are no other session's: address-and-port-dependent mapping; or ABSENT."""
    first = first_port(nat, kind)
    span = last_port(nat, kind) - first + 1
    row = port_row(number, kind)
    for turn in range(_PORT_TRIES):
        port = wanted if turn == 0 else first + port_random(nat, source, wanted, turn) % span
        if first <= port < first + span and nat.ports[row * PORTS + port] == 0:
            ports = ports_word(reverse_kind(kind), target_port, port)
            if find_key(nat, key_hash(nat, back, ports), back, ports) == ABSENT:
                return np.int64(port)
    return np.int64(ABSENT)


class Source(NamedTuple):
    """What the source of a new session becomes. All fields are integers."""

    address: Any
    port: Any
    mapping: Any
    """The mapping behind it, or ABSENT."""
    refusal: Any
    """The counter of a refusal, or 0."""


@inlined
def _source(address: Any, port: Any, mapping: Any, refusal: Any) -> Any:
    return Source(np.int64(address), np.int64(port), np.int64(mapping), np.int64(refusal))


@inlined
def _pooled(nat: Any, kind: Any, source: Any, port: Any, pool: Any) -> Any:
    """Return what a pool's endpoint-independent mapping makes of a source: the one there is, or a new one."""
    name = pool_name(nat, pool)
    mapping = find_inside(nat, kind, source, port, name)
    if mapping == ABSENT:
        number = paired_address(nat, pool, source)
        outside_port = choose_port(nat, number, kind, source, port)
        if outside_port == ABSENT:
            return _source(source, port, ABSENT, _PORTS_FULL)
        inside_key = endpoint_key(kind, source, port, name)
        outside_key = endpoint_key(kind, nat.addresses[number], outside_port, 0)
        mapping = open_mapping(nat, inside_key, outside_key, number)
        if mapping == ABSENT:
            return _source(source, port, ABSENT, _TABLE_FULL)
    outside_key = nat.mappings[mapping * MAPPING_WORDS + OUTSIDE_KEY]
    return _source(outside_key >> 16 & 0xFFFF_FFFF, outside_key & 0xFFFF, mapping, 0)


@inlined
def _shared(nat: Any, kind: Any, source: Any, port: Any, pool: Any, to: Any, to_port: Any) -> Any:
    """Return what address-and-port-dependent mapping makes of a source."""
    number = paired_address(nat, pool, source)
    outside = nat.addresses[number]
    outside_port = _shared_port(nat, kind, number, source, port, addresses_word(to, outside), to_port)
    if outside_port == ABSENT:
        return _source(source, port, ABSENT, _PORTS_FULL)
    return _source(outside, outside_port, ABSENT, 0)


@inlined
def _choose_source(nat: Any, key: Any, ports: Any, to: Any, to_port: Any, in_slot: Any, out_slot: Any) -> Any:
    """Return what the source of a new session becomes: by one-to-one rule, forwarding rule, or pool, if any."""
    kind = kind_of(ports)
    source = source_of(key)
    port = source_port_of(ports)
    static = one_to_one_outside(nat, source, in_slot, out_slot)
    if static != ABSENT:
        return _source(nat.addresses[static], port, ABSENT, 0)
    forwarded = _forwarded_from(nat, kind, source, port, out_slot) if in_slot != out_slot else np.int64(ABSENT)
    if forwarded != ABSENT:
        return _source(nat.addresses[forwarded >> 16], forwarded & 0xFFFF, ABSENT, 0)
    pool = source_pool(nat, in_slot, out_slot)
    if pool == 0:
        return _source(source, port, ABSENT, 0)
    if kind == ICMP_REPLY:
        return _source(source, port, ABSENT, _NO_SESSION)  # an answer that nobody has asked for
    if kind not in (ipv4.PROTOCOL_TCP, ipv4.PROTOCOL_UDP, ICMP_REQUEST):
        return _source(nat.addresses[paired_address(nat, pool, source)], port, ABSENT, 0)
    if nat.scalars[MAPPING] != ENDPOINT_INDEPENDENT:
        return _shared(nat, kind, source, port, pool, to, to_port)
    return _pooled(nat, kind, source, port, pool)


@kernel("int64", NAT, "int64", "int64", "int64", "int64", "int64", "int64", "int64")
def begin_session(
    nat: NatArrays, addresses: int, ports: int, to: int, to_port: int, target: int, in_slot: int, out_slot: int
) -> Any:
    """Open the session of a datagram that begins one; return its number, or minus the counter of its refusal.

    :param addresses: with `ports` the datagram's key.
    :param to: where it goes: another address than its own where a rule or a mapping leads there; with `to_port`.
    :param target: that mapping, or ABSENT.
    :param out_slot: the interface that it leaves by; of one that comes back in, the one whose address it was sent to.
    """
    source = _choose_source(nat, addresses, ports, to, to_port, in_slot, out_slot)
    if source.refusal != 0:
        return -np.int64(source.refusal)
    flags: Any = np.int64(0)
    if source.address == source_of(addresses):
        flags |= INBOUND  # of a session between two inside hosts it is the one who began it
    if target != ABSENT:
        flags |= TARGET_MAPPED
    mapping = source.mapping
    if mapping != ABSENT:
        flags |= SOURCE_MAPPED
        use_mapping(nat, mapping)
    back = addresses_word(to, source.address)
    back_ports = ports_word(reverse_kind(kind_of(ports)), to_port, source.port)
    session = open_session(nat, addresses, ports, back, back_ports, mapping, target, flags)
    if mapping != ABSENT:
        leave_mapping(nat, mapping)  # a new one goes again where the session was refused
    return session if session >= 0 else -_refusal(session)
