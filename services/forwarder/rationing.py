"""How much of a batch goes to Python: the slow path and arp take so many frames, the rest falls here at full speed."""

from typing import Any, Final

from services.common.counters import Counter
from services.common.kernels import inlined
from services.forwarder.nat.translation import REFUSED
from services.forwarder.verdicts import IS_REFUSAL, IS_SLOW

TO_SLOW_PATH: Final = 0
TO_ARP: Final = 1
"""Places in `Batch.allowance`."""
REDIRECT_BUDGET: Final = 2
"""Forwarded frames of a batch whose senders may be told of a better way; it is the lesser matter."""
REFUSAL_BUDGET: Final = 2
"""New sessions refused of a batch whose senders may be told; the others are dropped and counted without."""

_UNRESOLVED: Final = int(Counter.HANDED)
_ARP_FULL: Final = int(Counter.DROP_ARP_FULL)
_SLOW_PATH_FULL: Final = int(Counter.DROP_SLOW_PATH_FULL)


@inlined
def ration(batch: Any, count: Any) -> None:
    """Drop what is more than the slow path and arp take of a batch."""
    handed = exceptions = refusals = 0
    for number in range(count):
        verdict = batch.verdict[number]
        if verdict == _UNRESOLVED:
            if handed >= batch.allowance[TO_ARP]:
                batch.verdict[number] = _ARP_FULL
            handed += 1
        elif IS_SLOW[verdict]:
            if exceptions >= batch.allowance[TO_SLOW_PATH]:
                batch.verdict[number] = _SLOW_PATH_FULL
            exceptions += 1
        elif IS_REFUSAL[verdict] and refusals < REFUSAL_BUDGET and exceptions < batch.allowance[TO_SLOW_PATH]:
            batch.nat[number] = REFUSED
            refusals += 1
            exceptions += 1
