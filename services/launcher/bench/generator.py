"""Sends UDP datagrams to many destinations, as fast as one core can: `python -m services.launcher.bench.generator`.

The frames are built once; sendmmsg(2) on an AF_PACKET socket then sends them round and round.
"""

import ctypes
import json
import os
import socket
import struct
import sys
import time
from typing import Final

import numpy as np
import numpy.typing as npt

from services.common.wire import ethernet, ipv4
from services.launcher.probes import command

_SOL_PACKET: Final = 263  # linux/socket.h
_PACKET_QDISC_BYPASS: Final = 20  # linux/if_packet.h
_MESSAGE_WORDS: Final = 8  # struct mmsghdr on 64-bit Linux, in 64-bit words
_VECTOR_WORD: Final = 2  # msg_iov
_VECTOR_COUNT_WORD: Final = 3  # msg_iovlen
_FRAMES_PER_CALL: Final = 256
_PACE_S: Final = 0.0005
_DISCARD_PORT: Final = 9  # RFC 863
_SOURCE_PORT: Final = 49_152  # the first dynamic port, RFC 6335 section 6


def build_frames(
    destination_mac: bytes, source_mac: bytes, source: int, first_destination: int, destinations: int, frame_bytes: int
) -> npt.NDArray[np.uint8]:
    """Return (destinations, frame_bytes): one UDP datagram to each of as many consecutive addresses."""
    payload = frame_bytes - ethernet.HEADER_BYTES - ipv4.HEADER_BYTES
    udp = struct.pack("!HHHH", _SOURCE_PORT, _DISCARD_PORT, payload, 0)  # checksum 0: none, RFC 768
    head = ethernet.header(destination_mac, source_mac, ethernet.ETHERTYPE_IPV4)
    frames = np.zeros((destinations, frame_bytes), np.uint8)
    for number in range(destinations):
        header = ipv4.build_header(source, first_destination + number, ipv4.PROTOCOL_UDP, payload)
        start = head + header + udp
        frames[number, : len(start)] = np.frombuffer(start, np.uint8)
    return frames


def build_messages(frames: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the `struct mmsghdr` of each frame, and the vectors that they point at."""
    count, length = frames.shape
    vectors = np.zeros((count, 2), np.int64)
    vectors[:, 0] = frames.ctypes.data + np.arange(count) * length
    vectors[:, 1] = length
    messages = np.zeros((count, _MESSAGE_WORDS), np.int64)
    messages[:, _VECTOR_WORD] = vectors.ctypes.data + np.arange(count) * vectors.itemsize * 2
    messages[:, _VECTOR_COUNT_WORD] = 1
    return messages, vectors


def send(interface: str, frames: npt.NDArray[np.uint8], seconds: float, rate: int | None = None) -> tuple[int, float]:
    """Send the frames over and over for a time; return how many went out, and in how many seconds.

    :param rate: frames a second; as fast as it goes without one.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    messages, vectors = build_messages(frames)
    count = len(frames)
    sent = place = 0
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
        sender.setsockopt(_SOL_PACKET, _PACKET_QDISC_BYPASS, 1)
        sender.bind((interface, 0))
        started = time.monotonic()
        deadline = started + seconds
        while time.monotonic() < deadline:
            number = min(_FRAMES_PER_CALL, count - place)
            if rate is not None:
                time.sleep(max(_PACE_S, started + sent / rate - time.monotonic()))
                number = min(number, max(1, int((time.monotonic() - started) * rate) - sent))
            address = messages.ctypes.data + place * _MESSAGE_WORDS * 8
            done = libc.sendmmsg(sender.fileno(), ctypes.c_void_p(address), number, 0)
            if done < 0:
                raise OSError(ctypes.get_errno(), "sendmmsg")
            sent += done
            place = (place + done) % count
        elapsed = time.monotonic() - started
    del vectors  # it had to live as long as the messages that point at it
    return sent, elapsed


def main() -> None:
    """Read the arguments, send, print the result."""
    parser = command.parser("generator", "Send UDP datagrams to many destinations at full rate.")
    parser.add_argument("--interface", required=True)
    parser.add_argument("--gateway-mac", required=True, help="MAC of the router under test")
    parser.add_argument("--source", required=True, type=command.address)
    parser.add_argument("--first-destination", required=True, type=command.address)
    parser.add_argument("--destinations", type=command.integer(1, 1_000_000), default=60_000)
    parser.add_argument("--frame-bytes", type=command.integer(42, 9014), default=60, help="without the FCS")
    parser.add_argument("--seconds", type=command.seconds, default=2.0)
    parser.add_argument("--rate", type=command.integer(1, 10_000_000), help="frames a second (as many as go)")
    parser.add_argument("--cpu", type=command.integer(0, 4095), help="the core to stay on")
    options = parser.parse_args()

    def run() -> int:
        if options.cpu is not None:
            os.sched_setaffinity(0, {options.cpu})
        mac = bytes.fromhex(options.gateway_mac.replace(":", ""))
        frames = build_frames(
            mac,
            mac_of(options.interface),
            int(options.source),
            int(options.first_destination),
            options.destinations,
            options.frame_bytes,
        )
        sent, elapsed = send(options.interface, frames, options.seconds, options.rate)
        if options.json:
            print(json.dumps({"sent": sent, "seconds": elapsed}))
        else:
            print(f"{sent} frames in {elapsed:.2f} s: {sent / elapsed:,.0f} frames/s")
        return 0

    sys.exit(command.run("generator", options.netns, run))


def mac_of(interface: str) -> bytes:
    """Return the MAC of an interface of this namespace."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as probe:
        probe.bind((interface, 0))
        mac: bytes = probe.getsockname()[4]
        return mac


if __name__ == "__main__":
    main()
