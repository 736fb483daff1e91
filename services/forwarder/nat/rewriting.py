"""A batch's frames rewritten, once the translator and the route lookup have decided about all of them."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from services.common.counters import Counter
from services.common.kernels import inlined, kernel
from services.common.wire import ethernet, ipv4
from services.forwarder.datagram import read16
from services.forwarder.nat.errors import error_source, rewrite_error
from services.forwarder.nat.headers import rewrite, tcp_flags, write_addresses
from services.forwarder.nat.keys import (
    addresses_word,
    destination_of,
    destination_port_of,
    key_place,
    kind_of,
    source_of,
    source_port_of,
)
from services.forwarder.nat.layout import NAT, NatArrays
from services.forwarder.nat.sessions import keep_alive
from services.forwarder.nat.translation import ERROR, FRAGMENT, SESSION, VIEW, View

_ETHERNET: Final = ethernet.HEADER_BYTES
_FORWARDED: Final = int(Counter.FORWARDED)
_UNRESOLVED: Final = int(Counter.HANDED)
_FRAGMENTED: Final = int(Counter.FRAGMENTED)
_OPTIONS: Final = int(Counter.OPTIONS_FILLED)


@inlined
def _translate(nat: Any, area: Any, start: Any, found: Any) -> None:
    """Rewrite a datagram as its session says, and keep that one alive."""
    ip = start + _ETHERNET
    own = key_place(found >> 1, found & 1)
    other = key_place(found >> 1, 1 - (found & 1))
    kind = kind_of(nat.sessions[own + 1])
    keep_alive(nat, found, tcp_flags(area, ip, kind), read16(area, ip + ipv4.TOTAL_LENGTH))
    ports = nat.sessions[other + 1]
    reversed_ports = destination_port_of(ports) << 16 | source_port_of(ports)
    addresses = nat.sessions[other]
    rewrite(area, start, kind, destination_of(addresses), source_of(addresses), reversed_ports)


@inlined
def _translate_fragment(nat: Any, area: Any, start: Any, found: Any) -> None:
    """Rewrite the addresses of a later fragment. It keeps nothing alive; it counts."""
    ip = start + _ETHERNET
    addresses = nat.sessions[key_place(found >> 1, 1 - (found & 1))]
    write_addresses(area, ip, destination_of(addresses), source_of(addresses))


@inlined
def leaving_addresses(nat: Any, area: Any, start: Any, what: Any, found: Any) -> Any:
    """Return source << 32 | destination that a datagram of a session leaves with."""
    addresses = nat.sessions[key_place(found >> 1, 1 - (found & 1))]
    source = error_source(nat, area, start, found) if what == ERROR else destination_of(addresses)
    return addresses_word(source, source_of(addresses))


@kernel("void", NAT, "uint8[::1]", "int64", VIEW)
def rewrite_batch(nat: NatArrays, area: npt.NDArray[np.uint8], count: int, batch: View) -> None:
    """Rewrite the frames of a batch that leave and belong to a session, and keep their sessions alive."""
    for number in range(count):
        what = batch.nat[number]
        if what not in (SESSION, ERROR, FRAGMENT):
            continue
        if batch.verdict[number] not in (_FORWARDED, _UNRESOLVED, _FRAGMENTED, _OPTIONS):
            continue
        start = batch.start[number]
        found = batch.session[number]
        if what == SESSION:
            _translate(nat, area, start, found)
        elif what == ERROR:
            rewrite_error(nat, area, start, found)
        else:
            _translate_fragment(nat, area, start, found)
