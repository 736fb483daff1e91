"""An ingress process on one end of a veth pair, and a raw sender on the other.

The test plays control, forwarder and arp.
"""

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import zmq
from pyroute2 import IPRoute
from pyroute2 import netns as pyroute2_netns

from services.common import netns
from services.common.bell import Bell
from services.common.bus import bound, receive
from services.common.counters import CounterBlock
from services.common.endpoints import prepare_run_dir
from services.common.frame_ring import RingConsumer
from services.common.messages import Report, decode

ROUTER_NS: Final = f"ingt{os.getpid()}-r"
HOST_NS: Final = f"ingt{os.getpid()}-h"
LIMIT_S: Final = 30.0
START_LIMIT_S: Final = 100.0
"""Where the kernels are not compiled yet, the first start does it."""

ROUTER_MAC: Final = bytes.fromhex("02000000000b")
HOST_MAC: Final = bytes.fromhex("02000000000a")
PLAIN: Final = bytes(10)

# A TCP segment captured on a veth pair, whose checksum field holds the pseudo-header's sum
PARTIAL_VIRTIO: Final = bytes.fromhex("01 00 0000 0000 2200 1000")
PARTIAL: Final = bytes.fromhex(
    "02000000000b 02000000000a 0800 45000039568d4000400654de c0a80701 c0a80702"
    "a1960050 b862267f 18d34898 8018003f 8f7f 0000 0101080ab92363dfb48d7ba8 68656c6c6f"
)
# and a super-frame of the same connection: 7240 bytes in segments of 1448
GSO_VIRTIO: Final = bytes.fromhex("01 01 4200 a805 2200 1000")
GSO: Final = bytes.fromhex(
    "02000000000b 02000000000a 0800 45001c7c568e40004006389a c0a80701 c0a80702"
    "a1960050 b8622684 18d34898 8018003f abc2 0000 0101080ab92363dfb48d7ba8"
) + bytes(number % 256 for number in range(7240))


def frame(payload: bytes, destination: bytes = ROUTER_MAC, ethertype: int = 0x0800) -> bytes:
    return destination + HOST_MAC + ethertype.to_bytes(2, "big") + payload


def wait_for(what: str, look: Callable[[], Any], limit_s: float = LIMIT_S) -> Any:
    deadline = time.monotonic() + limit_s
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {limit_s:g} s: {what}"
        time.sleep(0.005)
    return seen


class Sender:
    """A raw socket that sends frames behind virtio headers."""

    def __init__(self, namespace: str, interface: str) -> None:
        with netns.inside(namespace):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._socket.setsockopt(263, 15, 1)  # SOL_PACKET, PACKET_VNET_HDR
            self._socket.bind((interface, 0))

    def send(self, data: bytes, virtio: bytes = PLAIN) -> None:
        wait_for("room to send", lambda: self._try_send(virtio + data))

    def _try_send(self, data: bytes) -> bool:
        try:
            return self._socket.send(data) == len(data)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            return False

    def close(self) -> None:
        self._socket.close()


def set_link(namespace: str, name: str, **changes: Any) -> None:
    with netns.inside(namespace), IPRoute() as kernel:
        kernel.link("set", index=kernel.link_lookup(ifname=name)[0], **changes)


def is_operational(namespace: str, name: str) -> bool:
    """Tell whether an interface sends what it is given (RFC 2863 ifOperStatus): some time after it was set up."""
    with netns.inside(namespace), IPRoute() as kernel:
        (link,) = kernel.get_links(ifname=name)
        return bool(link.get("state") == "up" and link.get_attr("IFLA_OPERSTATE") == "UP")


def wait_until_operational() -> None:
    for namespace, name in ((ROUTER_NS, "e0"), (HOST_NS, "h0")):
        wait_for(f"{name} is up", lambda namespace=namespace, name=name: is_operational(namespace, name))  # type: ignore[misc]


def make_pair() -> None:
    """Make e0 of the router and h0 of the host, without IPv6 and its chatter."""
    for name in (ROUTER_NS, HOST_NS):
        pyroute2_netns.create(name)
        with netns.inside(name):
            for scope in ("all", "default"):
                switch = Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6")
                if switch.exists():
                    switch.write_text("1")
    with netns.inside(ROUTER_NS), IPRoute() as kernel:
        kernel.link("add", ifname="e0", kind="veth", peer={"ifname": "h0", "net_ns_fd": HOST_NS})
    set_link(ROUTER_NS, "lo", state="up")
    set_link(ROUTER_NS, "e0", address="02:00:00:00:00:0b", state="up")
    set_link(HOST_NS, "h0", address="02:00:00:00:00:0a", state="up")
    wait_until_operational()


