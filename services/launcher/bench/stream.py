"""A TCP stream for a time, without looking at the bytes: `python -m services.launcher.bench.stream`."""

import json
import socket
import sys
import time
from ipaddress import IPv4Address
from typing import Final

from services.launcher.probes import command

PORT: Final = 5201  # iperf3's
_CHUNK_BYTES: Final = 1 << 20
_WAIT_S: Final = 10.0


def serve(address: IPv4Address) -> dict[str, float]:
    """Receive one stream to its end; return its bytes, and the seconds from its first byte to its last."""
    with socket.create_server((str(address), PORT), reuse_port=True) as listener:
        print("listening", flush=True)
        listener.settimeout(_WAIT_S)
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(_WAIT_S)
            buffer = bytearray(_CHUNK_BYTES)
            octets = connection.recv_into(buffer)
            started = last = time.monotonic()
            while received := connection.recv_into(buffer):
                octets += received
                last = time.monotonic()
    return {"bytes": octets, "seconds": max(last - started, 1e-9)}


def send(address: IPv4Address, seconds: float) -> dict[str, float]:
    """Send for a time; return the bytes handed to TCP, and the seconds."""
    chunk = bytes(_CHUNK_BYTES)
    octets = 0
    with socket.create_connection((str(address), PORT), timeout=_WAIT_S) as connection:
        started = time.monotonic()
        while (elapsed := time.monotonic() - started) < seconds:
            octets += connection.send(chunk)
    return {"bytes": octets, "seconds": elapsed}


def main() -> None:
    """Read the arguments, send or receive, print the result as JSON."""
    parser = command.parser("stream", "Send or receive one TCP stream.")
    parser.add_argument("role", choices=("server", "client"))
    parser.add_argument("address", type=command.address, help="of the server")
    parser.add_argument("--seconds", type=command.seconds, default=2.0)
    options = parser.parse_args()

    def run() -> int:
        result = serve(options.address) if options.role == "server" else send(options.address, options.seconds)
        print(json.dumps(result))
        return 0

    sys.exit(command.run("stream", options.netns, run))


if __name__ == "__main__":
    main()
