"""A batch on its way through the translator: once before the route lookup, once behind it, as Linux orders it.

Before it, each datagram is looked up among the sessions, and its destination becomes what the route is looked up for.
Behind it, what begins a session gets one. Nothing is rewritten here: that is left to `rewriting`, once all is decided.
"""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from services.common.counters import Counter
from services.common.kernels import inlined, kernel, record
from services.common.memory import prefetch
from services.common.wire import ethernet, ipv4
from services.forwarder.datagram import UNDECIDED, read32
from services.forwarder.nat.choice import begin_session, find_target, one_to_one_outside, source_pool
from services.forwarder.nat.errors import UNSOUND, error_destination, find_error, quoted_source_port
from services.forwarder.nat.fragments import OVERLAP, UNKNOWN, is_first_fragment, later_fragment, remember_first
from services.forwarder.nat.headers import (
    LATER_FRAGMENT,
    MALFORMED,
    UNTRANSLATABLE,
    kind_at,
    ports_at,
    tcp_flags,
)
from services.forwarder.nat.keys import (
    addresses_word,
    destination_of,
    destination_port_of,
    key_hash,
    source_of,
)
from services.forwarder.nat.layout import (
    ABSENT,
    KIND_SHIFT,
    NAT,
    ORIGINAL,
    PORT_FIRST,
    PORT_LAST,
    REPLY,
    SESSION_WORDS,
    NatArrays,
)
from services.forwarder.nat.mappings import outside_number
from services.forwarder.nat.sessions import RST, find_live

_ETHERNET: Final = ethernet.HEADER_BYTES

# What a datagram is to the translator: `Batch.nat`
PLAIN: Final = 0
"""Nothing is known of it: what leaves it plain, or begins a session with it."""
SESSION: Final = 1
TARGET: Final = 2
"""It begins a session, to where a rule or a mapping leads."""
ERROR: Final = 3
FRAGMENT: Final = 4
UNKNOWN_FRAGMENT: Final = 5
OVERLAPPING: Final = 6
BROKEN: Final = 7
"""Its transport header is cut short, or has port 0."""
FOREIGN: Final = 8
"""It cannot be translated."""
STRANGER: Final = 9
"""To a mapping, of one whom the mapping has not sent to."""
UNKNOWN_ERROR: Final = 10
"""A sound ICMP error whose quote is of no session: to the router it may be about a datagram of its own."""
UNSOUND_ERROR: Final = 11
"""An ICMP error whose checksum is wrong, or whose quote is short, damaged, or a lie."""
REFUSED: Final = 12
"""It was to begin a session and may not, and the slow path tells its sender so (RFC 5508 REQ-8)."""

_FORWARDED: Final = int(Counter.FORWARDED)
_UNRESOLVED: Final = int(Counter.HANDED)
_FRAGMENTED: Final = int(Counter.FRAGMENTED)
_OPTIONS: Final = int(Counter.OPTIONS_FILLED)
_LOCAL: Final = int(Counter.LOCAL)
_ECHO: Final = int(Counter.ECHO_ANSWERED)
_HELD_LOCAL: Final = int(Counter.WAITING)
_HOLD: Final = int(Counter.NAT_FRAGMENT_HELD)
_MALFORMED: Final = int(Counter.DROP_NAT_MALFORMED)
_ICMP: Final = int(Counter.DROP_NAT_ICMP)
_OVERLAP: Final = int(Counter.DROP_NAT_FRAGMENT)
_PROTOCOL: Final = int(Counter.DROP_NAT_PROTOCOL)
_FILTERED: Final = int(Counter.DROP_NAT_FILTERED)
_NO_SESSION: Final = int(Counter.DROP_NAT_NO_SESSION)
_TO_ROUTER: Final = int(Counter.DROP_NAT_TO_ROUTER)


class View(NamedTuple):
    """The arrays of `pipeline.Batch` that the translator reads and writes."""

    start: npt.NDArray[np.int64]
    verdict: npt.NDArray[np.int64]
    slot: npt.NDArray[np.int64]
    nat: npt.NDArray[np.int64]
    session: npt.NDArray[np.int64]
    destination: npt.NDArray[np.int64]


