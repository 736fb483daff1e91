"""The health check: a question to process 1 of the same container."""

import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from services.container import health
from services.container.health import HealthServer, ask, health_address


@contextmanager
def answering(text: str, *, healthy: bool) -> Iterator[None]:
    """Be process 1: this test and a child of it are in one mount namespace."""
    server = HealthServer()
    done, stop = socket.socketpair()

    def serve() -> None:
        while done not in select.select([server, done], [], [])[0]:
            server.answer(text, healthy=healthy)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        stop.close()
        thread.join()
        done.close()
        server.close()


def check() -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-S", "-m", "services.container.health"], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout


def test_the_check_prints_the_answer_and_exits_by_it() -> None:
    with answering("ready; a warning", healthy=True):
        assert check() == (0, "ready; a warning\n")
    with answering("hopwire arp: silent\nfor 3 s", healthy=False):
        assert check() == (1, "hopwire arp: silent for 3 s\n")


def test_a_container_whose_process_1_does_not_answer_is_not_healthy() -> None:
    status, said = check()
    assert status == 1
    assert said == "hopwire: the container's process 1 does not answer: Connection refused\n"


def test_a_process_1_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_TIMEOUT_S", 0.05)
    server = HealthServer()
    try:
        assert ask(health_address()) == (False, "hopwire: the container's process 1 does not answer: timed out")
    finally:
        server.close()


def test_a_process_1_that_ends_meanwhile_is_not_healthy() -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(health_address())
        server.listen()

        def close() -> None:
            server.accept()[0].close()

        closer = threading.Thread(target=close)
        closer.start()
        assert ask(health_address()) == (False, "hopwire: the container's process 1 is about to end")
        closer.join()
