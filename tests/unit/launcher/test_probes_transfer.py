"""The checked TCP transfer over sockets of this process."""

import hashlib
import socket
import struct
import threading
from collections.abc import Callable
from ipaddress import IPv4Address

import pytest

from services.common.errors import HopwireError
from services.launcher.probes import transfer
from services.launcher.probes.transfer import Listening, pattern, pattern_digest, receive, send, serve

LOOPBACK = IPv4Address("127.0.0.1")
MIB = 1 << 20


def pattern_bytes(size: int) -> bytes:
    return b"".join(bytes(block) for block in pattern(size))


class TestPattern:
    @pytest.mark.parametrize("size", [1, 7, 8, MIB - 1, MIB, MIB + 1, 3 * MIB])
    def test_has_its_size(self, size: int) -> None:
        assert len(pattern_bytes(size)) == size

    def test_blocks_differ_in_their_counter_alone(self) -> None:
        data = pattern_bytes(2 * MIB + 10)
        assert data[:8] == bytes(8)
        assert data[MIB : MIB + 8] == bytes.fromhex("0000000000000001")
        assert data[2 * MIB :] == bytes.fromhex("0000000000000002") + data[8:10]
        assert data[8:MIB] == data[MIB + 8 : 2 * MIB]
        assert len(set(data[8:MIB])) == 256

    def test_digest(self) -> None:
        # printf '\0\0\0\0\0\0\0\0' | sha256sum
        assert pattern_digest(8).hex() == "af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc"
        assert pattern_digest(MIB + 3) == hashlib.sha256(pattern_bytes(MIB + 3)).digest()


class TestReceive:
    @pytest.mark.parametrize("held", [transfer.HELD_BYTES, 1000, 1])
    def test_digest_however_much_is_held(self, monkeypatch: pytest.MonkeyPatch, held: int) -> None:
        monkeypatch.setattr(transfer, "HELD_BYTES", held)
        left, right = socket.socketpair()
        data = bytes(range(256)) * 10
        with left, right:
            left.sendall(data + b"beyond")
            total, _elapsed_ns, digest = receive(right, len(data), lambda: None)
        assert (total, digest) == (len(data), hashlib.sha256(data).digest())

    def test_end_before_the_size(self) -> None:
        left, right = socket.socketpair()
        with right:
            with left:
                left.sendall(b"abc")
            total, _elapsed_ns, digest = receive(right, 1000, lambda: None)
        assert (total, digest) == (3, hashlib.sha256(b"abc").digest())


class Server:
    """Runs `serve` in a thread; `port` is known on entry, the result after exit."""

    def __init__(self) -> None:
        self.result: transfer.ReceivedReport | None = None
        self.error: HopwireError | None = None
        self._where: Listening | None = None
        self._listens = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.result = serve(LOOPBACK, 0, 10.0, self._listening)
        except HopwireError as error:
            self.error = error

    def _listening(self, where: Listening) -> None:
        self._where = where
        self._listens.set()

    def __enter__(self) -> int:
        self._thread.start()
        assert self._listens.wait(10)
        assert self._where is not None
        return self._where["port"]

    def __exit__(self, *_exception: object) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()


@pytest.mark.parametrize("size", [1, 5 * MIB + 123])
def test_transfer(size: int) -> None:
    server = Server()
    with server as port:
        report = send(LOOPBACK, port, size, 10.0)
    assert report["intact"]
    assert report["bytes"] == size
    assert report["sent_sha256"] == report["received_sha256"] == hashlib.sha256(pattern_bytes(size)).hexdigest()
    assert report["gbit_per_s"] == pytest.approx(size * 8 / report["seconds"] / 1e9)
    assert server.result is not None
    assert server.result["received_sha256"] == report["sent_sha256"]


def corrupt_verdict(received: bytes) -> bytes:
    changed = bytes((received[0] ^ 1,)) + received[1:]
    return struct.pack("!QQ32s", len(received), 1000, hashlib.sha256(changed).digest())


def short_verdict(received: bytes) -> bytes:
    return struct.pack("!QQ32s", len(received) - 1, 1000, hashlib.sha256(received).digest())


@pytest.mark.parametrize("verdict", [corrupt_verdict, short_verdict])
def test_other_bytes_are_not_intact(verdict: Callable[[bytes], bytes]) -> None:
    size = 1000
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve_badly() -> None:
            connection, _peer = listener.accept()
            with connection:
                assert struct.unpack("!Q", connection.recv(8)) == (size,)
                connection.sendall(b"\x06")
                data = b""
                while len(data) < size:
                    data += connection.recv(size)
                connection.sendall(verdict(data))

        thread = threading.Thread(target=serve_badly)
        thread.start()
        report = send(LOOPBACK, listener.getsockname()[1], size, 10.0)
        thread.join(10)
    assert report["intact"] is False
    assert "DIFFERENT" in transfer.summary(report)


def test_server_that_vanishes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def vanish() -> None:
            connection, _peer = listener.accept()
            connection.close()

        thread = threading.Thread(target=vanish)
        thread.start()
        with pytest.raises(HopwireError, match=r"closed the connection|failed"):
            send(LOOPBACK, listener.getsockname()[1], 1000, 10.0)
        thread.join(10)


def test_no_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(HopwireError, match=f"the transfer to 127.0.0.1 port {port} failed: .*refused"):
        send(LOOPBACK, port, 1000, 10.0)


def test_client_of_another_kind() -> None:
    server = Server()
    with server as port, socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\n")
    assert server.error is not None
    assert "none of ours" in server.error.message


def test_no_client() -> None:
    with pytest.raises(HopwireError, match=r"no client came to 127\.0\.0\.1 port 0 within 0 s"):
        serve(LOOPBACK, 0, 0.01, lambda _where: None)
