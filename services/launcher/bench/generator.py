"""Sends UDP datagrams to many destinations, as fast as one core can: `python -m services.launcher.bench.generator`.

The frames are built once; sendmmsg(2) on an AF_PACKET socket then sends them round and round. With `--start` it says
when it is ready, and waits for the start. SIGTERM ends it early: it reports what it sent until then.
"""

import ctypes
import json
import os
import signal
import socket
import struct
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from services.common.errors import HopwireError
from services.common.wire import ethernet, ipv4
from services.launcher.bench import cpu
from services.launcher.probes import command

_SOL_PACKET: Final = 263  # linux/socket.h
_PACKET_QDISC_BYPASS: Final = 20  # linux/if_packet.h
_MESSAGE_WORDS: Final = 8  # struct mmsghdr on 64-bit Linux, in 64-bit words
_VECTOR_WORD: Final = 2  # msg_iov
_VECTOR_COUNT_WORD: Final = 3  # msg_iovlen
_FRAMES_PER_CALL: Final = 256
_PACE_S: Final = 0.0002
"""A pause at a given rate; what is due after it goes out together. A shorter one costs more than the frames do."""
_ARREARS_S: Final = 0.002
"""A pause that was longer than this is not made up for: what is sent in a lump says nothing about a steady rate."""
_PR_SET_TIMERSLACK: Final = 29  # linux/prctl.h
_TIMER_SLACK_NS: Final = 1000
_DISCARD_PORT: Final = 9  # RFC 863
_SOURCE_PORT: Final = 49_152  # the first dynamic port, RFC 6335 section 6


class Sent(NamedTuple):
    """What went out: frames, in how many seconds, and the CPU seconds of the whole machine meanwhile."""

    sent: int
    seconds: float
    machine_s: float


class Pacer:
    """Tells how many frames are due. Pure; times are seconds of one clock."""

    def __init__(self, rate: int | None, now: float) -> None:
        """Begin now; `rate` is frames a second, as many as go if None."""
        self._rate = rate
        self._origin = now
        self._sent = 0

    def due(self, now: float) -> int:
        """Return how many frames to send at once; 0: pause first."""
        if self._rate is None:
            return _FRAMES_PER_CALL
        arrears_s = max(_ARREARS_S, 2 / self._rate)
        self._origin = max(self._origin, now - arrears_s - self._sent / self._rate)
        due = int((now - self._origin) * self._rate) - self._sent
        return 0 if due < max(1, int(self._rate * _PACE_S)) else min(due, _FRAMES_PER_CALL)

    def sent(self, count: int) -> None:
        """Note that as many went out."""
        self._sent += count


def consecutive(first: int, count: int) -> npt.NDArray[np.uint32]:
    """Return as many addresses, from the first on."""
    return np.arange(first, first + count).astype(np.uint32)


def build_frames(
    destination_mac: bytes, source_mac: bytes, source: int, destinations: npt.NDArray[np.uint32], frame_bytes: int
) -> npt.NDArray[np.uint8]:
    """Return (len(destinations), frame_bytes): one UDP datagram to each of the addresses."""
    payload = frame_bytes - ethernet.HEADER_BYTES - ipv4.HEADER_BYTES
    udp = struct.pack("!HHHH", _SOURCE_PORT, _DISCARD_PORT, payload, 0)  # checksum 0: none, RFC 768
    head = ethernet.header(destination_mac, source_mac, ethernet.ETHERTYPE_IPV4)
    header = ipv4.build_header(source, 0, ipv4.PROTOCOL_UDP, payload)
    start = np.frombuffer(head + header + udp, np.uint8)
    frames = np.zeros((len(destinations), frame_bytes), np.uint8)
    frames[:, : len(start)] = start
    _put(frames, ethernet.HEADER_BYTES + ipv4.DESTINATION, destinations.astype(">u4"))
    # RFC 1071: the complement of the sum of words, which the destination's two join
    total = 0xFFFF - int.from_bytes(header[ipv4.CHECKSUM : ipv4.CHECKSUM + 2], "big") + (destinations >> 16)
    total = total + (destinations & 0xFFFF)
    for _carry in range(2):
        total = (total >> 16) + (total & 0xFFFF)
    _put(frames, ethernet.HEADER_BYTES + ipv4.CHECKSUM, (0xFFFF - total).astype(">u2"))
    return frames


