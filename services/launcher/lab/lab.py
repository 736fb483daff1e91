"""A running lab: its namespaces, the processes in them, and hopwire in its routers."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from services.common import netns
from services.common.errors import HopwireError
from services.launcher.lab.builder import DEFAULT_PREFIX, namespaces
from services.launcher.lab.daemons import RouterDaemons, check_installed
from services.launcher.lab.router import RouterProcess, stop_all
from services.launcher.lab.routes import wait_for_routes
from services.launcher.lab.signals import uninterrupted
from services.launcher.lab.topology import Topology

_STOP_LIMIT_S: Final = 2.0
"""How long a program in a host may take to end before it is killed."""
_DAEMONS_MODE: Final = 0o711
"""FRR's daemons are another user, and reach their own folders through one that they cannot list."""
_MEMORY_FOLDERS: Final = ("/run", "/dev/shm")  # noqa: S108 - only ever the parent of a folder that mkdtemp makes
"""Where Linux systems mount a tmpfs."""


class Lab:
    """Builds a topology on entry and takes it down on exit, whatever happened in between.

    ``with Lab(PAIR, prefix="hw-") as lab: lab.start_routers(); lab.run("host1", [...])``. Not for more than one
    thread at a time. `kernel_forwarding` lets the routers' kernels forward, as the control group of a comparison.
    """

    def __init__(self, topology: Topology, *, prefix: str = DEFAULT_PREFIX, kernel_forwarding: bool = False) -> None:
        """Plan the lab; nothing is made yet."""
        self.topology = topology
        self._prefix = prefix
        self._kernel_forwarding = kernel_forwarding
        self._stack = ExitStack()
        self._names: Mapping[str, str] = {}
        self._programs: list[subprocess.Popen[str]] = []
        self._routers: dict[str, RouterProcess] = {}
        self._daemons: dict[str, RouterDaemons] = {}
        self._directory = self._daemons_directory = Path()

    def __enter__(self) -> Self:
        """Build the topology.

        :raises HopwireError: as `namespaces`; or a routing daemon is not installed.
        """
        check_installed(self.topology)
        with self._stack as stack:
            self._names = stack.enter_context(
                namespaces(self.topology, self._prefix, kernel_forwarding=self._kernel_forwarding)
            )
            self._directory = self._make_directory(stack, "lab")
            self._daemons_directory = self._make_directory(stack, "daemons")
            self._daemons_directory.chmod(_DAEMONS_MODE)
            stack.callback(self._stop_programs)
            stack.callback(self.stop_routers)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything that runs in the lab and take it down."""
        with uninterrupted():
            self._stack.__exit__(kind, error, trace)

    def _make_directory(self, stack: ExitStack, purpose: str) -> Path:
        """Make a folder that goes with the lab."""
        with uninterrupted():
            made = Path(tempfile.mkdtemp(prefix=f"{self._prefix}{purpose}-", dir=_memory_directory()))
            stack.callback(shutil.rmtree, made)
        return made

    def namespace(self, node: str) -> str:
        """Return the name of a node's network namespace."""
        return self._names[node]

    def run_directory(self, router: str) -> Path:
        """Return the run directory of the hopwire in a router, for `control-cli --run-dir`."""
        return self._directory / router

    def popen(
        self,
        node: str,
        argv: Sequence[str],
        *,
        stdout: int | IO[str] | None = None,
        stderr: int | IO[str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a program in a node's namespace; the lab stops it at its end, if it still runs then.

        Text mode, no stdin, and a process group of its own: a Ctrl-C at the terminal reaches the lab alone, which
        then stops its programs in order.
        """
        with uninterrupted():
            with netns.inside(self.namespace(node)):
                program = subprocess.Popen(
                    argv, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, text=True, process_group=0
                )
            self._programs.append(program)
        return program

    def run(self, node: str, argv: Sequence[str], *, limit_s: float) -> subprocess.CompletedProcess[str]:
        """Run a program in a node's namespace to its end, and return its status and its output.

        :raises HopwireError: it takes longer than `limit_s` seconds.
        """
        program = self.popen(node, argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            output, errors = program.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired as error:
            raise HopwireError(f"{' '.join(argv)} did not end within {limit_s:.0f} s on {node}") from error
        finally:
            self.end(program)
        return subprocess.CompletedProcess(argv, program.returncode, output, errors)

    def end(self, program: subprocess.Popen[str]) -> None:
        """Terminate a program of this lab if it still runs, kill it if it does not heed that, and close its pipes."""
        with uninterrupted():
            if program.poll() is None:
                os.killpg(program.pid, signal.SIGTERM)
                try:
                    program.wait(timeout=_STOP_LIMIT_S)
                except subprocess.TimeoutExpired:
                    os.killpg(program.pid, signal.SIGKILL)
                    program.wait()
            for pipe in (program.stdout, program.stderr):
                if pipe is not None:
                    pipe.close()
            self._programs.remove(program)

    def start_routers(self) -> Mapping[str, float]:
        """Start hopwire in every router and return, for each, the seconds until it was ready.

        :raises HopwireError: one is not ready in time, or ends; the text carries what it wrote to stderr.
        """
        started = time.monotonic()
        for router in self.topology.routers:
            with uninterrupted():
                self._routers[router.name] = RouterProcess(
                    router.name, self.namespace(router.name), self.run_directory(router.name), router.configuration
                )
        return {name: process.wait_until_ready() - started for name, process in self._routers.items()}

    def start_daemons(self) -> Mapping[str, RouterDaemons]:
        """Start the routers' routing daemons, wait for the routes to all hosts, and return each router's daemons.

        :raises HopwireError: one ends, or a route does not come in time.
        """
        for router in self.topology.routers:
            if router.daemons:
                self._daemons[router.name] = RouterDaemons(
                    router.name,
                    router.daemons,
                    self._daemons_directory / router.name,
                    partial(self._spawn, router.name),
                )
        for name, daemons in self._daemons.items():
            wait_for_routes(self.namespace(name), self.topology.host_networks, daemons.check)
        return dict(self._daemons)

    def _spawn(self, node: str, argv: list[str], log: Path) -> subprocess.Popen[str]:
        with log.open("w", encoding="utf-8") as output:
            return self.popen(node, argv, stdout=output, stderr=subprocess.STDOUT)

    def router_process(self, router: str) -> int | None:
        """Return the process of the hopwire in a router, which the others descend from; None if it does not run."""
        running = self._routers.get(router)
        return None if running is None else running.process.pid

    def check_routers(self) -> None:
        """Do nothing while hopwire, and the routing daemons, run in every router that they were started in.

        :raises HopwireError: something has ended in one; the text carries what it wrote.
        """
        for process in self._routers.values():
            process.check()
        for daemons in self._daemons.values():
            daemons.check()

    def stop_routers(self) -> Mapping[str, int]:
        """Stop hopwire in all routers, and return each one's exit status (minus the signal's number if killed)."""
        with uninterrupted():
            statuses = stop_all(self._routers)
            self._routers = {}
        return statuses

    def _stop_programs(self) -> None:
        for program in list(self._programs):
            self.end(program)


def _memory_directory() -> Path:
    """Return a folder in memory for the routers' run directories: a frame ring on a disk would be written there."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
    in_memory = {fields[1] for fields in mounts if fields[2] == "tmpfs" and "rw" in fields[3].split(",")}
    return next((Path(folder) for folder in _MEMORY_FOLDERS if folder in in_memory), Path(tempfile.gettempdir()))
