"""What the verdicts of the fast path mean to the rest of the forwarder."""

from typing import Final

import numpy as np

from services.common.counters import DROPS, NAT_REFUSALS, Counter

SLOW_VERDICTS: Final = frozenset(
    {
        Counter.HANDED,
        Counter.FRAGMENTED,
        Counter.OPTIONS_FILLED,
        Counter.ECHO_ANSWERED,
        Counter.WAITING,
        Counter.NAT_FRAGMENT_HELD,
        Counter.DROP_TTL_EXCEEDED,
        Counter.DROP_NO_ROUTE,
        Counter.DROP_UNREACHABLE,
        Counter.DROP_PROHIBITED,
        Counter.DROP_MTU_EXCEEDED,
    }
)
"""Verdicts that the slow path carries out and counts. HANDED: the next hop's MAC is not known. WAITING: a fragment to
the router itself.

A frame that is FORWARDED may be for the slow path as well: it has gone, and its sender is to be told of a better way.
"""
ROUTED: Final = frozenset(
    {
        Counter.FORWARDED,
        Counter.HANDED,
        Counter.FRAGMENTED,
        Counter.OPTIONS_FILLED,
        Counter.DROP_MTU_EXCEEDED,
    }
)
"""Verdicts on frames that have a next hop."""
IS_SLOW: Final = np.array([counter in SLOW_VERDICTS for counter in Counter], np.bool_)
IS_ROUTED: Final = np.array([counter in ROUTED for counter in Counter], np.bool_)
IS_REFUSAL: Final = np.array([counter in NAT_REFUSALS for counter in Counter], np.bool_)
IS_DROP: Final = np.array([counter in DROPS for counter in Counter], np.bool_)
"""(COLUMNS,) each: the same for compiled code."""
