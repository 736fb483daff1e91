"""ZeroMQ sockets as the services use them: bounded, never blocking, one owner a name."""

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final

import zmq

from services.common.clone import HEARTBEAT_S, CloneTracker
from services.common.endpoints import Endpoints
from services.common.errors import HopwireError
from services.common.messages import (
    MAX_MESSAGE_BYTES,
    MessageError,
    NeighbourState,
    RouterState,
    RpcError,
    RpcReply,
    RpcRequest,
    SnapshotRequest,
    StateEnvelope,
    decode,
    encode,
)
from services.common.replies import ReplyMemory, ReusedIdError

FRAME_BATCHES: Final = 64
"""High-water mark of frame sockets, in batches."""
STATE_MESSAGES: Final = 10_000
_RECONNECT_MS: Final = 20
_RECONNECT_MAX_MS: Final = 200

_NAME_BYTES: Final = 16
"""Enough that no two clients ever choose the same name."""
RESEND_S: Final = 1.0
"""A question without an answer is asked again after this: whoever was asked may have started anew."""

State = RouterState | NeighbourState
Protect = Callable[[zmq.Socket[Any]], None]
"""Sets what must be set before a socket is bound or connected, such as keys."""


def _socket(context: zmq.Context[Any], kind: int, high_water_mark: int) -> zmq.Socket[Any]:
    socket: zmq.Socket[Any] = context.socket(kind)
    socket.set_hwm(high_water_mark)
    socket.set(zmq.LINGER, 0)
    socket.set(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
    socket.set(zmq.RECONNECT_IVL, _RECONNECT_MS)
    socket.set(zmq.RECONNECT_IVL_MAX, _RECONNECT_MAX_MS)
    return socket


def bound(
    context: zmq.Context[Any],
    kind: int,
    endpoint: str,
    high_water_mark: int = FRAME_BATCHES,
    protect: Protect | None = None,
) -> zmq.Socket[Any]:
    """Return a socket bound to `endpoint`. The caller holds its instance's lock (see `hold_instance`)."""
    socket = _socket(context, kind, high_water_mark)
    if protect is not None:
        protect(socket)
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        socket.close()
        raise HopwireError(f"cannot listen on {endpoint}: {error.strerror}; check the run directory") from error
    return socket


def also_listen(socket: zmq.Socket[Any], endpoint: str) -> None:
    """Bind a socket to one more endpoint, for a service that does not share the run directory.

    :raises HopwireError: the endpoint is malformed, or in use.
    """
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        raise HopwireError(
            f"cannot listen on {endpoint!r}: {error.strerror}; give an endpoint such as tcp://127.0.0.1:7001"
        ) from error


def connected(
    context: zmq.Context[Any],
    kind: int,
    endpoint: str,
    high_water_mark: int = FRAME_BATCHES,
    *,
    queue_for_absent: bool = False,
    protect: Protect | None = None,
) -> zmq.Socket[Any]:
    """Return a socket connected to `endpoint`, which need not be there yet.

    :param queue_for_absent: keep up to `high_water_mark` messages for a peer that is not there; otherwise sending
        to it fails (IMMEDIATE).
    """
    socket = _socket(context, kind, high_water_mark)
    if kind != zmq.SUB and not queue_for_absent:
        socket.set(zmq.IMMEDIATE, 1)  # before connect: later it has no effect
    if kind == zmq.SUB:
        socket.set(zmq.SUBSCRIBE, b"")
    if protect is not None:
        protect(socket)
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        socket.close()
        raise HopwireError(
            f"cannot connect to {endpoint!r}: {error.strerror}; give an endpoint such as tcp://127.0.0.1:7001"
        ) from error
    return socket


def try_send(socket: zmq.Socket[Any], parts: list[bytes]) -> bool:
    """Send without waiting; False when the queue is full or nobody listens."""
    try:
        socket.send_multipart(parts, zmq.NOBLOCK)
    except zmq.Again:
        return False
    return True


def receive(socket: zmq.Socket[Any]) -> list[bytes] | None:
    """Return the parts of one message, or None when there is none."""
    if not int(socket.get(zmq.EVENTS)) & zmq.POLLIN:
        return None  # an exception costs three times as much
    try:
        return socket.recv_multipart(zmq.NOBLOCK)
    except zmq.Again:
        return None


def _decoded(parts: list[bytes]) -> Any:
    """Return the message in the last part, or None where it is malformed."""
    try:
        return decode(parts[-1])
    except MessageError:
        return None


def is_running(endpoints: Endpoints, instance: str) -> bool:
    """Tell whether a process holds the name of a service; see `hold_instance`."""
    try:
        with endpoints.lock(instance).open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def hold_instance(endpoints: Endpoints, instance: str) -> IO[str]:
    """Lock the name of a service in its run directory for as long as the returned file stays open.

    A second bind to the same ipc path would silently steal it; the kernel frees the lock of a killed process.

    :raises HopwireError: another process holds it.
    """
    path: Path = endpoints.lock(instance)
    try:
        file = path.open("a+")
    except OSError as error:
        raise HopwireError(f"run directory {endpoints.run_dir}: {error.strerror}; run as its owner") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise HopwireError(
            f"{instance} already runs on {endpoints.run_dir} (process {holder}); stop it, or choose another --run-dir"
        ) from error
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


class StatePublisher:
    """The publishing end of a state: changes to all, snapshots on request, a heartbeat when nothing changes."""

    def __init__(
        self,
        context: zmq.Context[Any],
        endpoint: str,
        snapshot_endpoint: str,
        full_state: Callable[[], State],
    ) -> None:
        """Bind both sockets; `full_state` is called for each snapshot and must return one with `full` set."""
        self.snapshots = bound(context, zmq.ROUTER, snapshot_endpoint)
        self._changes = bound(context, zmq.PUB, endpoint, STATE_MESSAGES)
        self._full_state = full_state
        self._epoch = time.time_ns()
        self._sent_at = float("-inf")
        self.sequence = 0

    def publish(self, body: State, now: float) -> None:
        """Send a change to all subscribers."""
        self.sequence += 1
        self._send(body, now)

    def beat(self, now: float) -> None:
        """Send a heartbeat when nothing was sent for `HEARTBEAT_S`."""
        if now - self._sent_at >= HEARTBEAT_S:
            self._send(None, now)

    def _send(self, body: State | None, now: float) -> None:
        self._sent_at = now
        self._changes.send(encode(StateEnvelope(epoch=self._epoch, sequence=self.sequence, body=body)))

    def answer_requests(self) -> int:
        """Answer all waiting snapshot requests; return how many messages were malformed."""
        malformed = 0
        while (parts := receive(self.snapshots)) is not None:
            if not isinstance(_decoded(parts), SnapshotRequest):
                malformed += 1
                continue
            envelope = StateEnvelope(epoch=self._epoch, sequence=self.sequence, body=self._full_state())
            try_send(self.snapshots, [parts[0], encode(envelope)])
        return malformed

    def close(self) -> None:
        """Close both sockets."""
        self._changes.close()
        self.snapshots.close()


class StateSubscriber:
    """The following end of a state. `register` it with a poller, poll, then call `receive`."""

    def __init__(self, context: zmq.Context[Any], endpoint: str, snapshot_endpoint: str) -> None:
        """Connect both sockets, subscription first."""
        self.changes = connected(context, zmq.SUB, endpoint, STATE_MESSAGES)
        # one request waits for a publisher that is yet to come, so that its first act is to answer it
        self.snapshots = connected(context, zmq.DEALER, snapshot_endpoint, 1, queue_for_absent=True)
        self.tracker = CloneTracker()
        self.malformed = 0

    def receive(self, now: float) -> list[State]:
        """Return the states to apply now, in order, and ask for a snapshot where one is needed."""
        states: list[State] = []
        while (envelope := self._next(self.snapshots)) is not None:
            if self.tracker.on_snapshot(envelope, now) == "apply" and envelope.body is not None:
                states.append(envelope.body)
        # Without a snapshot, changes stay in the socket's queue: the one behind the snapshot must not get lost.
        while self.tracker.synchronised and (envelope := self._next(self.changes)) is not None:
            if self.tracker.on_publication(envelope, now) == "apply" and envelope.body is not None:
                states.append(envelope.body)
        if self.tracker.should_ask(now):
            try_send(self.snapshots, [encode(SnapshotRequest())])
        return states

    def register(self, poller: zmq.Poller) -> None:
        """Let a poller wake up for what `receive` would take now; to be called before each poll.

        Changes stay in their queue while no snapshot is there: a poller that looked at them would never sleep.
        """
        poller.register(self.snapshots, zmq.POLLIN)
        poller.register(self.changes, zmq.POLLIN if self.tracker.synchronised else 0)

    def _next(self, socket: zmq.Socket[Any]) -> StateEnvelope | None:
        while (parts := receive(socket)) is not None:
            message = _decoded(parts)
            if isinstance(message, StateEnvelope):
                return message
            self.malformed += 1
        return None

    def close(self) -> None:
        """Close both sockets."""
        self.changes.close()
        self.snapshots.close()


class RpcRefusedError(Exception):
    """A request that was understood and not carried out; becomes the reply's error."""

    def __init__(self, error: RpcError) -> None:
        super().__init__(error.message)
        self.error = error


RpcHandler = Callable[[str, dict[str, Any]], Any]


class RpcServer:
    """Answers requests on a ROUTER socket. Poll `socket`, then call `serve`."""

    def __init__(
        self,
        context: zmq.Context[Any],
        endpoint: str,
        handler: RpcHandler,
        protect: Protect | None = None,
        replies: ReplyMemory | None = None,
    ) -> None:
        """Bind; `handler(method, params)` returns the result or raises `RpcRefusedError`."""
        self.socket = bound(context, zmq.ROUTER, endpoint, protect=protect)
        self._handler = handler
        self._replies = ReplyMemory() if replies is None else replies

    def serve(self) -> int:
        """Answer all waiting requests; return how many messages were malformed."""
        malformed = 0
        while (parts := receive(self.socket)) is not None:
            request = _decoded(parts)
            if isinstance(request, RpcRequest):
                try_send(self.socket, [parts[0], self._reply(parts[0], request)])
            else:
                malformed += 1
        return malformed

    def _reply(self, peer: bytes, request: RpcRequest) -> bytes:
        """Return the answer: what was answered already to the same question, else what comes of carrying it out."""
        try:
            known = self._replies.find(peer, request)
        except ReusedIdError:
            message = f"id {request.id} was that of another request; choose one for each"
            return encode(RpcReply(id=request.id, error=RpcError(code="usage", message=message)))
        if known is not None:
            return known
        if request.deadline is not None and time.time() > request.deadline:
            message = "its deadline had passed when it came; nothing was done"
            return encode(RpcReply(id=request.id, error=RpcError(code="expired", message=message)))
        try:
            reply = RpcReply(id=request.id, result=self._handler(request.method, request.params))
        except RpcRefusedError as refused:
            reply = RpcReply(id=request.id, error=refused.error)
        encoded = encode(reply)
        if reply.error is None or reply.error.code != "unavailable":  # which another attempt may mend
            self._replies.keep(peer, request, encoded)
        return encoded

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()


class RpcClient:
    """Asks one service, one question at a time."""

    def __init__(self, context: zmq.Context[Any], endpoint: str, protect: Protect | None = None) -> None:
        self._socket = connected(context, zmq.DEALER, endpoint, protect=protect)
        self._next_id = 0
        self._name = os.urandom(_NAME_BYTES).hex()
        self._shares_clock = endpoint.startswith("ipc:")

    def call(self, method: str, params: dict[str, Any] | None = None, timeout_s: float = 2.0) -> Any:
        """Return the result of a request, which is sent again now and then, and carried out once.

        :raises RpcRefusedError: the service's own error, or `unavailable` when it does not answer in time.
        """
        self._next_id += 1
        request = encode(
            RpcRequest(
                id=self._next_id,
                method=method,
                params=params or {},
                client=self._name,
                deadline=time.time() + timeout_s if self._shares_clock else None,
            )
        )
        deadline = time.monotonic() + timeout_s
        send_at = float("-inf")
        while (left_s := deadline - (now := time.monotonic())) > 0:
            sent = now < send_at + RESEND_S
            wait_ms = int(min(left_s, send_at + RESEND_S - now if sent else left_s) * 1000) + 1
            if not self._socket.poll(wait_ms, zmq.POLLIN if sent else zmq.POLLIN | zmq.POLLOUT):
                continue
            if (parts := receive(self._socket)) is None:
                if try_send(self._socket, [request]):
                    send_at = time.monotonic()
                continue
            reply = _decoded(parts)
            if not isinstance(reply, RpcReply) or reply.id != self._next_id:
                continue
            if reply.error is not None:
                raise RpcRefusedError(reply.error)
            return reply.result
        raise RpcRefusedError(RpcError(code="unavailable", message=f"no answer within {timeout_s:g} s"))

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
