"""When a container's service is started, ended and started again, and whether it is well: a pure core.

The shell (`keep`) reports what happens and carries out what `actions` returns; nothing here starts a process or reads
a clock.

The engine starts a container again that ends, but only while the container whose network namespace it joins runs;
otherwise it gives up for good (moby/moby issue 50326). So a service that ends while the holder is away is kept here,
and the container ends only when the holder is back, in another namespace.
"""

from enum import Enum
from typing import Final, NamedTuple

from services.common.restarts import GOOD_LIFE_S, TERMINATE_LIMIT_S, restart_pause_s
from services.container.namespace import Sight

UNHEARD_S: Final = 3.0
"""A service that has said nothing for so long is not well: twelve of its signs of life."""
HUNG_S: Final = 120.0
"""Then it is killed. Control, at its longest, takes in a full Internet table in one turn of its loop."""
STEP_S: Final = 1.0
"""The most that the time between two looks counts as silence: in a frozen container nobody can speak."""
LEFT_BEHIND: Final = 75
"""Exit status of a container that is to be started again: EX_TEMPFAIL of sysexits.h."""


class Action(Enum):
    """What the shell is to do."""

    START = "start"
    TERMINATE = "terminate"
    KILL = "kill"
    LEAVE = "leave"
    """End the container, with `Keeper.exit_status`."""


class Verdict(NamedTuple):
    """The answer to a health check."""

    healthy: bool
    text: str
    """One line."""


class Keeper:
    """One service in one container.

    :ivar exit_status: the container's, once it is to end.
    """

    def __init__(self, service: str, run_dir: str, *, has_holder: bool, now: float, refusal: str = "") -> None:
        """Nothing runs yet.

        :param has_holder: whether the service follows a holder of the network namespace.
        :param refusal: why the service cannot run in this container at all; empty if it can.
        """
        self._service = service
        self._run_dir = run_dir
        self._sight = Sight.UNSEEN if has_holder else Sight.SAME
        self._refusal = refusal
        self._running = False
        self._started_at = now
        self._start_at = now
        self._deaths = 0
        self._failure = ""
        self._ending = False
        self._kill_at = float("inf")
        self._heard = False
        self._ready = False
        self._status = ""
        self._silent_s = 0.0
        self._looked_at = now
        self.exit_status: int | None = None

    def set_sight(self, sight: Sight) -> None:
        """Take note of what is seen of the holder."""
        self._sight = sight
        if sight is Sight.MOVED and self.exit_status is None:
            self.exit_status = LEFT_BEHIND

    def on_sign_of_life(self, *, ready: bool, status: str) -> None:
        """Take note of what the service says of itself."""
        self._heard, self._ready, self._status, self._silent_s = True, ready, status, 0.0

    def on_exit(self, status: int, last_line: str, now: float) -> None:
        """Take note that the service has ended.

        :param status: its exit status, or minus the number of the signal that killed it.
        :param last_line: the last line that it wrote for a person; empty if there is none.
        """
        if now - self._started_at >= GOOD_LIFE_S:
            self._deaths = 0
        self._start_at = now + restart_pause_s(self._deaths)
        self._deaths += 1
        self._failure = (status > 0 and last_line) or f"hopwire {self._service}: ended with status {status}"
        self._running = self._ending = self._heard = self._ready = False
        self._kill_at = float("inf")

    def stop(self) -> None:
        """End the service, and then the container."""
        if self.exit_status is None:
            self.exit_status = 0

    def actions(self, now: float) -> list[Action]:
        """Return what is to be done now, and take it as done."""
        self._silent_s += min(now - self._looked_at, STEP_S)
        self._looked_at = now
        if self.exit_status is not None:
            return self._end(now) if self._running else [Action.LEAVE]
        if self._running:
            if self._heard and self._silent_s >= HUNG_S:
                self._silent_s = 0.0
                return [Action.KILL]
            return []
        if self._sight is Sight.SAME and not self._refusal and now >= self._start_at:
            self._running = True
            self._started_at = now
            self._silent_s = 0.0
            return [Action.START]
        return []

    def _end(self, now: float) -> list[Action]:
        if not self._ending:
            self._ending = True
            self._kill_at = now + TERMINATE_LIMIT_S
            return [Action.TERMINATE]
        if now >= self._kill_at:
            self._kill_at = float("inf")
            return [Action.KILL]
        return []

    def deadline(self) -> float:
        """Return when `actions` has something to do next if nothing is reported before; infinity for never."""
        if self.exit_status is not None:
            return self._kill_at
        if self._running or self._refusal or self._sight is not Sight.SAME:
            return float("inf")
        return self._start_at

    def verdict(self) -> Verdict:
        """Return whether the service does its work, in the right place, and otherwise why not."""
        problem = self.hindrance() or self._problem()
        if problem:
            return Verdict(healthy=False, text=problem)
        return Verdict(healthy=True, text=f"ready; {self._status}" if self._status else "ready")

    def hindrance(self) -> str:
        """Return what outside of the service keeps it from running; empty if nothing does."""
        name = f"hopwire {self._service}"
        if self._refusal:
            return f"{name}: {self._refusal}"
        holder = "the container that holds the network namespace"
        return {
            Sight.SAME: "",
            Sight.UNSEEN: f"{name}: {holder} has left no word in {self._run_dir}; mount the same volume there in both",
            Sight.MOVED: f"{name}: {holder} has a new one; this container starts again there",
            Sight.AWAY: f"{name}: {holder} does not run; waiting for it",
        }[self._sight]

    def _problem(self) -> str:
        name = f"hopwire {self._service}"
        if not self._running:
            return self._failure or f"{name}: not started yet"
        if not self._heard:
            return self._failure or f"{name}: started, and not heard of yet"
        if self._silent_s >= UNHEARD_S:
            return f"{name}: silent for {self._silent_s:.0f} s"
        if not self._ready:
            return f"{name}: not ready: it hears nothing of control in {self._run_dir}"
        return ""
