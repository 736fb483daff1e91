"""Sends UDP datagrams at a bounded rate until it is ended: `load.py IFACE ROUTER-MAC SOURCE DESTINATION PORT RATE`."""

import contextlib
import socket
import sys
import time
from typing import Final

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

_BURSTS_PER_S: Final = 100
_FLOWS: Final = 16


def main() -> None:
    interface, router_mac, source, destination, port, per_second = sys.argv[1:]
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
        sender.bind((interface, 0))
        own_mac = sender.getsockname()[4].hex(":")
        frames = [
            bytes(
                Ether(src=own_mac, dst=router_mac)
                / IP(src=source, dst=destination)
                / UDP(sport=5000 + flow, dport=int(port))
                / Raw(bytes(64))
            )
            for flow in range(_FLOWS)
        ]
        burst = int(per_second) // _BURSTS_PER_S
        while True:
            began = time.monotonic()
            for number in range(burst):
                # A test may take the link down for a while.
                with contextlib.suppress(OSError):
                    sender.send(frames[number % _FLOWS])
            time.sleep(max(0.0, began + 1 / _BURSTS_PER_S - time.monotonic()))


if __name__ == "__main__":
    main()
