"""What the launcher and its fork server say to each other, over a Unix socket that keeps messages apart.

The server says which services it has loaded; the launcher orders instances of those; the server answers each order.
Both are one program at two ends of a socket pair that nobody else can reach, so what is malformed is a fault of ours.
"""

import json
import socket
from dataclasses import asdict, dataclass
from typing import Final

_MAX_BYTES: Final = 1 << 16
"""Of one message: more than the longest command line that the launcher makes."""


@dataclass(frozen=True)
class Loaded:
    """From the server: a service's package (`services.arp`) is imported, and can be ordered."""

    package: str


@dataclass(frozen=True)
class Order:
    """To the server: run a package as `python -m` does, as this instance."""

    instance: str
    package: str
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Born:
    """From the server: an instance is a process, and by now a child of the launcher."""

    instance: str
    pid: int


@dataclass(frozen=True)
class Refused:
    """From the server: the kernel gave no process for an instance."""

    instance: str
    reason: str


Message = Loaded | Order | Born | Refused
_KINDS: Final = {kind.__name__: kind for kind in (Loaded, Order, Born, Refused)}


def send(channel: socket.socket, message: Message) -> None:
    """Send one message.

    :raises OSError: the other end has gone, or, if the socket does not block, has too much to read.
    """
    channel.send(json.dumps({"kind": type(message).__name__, **asdict(message)}).encode())


def receive(channel: socket.socket) -> Message | None:
    """Return the next message, or None if there is no other end any more.

    :raises BlockingIOError: the socket does not block, and there is none.
    """
    try:
        data = channel.recv(_MAX_BYTES)
    except ConnectionResetError:  # it went, and left something unread
        return None
    if not data:
        return None
    fields = json.loads(data)
    kind = _KINDS[fields.pop("kind")]
    if kind is Order:
        fields["arguments"] = tuple(fields["arguments"])
    message: Message = kind(**fields)
    return message
