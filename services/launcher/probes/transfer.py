"""A TCP transfer whose content is checked: the receiver's SHA-256 must be the one of what the sender meant to send.

The server takes one transfer and ends. On the connection: the client says how many bytes will come (8 bytes, big
endian), the server makes room and answers with one byte, the client sends the bytes, the server answers with its
verdict. The time is the server's, from its answer to the last byte. What fits into `HELD_BYTES` is kept and hashed
afterwards, so that the hash costs no throughput; a longer transfer is hashed in pieces of that size on the way.
"""

import argparse
import hashlib
import json
import random
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address
from typing import Final, TypedDict

from services.common.errors import HopwireError
from services.launcher.probes import command

DEFAULT_PORT: Final = 5001
HELD_BYTES: Final = 256 << 20
_BLOCK_BYTES: Final = 1 << 20
_MAX_BYTES: Final = 1 << 40
_PAGE_BYTES: Final = 4096
_GO: Final = b"\x06"  # ASCII ACK
_SIZE = struct.Struct("!Q")
_VERDICT = struct.Struct("!QQ32s")  # bytes received, nanoseconds, SHA-256


class TransferReport(TypedDict):
    """What came of a transfer. `gbit_per_s` counts the payload; `intact` compares digests and sizes."""

    bytes: int
    seconds: float
    gbit_per_s: float
    sent_sha256: str
    received_sha256: str
    intact: bool


class Listening(TypedDict):
    """Where a server waits for its client."""

    address: str
    port: int


class ReceivedReport(TypedDict):
    """What a server received."""

    bytes: int
    seconds: float
    received_sha256: str


def pattern(size: int) -> Iterator[bytearray]:
    """Yield `size` reproducible bytes in blocks of 1 MiB: a random block whose first 8 bytes count.

    Each block is the same object, changed.
    """
    block = bytearray(random.Random(_BLOCK_BYTES).randbytes(_BLOCK_BYTES))
    for index in range(size // _BLOCK_BYTES):
        _SIZE.pack_into(block, 0, index)
        yield block
    if size % _BLOCK_BYTES:
        _SIZE.pack_into(block, 0, size // _BLOCK_BYTES)
        yield block[: size % _BLOCK_BYTES]


def pattern_digest(size: int) -> bytes:
    """Return the SHA-256 of `pattern(size)`."""
    digest = hashlib.sha256()
    for block in pattern(size):
        digest.update(block)
    return digest.digest()


def receive(connection: socket.socket, size: int, ready: Callable[[], None]) -> tuple[int, int, bytes]:
    """Receive up to `size` bytes; return how many came, in how many nanoseconds, and their SHA-256.

    `ready` is called when there is room for them; the clock starts then.
    """
    room = bytearray(min(size, HELD_BYTES))
    room[::_PAGE_BYTES] = bytes(len(range(0, len(room), _PAGE_BYTES)))  # so that no page fault is measured
    view = memoryview(room)
    digest = hashlib.sha256()
    total = filled = 0
    ready()
    started_ns = time.monotonic_ns()
    while total < size:
        if filled == len(room):
            digest.update(view)
            filled = 0
        count = connection.recv_into(view[filled:], min(len(room) - filled, size - total))
        if count == 0:
            break
        filled += count
        total += count
    elapsed_ns = time.monotonic_ns() - started_ns
    digest.update(view[:filled])
    return total, elapsed_ns, digest.digest()


def serve(address: IPv4Address, port: int, timeout_s: float, listening: Callable[[Listening], None]) -> ReceivedReport:
    """Wait for one client, take its transfer, tell it what came, and return the same.

    :raises HopwireError: no client came in time, or it was none of ours.
    """
    with socket.create_server((str(address), port)) as server:
        server.settimeout(timeout_s)
        listening(Listening(address=str(address), port=server.getsockname()[1]))
        try:
            connection, _peer = server.accept()
        except TimeoutError as error:
            raise HopwireError(f"no client came to {address} port {port} within {timeout_s:.0f} s") from error
    with connection:
        connection.settimeout(timeout_s)
        (size,) = _SIZE.unpack(_read(connection, _SIZE.size))
        if size > _MAX_BYTES:
            raise HopwireError(f"a client announced {size} bytes, more than {_MAX_BYTES}: it is none of ours")
        total, elapsed_ns, digest = receive(connection, size, lambda: connection.sendall(_GO))
        connection.sendall(_VERDICT.pack(total, elapsed_ns, digest))
    return ReceivedReport(bytes=total, seconds=elapsed_ns / 1e9, received_sha256=digest.hex())


def send(address: IPv4Address, port: int, size: int, timeout_s: float) -> TransferReport:
    """Send the pattern to a server and return how it went.

    :raises HopwireError: there is no connection, or it ends or stalls before the server's verdict.
    """
    expected = pattern_digest(size)
    try:
        with socket.create_connection((str(address), port), timeout=timeout_s) as connection:
            connection.sendall(_SIZE.pack(size))
            _read(connection, len(_GO))
            for block in pattern(size):
                connection.sendall(block)
            total, elapsed_ns, digest = _VERDICT.unpack(_read(connection, _VERDICT.size))
    except OSError as error:
        raise HopwireError(f"the transfer to {address} port {port} failed: {error}") from error
    return TransferReport(
        bytes=total,
        seconds=elapsed_ns / 1e9,
        gbit_per_s=total * 8 / max(1, elapsed_ns),
        sent_sha256=expected.hex(),
        received_sha256=digest.hex(),
        intact=digest == expected and total == size,
    )


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise HopwireError(f"the other side closed the connection after {len(data)} of {size} bytes of a message")
        data += part
    return data


def summary(report: TransferReport) -> str:
    """Return a report in one line for people."""
    verdict = "SHA-256 equal" if report["intact"] else "SHA-256 DIFFERENT"
    size_mb = report["bytes"] / 1e6
    return f"{size_mb:.1f} MB in {report['seconds']:.3f} s, {report['gbit_per_s']:.2f} Gbit/s, {verdict}"


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command.parser("transfer", "Move bytes over TCP and compare. Exit status 0 if they arrived intact.")
    parser.add_argument("-p", "--port", type=command.integer(0, 65_535), default=DEFAULT_PORT, help="TCP port (5001)")
    parser.add_argument(
        "-W", "--timeout", type=command.seconds, default=30.0, help="seconds without progress before it fails (30)"
    )
    parser.add_argument(
        "-n", "--bytes", type=command.integer(1, _MAX_BYTES), default=100_000_000, help="bytes to send (100000000)"
    )
    parser.add_argument("role", choices=("server", "client"), help="take one transfer, or send one")
    parser.add_argument("address", type=command.address, help="the server's IPv4 address")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status. A server prints first where it listens, then what came."""
    arguments = _arguments(argv)

    def listening(where: Listening) -> None:
        text = json.dumps(where) if arguments.json else f"listening on {where['address']} port {where['port']}"
        print(text, flush=True)

    def server() -> int:
        received = serve(arguments.address, arguments.port, arguments.timeout, listening)
        line = f"{received['bytes']} bytes in {received['seconds']:.3f} s, SHA-256 {received['received_sha256']}"
        print(json.dumps(received) if arguments.json else line)
        return 0

    def client() -> int:
        report = send(arguments.address, arguments.port, arguments.bytes, arguments.timeout)
        print(json.dumps(report) if arguments.json else summary(report))
        return 0 if report["intact"] else 1

    return command.run("transfer", arguments.netns, server if arguments.role == "server" else client)


if __name__ == "__main__":
    sys.exit(main())