VIEW: Final = record(View, *["int64[::1]"] * len(View._fields))


@inlined
def _addresses(area: Any, start: Any) -> Any:
    ip = start + _ETHERNET
    return addresses_word(read32(area, ip + ipv4.SOURCE), read32(area, ip + ipv4.DESTINATION))


@inlined
def _ports(area: Any, start: Any, kind: Any) -> Any:
    ip = start + _ETHERNET
    return np.int64(kind) << KIND_SHIFT | ports_at(area, ip + np.int64(area[ip] & 0xF) * 4, kind)


@inlined
def _session_destination(nat: Any, found: Any) -> Any:
    """Return where a datagram of a session goes: to the source of what comes the other way."""
    return source_of(nat.sessions[(found >> 1) * SESSION_WORDS + (ORIGINAL if found & 1 else REPLY)])


@inlined
def _without_key(nat: Any, area: Any, start: Any, kind: Any, batch: Any, number: Any) -> None:
    """Classify a datagram that has no key of its own."""
    batch.session[number] = ABSENT
    if kind == MALFORMED:
        batch.nat[number] = BROKEN
    elif kind == UNTRANSLATABLE:
        batch.nat[number] = FOREIGN
    elif kind == LATER_FRAGMENT:
        _classify_fragment(nat, area, start, batch, number)
    else:
        found = find_error(nat, area, start)
        if found >= 0:
            batch.nat[number] = ERROR
            batch.session[number] = found
            batch.destination[number] = error_destination(nat, found)
        else:
            batch.nat[number] = UNSOUND_ERROR if found == UNSOUND else UNKNOWN_ERROR


@inlined
def _classify_fragment(nat: Any, area: Any, start: Any, batch: Any, number: Any) -> None:
    found = later_fragment(nat, area, start + _ETHERNET)
    batch.session[number] = ABSENT
    if found == UNKNOWN:
        batch.nat[number] = UNKNOWN_FRAGMENT
    elif found == OVERLAP:
        batch.nat[number] = OVERLAPPING
    elif found == ABSENT:
        batch.nat[number] = PLAIN
    else:
        batch.nat[number] = FRAGMENT
        batch.session[number] = found
        batch.destination[number] = _session_destination(nat, found)


@inlined
def _classify(nat: Any, area: Any, start: Any, in_slot: Any, kind: Any, batch: Any, number: Any) -> None:
    """Classify a datagram that has a key, whose hash stands in `batch.session`."""
    addresses = _addresses(area, start)
    ports = _ports(area, start, kind)
    found = find_live(nat, batch.session[number], addresses, ports)
    batch.session[number] = found
    batch.nat[number] = PLAIN
    if found != ABSENT:
        batch.nat[number] = SESSION
        batch.destination[number] = _session_destination(nat, found)
        ip = start + _ETHERNET
        if is_first_fragment(area, ip) and remember_first(nat, area, ip, ports, found) == OVERLAP:
            batch.nat[number] = OVERLAPPING
        return
    if outside_number(nat, destination_of(addresses)) == ABSENT:
        return
    target = find_target(nat, addresses, ports, in_slot)
    if target.address != 0:
        batch.nat[number] = TARGET
        batch.destination[number] = target.address
    elif target.filtered:
        batch.nat[number] = STRANGER


