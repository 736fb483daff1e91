"""The HTTP server of control: /metrics, /healthz, /readyz, the status page and its data. In threads of its own."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import CollectorRegistry, make_wsgi_app

from services.control.config import listen_address
from services.control.monitoring.collector import MetricsCollector
from services.control.monitoring.page import CONTENT_SECURITY_POLICY, PAGE

RETRY_S: Final = 5.0
"""A port that could not be had is tried again after so long."""
CLIENT_TIMEOUT_S: Final = 10.0
"""A client that neither sends nor reads for so long is let go."""
MAX_CLIENTS: Final = 32
"""Connections at one time; one more is closed at once."""
HEALTHY_S: Final = 5.0
"""Control is healthy while its loop has come round within so long: it does so four times a second."""

_TEXT: Final = "text/plain; charset=utf-8"
_METHODS: Final = ("GET", "HEAD")


class MonitoringApplication:
    """Answers requests out of what control's thread has put here.

    :ivar document: the data of the status page.
    :ivar renewed_at: when control's loop came round last.
    """

    def __init__(self, collector: MetricsCollector, clock: Callable[[], float] = time.monotonic) -> None:
        registry = CollectorRegistry()
        registry.register(collector)
        self._metrics: Any = make_wsgi_app(registry)
        self._collector = collector
        self._clock = clock
        self.document: dict[str, Any] = {}
        self.renewed_at = float("-inf")
        self._paths: dict[str, Callable[[], tuple[HTTPStatus, str, bytes]]] = {
            "/": lambda: (HTTPStatus.OK, "text/html; charset=utf-8", PAGE),
            "/status.json": lambda: (HTTPStatus.OK, "application/json", json.dumps(self.document).encode()),
            "/healthz": self._health,
            "/readyz": self._readiness,
        }

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        path = environ.get("PATH_INFO", "")
        if environ["REQUEST_METHOD"] not in _METHODS:
            status, kind, body = HTTPStatus.METHOD_NOT_ALLOWED, _TEXT, b"only GET\n"
        elif path == "/metrics":
            answer: Iterable[bytes] = self._metrics(environ, start_response)
            return answer
        elif path in self._paths:
            status, kind, body = self._paths[path]()
        else:
            known = ", ".join(("/metrics", *self._paths))
            status, kind, body = HTTPStatus.NOT_FOUND, _TEXT, f"there are: {known}\n".encode()
        headers = [
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
        ]
        if path == "/":
            headers.append(("Content-Security-Policy", CONTENT_SECURITY_POLICY))
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            headers.append(("Allow", ", ".join(_METHODS)))
        start_response(f"{status.value} {status.phrase}", headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _health(self) -> tuple[HTTPStatus, str, bytes]:
        silent_s = self._clock() - self.renewed_at
        if silent_s <= HEALTHY_S:
            return HTTPStatus.OK, _TEXT, b"ok\n"
        return HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, f"control has not worked for {silent_s:.1f} s\n".encode()

    def _readiness(self) -> tuple[HTTPStatus, str, bytes]:
        snapshot = self._collector.snapshot
        if snapshot.ready:
            return HTTPStatus.OK, _TEXT, b"ready\n"
        waiting_for = snapshot.waiting_for or ("control",)
        return HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, "".join(f"waits for {one}\n" for one in waiting_for).encode()


class _QuietHandler(WSGIRequestHandler):
    timeout = CLIENT_TIMEOUT_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        """Log nothing."""


class _HttpServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    _places = threading.BoundedSemaphore(MAX_CLIENTS)

    def server_bind(self) -> None:
        """Bind, without asking DNS for the name of the address, as the base class does: it may take long."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread, or close it where there are too many."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection, and give its place back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: it was the client that went away or fell silent."""


class _HttpServer6(_HttpServer):
    address_family = socket.AF_INET6


class MonitoringServer:
    """The HTTP server in a thread of its own; without its port the router works all the same.

    :ivar warning: why there is no server now; empty when there is.
    """

    def __init__(self, listen: str, application: MonitoringApplication) -> None:
        self._listen = listen
        self._application: Any = application
        self._running: tuple[WSGIServer, threading.Thread] | None = None
        self._next_attempt_at = float("-inf")
        self.warning = ""

    def start_when_due(self, now: float) -> None:
        """Start the server, or try again when the last attempt is `RETRY_S` old."""
        if self._running is not None or now < self._next_attempt_at:
            return
        self._next_attempt_at = now + RETRY_S
        address, port = listen_address(self._listen)
        server_class = _HttpServer6 if ":" in address else _HttpServer
        try:
            server = make_server(address, port, self._application, server_class, _QuietHandler)
        except OSError as error:
            self.warning = (
                f"no metrics: cannot listen on {self._listen}: {error.strerror or error}; "
                "choose another with --metrics-listen, or switch them off with: --metrics-listen off"
            )
            return
        thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
        thread.start()
        self._running = server, thread
        self.warning = ""

    def close(self) -> None:
        """Stop the server."""
        if self._running is not None:
            server, thread = self._running
            server.shutdown()
            server.server_close()
            thread.join()
            self._running = None
