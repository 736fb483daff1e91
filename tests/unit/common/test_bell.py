"""The named pipe that wakes a sleeper."""

from pathlib import Path

import pytest

from services.common.bell import Bell
from services.common.errors import HopwireError
from services.common.waiting import is_readable


def readable(bell: Bell) -> bool:
    return is_readable(bell)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "forwarder.bell"


def test_who_rings_first_makes_the_pipe_and_nothing_is_lost(path: Path) -> None:
    ingress = Bell(path)
    ingress.ring()
    forwarder = Bell(path)
    assert readable(forwarder)
    assert forwarder.drain()
    assert not readable(forwarder)
    assert not forwarder.drain()


def test_many_rings_wake_once(path: Path) -> None:
    forwarder, ingress = Bell(path), Bell(path)
    for _ in range(1000):
        ingress.ring()
    assert forwarder.drain()
    assert not readable(forwarder)


def test_a_full_pipe_neither_waits_nor_fails(path: Path) -> None:
    ingress, forwarder = Bell(path), Bell(path)
    for _ in range(70_000):  # a pipe holds 65,536
        ingress.ring()
    while forwarder.drain():
        pass
    ingress.ring()
    assert readable(forwarder)


def test_a_forwarder_that_starts_again_hears_the_same_bell(path: Path) -> None:
    ingress, forwarder = Bell(path), Bell(path)
    forwarder.close()
    ingress.ring()
    again = Bell(path)
    assert again.drain()
    ingress.ring()
    assert readable(again)


def test_only_its_owner_may_ring(path: Path) -> None:
    Bell(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_something_else_of_that_name_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("mine")
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(HopwireError, match="is no named pipe; remove it"):
        Bell(path)
    assert path.read_text() == "mine"
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(HopwireError, match="cannot open the bell"):
        Bell(tmp_path / "run" / "forwarder.bell")
