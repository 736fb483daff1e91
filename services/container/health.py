"""The health check of a container: asks process 1, prints its answer in one line, and exits with 0 or 1.

Process 1 listens on a name in the abstract space of Unix sockets (unix(7)), so that nothing needs to be writable. That
space belongs to the network namespace, which several containers share: the name tells their mount namespaces apart.
"""

import os
import socket
import sys
from typing import Final

_TIMEOUT_S: Final = 2.0
_ANSWER_BYTES: Final = 4096
_HEALTHY: Final = "healthy: "


def health_address() -> str:
    """Return the name of the socket on which process 1 of this container answers."""
    namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return f"\0hopwire-health-{os.fstat(namespace).st_ino}"
    finally:
        os.close(namespace)


class HealthServer:
    """Process 1's end."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._socket.bind(health_address())
        self._socket.listen()

    def fileno(self) -> int:
        """Return the descriptor: readable when somebody asks."""
        return self._socket.fileno()

    def close(self) -> None:
        """Answer no more."""
        self._socket.close()

    def answer(self, text: str, *, healthy: bool) -> None:
        """Answer all who ask."""
        line = (_HEALTHY if healthy else "") + text.replace("\n", " ")
        while True:
            try:
                asking, _address = self._socket.accept()
            except BlockingIOError:
                return
            with asking:
                asking.setblocking(False)
                try:
                    asking.send(line.encode()[:_ANSWER_BYTES])
                except OSError:
                    continue  # it has gone


def ask(address: str) -> tuple[bool, str]:
    """Return whether the container is healthy, and why, or why not."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(_TIMEOUT_S)
        try:
            asking.connect(address)
            answer = asking.recv(_ANSWER_BYTES).decode(errors="replace")
        except OSError as error:
            return False, f"hopwire: the container's process 1 does not answer: {error.strerror or error}"
    if not answer:
        return False, "hopwire: the container's process 1 is about to end"
    return answer.startswith(_HEALTHY), answer.removeprefix(_HEALTHY)


if __name__ == "__main__":
    is_healthy, explanation = ask(health_address())
    sys.stdout.write(explanation + "\n")
    sys.exit(0 if is_healthy else 1)
