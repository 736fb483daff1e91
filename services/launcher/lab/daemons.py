"""The routing daemons of a lab's routers, FRR (frrouting.org) and BIRD (bird.network.cz), unchanged.

Each router's daemons run in its namespace, with configuration, sockets and logs in a folder of their own; those of
the machine, as /etc/frr, are neither read nor written.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from services.common.errors import HopwireError
from services.launcher.lab.topology import Daemon, Topology

BIRD: Final = "bird"
_ZEBRA: Final = "zebra"
_FRR_USER: Final = "frr"
"""The user and group that FRR's packages make, and that its daemons become."""
_SEARCH_PATH: Final = os.pathsep.join(
    ("/usr/lib/frr", "/usr/libexec/frr", os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin")
)
_START_LIMIT_S: Final = 30.0
_POLL_S: Final = 0.02
_SHOWN_LINES: Final = 20
"""How much of a failed daemon's log an error carries."""
_DIRECTORY_MODE: Final = 0o750

Spawn = Callable[[list[str], Path], "subprocess.Popen[str]"]
"""Starts a program in the router's namespace, with its output in a file."""


class RouterDaemons:
    """The daemons of one router, from their start on; the lab ends them.

    :ivar directory: the folder of their files.
    :ivar processes: the process of each program.
    """

    def __init__(self, router: str, daemons: tuple[Daemon, ...], directory: Path, spawn: Spawn) -> None:
        """Write the configuration into a new folder, start all, and wait until each can be talked to.

        :raises HopwireError: one ends, or takes too long; the text carries the end of its log.
        """
        self.directory = directory
        self._router = router
        self._daemons = daemons
        self.processes: dict[str, subprocess.Popen[str]] = {}
        directory.mkdir(mode=_DIRECTORY_MODE)
        for daemon in daemons:
            self._write(f"{daemon.program}.conf", daemon.configuration)
        if not self._is_bird:
            self._write("vtysh.conf", f"hostname {router}\n")
            shutil.chown(directory, _FRR_USER, _FRR_USER)
        self._start(spawn)

    @property
    def shell_command(self) -> list[str]:
        """Return the command that talks to these daemons: vtysh or birdc, both of which also take commands."""
        if self._is_bird:
            return ["birdc", "-s", str(self._socket(BIRD))]
        return ["vtysh", "--vty_socket", str(self.directory), "--config_dir", str(self.directory)]

    def check(self) -> None:
        """Do nothing while all of them run.

        :raises HopwireError: one has ended; the text carries the end of its log.
        """
        for program, process in self.processes.items():
            status = process.poll()
            if status is not None:
                raise HopwireError(self._with_log(program, f"ended with status {status}"))

    def _start(self, spawn: Spawn) -> None:
        for daemon in self._daemons:
            self.processes[daemon.program] = spawn(self._command(daemon.program), self._log(daemon.program))
            if daemon.program == _ZEBRA:  # the others would wait ten seconds before they look for it again
                self._wait_for(_ZEBRA, self._zebra_api)
        for daemon in self._daemons:
            self._wait_for(daemon.program, self._socket(daemon.program))

    def _command(self, program: str) -> list[str]:
        path, configuration = find(program), str(self.directory / f"{program}.conf")
        if program == BIRD:
            return [path, "-f", "-c", configuration, "-s", str(self._socket(program))]
        options = ["--config_file", configuration, "--pid_file", str(self.directory / f"{program}.pid")]
        options += ["--vty_socket", str(self.directory), "--vty_port", "0", "--socket", str(self._zebra_api)]
        if program == "bfdd":
            options += ["--bfdctl", str(self.directory / "bfdd.sock")]
        return [path, *options, "--log", "stdout", "--log-level", "informational"]

    @property
    def _is_bird(self) -> bool:
        return self._daemons[0].program == BIRD

    @property
    def _zebra_api(self) -> Path:
        return self.directory / "zserv.api"

    def _socket(self, program: str) -> Path:
        return self.directory / ("bird.ctl" if program == BIRD else f"{program}.vty")

    def _log(self, program: str) -> Path:
        return self.directory / f"{program}.log"

    def _write(self, name: str, text: str) -> None:
        file = self.directory / name
        file.write_text(text, encoding="ascii")
        if not self._is_bird:
            shutil.chown(file, _FRR_USER, _FRR_USER)

    def _wait_for(self, program: str, file: Path) -> None:
        deadline = time.monotonic() + _START_LIMIT_S
        while not file.exists():
            self.check()
            if time.monotonic() > deadline:
                raise HopwireError(self._with_log(program, f"did not start within {_START_LIMIT_S:.0f} s"))
            time.sleep(_POLL_S)

    def _with_log(self, program: str, what: str) -> str:
        lines = self._log(program).read_text(encoding="utf-8", errors="replace").splitlines()
        said = "\n".join(lines[-_SHOWN_LINES:]) or "nothing"
        return f"{program} in {self._router} {what}; it wrote: {said}"


def find(program: str) -> str:
    """Return the path of a daemon's program.

    :raises HopwireError: its package is not installed.
    """
    path = shutil.which(program, path=_SEARCH_PATH)
    if path is None:
        name, package = ("BIRD", "bird2") if program == BIRD else ("FRR", "frr")
        raise HopwireError(f"{name} is not installed; run: apt-get install {package}")
    return path


def check_installed(topology: Topology) -> None:
    """Do nothing if all daemons of a topology are installed.

    :raises HopwireError: one is not.
    """
    for router in topology.routers:
        for daemon in router.daemons:
            find(daemon.program)
