"""Mappings of inside endpoints to outside ones, the ports they take, and what is counted for each host."""

from typing import Any, Final

import numpy as np

from services.common.hash_table import find, put, remove
from services.common.kernels import inlined
from services.common.wire import ipv4
from services.forwarder.datagram import mix
from services.forwarder.nat.keys import endpoint_key, permit_key, scrambled
from services.forwarder.nat.layout import (
    ABSENT,
    FREE_MAPPINGS,
    ICMP_REQUEST,
    INSIDE_KEY,
    MAPPING_WORDS,
    MAX_ADDRESSES,
    MAX_POOLS,
    OUTSIDE_KEY,
    POOL_ADDRESSES,
    PORT_FIRST,
    PORT_KINDS,
    PORT_LAST,
    PORT_USED,
    PORTS,
    SEED,
    SESSIONS,
)

_POSITIVE: Final = np.uint64(33)


@inlined
def count_more(nat: Any, keys: Any, values: Any, key: Any) -> None:
    """Count one more of a key in a hash table."""
    number = scrambled(nat, key)
    place = find(keys, number)
    if place == ABSENT:
        put(keys, values, number, np.int32(1))
    else:
        values[place] += 1


@inlined
def count_less(nat: Any, keys: Any, values: Any, key: Any) -> None:
    """Count one less of a key, which goes with its last."""
    number = scrambled(nat, key)
    place = find(keys, number)
    if place != ABSENT:
        values[place] -= 1
        if values[place] <= 0:
            remove(keys, values, number)


@inlined
def counted(nat: Any, keys: Any, values: Any, key: Any) -> Any:
    """Return how many of a key are counted."""
    place = find(keys, scrambled(nat, key))
    return np.int64(0) if place == ABSENT else np.int64(values[place])


# --- outside addresses ------------------------------------------------------------------------------------------------


@inlined
def address_number(nat: Any, address: Any) -> Any:
    """Return the number of an outside address, or ABSENT."""
    for number in range(MAX_ADDRESSES):
        if nat.addresses[number] == address:
            return np.int64(number)
    return np.int64(ABSENT)


@inlined
def outside_number(nat: Any, address: Any) -> Any:
    """Return the number of an outside address that a rule names, or ABSENT."""
    number = address_number(nat, address)
    return number if number != ABSENT and nat.address_slots[number] != 0 else np.int64(ABSENT)


@inlined
def pool_name(nat: Any, pool: Any) -> Any:
    """Return what stands for a pool in the keys of mappings: its first address, whatever its number is now."""
    return nat.pools[pool * (1 + POOL_ADDRESSES) + 1]


@inlined
def pool_name_of_address(nat: Any, number: Any) -> Any:
    """Return what stands for the pool of an outside address; an address of no pool stands for itself."""
    for pool in range(1, MAX_POOLS):
        first = pool * (1 + POOL_ADDRESSES)
        for place in range(nat.pools[first]):
            if nat.pools[first + 1 + place] == number:
                return nat.pools[first + 1]
    return np.int64(number)


@inlined
def paired_address(nat: Any, pool: Any, inside: Any) -> Any:
    """Return the number of the one address of a pool that an inside host gets: RFC 4787 REQ-2, paired pooling."""
    first = pool * (1 + POOL_ADDRESSES)
    drawn = np.int64(mix(np.uint64(inside) ^ np.uint64(nat.scalars[SEED])) >> _POSITIVE)
    return nat.pools[first + 1 + drawn % nat.pools[first]]


# --- ports ------------------------------------------------------------------------------------------------------------


@inlined
def port_row(number: Any, kind: Any) -> Any:
    """Return which row of ports an outside address has for a kind."""
    row = 0 if kind == ipv4.PROTOCOL_TCP else 1 if kind == ipv4.PROTOCOL_UDP else 2
    return np.int64(number) * PORT_KINDS + row


@inlined
def first_port(nat: Any, kind: Any) -> Any:
    """Return the first port that may be given out; of identifiers all may, the kernel answers none."""
    return np.int64(0) if kind == ICMP_REQUEST else nat.scalars[PORT_FIRST]


@inlined
def last_port(nat: Any, kind: Any) -> Any:
    """Return the last port that may be given out."""
    return np.int64(PORTS - 1) if kind == ICMP_REQUEST else nat.scalars[PORT_LAST]


@inlined
def port_random(nat: Any, inside: Any, port: Any, turn: Any) -> Any:
    """Return a number that nobody outside can foresee, to begin a search at."""
    return np.int64(
        mix(np.uint64(inside << 20 | port << 4) ^ mix(np.uint64(nat.scalars[SEED]) + np.uint64(turn))) >> _POSITIVE
    )


