"""Tells whoever supervises this process that it lives and how it is: the protocol of sd_notify(3).

systemd listens so, and so does the keeper of a container (`services.container`). Without NOTIFY_SOCKET in the
environment nothing is sent.
"""

import os
import socket
from typing import Final

VARIABLE: Final = "NOTIFY_SOCKET"
_LONGEST_STATUS: Final = 2048  # characters; what systemd keeps of a datagram is 4096 bytes


class Notifier:
    """The sending end. The variable is taken out of the environment, so that no child speaks for this process."""

    def __init__(self) -> None:
        address = os.environ.pop(VARIABLE, "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)

    def tell(self, *, ready: bool, status: str = "") -> None:
        """Say that this process lives; whether it does its work, and in one line what else there is to know.

        A listener that is away or busy misses it: the next one comes soon.
        """
        if self._socket is None:
            return
        line = status.replace("\n", " ")[:_LONGEST_STATUS]
        text = "\n".join(["WATCHDOG=1", *(["READY=1"] if ready else []), f"STATUS={line}"])
        try:
            self._socket.sendto(text.encode(), self._address)
        except OSError:
            return


def parse(datagram: bytes) -> tuple[bool, str] | None:
    """Return (ready, status) of a sign of life, or None of anything else."""
    fields = dict(line.partition("=")[::2] for line in datagram.decode(errors="replace").splitlines())
    if fields.get("WATCHDOG") != "1":
        return None
    return fields.get("READY") == "1", fields.get("STATUS", "")
