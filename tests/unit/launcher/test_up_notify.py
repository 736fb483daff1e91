"""systemd hears of the launcher that it lives, and when the router is ready."""

import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from services.common.endpoints import Endpoints
from services.common.notify import VARIABLE
from services.launcher.up import loop
from services.launcher.up.loop import Launcher

SLEEP = [sys.executable, "-c", "import signal; signal.pause()"]


class Listener:
    """systemd's end. Stands in for the flag that a signal sets, too: after so many messages the launcher stops."""

    def __init__(self, path: Path, enough: int) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))
        self._enough = enough
        self.messages: list[bytes] = []

    @property
    def is_set(self) -> bool:
        """Whether enough was heard."""
        while True:
            try:
                self.messages.append(self._socket.recv(4096))
            except BlockingIOError:
                return len(self.messages) >= self._enough


@pytest.fixture
def listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Listener:
    """Listen where the environment says; the machine has no interface."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "notify"))
    monkeypatch.setattr(loop, "list_interfaces", list)
    return Listener(tmp_path / "notify", enough=3)


@pytest.mark.parametrize(
    ("is_ready", "expected"), [(False, b"WATCHDOG=1\nSTATUS="), (True, b"WATCHDOG=1\nREADY=1\nSTATUS=")]
)
def test_the_launcher_tells_that_it_lives(listener: Listener, tmp_path: Path, is_ready: bool, expected: bytes) -> None:
    flag: Any = listener
    with ExitStack() as stack:
        launcher = Launcher(Endpoints(tmp_path), lambda _instance: SLEEP, structlog.get_logger(), stack)
        launcher._readiness = SimpleNamespace(
            is_ready=is_ready, ask_at=0.0, set_interfaces=lambda *_: None, ask_when_due=lambda _now: is_ready
        )
        assert launcher.run(flag, SimpleNamespace(take=lambda: False)) == 0
    assert set(listener.messages) == {expected}
