"""`python -m services.container.keep SERVICE [OPTION…]`: process 1 of a service's container.

HOPWIRE_HOLDER is set where the container joins the network namespace of another one (`hold`), which may be started
again.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from services.common import notify
from services.common.capabilities import missing_capabilities
from services.common.endpoints import DEFAULT_RUN_DIR
from services.common.kernel_settings import namespace_identity
from services.container.events import Events
from services.container.health import HealthServer
from services.container.keeper import Action, Keeper
from services.container.lines import Lines
from services.container.namespace import look

LOOK_INTERVAL_S: Final = 0.25
"""How often the holder is looked for."""
NEEDED: Final = {
    "ingress": ("CAP_NET_RAW",),
    "forwarder": ("CAP_NET_RAW", "CAP_NET_ADMIN"),
    "arp": ("CAP_NET_RAW",),
    "control": ("CAP_NET_ADMIN",),
}
"""The services, and the capabilities without which they cannot work."""
RELOADS: Final = "control"
_DATAGRAM_BYTES: Final = 4096
_READ_BYTES: Final = 65_536


class ServiceContainer:
    """The shell around the keeper: the child process, its log, its signs of life, and who asks for its health."""

    def __init__(self, service: str, options: list[str], stack: ExitStack) -> None:
        """Start nothing yet; `stack` closes what is opened."""
        self._service = service
        self._command = [sys.executable, "-m", f"services.{service}", *options]
        self._run_dir = Path(os.environ.get("HOPWIRE_RUN_DIR", DEFAULT_RUN_DIR))
        self._has_holder = bool(os.environ.get("HOPWIRE_HOLDER"))
        self._identity = namespace_identity()
        missing = missing_capabilities(NEEDED[service])
        refusal = ""
        if missing:
            short = ", ".join(name.removeprefix("CAP_") for name in missing)
            refusal = f"{' and '.join(missing)} missing; give the container cap_add: [{short}]"
        self._keeper = Keeper(
            service, str(self._run_dir), has_holder=self._has_holder, now=time.monotonic(), refusal=refusal
        )
        self._lines = Lines()
        self._logged = ""
        self._child: subprocess.Popen[bytes] | None = None
        self._events = Events(stack)
        self._health = HealthServer()
        stack.callback(self._health.close)
        self._events.listen(self._health, self._answer)
        self._signs = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK))
        self._signs.bind("")  # the kernel chooses a free name (unix(7), autobind)
        self._events.listen(self._signs, self._take_signs)

    def run(self) -> int:
        """Keep the service until SIGTERM, or until the holder has a new namespace; return the exit status."""
        while True:
            if self._has_holder:
                self._keeper.set_sight(look(self._run_dir, self._identity))
            if self._events.stop_asked:
                self._keeper.stop()
            self._reap()
            self._pass_on_reload()
            self._log_problem()
            for action in self._keeper.actions(time.monotonic()):
                if action is Action.LEAVE:
                    return self._keeper.exit_status or 0
                self._carry_out(action)
            self._events.wait(min(self._keeper.deadline() - time.monotonic(), LOOK_INTERVAL_S))

    def _pass_on_reload(self) -> None:
        """Pass SIGHUP on to control, which applies its configuration file again; it means nothing to the others."""
        if self._events.reload_asked and self._child is not None and self._service == RELOADS:
            self._child.send_signal(signal.SIGHUP)
        self._events.reload_asked = False

    def _carry_out(self, action: Action) -> None:
        if action is Action.START:
            self._start()
        elif self._child is not None:
            self._child.send_signal(signal.SIGTERM if action is Action.TERMINATE else signal.SIGKILL)

    def _start(self) -> None:
        address = self._signs.getsockname()
        environment = os.environ | {notify.VARIABLE: "@" + address[1:].decode()}
        self._child = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, pipesize=_READ_BYTES
        )
        if self._child.stderr is not None:
            os.set_blocking(self._child.stderr.fileno(), False)
            self._events.listen(self._child.stderr, self._read_log)

    def _read_log(self) -> None:
        """Pass on what the service writes."""
        if self._child is None or self._child.stderr is None:
            return
        data = os.read(self._child.stderr.fileno(), _READ_BYTES)
        if not data:
            self._events.ignore(self._child.stderr)
            self._child.stderr.close()
            self._child.stderr = None
        _write(self._lines.take(data))

    def _reap(self) -> None:
        """Take note of the service's end, and of that of orphans, which process 1 inherits."""
        while True:
            try:
                pid, wait_status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self._child is None or pid != self._child.pid:
                continue
            self._child.returncode = os.waitstatus_to_exitcode(wait_status)
            self._read_rest()
            self._keeper.on_exit(self._child.returncode, self._lines.last_plain, time.monotonic())
            self._child = None

    def _read_rest(self) -> None:
        while self._child is not None and self._child.stderr is not None:
            try:
                self._read_log()
            except BlockingIOError:  # a process that it has left behind keeps the pipe open
                self._events.ignore(self._child.stderr)
                self._child.stderr.close()
                self._child.stderr = None

    def _take_signs(self) -> None:
        while True:
            try:
                sign = notify.parse(self._signs.recv(_DATAGRAM_BYTES))
            except BlockingIOError:
                return
            if sign is not None:
                self._keeper.on_sign_of_life(ready=sign[0], status=sign[1])

    def _answer(self) -> None:
        verdict = self._keeper.verdict()
        self._health.answer(verdict.text, healthy=verdict.healthy)

    def _log_problem(self) -> None:
        """Log what keeps the service from being started, once; of what happens to it afterwards it logs itself."""
        problem = self._keeper.hindrance()
        if problem and problem != self._logged:
            _write(f"{problem}\n".encode())
        self._logged = problem


def _write(data: bytes) -> None:
    sys.stderr.buffer.write(data)
    sys.stderr.buffer.flush()


def main(arguments: list[str]) -> int:
    """Run a service's container, and return the exit status."""
    if not arguments or arguments[0] not in NEEDED:
        sys.stderr.write(f"usage: python -m services.container.keep {{{','.join(NEEDED)}}} [OPTION…]\n")
        return 2
    with ExitStack() as stack:
        return ServiceContainer(arguments[0], arguments[1:], stack).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
