"""Keys of sessions and endpoints, and the index that finds a session by its key."""

from typing import Any, Final

import numpy as np

from services.common.kernels import inlined
from services.forwarder.datagram import mix
from services.forwarder.nat.layout import (
    ABSENT,
    ICMP_REPLY,
    ICMP_REQUEST,
    KIND_SHIFT,
    MULTIPLIER,
    ORIGINAL,
    REPLY,
    SEED,
    SESSION_WORDS,
)

_LOW: Final = 0xFFFF_FFFF
_HASH_SHIFT: Final = np.uint64(33)  # 31 bits are left
_POSITIVE: Final = 0x7FFF_FFFF_FFFF_FFFF


@inlined
def addresses_word(source: Any, destination: Any) -> Any:
    """Return a key's first word."""
    return np.int64(source) << 32 | np.int64(destination)


@inlined
def ports_word(kind: Any, source_port: Any, destination_port: Any) -> Any:
    """Return a key's second word."""
    return np.int64(kind) << KIND_SHIFT | np.int64(source_port) << 16 | np.int64(destination_port)


@inlined
def source_of(addresses: Any) -> Any:
    """Return the source address of a key's first word."""
    return addresses >> 32 & _LOW


@inlined
def destination_of(addresses: Any) -> Any:
    """Return the destination address of a key's first word."""
    return addresses & _LOW


@inlined
def kind_of(ports: Any) -> Any:
    """Return the kind in a key's second word."""
    return ports >> KIND_SHIFT


@inlined
def source_port_of(ports: Any) -> Any:
    """Return the source port in a key's second word."""
    return ports >> 16 & 0xFFFF


@inlined
def destination_port_of(ports: Any) -> Any:
    """Return the destination port in a key's second word."""
    return ports & 0xFFFF


@inlined
def reverse_kind(kind: Any) -> Any:
    """Return the kind of what comes back."""
    if kind == ICMP_REQUEST:
        return np.int64(ICMP_REPLY)
    return np.int64(ICMP_REQUEST) if kind == ICMP_REPLY else np.int64(kind)


@inlined
def reverse_addresses(addresses: Any) -> Any:
    """Return the first word of the key of what comes back."""
    return addresses_word(destination_of(addresses), source_of(addresses))


@inlined
def reverse_ports(ports: Any) -> Any:
    """Return the second word of the key of what comes back."""
    return ports_word(reverse_kind(kind_of(ports)), destination_port_of(ports), source_port_of(ports))


@inlined
def key_hash(nat: Any, addresses: Any, ports: Any) -> Any:
    """Return 31 bits that nobody outside can foresee."""
    value = mix(np.uint64(addresses) ^ np.uint64(nat.scalars[SEED]))
    return np.int64(mix(value ^ np.uint64(ports)) >> _HASH_SHIFT)


@inlined
def key_place(session: Any, direction: Any) -> Any:
    """Return where a session's key of a direction (0 of who began it, 1 back) begins."""
    return session * SESSION_WORDS + (REPLY if direction else ORIGINAL)


@inlined
def find_key(nat: Any, hashed: Any, addresses: Any, ports: Any) -> Any:
    """Return session << 1 | direction of a key, or ABSENT; the session may have expired."""
    mask = nat.places.shape[0] - 1
    place = hashed & mask
    while nat.places[place] != 0:
        entry = nat.places[place]
        if entry >> 32 == hashed:
            found = (entry & _LOW) - 1
            at = key_place(found >> 1, found & 1)
            if nat.sessions[at] == addresses and nat.sessions[at + 1] == ports:
                return found
        place = (place + 1) & mask
    return np.int64(ABSENT)


@inlined
def put_key(nat: Any, hashed: Any, found: Any) -> None:
    """Enter a key; the index has room, since it has four places for each session."""
    mask = nat.places.shape[0] - 1
    place = hashed & mask
    while nat.places[place] != 0:
        place = (place + 1) & mask
    nat.places[place] = hashed << 32 | (found + 1)


@inlined
def remove_key(nat: Any, hashed: Any, found: Any) -> None:
    """Take a key out, closing the gap in its probe sequence."""
    mask = nat.places.shape[0] - 1
    gap = hashed & mask
    wanted = hashed << 32 | (found + 1)
    while nat.places[gap] != wanted:
        if nat.places[gap] == 0:
            return
        gap = (gap + 1) & mask
    place = gap
    while True:
        place = (place + 1) & mask
        entry = nat.places[place]
        if entry == 0:
            break
        if (place - (entry >> 32)) & mask >= (place - gap) & mask:
            nat.places[gap] = entry
            gap = place
    nat.places[gap] = 0


@inlined
def scrambled(nat: Any, key: Any) -> Any:
    """Return the positive number that stands for a key of up to 63 bits, not 0, in a hash table."""
    return np.int64(key) * nat.scalars[MULTIPLIER] & _POSITIVE


@inlined
def endpoint_key(kind: Any, address: Any, port: Any, pool: Any) -> Any:
    """Return the key of an endpoint: inside ones are those of a pool, outside ones have none (0)."""
    return np.int64(pool) << 57 | np.int64(kind) << 48 | np.int64(address) << 16 | np.int64(port)


@inlined
def permit_key(mapping: Any, remote: Any) -> Any:
    """Return the key of a remote host that a mapping has sent to."""
    return (np.int64(mapping) + 1) << 32 | np.int64(remote)
