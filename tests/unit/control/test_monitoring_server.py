"""The HTTP server of control, with real connections: what each path answers, and what bad clients cannot do."""

import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any, NamedTuple

import pytest

from services.control.monitoring.collector import MetricsCollector
from services.control.monitoring.server import (
    HEALTHY_S,
    MAX_CLIENTS,
    RETRY_S,
    MonitoringApplication,
    MonitoringServer,
)
from services.control.monitoring.snapshot import MetricsSnapshot

LIMIT_S = 30.0


class Answer(NamedTuple):
    status: int
    headers: Any
    body: str


class Served:
    """A running server on a clock of its own."""

    def __init__(self) -> None:
        self.now = 100.0
        self.collector = MetricsCollector()
        self.application = MonitoringApplication(self.collector, lambda: self.now)
        self.application.renewed_at = self.now
        self.port = free_port()
        self.server = MonitoringServer(f"127.0.0.1:{self.port}", self.application)
        self.server.start_when_due(0.0)
        assert self.server.warning == ""

    def get(self, path: str, method: str = "GET") -> Answer:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
                return Answer(answer.status, answer.headers, answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers, error.read().decode())

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), LIMIT_S)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served()
    yield made
    made.server.close()


def test_metrics(served: Served) -> None:
    answer = served.get("/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    assert "\nhopwire_ready 0.0\n" in answer.body
    assert "# HELP hopwire_ready 1 when" in answer.body
    assert "# TYPE hopwire_ready gauge" in answer.body


def test_health_is_that_of_the_loop(served: Served) -> None:
    assert served.get("/healthz")[::2] == (200, "ok\n")
    served.now += HEALTHY_S
    assert served.get("/healthz").status == 200
    served.now += 0.5
    assert served.get("/healthz")[::2] == (503, "control has not worked for 5.5 s\n")


def test_readiness_says_what_is_missing(served: Served) -> None:
    assert served.get("/readyz")[::2] == (503, "waits for control\n")
    served.collector.snapshot = MetricsSnapshot(waiting_for=("arp: not heard of yet", "eth0: not served"))
    assert served.get("/readyz")[::2] == (503, "waits for arp: not heard of yet\nwaits for eth0: not served\n")
    served.collector.snapshot = MetricsSnapshot(ready=True)
    assert served.get("/readyz")[::2] == (200, "ready\n")


def test_the_page_and_its_data(served: Served) -> None:
    served.application.document = {"ready": True}
    page = served.get("/")
    assert page.status == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert page.body.startswith("<!doctype html>")
    data = served.get("/status.json")
    assert (data.headers["Content-Type"], json.loads(data.body)) == ("application/json", {"ready": True})
    assert data.headers["Cache-Control"] == "no-store"


def test_other_requests(served: Served) -> None:
    missing = served.get("/nothing")
    assert (missing.status, missing.body) == (404, "there are: /metrics, /, /status.json, /healthz, /readyz\n")
    assert served.get("/../../etc/passwd").status == 404
    refused = served.get("/", "POST")
    assert (refused.status, refused.headers["Allow"]) == (405, "GET, HEAD")
    head = served.get("/healthz", "HEAD")
    assert (head.status, head.headers["Content-Length"], head.body) == (200, "3", "")


@pytest.mark.parametrize("request_bytes", [b"", b"GET", b"\0\xff\r\n\r\n", b"GET / HTTP/1.1\r\nHost: " + b"a" * 90_000])
def test_garbage_does_not_end_it(served: Served, request_bytes: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with served.connect() as client, suppress(OSError):  # it may be refused before all of it was sent
        client.sendall(request_bytes)
        client.shutdown(socket.SHUT_WR)
        while client.recv(65_536):
            pass
    assert served.get("/healthz").status == 200
    assert capfd.readouterr() == ("", "")


def test_clients_that_say_nothing_are_limited_and_leave_room_when_they_go(served: Served) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(served.connect()) for _ in range(MAX_CLIENTS)]
        with served.connect() as beyond:
            beyond.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            with suppress(ConnectionResetError):
                assert beyond.recv(100) == b"", "one more is closed at once"
        silent[0].sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert silent[0].recv(15) == b"HTTP/1.0 200 OK"
    answers: list[int] = []
    while 200 not in answers:
        try:
            answers.append(served.get("/healthz").status)
        except OSError:
            assert len(answers) < 10_000


def test_a_taken_port_is_a_warning_and_is_tried_again() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        server = MonitoringServer(listen, MonitoringApplication(MetricsCollector()))
        server.start_when_due(100.0)
        assert server.warning.startswith(f"no metrics: cannot listen on {listen}: Address already in use; choose")
    try:
        server.start_when_due(100.0 + RETRY_S - 0.1)
        assert server.warning != ""
        server.start_when_due(100.0 + RETRY_S)
        assert server.warning == ""
    finally:
        server.close()


def test_close_ends_the_thread(served: Served) -> None:
    assert "metrics" in {thread.name for thread in threading.enumerate()}
    served.server.close()
    assert "metrics" not in {thread.name for thread in threading.enumerate()}