@kernel("void", NAT, "uint8[::1]", "int64", "int64", VIEW)
def translate_destinations(nat: NatArrays, area: npt.NDArray[np.uint8], count: int, in_slot: int, batch: View) -> None:
    """Fill `Batch.nat`, `session` and `destination` of the frames that have no verdict yet.

    In three rounds, so that what each frame needs of memory comes while the others are seen to.
    """
    for number in range(count):
        if batch.verdict[number] != UNDECIDED:
            continue
        start = batch.start[number]
        batch.destination[number] = read32(area, start + _ETHERNET + ipv4.DESTINATION)
        kind = kind_at(area, start + _ETHERNET)
        batch.nat[number] = kind
        if kind >= 0:
            hashed = key_hash(nat, _addresses(area, start), _ports(area, start, kind))
            batch.session[number] = hashed
            prefetch(nat.places, hashed & (nat.places.shape[0] - 1))
    for number in range(count):
        if batch.verdict[number] == UNDECIDED and batch.nat[number] >= 0:
            entry = nat.places[batch.session[number] & (nat.places.shape[0] - 1)]
            if entry != 0:
                prefetch(nat.sessions, (((entry & 0xFFFF_FFFF) - 1) >> 1) * SESSION_WORDS)
    for number in range(count):
        if batch.verdict[number] != UNDECIDED:
            batch.nat[number] = PLAIN
            continue
        kind = batch.nat[number]
        if kind >= 0:
            _classify(nat, area, batch.start[number], in_slot, kind, batch, number)
        else:
            _without_key(nat, area, batch.start[number], kind, batch, number)


@inlined
def _begin(nat: Any, area: Any, start: Any, in_slot: Any, out_slot: Any, is_target: Any) -> Any:
    """Open the session of a datagram; return session << 1, or minus the counter of its refusal."""
    addresses = _addresses(area, start)
    ip = start + _ETHERNET
    kind = kind_at(area, ip)
    ports = _ports(area, start, kind)
    found = find_live(nat, key_hash(nat, addresses, ports), addresses, ports)
    if found != ABSENT:
        return found  # one before it in this batch has opened it
    if tcp_flags(area, ip, kind) & RST:
        return np.int64(-_NO_SESSION)
    to = destination_of(addresses)
    to_port = destination_port_of(ports)
    mapping: Any = np.int64(ABSENT)
    leaves_by = out_slot
    if is_target:
        target = find_target(nat, addresses, ports, in_slot)
        if target.address == 0:
            return np.int64(-_NO_SESSION)
        to = target.address
        to_port = target.port
        mapping = target.mapping
        home = nat.address_slots[outside_number(nat, destination_of(addresses))]
        if home != in_slot:
            leaves_by = home  # a host behind this router that comes by an outside address: hairpinning
    session = begin_session(nat, addresses, ports, to, to_port, mapping, in_slot, leaves_by)
    if session < 0:
        return session
    found = session << 1
    if is_first_fragment(area, ip) and remember_first(nat, area, ip, ports, found) == OVERLAP:
        return np.int64(-_OVERLAP)
    return found


@inlined
def _translates_source(nat: Any, area: Any, start: Any, in_slot: Any, out_slot: Any) -> Any:
    if source_pool(nat, in_slot, out_slot) != 0:
        return True
    source = read32(area, start + _ETHERNET + ipv4.SOURCE)
    return one_to_one_outside(nat, source, in_slot, out_slot) != ABSENT


@inlined
def _refuse_plain(nat: Any, area: Any, start: Any, what: Any, in_slot: Any, out_slot: Any) -> Any:
    """Return the drop's reason of what has no session and should leave with another source; or UNDECIDED."""
    if not _translates_source(nat, area, start, in_slot, out_slot):
        return np.int64(UNDECIDED)
    if what == BROKEN:
        return np.int64(_MALFORMED)
    return np.int64(_PROTOCOL) if what == FOREIGN else np.int64(_ICMP)


@inlined
def _leaving(nat: Any, area: Any, start: Any, in_slot: Any, out_slot: Any, batch: Any, number: Any) -> Any:
    """Find the session of a frame that leaves; return its new verdict, or UNDECIDED where it keeps its own."""
    what = batch.nat[number]
    if what == UNKNOWN_FRAGMENT and _translates_source(nat, area, start, in_slot, out_slot):
        _classify_fragment(nat, area, start, batch, number)  # its first fragment may have come in this very batch
        what = batch.nat[number]
        if what == UNKNOWN_FRAGMENT:
            return np.int64(_HOLD)
    if what == OVERLAPPING:
        return np.int64(_OVERLAP)
    if what in (BROKEN, FOREIGN, UNKNOWN_ERROR, UNSOUND_ERROR):
        return _refuse_plain(nat, area, start, what, in_slot, out_slot)
    if what in (PLAIN, TARGET):
        if what == PLAIN and not _translates_source(nat, area, start, in_slot, out_slot):
            return np.int64(UNDECIDED)
        if kind_at(area, start + _ETHERNET) < 0:
            return np.int64(UNDECIDED)  # a later fragment of a datagram that is not translated
        found = _begin(nat, area, start, in_slot, out_slot, what == TARGET)
        if found < 0:
            return -found
        batch.session[number] = found
        batch.nat[number] = SESSION
    return np.int64(UNDECIDED)


