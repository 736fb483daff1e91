"""Locks, sending without waiting, and RPC, over real sockets in a run directory of the test's own."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

from services.common.bus import (
    FRAME_BATCHES,
    RpcClient,
    RpcRefusedError,
    RpcServer,
    also_listen,
    bound,
    connected,
    hold_instance,
    receive,
    try_send,
)
from services.common.endpoints import Endpoints
from services.common.errors import HopwireError
from services.common.messages import RpcError, RpcReply, RpcRequest, SnapshotRequest, decode, encode

LIMIT_S = 30.0
LIMIT_MS = int(LIMIT_S * 1000)


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    context: zmq.Context[Any] = zmq.Context()
    yield context
    context.destroy(linger=0)


@pytest.fixture
def endpoints(tmp_path: Path) -> Endpoints:
    return Endpoints(tmp_path)


def wait_for(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not look():
        assert time.monotonic() < deadline, "not within the limit"
        time.sleep(0.002)


# --- locks ------------------------------------------------------------------------------------------------------------

HOLDER = """
import sys, time
from pathlib import Path
from services.common.bus import hold_instance
from services.common.endpoints import Endpoints
lock = hold_instance(Endpoints(Path(sys.argv[1])), "arp")
print("held", flush=True)
time.sleep(600)
"""


@contextmanager
def holder(run_dir: Path) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(run_dir)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_a_second_holder_gets_one_line_that_names_the_first(endpoints: Endpoints) -> None:
    with holder(endpoints.run_dir) as first, pytest.raises(HopwireError) as caught:
        hold_instance(endpoints, "arp")
    assert caught.value.message == (
        f"arp already runs on {endpoints.run_dir} (process {first.pid}); stop it, or choose another --run-dir"
    )


def test_a_killed_holder_frees_the_name(endpoints: Endpoints) -> None:
    with holder(endpoints.run_dir) as first:
        first.send_signal(signal.SIGKILL)
        first.wait(LIMIT_S)
        with hold_instance(endpoints, "arp"):
            assert endpoints.lock("arp").read_text() == str(os.getpid())


def test_names_and_run_directories_do_not_hinder_each_other(endpoints: Endpoints, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with (
        hold_instance(endpoints, "ingress-eth0"),
        hold_instance(endpoints, "ingress-eth1"),
        hold_instance(Endpoints(tmp_path / "other"), "ingress-eth0"),
        pytest.raises(HopwireError, match="ingress-eth0 already runs"),
    ):
        hold_instance(endpoints, "ingress-eth0")


def test_a_run_directory_that_is_gone(endpoints: Endpoints) -> None:
    with pytest.raises(HopwireError, match=r"run directory .*/gone: No such file or directory"):
        hold_instance(Endpoints(endpoints.run_dir / "gone"), "arp")


# --- sending ----------------------------------------------------------------------------------------------------------


def test_a_push_without_a_peer_fails_at_once_and_queues_nothing(
    context: zmq.Context[Any], endpoints: Endpoints
) -> None:
    push = connected(context, zmq.PUSH, endpoints.arp_frames)
    assert not try_send(push, [b"too early"])
    pull = bound(context, zmq.PULL, endpoints.arp_frames)
    wait_for(lambda: try_send(push, [b"header", b"body"]))
    assert pull.poll(LIMIT_MS)
    assert receive(pull) == [b"header", b"body"]


def test_a_full_queue_fails_at_once(context: zmq.Context[Any], endpoints: Endpoints) -> None:
    push = connected(context, zmq.PUSH, endpoints.arp_frames)
    pull = bound(context, zmq.PULL, endpoints.arp_frames)
    batch = bytes(1 << 20)
    sent = 0
    wait_for(lambda: try_send(push, [batch]))
    while try_send(push, [batch]):
        sent += 1
        assert sent < 20 * FRAME_BATCHES, "it queues without a bound"
    for _ in range(sent + 1):
        assert pull.poll(LIMIT_MS)
        assert receive(pull) == [batch]
    wait_for(lambda: try_send(push, [batch]))


def test_nothing_to_receive(context: zmq.Context[Any], endpoints: Endpoints) -> None:
    assert receive(bound(context, zmq.PULL, endpoints.arp_frames)) is None


def test_where_nobody_can_listen(context: zmq.Context[Any], endpoints: Endpoints) -> None:
    gone = Endpoints(endpoints.run_dir / "gone")
    with pytest.raises(HopwireError, match=r"cannot listen on ipc://.*arp-frames\.sock: .*check the run directory"):
        bound(context, zmq.PULL, gone.arp_frames)


@pytest.mark.parametrize("endpoint", ["127.0.0.1:7001", "tcp://127.0.0.1", "xyz://a"])
def test_a_malformed_endpoint(context: zmq.Context[Any], endpoints: Endpoints, endpoint: str) -> None:
    pull = bound(context, zmq.PULL, endpoints.arp_frames)
    with pytest.raises(HopwireError, match=r"cannot listen on .*give an endpoint such as tcp://"):
        also_listen(pull, endpoint)
    with pytest.raises(HopwireError, match=r"cannot connect to .*give an endpoint such as tcp://"):
        connected(context, zmq.PUSH, endpoint)


def test_one_more_endpoint(context: zmq.Context[Any], endpoints: Endpoints) -> None:
    pull = bound(context, zmq.PULL, endpoints.arp_frames)
    also_listen(pull, "tcp://127.0.0.1:*")
    push = connected(context, zmq.PUSH, pull.get_string(zmq.LAST_ENDPOINT))
    wait_for(lambda: try_send(push, [b"from afar"]))
    assert pull.poll(LIMIT_MS)
    assert receive(pull) == [b"from afar"]


# --- RPC --------------------------------------------------------------------------------------------------------------


class Answering:
    """A server that answers in a thread of its own until the test is over."""

    def __init__(self, context: zmq.Context[Any], endpoint: str) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.malformed = 0
        self._server = RpcServer(context, endpoint, self._answer)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _answer(self, method: str, params: dict[str, Any]) -> Any:
        self.asked.append((method, params))
        if method == "echo":
            return params
        if method == "refuse":
            raise RpcRefusedError(RpcError(code="refused", message="File exists: 10.2.0.0/16"))
        raise RpcRefusedError(RpcError(code="unknown-method", message=f"no method {method}"))

    def _serve(self) -> None:
        while not self._over.is_set():
            if self._server.socket.poll(10):
                self.malformed += self._server.serve()
        self._server.close()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()


@contextmanager
def answering(context: zmq.Context[Any], endpoint: str) -> Iterator[Answering]:
    server = Answering(context, endpoint)
    try:
        yield server
    finally:
        server.stop()


def test_a_result(context: zmq.Context[Any], endpoints: Endpoints) -> None:
    client = RpcClient(context, endpoints.control_rpc)
    with answering(context, endpoints.control_rpc):
        assert client.call("echo", {"dst": "10.0.0.1", "list": [1, None]}, LIMIT_S) == {
            "dst": "10.0.0.1",
            "list": [1, None],
        }
        assert client.call("echo", timeout_s=LIMIT_S) == {}


@pytest.mark.parametrize(("method", "code"), [("refuse", "refused"), ("fly", "unknown-method")])
def test_the_services_own_error(context: zmq.Context[Any], endpoints: Endpoints, method: str, code: str) -> None:
    client = RpcClient(context, endpoints.control_rpc)
    with answering(context, endpoints.control_rpc), pytest.raises(RpcRefusedError) as caught:
        client.call(method, timeout_s=LIMIT_S)
    assert caught.value.error.code == code


def test_nobody_there_however_often_asked(context: zmq.Context[Any], endpoints: Endpoints) -> None:
    client = RpcClient(context, endpoints.control_rpc)
    for _ in range(2 * FRAME_BATCHES):
        with pytest.raises(RpcRefusedError, match=r"no answer within 0\.002 s") as caught:
            client.call("echo", timeout_s=0.002)
        assert caught.value.error.code == "unavailable"


def test_what_nobody_answered_is_not_carried_out_later(context: zmq.Context[Any], endpoints: Endpoints) -> None:
    client = RpcClient(context, endpoints.control_rpc)
    with pytest.raises(RpcRefusedError):
        client.call("echo", {"number": 1}, timeout_s=0.01)
    with answering(context, endpoints.control_rpc) as server:
        assert client.call("echo", {"number": 2}, LIMIT_S) == {"number": 2}
        assert server.asked == [("echo", {"number": 2})]


def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_one(
    context: zmq.Context[Any], endpoints: Endpoints
) -> None:
    router = bound(context, zmq.ROUTER, endpoints.control_rpc)
    client = RpcClient(context, endpoints.control_rpc)
    results: list[Any] = []

    def ask() -> None:
        results.append(client.call("connect", timeout_s=LIMIT_S))
        with pytest.raises(RpcRefusedError, match="no answer"):
            client.call("first", timeout_s=0.05)
        results.append(client.call("second", timeout_s=LIMIT_S))

    asking = threading.Thread(target=ask)
    asking.start()
    peer, connect = router.recv_multipart()
    router.send_multipart([peer, encode(RpcReply(id=decode(connect).id, result="connected"))])
    (_, first), (_, second) = router.recv_multipart(), router.recv_multipart()
    router.send_multipart([peer, b"no message"])
    router.send_multipart([peer, encode(RpcReply(id=decode(first).id, result="late"))])
    router.send_multipart([peer, encode(RpcReply(id=decode(second).id, result="in time"))])
    asking.join(LIMIT_S)
    assert results == ["connected", "in time"]


def test_malformed_requests_are_counted_and_the_next_is_answered(
    context: zmq.Context[Any], endpoints: Endpoints
) -> None:
    dealer = connected(context, zmq.DEALER, endpoints.control_rpc)
    with answering(context, endpoints.control_rpc) as server:
        huge_id = b"\x01" + msgpack.packb({"kind": "rpc-request", "id": "9" * 30, "method": "echo"})
        for malformed in ([b""], [b"\x01\x81\x90\x01"], [huge_id], [encode(SnapshotRequest())]):
            wait_for(lambda parts=malformed: try_send(dealer, parts))  # type: ignore[misc]
        client = RpcClient(context, endpoints.control_rpc)
        assert client.call("echo", timeout_s=LIMIT_S) == {}
        wait_for(lambda: server.malformed == 4)
        assert [method for method, _ in server.asked] == ["echo"]


def test_a_client_that_left_before_the_answer_harms_nobody(context: zmq.Context[Any], endpoints: Endpoints) -> None:
    with answering(context, endpoints.control_rpc) as server:
        for number in range(5):
            dealer = connected(context, zmq.DEALER, endpoints.control_rpc)
            request = encode(RpcRequest(id=number, method="echo"))
            wait_for(lambda dealer=dealer, request=request: try_send(dealer, [request]))  # type: ignore[misc]
            wait_for(lambda number=number: len(server.asked) > number)  # type: ignore[misc]
            dealer.close()
        assert RpcClient(context, endpoints.control_rpc).call("echo", timeout_s=LIMIT_S) == {}


def test_a_question_that_comes_twice_is_carried_out_once(context: zmq.Context[Any], endpoints: Endpoints) -> None:
    first, second = (connected(context, zmq.DEALER, endpoints.control_rpc) for _ in range(2))
    question = [encode(RpcRequest(id=7, method="echo", params={"number": 1}, client="me"))]
    with answering(context, endpoints.control_rpc) as server:
        for dealer in (first, second, second):
            wait_for(lambda dealer=dealer: try_send(dealer, question))  # type: ignore[misc]
            assert dealer.poll(LIMIT_MS)
            assert decode(dealer.recv()) == RpcReply(id=7, result={"number": 1})
        assert server.asked == [("echo", {"number": 1})]
        first.send(encode(RpcRequest(id=7, method="echo", params={"number": 2}, client="me")))
        reply = decode(first.recv())
        assert (reply.id, reply.error.code) == (7, "usage")
        assert reply.error.message == "id 7 was that of another request; choose one for each"
        assert len(server.asked) == 1


def test_what_may_be_mended_by_asking_again_is_not_kept(context: zmq.Context[Any], endpoints: Endpoints) -> None:
    answers = [RpcError(code="unavailable", message="not yet"), RpcError(code="refused", message="no")]

    def answer(_method: str, _params: dict[str, Any]) -> Any:
        raise RpcRefusedError(answers.pop(0))

    server = RpcServer(context, endpoints.control_rpc, answer)
    dealer = connected(context, zmq.DEALER, endpoints.control_rpc)
    codes = []
    for _ in range(3):
        wait_for(lambda: try_send(dealer, [encode(RpcRequest(id=1, method="x"))]))
        assert server.socket.poll(LIMIT_MS)
        server.serve()
        codes.append(decode(dealer.recv()).error.code)
    assert codes == ["unavailable", "refused", "refused"]


def test_what_comes_after_its_deadline_is_not_carried_out(context: zmq.Context[Any], endpoints: Endpoints) -> None:
    dealer = connected(context, zmq.DEALER, endpoints.control_rpc)
    with answering(context, endpoints.control_rpc) as server:
        for number, deadline in ((1, time.time() - 0.001), (2, time.time() + LIMIT_S)):
            request = encode(RpcRequest(id=number, method="echo", deadline=deadline))
            wait_for(lambda request=request: try_send(dealer, [request]))  # type: ignore[misc]
        expired, answered = decode(dealer.recv()), decode(dealer.recv())
        assert (expired.id, expired.error.code) == (1, "expired")
        assert answered == RpcReply(id=2, result={})
        assert len(server.asked) == 1


def test_a_question_is_asked_again_of_a_server_that_started_anew(
    context: zmq.Context[Any], endpoints: Endpoints
) -> None:
    results: list[Any] = []
    client = RpcClient(context, endpoints.control_rpc)
    asking = threading.Thread(target=lambda: results.append(client.call("echo", {"number": 1}, LIMIT_S)))
    with zmq.Context() as first_run:  # which at its end has let go of the socket's file
        router = bound(first_run, zmq.ROUTER, endpoints.control_rpc)
        asking.start()
        assert router.poll(LIMIT_MS)
        lost = decode(router.recv_multipart()[1])
        router.close()
    assert lost.deadline == pytest.approx(time.time() + LIMIT_S, abs=LIMIT_S)
    with answering(context, endpoints.control_rpc) as server:
        asking.join(LIMIT_S)
        assert results == [{"number": 1}]
        assert server.asked == [("echo", {"number": 1})]
