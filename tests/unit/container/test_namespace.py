"""The holder's file: what a service sees of it."""

import threading
import time
from pathlib import Path

import pytest

from services.common.errors import HopwireError
from services.container import namespace
from services.container.namespace import Sight, hold, look


def test_a_service_sees_its_holder_come_go_and_move(tmp_path: Path) -> None:
    assert look(tmp_path, "boot 1") is Sight.UNSEEN
    with hold(tmp_path, "boot 1"):
        assert look(tmp_path, "boot 1") is Sight.SAME
        assert look(tmp_path, "boot 2") is Sight.MOVED
    assert look(tmp_path, "boot 1") is Sight.AWAY
    assert look(tmp_path, "boot 2") is Sight.AWAY
    with hold(tmp_path, "boot 2"):
        assert look(tmp_path, "boot 1") is Sight.MOVED
        assert look(tmp_path, "boot 2") is Sight.SAME


def test_a_holder_that_has_not_written_yet_has_not_moved(tmp_path: Path) -> None:
    with hold(tmp_path, "boot 1") as file:
        file.truncate(0)
        assert look(tmp_path, "boot 1") is Sight.AWAY


def test_two_holders_on_one_run_directory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespace, "_HOLD_LIMIT_S", 0.05)
    with hold(tmp_path, "boot 1"), pytest.raises(HopwireError, match="another container holds the namespace"):
        hold(tmp_path, "boot 2")


def test_a_run_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HopwireError, match="check its volume"):
        hold(tmp_path / "nowhere", "boot 1")


def test_who_looks_does_not_keep_a_holder_out(tmp_path: Path) -> None:
    hold(tmp_path, "boot 1").close()
    stop = threading.Event()

    def keep_looking() -> None:
        while not stop.is_set():
            look(tmp_path, "boot 1")

    lookers = [threading.Thread(target=keep_looking) for _ in range(3)]
    for looker in lookers:
        looker.start()
    try:
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline:
            hold(tmp_path, "boot 2").close()
    finally:
        stop.set()
        for looker in lookers:
            looker.join()
