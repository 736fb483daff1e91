"""Which processes shall run, when to start one again, and in which order to stop: a pure core.

The shell reports interfaces and exits, and carries out what `Supervisor.actions` returns; nothing here starts a
process or reads a clock. A process is known by its instance name: `control`, `ingress-eth0`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal

from services.common.restarts import GOOD_LIFE_S, TERMINATE_LIMIT_S, restart_pause_s

SERVICES: Final = ("control", "arp", "forwarder")
_INGRESS: Final = "ingress-"
_STOP_RANKS: Final = {"forwarder": 1, "arp": 2, "control": 3}
"""Who feeds others stops before them; control is last, since it puts the kernel's settings back. Ingress: 0."""


def ingress_of(interface: str) -> str:
    """Return the instance name of an interface's ingress."""
    return f"{_INGRESS}{interface}"


@dataclass(frozen=True)
class Action:
    """What the shell is to do with one process: start it, or send it SIGTERM or SIGKILL."""

    verb: Literal["start", "terminate", "kill"]
    instance: str


class _State(Enum):
    RUNNING = "running"
    ENDING = "ending"
    """SIGTERM is sent; nothing of that name starts before it has exited."""
    PAUSING = "pausing"
    """It died, and starts again at its deadline."""


@dataclass
class _Process:
    interface_index: int
    """Of the interface that an ingress was started for: another one may take over its name. 0 for the rest."""
    state: _State
    started_at: float
    deadline: float
    """RUNNING: none; ENDING: for SIGKILL; PAUSING: for the restart."""
    deaths: int = 0
    """In a row, each after less than `GOOD_LIFE_S`."""


_NEVER: Final = float("inf")


class Supervisor:
    """The processes of one router.

    :ivar failed: the instance whose own exit ended the router before it was ever ready.
    """

    def __init__(self) -> None:
        """Nothing runs yet: the first `actions` starts the services."""
        self._wanted: dict[str, int] = dict.fromkeys(SERVICES, 0)
        self._allowed: dict[str, int] = {}
        """May go on, but are neither started nor started again."""
        self._processes: dict[str, _Process] = {}
        self._stopping = False
        self._was_ready = False
        self.failed: str | None = None

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called, or a process has failed."""
        return self._stopping

    @property
    def finished(self) -> bool:
        """Whether all is stopped."""
        return self._stopping and not self._processes

    def set_interfaces(self, interfaces: Mapping[str, int], down: Mapping[str, int] | None = None) -> None:
        """Want one ingress for each of these interfaces (name → index), and no other.

        :param down: interfaces whose ingress may go on if there is one: it receives again as soon as they are up,
            and so as soon as routes lead to them, while a new one takes its time to start.
        """
        self._wanted = dict.fromkeys(SERVICES, 0) | {ingress_of(name): index for name, index in interfaces.items()}
        self._allowed = {ingress_of(name): index for name, index in (down or {}).items()}

    def set_ready(self) -> None:
        """Note that the router was ready: from now on every death is followed by a restart."""
        self._was_ready = True

    def stop(self) -> None:
        """Stop everything, in order, and start nothing any more."""
        self._stopping = True

    def on_exit(self, instance: str, status: int, now: float) -> bool:
        """Take note that a process has ended: its exit status, or minus the signal that killed it.

        Before the router was ever ready, a process that ends itself with an error would do so again: all stops.

        :returns: whether it died, and starts again.
        """
        process = self._processes.pop(instance)
        if self._stopping or process.state is _State.ENDING or not self._is_wanted(instance, process):
            return False
        if status > 0 and not self._was_ready:
            self.failed = instance
            self._stopping = True
            return False
        deaths = 0 if now - process.started_at >= GOOD_LIFE_S else process.deaths
        self._processes[instance] = _Process(
            process.interface_index, _State.PAUSING, process.started_at, now + restart_pause_s(deaths), deaths + 1
        )
        return True

    def actions(self, now: float) -> list[Action]:
        """Return what is to be done now, and take it as done."""
        if self._stopping:
            return self._stop_actions(now)
        actions = []
        for instance, process in list(self._processes.items()):
            if process.state is _State.PAUSING and not self._is_wanted(instance, process):
                del self._processes[instance]
            elif process.state is _State.ENDING or not self._may_go_on(instance, process):
                actions += self._end(instance, process, now)
        for instance, interface_index in self._wanted.items():
            present = self._processes.get(instance)
            deaths = present.deaths if present else 0
            if present is None or (present.state is _State.PAUSING and present.deadline <= now):
                self._processes[instance] = _Process(interface_index, _State.RUNNING, now, _NEVER, deaths)
                actions.append(Action("start", instance))
        return actions

    def _stop_actions(self, now: float) -> list[Action]:
        self._processes = {
            instance: process for instance, process in self._processes.items() if process.state is not _State.PAUSING
        }
        turn = min(map(_stop_rank, self._processes), default=0)
        actions = []
        for instance, process in self._processes.items():
            if _stop_rank(instance) == turn:
                actions += self._end(instance, process, now)
        return actions

    @staticmethod
    def _end(instance: str, process: _Process, now: float) -> list[Action]:
        if process.state is _State.RUNNING:
            process.state = _State.ENDING
            process.deadline = now + TERMINATE_LIMIT_S
            return [Action("terminate", instance)]
        if process.deadline <= now:
            process.deadline = _NEVER
            return [Action("kill", instance)]
        return []

    def _is_wanted(self, instance: str, process: _Process) -> bool:
        return self._wanted.get(instance) == process.interface_index

    def _may_go_on(self, instance: str, process: _Process) -> bool:
        return self._is_wanted(instance, process) or self._allowed.get(instance) == process.interface_index

    def deadline(self) -> float:
        """Return when `actions` has something to do next if nothing is reported before; infinity for never."""
        return min((process.deadline for process in self._processes.values()), default=_NEVER)


def _stop_rank(instance: str) -> int:
    return _STOP_RANKS.get(instance, 0)
