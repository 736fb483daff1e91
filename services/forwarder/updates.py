"""Control's states on their way into the tables, in order, while frames go on.

What takes long is made ready by a second thread beside the running tables: Numba releases the GIL. What is ready is
taken over between two stretches of forwarding, a piece at a time.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from services.common.messages import ROUTE_BYTES, MessageError, RouterState
from services.forwarder.routes import RouterUpdate
from services.forwarder.tables import ForwardingTables

_INLINE_ROUTES: Final = 256
"""Changes of so many routes are made ready at once: waking the other thread would take longer."""
_INLINE_GROUPS: Final = 2
"""And of so many paths with several next hops."""


class RouterUpdates:
    """A queue of states; the first of them may be made ready, or taken over in part."""

    def __init__(self, tables: ForwardingTables, ready: Callable[[], None]) -> None:
        """Start with no state.

        :param ready: called by the other thread when there is something to do for `step`.
        """
        self._tables = tables
        self._ready = ready
        self._waiting: deque[RouterState] = deque()
        self._current: RouterState | None = None
        self._preparing: Future[RouterUpdate] | None = None
        self._update: RouterUpdate | None = None
        self._piece = 0
        self._thread = ThreadPoolExecutor(1, "updates")

    def put(self, state: RouterState) -> None:
        """Add a state. A snapshot makes those void that nothing was done for yet."""
        if state.full:
            self._waiting.clear()
        self._waiting.append(state)

    @property
    def is_empty(self) -> bool:
        """Whether all states are taken over."""
        return self._current is None and not self._waiting

    @property
    def is_loading(self) -> bool:
        """Whether a snapshot is on its way."""
        return any(state.full for state in (self._current, *self._waiting) if state is not None)

    @property
    def can_step(self) -> bool:
        """Whether `step` has something to do: not while the other thread makes a state ready."""
        return self._preparing.done() if self._preparing is not None else not self.is_empty

    def step(self) -> RouterState | None:
        """Do what takes no longer than a fraction of a millisecond; return the state that is now taken over, if any.

        :raises MessageError: the state contradicts itself; it is dropped.
        """
        if self._update is None:
            self._update = self._next()
            if self._update is None:
                return None
            self._piece = 0
            self._tables.begin(self._update)
        if self._piece < self._update.pieces:
            self._tables.apply_piece(self._update, self._piece)
            self._piece += 1
        if self._piece < self._update.pieces:
            return None
        done = self._update
        self._tables.finish(done)
        self._update = self._current = None
        return done.state

    def _next(self) -> RouterUpdate | None:
        """Return the next state if it is ready, and have it made ready otherwise.

        :raises MessageError: as `step`.
        """
        try:
            if self._preparing is not None:
                if not self._preparing.done():
                    return None
                done, self._preparing = self._preparing, None
                return done.result()
            if not self._waiting:
                return None
            self._current = self._waiting.popleft()
            if self._is_small(self._current):
                return self._tables.prepare(self._current)
        except MessageError:
            self._current = None
            raise
        self._preparing = self._thread.submit(self._tables.prepare, self._current)
        self._preparing.add_done_callback(lambda _: self._ready())
        return None

    def _is_small(self, state: RouterState) -> bool:
        routes = len(state.routes) // ROUTE_BYTES
        groups = sum(len(path.next_hops) > 1 for path in state.paths)
        few = routes <= _INLINE_ROUTES and groups <= _INLINE_GROUPS
        return few and not state.full and self._tables.has_room(routes)

    def close(self) -> None:
        """Wait for the other thread's end."""
        self._thread.shutdown(cancel_futures=True)
