"""When a reader looks for frames again, and when it sleeps.

As NAPI does: while a look finds frames it looks again at once; when it finds none it sleeps until its writer wakes it,
so that the core is the writer's.

Batches need no timer. A reader that wakes does not push the writer off its core (`system_calls.work_in_batches`): it
waits its turn, and finds all that was written meanwhile. Under load it hardly ever sleeps; with little traffic it is
there at once. A timer costs more than it saves: 30 µs of a core for each short sleep on a virtual machine.

A loop that has worked lingers: it sleeps without going back to Python first. Python's turn takes some 200 µs in a quiet
time, when nothing of it is in the caches; a reader that was woken on the same core would wait for that.
"""

from typing import Final

SLEEP_MS: Final = 250
"""The longest that a reader sleeps before it looks whether it shall stop, report or see to its interface."""
STRETCH_NS: Final = 1_000_000
"""How long a compiled loop goes on under load before Python sees to its messages: that costs as much as a hundred
frames."""
LINGER_MS: Final = 1
"""How long a loop that has worked sleeps at first: if nothing comes by then, nobody waits while Python has its turn."""
LONGEST_NS: Final = 20_000_000
"""How long a loop that works, lingers and works goes on before Python has its turn all the same."""
FULL_NS: Final = 20_000
"""How long a writer sleeps that finds the ring full: the reader gives back a batch in less."""
LONGEST_FULL_NS: Final = 1_000_000
"""What that grows to, each time by the double, while the reader is away."""