def _put(frames: npt.NDArray[np.uint8], offset: int, values: npt.NDArray[np.unsignedinteger]) -> None:
    """Write a value into each frame, as its bytes lie in memory."""
    width = values.itemsize
    frames[:, offset : offset + width] = values.view(np.uint8).reshape(-1, width)


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


def send(interface: str, frames: npt.NDArray[np.uint8], seconds: float, rate: int | None = None) -> Sent:
    """Send the frames over and over for a time, or until SIGTERM.

    :param rate: frames a second; as fast as it goes without one.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_TIMERSLACK, _TIMER_SLACK_NS, 0, 0, 0)
    messages, vectors = build_messages(frames)
    count = len(frames)
    sent = place = 0
    stop = _Stop()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
        sender.setsockopt(_SOL_PACKET, _PACKET_QDISC_BYPASS, 1)
        sender.bind((interface, 0))
        busy_before = cpu.machine_s()
        now = started = time.monotonic()
        pacer = Pacer(rate, started)
        while now < started + seconds and not stop.is_due:
            if due := pacer.due(now):
                address = messages.ctypes.data + place * _MESSAGE_WORDS * 8
                done = libc.sendmmsg(sender.fileno(), ctypes.c_void_p(address), min(due, count - place), 0)
                if done < 0:
                    raise OSError(ctypes.get_errno(), "sendmmsg")
                pacer.sent(done)
                sent += done
                place = (place + done) % count
            else:
                time.sleep(_PACE_S)
            now = time.monotonic()
        busy = cpu.machine_s() - busy_before
    del vectors  # it had to live as long as the messages that point at it
    return Sent(sent, now - started, busy)


class _Stop:
    """Whether SIGTERM has come."""

    def __init__(self) -> None:
        self.is_due = False
        signal.signal(signal.SIGTERM, self._note)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.is_due = True


def await_start(pipe: Path) -> None:
    """Say that all is ready, and wait until somebody opens the named pipe for writing."""
    print("ready", flush=True)
    pipe.open("rb").close()


def read_addresses(file: Path) -> npt.NDArray[np.uint32]:
    """Return the addresses in a file: four bytes each, in network byte order.

    :raises HopwireError: there are none.
    """
    addresses = np.fromfile(file, ">u4").astype(np.uint32)
    if not len(addresses):
        raise HopwireError(f"no addresses in {file}")
    return addresses


def main() -> None:
    """Read the arguments, send, print the result."""
    parser = command.parser("generator", "Send UDP datagrams to many destinations at full rate.")
    parser.add_argument("--interface", required=True)
    parser.add_argument("--gateway-mac", required=True, help="MAC of the router under test")
    parser.add_argument("--source", required=True, type=command.address)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--first-destination", type=command.address)
    where.add_argument("--addresses", type=Path, metavar="FILE", help="destinations, 4 bytes each, network byte order")
    parser.add_argument("--destinations", type=command.integer(1, 1_000_000), default=60_000, help="from the first on")
    parser.add_argument("--frame-bytes", type=command.integer(42, 9014), default=60, help="without the FCS")
    parser.add_argument("--seconds", type=command.seconds, default=2.0)
    parser.add_argument("--rate", type=command.integer(1, 10_000_000), help="frames a second (as many as go)")
    parser.add_argument("--cpu", type=command.integer(0, 4095), help="the core to stay on")
    parser.add_argument("--start", type=Path, metavar="PIPE", help="say `ready`, and wait for a writer to this pipe")
    options = parser.parse_args()

    def run() -> int:
        if options.cpu is not None:
            os.sched_setaffinity(0, {options.cpu})
        mac = bytes.fromhex(options.gateway_mac.replace(":", ""))
        if options.addresses is not None:
            destinations = read_addresses(options.addresses)
        else:
            destinations = consecutive(int(options.first_destination), options.destinations)
        own_mac = mac_of(options.interface)
        frames = build_frames(mac, own_mac, int(options.source), destinations, options.frame_bytes)
        if options.start is not None:
            await_start(options.start)
        result = send(options.interface, frames, options.seconds, options.rate)
        if options.json:
            print(json.dumps(result._asdict()))
        else:
            rate = result.sent / result.seconds
            print(f"{result.sent} frames in {result.seconds:.2f} s: {rate:,.0f} frames/s")
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