@inlined
def choose_port(nat: Any, number: Any, kind: Any, inside: Any, wanted: Any) -> Any:
    """Return a port that no mapping has, or ABSENT where all are taken.

    The wanted one where it is free; else of UDP one of the same parity where there is one (RFC 4787 REQ-3 and REQ-4).
    """
    row = port_row(number, kind)
    first = first_port(nat, kind)
    span = last_port(nat, kind) - first + 1
    if first <= wanted < first + span and nat.ports[row * PORTS + wanted] == 0:
        return np.int64(wanted)
    parity = wanted & 1
    same = (span + (1 if first & 1 == parity else 0)) // 2
    strict = kind == ipv4.PROTOCOL_UDP and nat.ports_used[row * 2 + parity] < same
    if nat.ports_used[row * 2] + nat.ports_used[row * 2 + 1] >= span:
        return np.int64(ABSENT)
    begin = port_random(nat, inside, wanted, 0) % span
    for step in range(span):
        port = first + (begin + step) % span
        if nat.ports[row * PORTS + port] == 0 and not (strict and port & 1 != parity):
            return np.int64(port)
    return np.int64(ABSENT)


@inlined
def take_port(nat: Any, number: Any, kind: Any, port: Any) -> None:
    """Mark a port as a mapping's."""
    row = port_row(number, kind)
    if nat.ports[row * PORTS + port] == 0 and first_port(nat, kind) <= port <= last_port(nat, kind):
        nat.ports_used[row * 2 + (port & 1)] += 1
    nat.ports[row * PORTS + port] |= PORT_USED


@inlined
def give_port_back(nat: Any, number: Any, kind: Any, port: Any) -> None:
    """Mark a port as no mapping's any more."""
    row = port_row(number, kind)
    nat.ports[row * PORTS + port] &= np.uint8(0xFF ^ PORT_USED)
    if nat.ports[row * PORTS + port] == 0 and first_port(nat, kind) <= port <= last_port(nat, kind):
        nat.ports_used[row * 2 + (port & 1)] -= 1


# --- mappings ---------------------------------------------------------------------------------------------------------


@inlined
def find_inside(nat: Any, kind: Any, address: Any, port: Any, pool: Any) -> Any:
    """Return the mapping of an inside endpoint, or ABSENT; `pool` is a pool's name."""
    place = find(nat.inside_keys, scrambled(nat, endpoint_key(kind, address, port, pool)))
    return np.int64(ABSENT) if place == ABSENT else np.int64(nat.inside_values[place])


@inlined
def find_outside(nat: Any, kind: Any, address: Any, port: Any) -> Any:
    """Return the mapping of an outside endpoint, or ABSENT."""
    place = find(nat.outside_keys, scrambled(nat, endpoint_key(kind, address, port, 0)))
    return np.int64(ABSENT) if place == ABSENT else np.int64(nat.outside_values[place])


@inlined
def open_mapping(nat: Any, inside_key: Any, outside_key: Any, number: Any) -> Any:
    """Map an inside endpoint to a free outside one, of the address of a number; return the mapping, or ABSENT."""
    free = nat.scalars[FREE_MAPPINGS] - 1
    if free < 0:
        return np.int64(ABSENT)
    mapping = np.int64(nat.free_mappings[free])
    nat.scalars[FREE_MAPPINGS] = free
    at = mapping * MAPPING_WORDS
    nat.mappings[at + INSIDE_KEY] = inside_key
    nat.mappings[at + OUTSIDE_KEY] = outside_key
    nat.mappings[at + SESSIONS] = 0
    put(nat.inside_keys, nat.inside_values, scrambled(nat, inside_key), np.int32(mapping))
    put(nat.outside_keys, nat.outside_values, scrambled(nat, outside_key), np.int32(mapping))
    take_port(nat, number, outside_key >> 48 & 0x1FF, outside_key & 0xFFFF)
    return mapping


@inlined
def use_mapping(nat: Any, mapping: Any) -> None:
    """Count one more session of a mapping."""
    nat.mappings[mapping * MAPPING_WORDS + SESSIONS] += 1


@inlined
def leave_mapping(nat: Any, mapping: Any) -> None:
    """Count one session less; with the last one the mapping goes, and its port is free."""
    at = mapping * MAPPING_WORDS
    nat.mappings[at + SESSIONS] -= 1
    if nat.mappings[at + SESSIONS] > 0:
        return
    outside = nat.mappings[at + OUTSIDE_KEY]
    remove(nat.inside_keys, nat.inside_values, scrambled(nat, nat.mappings[at + INSIDE_KEY]))
    remove(nat.outside_keys, nat.outside_values, scrambled(nat, outside))
    give_port_back(nat, address_number(nat, outside >> 16 & 0xFFFF_FFFF), outside >> 48 & 0x1FF, outside & 0xFFFF)
    nat.free_mappings[nat.scalars[FREE_MAPPINGS]] = mapping
    nat.scalars[FREE_MAPPINGS] += 1


@inlined
def may_answer(nat: Any, mapping: Any, remote: Any) -> Any:
    """Tell whether a mapping has sent to a remote host: address-dependent filtering, RFC 4787 section 5."""
    return counted(nat, nat.permit_keys, nat.permit_values, permit_key(mapping, remote)) > 0
