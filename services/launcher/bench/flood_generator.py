"""Sends, as fast as one core can, what may be forwarded and an exception after each.

`python -m services.launcher.bench.flood_generator`
"""

import json
import os
import sys
from typing import Final

import numpy as np
import numpy.typing as npt

from services.common.wire import ethernet
from services.launcher.bench import exceptions, generator
from services.launcher.bench.exceptions import Place
from services.launcher.probes import command

_FRAME_BYTES: Final = 60  # the shortest of Ethernet, without the FCS


def build_frames(
    plain: npt.NDArray[np.uint8], kind: str, place: Place, destination_mac: bytes, source_mac: bytes
) -> npt.NDArray[np.uint8]:
    """Return (2 * n, bytes) of n plain frames: an exception after each."""
    frames = np.zeros((2 * len(plain), plain.shape[1]), np.uint8)
    frames[::2] = plain
    head = ethernet.header(destination_mac, source_mac, ethernet.ETHERTYPE_IPV4)
    build = exceptions.KINDS[kind]
    for number in range(len(plain)):
        whole = head + build(place, number)
        frames[2 * number + 1, : len(whole)] = np.frombuffer(whole, np.uint8)
    return frames


def main() -> None:
    """Read the arguments, send, print the result."""
    parser = command.parser("flood_generator", "Send what may be forwarded and exceptions in turn, at full rate.")
    parser.add_argument("kind", choices=exceptions.KINDS)
    parser.add_argument("--interface", required=True)
    parser.add_argument("--gateway-mac", required=True, help="MAC of the router under test")
    for name in ("source", "router", "absent", "first-destination"):
        parser.add_argument(f"--{name}", required=True, type=command.address)
    parser.add_argument("--destinations", type=command.integer(1, 1_000_000), default=60_000)
    parser.add_argument("--seconds", type=command.seconds, default=2.0)
    parser.add_argument("--cpu", type=command.integer(0, 4095), help="the core to stay on")
    options = parser.parse_args()

    def run() -> int:
        if options.cpu is not None:
            os.sched_setaffinity(0, {options.cpu})
        macs = bytes.fromhex(options.gateway_mac.replace(":", "")), generator.mac_of(options.interface)
        source, first = int(options.source), int(options.first_destination)
        destinations = generator.consecutive(first, options.destinations)
        plain = generator.build_frames(*macs, source, destinations, _FRAME_BYTES)
        place = Place(source, int(options.router), first, int(options.absent))
        frames = build_frames(plain, options.kind, place, *macs)
        print(json.dumps(generator.send(options.interface, frames, options.seconds)._asdict()))
        return 0

    sys.exit(command.run("flood_generator", options.netns, run))


if __name__ == "__main__":
    main()
