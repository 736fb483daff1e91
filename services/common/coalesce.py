"""When a reader looks for frames again, and when it sleeps.

As NAPI does, in three steps. While a look finds frames it looks again at once. When it finds none it sleeps until its
writer wakes it, so that the core is the writer's. When nothing has come for `QUIET_NS` the compiled loop ends, and
Python waits for frames and messages alike.

Batches need no timer. A reader that wakes does not push the writer off its core (`system_calls.work_in_batches`): it
waits its turn, and finds all that was written meanwhile. Under load it hardly ever sleeps; with little traffic it is
there at once. A timer costs more than it saves: 30 µs of a core for each short sleep on a virtual machine.
"""

from typing import Final

QUIET_NS: Final = 1_000_000
"""After so long without a frame the traffic has paused."""
QUIET_MS: Final = QUIET_NS // 1_000_000
FULL_NS: Final = 20_000
"""How long a writer sleeps that finds the ring full: the reader gives back a batch in less."""
