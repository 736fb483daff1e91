"""A datagram that is only asked about, on its way through the translator: behind it, all is as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from services.forwarder.datagram import UNDECIDED
from services.forwarder.nat.layout import ACTIVE, OPENED_SESSIONS, SESSION_WORDS, STATES, USED, NatArrays
from services.forwarder.nat.sessions import close_session
from services.forwarder.nat.translation import SESSION, View, translate_destinations


@contextmanager
def on_trial(nat: NatArrays, area: npt.NDArray[np.uint8], in_slot: int, batch: View) -> Iterator[None]:
    """Close the session that a datagram opens meanwhile, and leave one that it belongs to as it was.

    :param batch: of this one valid datagram, whose `start` is filled in.
    """
    if not nat.scalars[ACTIVE]:
        yield
        return
    batch.verdict[0] = UNDECIDED
    translate_destinations(nat, area, 1, in_slot, batch)
    row = int(batch.session[0]) >> 1 if batch.nat[0] == SESSION else 0
    words = slice(row * SESSION_WORDS, (row + 1) * SESSION_WORDS)
    states = slice(USED, USED + STATES)
    opened, session, used = int(nat.scalars[OPENED_SESSIONS]), nat.sessions[words].copy(), nat.scalars[states].copy()
    try:
        yield
    finally:
        if nat.scalars[OPENED_SESSIONS] != opened:
            close_session(nat, int(batch.session[0]) >> 1)
            nat.scalars[OPENED_SESSIONS] = opened
        else:
            nat.sessions[words] = session
            nat.scalars[states] = used
