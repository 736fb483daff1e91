"""`hopwire up` in a router of a lab: start it, wait until it is ready, stop it."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from services.common.endpoints import RUN_DIR_MODE
from services.common.errors import HopwireError

_READY_LINE: Final = re.compile(r"^.*\bready\b.*\n", re.MULTILINE)
_READY_LIMIT_S: Final = 30.0
_STOP_LIMIT_S: Final = 10.0
_POLL_S: Final = 0.01
_SHOWN_LINES: Final = 20
"""How much of a failed router's stderr an error carries."""


class RouterProcess:
    """One `hopwire up`. Its output goes to files beside its run directory, named as that with `.out` and `.err`."""

    def __init__(self, router: str, namespace: str, run_directory: Path, configuration: str = "") -> None:
        """Start it for a router's namespace; `configuration` is YAML, none if empty."""
        self._router = router
        run_directory.mkdir(mode=RUN_DIR_MODE, exist_ok=True)
        self._output = run_directory.with_suffix(".out")
        self._errors = run_directory.with_suffix(".err")
        file = run_directory.with_suffix(".yaml")
        if configuration:
            file.write_text(configuration, encoding="utf-8")
        with self._output.open("wb") as output, self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                up_command(namespace, run_directory) + (["--config", str(file)] if configuration else []),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                process_group=0,  # a Ctrl-C at the terminal is the lab's, which stops its routers in order
            )

    def wait_until_ready(self) -> float:
        """Return the time of `time.monotonic` at which it said that it is ready.

        :raises HopwireError: it ends, or is not ready in time.
        """
        deadline = time.monotonic() + _READY_LIMIT_S
        while not self._is_ready():
            self.check()
            if time.monotonic() > deadline:
                raise HopwireError(self._with_errors(f"was not ready within {_READY_LIMIT_S:.0f} s"))
            time.sleep(_POLL_S)
        return time.monotonic()

    def check(self) -> None:
        """Do nothing while it runs.

        :raises HopwireError: it has ended.
        """
        status = self.process.poll()
        if status is not None:
            raise HopwireError(self._with_errors(f"ended with status {status}"))

    def _is_ready(self) -> bool:
        return _READY_LINE.search(self._output.read_text(encoding="utf-8", errors="replace")) is not None

    def _with_errors(self, what: str) -> str:
        errors = self._errors.read_text(encoding="utf-8", errors="replace").splitlines()
        said = "\n".join(errors[-_SHOWN_LINES:]) or "nothing"
        return f"hopwire in {self._router} {what}; it wrote to stderr: {said}"


def up_command(namespace: str, run_directory: Path) -> list[str]:
    """Return the command that runs hopwire in a namespace."""
    arguments = ["--netns", namespace, "--run-dir", str(run_directory)]
    return [sys.executable, "-m", "services.launcher", "up", *arguments]


def stop_all(routers: Mapping[str, RouterProcess]) -> dict[str, int]:
    """Terminate all, kill those that have not ended after ten seconds, and return every exit status."""
    for router in routers.values():
        router.process.terminate()
    deadline = time.monotonic() + _STOP_LIMIT_S
    return {name: _wait(router.process, deadline) for name, router in routers.items()}


def _wait(process: subprocess.Popen[bytes], deadline: float) -> int:
    try:
        return process.wait(timeout=max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its services too, which it did not stop
        return process.wait()