@contextmanager
def pair() -> Iterator[None]:
    """Make both namespaces and the pair between them, and take them away."""
    try:
        make_pair()
        yield
    finally:
        for name in (ROUTER_NS, HOST_NS):
            if name in netns.names():
                pyroute2_netns.remove(name)


@contextmanager
def short_run_dir() -> Iterator[Path]:
    """Give a run directory whose path is short enough for Unix sockets, and take it away."""
    path = Path(f"/tmp/ingt{os.getpid()}")
    yield path
    for entry in sorted(path.rglob("*"), reverse=True):
        entry.rmdir() if entry.is_dir() else entry.unlink()
    if path.exists():
        path.rmdir()


@contextmanager
def sending(namespace: str = HOST_NS, interface: str = "h0") -> Iterator[Sender]:
    sender = Sender(namespace, interface)
    try:
        yield sender
    finally:
        sender.close()


def program(run_dir: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "services.ingress", "--run-dir", str(run_dir), *arguments]


class Router:
    """The ingress process, and the sockets of the services around it."""

    def __init__(self, run_dir: Path, *arguments: str) -> None:
        self.endpoints = prepare_run_dir(run_dir)
        self.context: zmq.Context[Any] = zmq.Context()
        self.reports = bound(self.context, zmq.PULL, self.endpoints.control_reports)
        self.arp = bound(self.context, zmq.PULL, self.endpoints.arp_frames)
        self.bell = Bell(self.endpoints.forwarder_bell)
        self.frames = bound(self.context, zmq.PULL, self.endpoints.forwarder_frames)
        with netns.inside(ROUTER_NS):
            self.index = socket.if_nametoindex("e0")
        self.arguments = arguments
        self.report: Report | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self._log = run_dir / "stderr"
        self._before: dict[str, int] = {}

    def start(self) -> None:
        with netns.inside(ROUTER_NS), self._log.open("w") as log:
            self.process = subprocess.Popen(
                program(self.endpoints.run_dir, "--interface", "e0", *self.arguments), stderr=log
            )
        self.report = None
        wait_for("a report", self.is_ready, START_LIMIT_S)

    def is_ready(self) -> bool:
        assert self.is_running(), self.complaints()
        self.read_reports()
        return self.report is not None and self.report.ready and self.report.pid == self.pid

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def wait(self) -> int:
        assert self.process is not None
        return self.process.wait(LIMIT_S)

    def read_reports(self) -> None:
        while (parts := receive(self.reports)) is not None:
            self.report = decode(parts[-1])

    def reported(self) -> dict[str, int]:
        self.read_reports()
        assert self.report is not None
        return self.report.counters.get(self.index, {})

    def totals(self) -> dict[str, int]:
        """Return what was counted since the run directory was made."""
        block = CounterBlock(self.endpoints.counters("ingress-e0"))
        counters = block.snapshot().get(self.index, {})
        block.close()
        return counters

    def count_from_now(self) -> None:
        """Forget what was counted and received until now."""
        self._before = self.totals()
        self.bell.drain()
        for socket_ in (self.arp, self.frames):
            while receive(socket_) is not None:
                pass

    def counted(self) -> dict[str, int]:
        """Return what was counted since `count_from_now`, or else in all."""
        counters = self.totals()
        return {name: grown for name, value in counters.items() if (grown := value - self._before.get(name, 0))}

    def complaints(self) -> list[str]:
        """Return what the process wrote on stderr besides its log."""
        return [line for line in self._log.read_text().splitlines() if not line.startswith("{")]

    def ring(self) -> RingConsumer:
        return RingConsumer(self.endpoints.ring("e0"))

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        os.kill(self.pid, number)
        return self.wait()

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(LIMIT_S)
        self.bell.close()
        self.context.destroy(linger=0)


@contextmanager
def started(run_dir: Path, *arguments: str) -> Iterator[Router]:
    router = Router(run_dir, *arguments)
    try:
        router.start()
        yield router
    finally:
        router.close()


def wait_for_frames(router: Router, count: int) -> None:
    """Wait until so many frames have been received."""
    wait_for(f"{count} frames received", lambda: router.counted().get("RX_FRAMES") == count)


Entry = tuple[bytes, bytes, int, int]


def take(ring: RingConsumer, count: int) -> list[Entry]:
    """Wait for so many frames; return each one's virtio header, bytes, packet type and time."""
    entries: list[Entry] = []
    while len(entries) < count:
        wait_for(f"frame {len(entries) + 1} of {count}", lambda: ring.available() > 0)
        position, length, packet_type, seen_ns = ring.descriptors[ring.tail % len(ring.descriptors)].tolist()
        data = ring.area[position % len(ring.area) :][: 10 + length].tobytes()
        entries.append((data[:10], data[10:], packet_type, seen_ns))
        ring.give_back(1)
    return entries