@inlined
def _is_given_out(nat: Any, port: Any) -> Any:
    return nat.scalars[PORT_FIRST] <= port <= nat.scalars[PORT_LAST]


@inlined
def _is_translators(nat: Any, area: Any, start: Any) -> Any:
    """Tell whether a datagram to the router is for a port that only the translator gives out."""
    ip = start + _ETHERNET
    kind = kind_at(area, ip)
    if kind not in (ipv4.PROTOCOL_TCP, ipv4.PROTOCOL_UDP):
        return False
    if not _is_given_out(nat, destination_port_of(_ports(area, start, kind))):
        return False
    return outside_number(nat, read32(area, ip + ipv4.DESTINATION)) != ABSENT


@inlined
def _to_router(nat: Any, area: Any, start: Any, batch: Any, number: Any) -> Any:
    """Return the verdict on what the route lookup says is the router's own, or UNDECIDED."""
    what = batch.nat[number]
    if what in (SESSION, TARGET, ERROR, FRAGMENT):
        return np.int64(_TO_ROUTER)
    if what == STRANGER:
        return np.int64(_FILTERED)
    if what == OVERLAPPING:
        return np.int64(_OVERLAP)
    if what in (UNKNOWN_FRAGMENT, BROKEN, UNSOUND_ERROR, UNKNOWN_ERROR):
        outside = outside_number(nat, read32(area, start + _ETHERNET + ipv4.DESTINATION)) != ABSENT
        if not outside or (what == UNKNOWN_ERROR and not _is_given_out(nat, quoted_source_port(area, start))):
            return np.int64(UNDECIDED)
        if what == BROKEN:
            return np.int64(_MALFORMED)
        return np.int64(_HOLD) if what == UNKNOWN_FRAGMENT else np.int64(_ICMP)
    if what == PLAIN and _is_translators(nat, area, start):
        return np.int64(_NO_SESSION)
    return np.int64(UNDECIDED)


@inlined
def _remember_plain(nat: Any, area: Any, start: Any, batch: Any, number: Any) -> None:
    """Remember the first fragment of a datagram that is not translated, so that its later ones need not wait."""
    ip = start + _ETHERNET
    if batch.nat[number] == PLAIN and is_first_fragment(area, ip):
        kind = kind_at(area, ip)
        if kind >= 0:
            remember_first(nat, area, ip, _ports(area, start, kind), np.int64(ABSENT))


@kernel("void", NAT, "uint8[::1]", "int64", "int64", VIEW)
def translate_sources(nat: NatArrays, area: npt.NDArray[np.uint8], count: int, in_slot: int, batch: View) -> None:
    """Find or open the sessions of the frames that leave, where rules say so; the verdicts of some change."""
    for number in range(count):
        verdict = batch.verdict[number]
        start = batch.start[number]
        changed = np.int64(UNDECIDED)
        if verdict in (_FORWARDED, _UNRESOLVED, _FRAGMENTED, _OPTIONS):
            changed = _leaving(nat, area, start, in_slot, batch.slot[number], batch, number)
        elif verdict in (_LOCAL, _ECHO, _HELD_LOCAL):
            changed = _to_router(nat, area, start, batch, number)
        else:
            continue
        if changed != UNDECIDED:
            batch.verdict[number] = changed
        else:
            _remember_plain(nat, area, start, batch, number)
