"""Signs of life: sd_notify(3)."""

import os
import socket
from pathlib import Path

import pytest

from services.common.notify import VARIABLE, Notifier, parse


@pytest.fixture(params=["a path", "an abstract name"])
def listener(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    """Return the socket of a supervisor, whose address is in the environment."""
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.settimeout(5.0)
    if request.param == "a path":
        receiver.bind(str(tmp_path / "notify"))
        monkeypatch.setenv(VARIABLE, str(tmp_path / "notify"))
    else:
        receiver.bind("")
        monkeypatch.setenv(VARIABLE, "@" + receiver.getsockname()[1:].decode())
    return receiver


def test_what_is_told_arrives(listener: socket.socket) -> None:
    notifier = Notifier()
    notifier.tell(ready=False, status="starts")
    assert listener.recv(4096) == b"WATCHDOG=1\nSTATUS=starts"
    notifier.tell(ready=True, status="two\nlines")
    assert listener.recv(4096) == b"WATCHDOG=1\nREADY=1\nSTATUS=two lines"


def test_no_child_speaks_for_its_parent(listener: socket.socket) -> None:
    with listener:
        Notifier()
        assert VARIABLE not in os.environ


def test_a_listener_that_is_gone_or_busy_is_no_error(listener: socket.socket) -> None:
    notifier = Notifier()
    for _ in range(10_000):
        notifier.tell(ready=True)
    listener.close()
    notifier.tell(ready=True)


def test_without_a_supervisor_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    Notifier().tell(ready=True)


@pytest.mark.parametrize(
    ("datagram", "expected"),
    [
        (b"WATCHDOG=1", (False, "")),
        (b"WATCHDOG=1\nREADY=1\nSTATUS=a=b", (True, "a=b")),
        (b"READY=1", None),
        (b"", None),
        (b"\xff\xfe\n=\n", None),
    ],
)
def test_parsing(datagram: bytes, expected: tuple[bool, str] | None) -> None:
    assert parse(datagram) == expected
