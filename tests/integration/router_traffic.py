"""Traffic of the tests: single frames on a node's wire, pings under way, a TCP connection under way."""

import errno
import hashlib
import random
import re
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, NamedTuple, Self

from router_lab import inside, wait_for

from services.common import netns
from services.launcher.lab.lab import Lab

_ETH_P_ALL: Final = 3  # linux/if_ether.h
_SOL_PACKET: Final = 263  # linux/socket.h
_PACKET_VNET_HDR: Final = 15  # linux/if_packet.h
_PACKET_IGNORE_OUTGOING: Final = 23
_SO_RCVBUFFORCE: Final = 33  # asm-generic/socket.h
_SO_MAX_PACING_RATE: Final = 47
_RECEIVE_BUFFER_BYTES: Final = 16 << 20
PLAIN: Final = bytes(10)
"""struct virtio_net_hdr of a frame without offloads."""
_ANY_FRAME_BYTES: Final = 70_000


class Heard(NamedTuple):
    """A frame from a wire, and the virtio header that came before it."""

    header: bytes
    frame: bytes


class Wire:
    """A packet socket on a node's interface: sends any frame, hears every frame that comes."""

    def __init__(self, lab: Lab, node: str, interface: str = "eth0") -> None:
        with netns.inside(lab.namespace(node)):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
            self._socket.bind((interface, _ETH_P_ALL))
        self._socket.setblocking(False)
        self.mac: str = self._socket.getsockname()[4].hex(":")
        self.heard: list[Heard] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._socket.close()

    def send(self, frame: bytes, header: bytes = PLAIN) -> None:
        """Send a frame behind a virtio header; waits for room where the queue is full."""
        wait_for("room in the transmit queue", lambda: self._try_send(header + frame))

    def try_send(self, frame: bytes, header: bytes = PLAIN) -> bool:
        """Do the same with a frame that the host's own kernel may refuse; tell whether it did not."""
        try:
            self.send(frame, header)
        except OSError:
            return False
        return True

    def _try_send(self, data: bytes) -> bool:
        try:
            self._socket.send(data)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            return False
        return True

    def listen(self, wanted: Callable[[bytes], bool] = lambda _frame: True) -> list[Heard]:
        """Take in what has come, and return all that was ever heard of a kind."""
        while True:
            try:
                data = self._socket.recv(_ANY_FRAME_BYTES)
            except BlockingIOError:
                return [heard for heard in self.heard if wanted(heard.frame)]
            self.heard.append(Heard(data[: len(PLAIN)], data[len(PLAIN) :]))

    def wait_to_hear(self, what: str, wanted: Callable[[bytes], bool], count: int = 1) -> list[Heard]:
        """Wait for so many frames of a kind and return those."""
        return wait_for(what, lambda: heard if len(heard := self.listen(wanted)) >= count else None)


class Pinger:
    """Pings from one host to another until it is told to stop; `replies` are the numbers of those answered."""

    def __init__(self, lab: Lab, host: str, destination: str, interval_s: float = 0.05) -> None:
        self._lab = lab
        self._output = tempfile.NamedTemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed by __exit__
        options = ["--count", "1000000", "--interval", str(interval_s)]
        command = [sys.executable, "-m", "services.launcher.probes.ping", destination, *options]
        self._process = lab.popen(host, command, stdout=self._output.file, stderr=subprocess.STDOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._lab.end(self._process)
        self._output.close()

    @property
    def replies(self) -> list[int]:
        text = Path(self._output.name).read_text(encoding="utf-8")
        return [int(number) for number in re.findall(r"^reply to (\d+):", text, re.MULTILINE)]

    def wait_for_replies(self, more: int) -> None:
        """Wait for so many answers more than there are now."""
        wanted = len(self.replies) + more
        wait_for(f"{more} more pings are answered", lambda: len(self.replies) >= wanted, 30.0)

    def lost(self) -> int:
        """Return how many requests before the last one that was answered got no answer."""
        return max(self.replies) - len(set(self.replies))


class Stream:
    """A TCP connection from one host to another that carries random bytes until `finish`."""

    _PORT: Final = 5002
    _BLOCK_BYTES: Final = 1 << 16

    def __init__(self, lab: Lab, sender: str, receiver: str, address: IPv4Address, bytes_per_s: int) -> None:
        self._server = inside(lab, receiver, lambda: socket.create_server((str(address), self._PORT)))
        self._client = inside(lab, sender, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        self._client.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, bytes_per_s)
        for end in (self._server, self._client):
            end.settimeout(30.0)
        self._client.connect((str(address), self._PORT))
        self._stop = threading.Event()
        self._sent, self._received = hashlib.sha256(), hashlib.sha256()
        self.sent_bytes = self.received_bytes = 0
        self._errors: list[OSError] = []
        self._threads = [threading.Thread(target=self._guarded, args=(work,)) for work in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._server.close()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except OSError as error:
            self._errors.append(error)

    def _send(self) -> None:
        source = random.Random(self._PORT)
        with self._client as client:
            while not self._stop.is_set():
                block = source.randbytes(self._BLOCK_BYTES)
                client.sendall(block)
                self._sent.update(block)
                self.sent_bytes += len(block)

    def _receive(self) -> None:
        connection, _peer = self._server.accept()
        with connection:
            connection.settimeout(30.0)
            while block := connection.recv(self._BLOCK_BYTES):
                self._received.update(block)
                self.received_bytes += len(block)

    def wait_for_bytes(self, more: int) -> None:
        """Wait until so many bytes more have arrived, or the connection breaks."""
        wanted = self.received_bytes + more
        wait_for(f"{more} more bytes", lambda: self.received_bytes >= wanted or self._errors, 30.0)
        assert self._errors == []

    def finish(self) -> int:
        """End the connection; what came must be what was sent. Return the number of bytes."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        assert self._errors == []
        assert (self.received_bytes, self._received.digest()) == (self.sent_bytes, self._sent.digest())
        return self.received_bytes
