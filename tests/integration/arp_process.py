"""The arp process in a network namespace, with a raw host at the other end of its veth pair.

Control, ingress and the forwarder are played here. Bytes are written by hand, at the offsets of RFC 826.
"""

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import zmq
from pyroute2 import IPRoute
from pyroute2 import netns as pyroute2_netns

from services.common import netns
from services.common.bus import RpcClient, StatePublisher, StateSubscriber, bound, connected, receive
from services.common.counters import Counter, CounterBlock, Kind
from services.common.endpoints import Endpoints
from services.common.messages import (
    Frame,
    Handed,
    Interface,
    InterfaceAddress,
    NeighbourState,
    Report,
    RouterState,
    decode,
    decode_frames,
    encode_frames,
)
from services.common.parameters import ArpParameters, Parameters
from services.common.runtime import clock

ROUTER_NS = f"arpt{os.getpid()}-r"
HOST_NS = f"arpt{os.getpid()}-h"
REPOSITORY = Path(__file__).parents[2]
LIMIT_S = 30.0

OWN = 0xC0A80101  # 192.168.1.1/24
HOST = 0xC0A80102  # 192.168.1.2
SILENT = 0xC0A80163  # 192.168.1.99
OWN_BYTES = bytes((192, 168, 1, 1))
HOST_BYTES = bytes((192, 168, 1, 2))
SILENT_BYTES = bytes((192, 168, 1, 99))
HOST_MAC = bytes.fromhex("020000000002")
BROADCAST = b"\xff" * 6
NO_MAC = bytes(6)
PLAIN = bytes(10)
PATIENT = Parameters(arp=ArpParameters(multicast_solicit=30))
"""So that a frame still waits for its answer where the test is slow to give it."""


def arp_bytes(operation: int, sender: tuple[bytes, bytes], target: tuple[bytes, bytes]) -> bytes:
    """RFC 826: hardware 1, protocol 0x0800, lengths 6 and 4, operation, sender, target."""
    return bytes.fromhex("0001 0800 06 04") + bytes((0, operation)) + b"".join(sender) + b"".join(target)


def datagram(number: int, length: int = 100) -> bytes:
    """Bytes that look like IPv4 at their start, and can be told apart."""
    return bytes.fromhex("4500") + length.to_bytes(2, "big") + number.to_bytes(4, "big") + bytes(length - 8)


class Host:
    """A station that speaks raw Ethernet; virtio headers are shown and taken."""

    def __init__(self) -> None:
        with netns.inside(HOST_NS):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
            self._socket.setsockopt(263, 15, 1)  # SOL_PACKET, PACKET_VNET_HDR
            self._socket.setsockopt(263, 23, 1)  # PACKET_IGNORE_OUTGOING
            self._socket.bind(("h0", 3))
        self._socket.setblocking(False)

    def send(self, frame: bytes) -> None:
        self._socket.send(PLAIN + frame)

    def received(self) -> list[bytes]:
        """Everything that came since the last call, virtio headers in front."""
        frames = []
        while True:
            try:
                frames.append(self._socket.recv(70_000))
            except BlockingIOError:
                return frames
            except OSError as error:
                if error.errno != errno.ENETDOWN:  # its interface was taken away
                    raise

    def close(self) -> None:
        self._socket.close()


class Router:
    """The arp process, and around it the other services as the test plays them."""

    def __init__(self, endpoints: Endpoints) -> None:
        self.endpoints = endpoints
        self.context: zmq.Context[Any] = zmq.Context()
        self.interfaces = [self._kernel_interface()]
        self.publisher = StatePublisher(
            self.context, endpoints.control_state, endpoints.control_snapshot, self._full_state
        )
        self.reports = bound(self.context, zmq.PULL, endpoints.control_reports)
        self.forwarder = bound(self.context, zmq.PULL, endpoints.forwarder_frames)
        self.frames = connected(self.context, zmq.PUSH, endpoints.arp_frames)
        self.state = StateSubscriber(self.context, endpoints.arp_state, endpoints.arp_snapshot)
        self.rpc = RpcClient(self.context, endpoints.arp_rpc)
        self.parameters = PATIENT
        self.neighbours: dict[tuple[int, int], bytes] = {}
        self.taken = 0
        self.returned: list[Frame] = []
        self.report: Report | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.host = Host()
        self.heard: list[bytes] = []

    @property
    def index(self) -> int:
        return self.interfaces[0].index

    @property
    def mac(self) -> bytes:
        return self.interfaces[0].mac

    def start(self, *options: str) -> None:
        command = [sys.executable, "-m", "services.arp", "--run-dir", str(self.endpoints.run_dir), *options]
        with netns.inside(ROUTER_NS):
            self.process = subprocess.Popen(command, cwd=REPOSITORY)
        self.report = None
        self.wait(lambda: self.report is not None and self.report.ready and self.report.interfaces == [self.index])

    def stop(self, number: signal.Signals) -> int:
        process, self.process = self.process, None
        assert process is not None
        process.send_signal(number)
        process.wait(timeout=LIMIT_S)
        return process.returncode

    def wait(self, condition: Callable[[], bool]) -> None:
        """Play the other services until a condition holds."""
        deadline = clock() + LIMIT_S
        while not condition():
            assert clock() < deadline, f"not within {LIMIT_S} s; heard {[frame.hex() for frame in self.heard]}"
            assert self.process is None or self.process.poll() is None, "arp ended"
            self.reports.poll(5)
            self._play()

    def _play(self) -> None:
        self.publisher.answer_requests()
        self.publisher.beat(clock())
        while (parts := receive(self.reports)) is not None:
            self.report = decode(parts[0])
        for state in self.state.receive(clock()):
            assert isinstance(state, NeighbourState)
            if state.full:
                self.neighbours = {}
            self.taken = state.taken
            self.neighbours |= {(each.interface, each.address): each.mac for each in state.neighbours}
            for gone in state.gone:
                self.neighbours.pop(gone, None)
        while (parts := receive(self.forwarder)) is not None:
            header = decode(parts[0])
            if isinstance(header, Handed):
                continue
            assert header.purpose == "unreachable"
            self.returned += decode_frames(header, parts[1:])
        self.heard += self.host.received()

    def send(self, parts: list[bytes]) -> None:
        assert self.frames.poll(int(LIMIT_S * 1000), zmq.POLLOUT), "arp does not listen"
        self.frames.send_multipart(parts)

    def hand_arp(self, frame: bytes, packet_type: int) -> None:
        """Play ingress: 1 is PACKET_BROADCAST, 0 PACKET_HOST."""
        self.send(encode_frames("arp", [Frame(self.index, 0, 0, packet_type, False, PLAIN + frame)]))

    def hand_unresolved(self, next_hop: int, *datas: bytes) -> None:
        """Play the forwarder: the MACs are left to arp."""
        self.send(encode_frames("unresolved", [Frame(9, self.index, next_hop, 0, False, data) for data in datas]))

    def counters(self) -> dict[Counter, int]:
        block = CounterBlock(self.endpoints.counters("arp"))
        try:
            return {counter: block.total(counter) for counter in Counter if block.total(counter)}
        finally:
            block.close()

    def heard_arp(self, operation: int) -> list[bytes]:
        """The ARP messages of an operation that the host heard; announcements left out."""
        payloads = [frame[10 + 14 :] for frame in self.heard if frame[10 + 12 : 10 + 14] == b"\x08\x06"]
        return [each for each in payloads if each[7] == operation and each[14:18] != each[24:28]]

    def heard_ip(self) -> list[bytes]:
        return [frame for frame in self.heard if frame[10 + 12 : 10 + 14] == b"\x08\x00"]

    def _full_state(self) -> RouterState:
        return RouterState(full=True, interfaces=self.interfaces, parameters=self.parameters)

    def _kernel_interface(self) -> Interface:
        with IPRoute(netns=ROUTER_NS, flags=0) as kernel:
            (link,) = kernel.link("get", ifname="r0")
        return Interface(
            index=link["index"],
            name="r0",
            mac=bytes.fromhex(link.get("address").replace(":", "")),
            mtu=1500,
            up=True,
            addresses=[InterfaceAddress(address=OWN, prefix_length=24)],
        )

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.host.close()
        self.context.destroy(linger=0)


def make_veth(index: int | None = None) -> None:
    """Make the veth pair; `index` is the router's end's, if it matters."""
    with IPRoute(netns=ROUTER_NS, flags=0) as kernel:
        wish = {} if index is None else {"index": index}
        kernel.link("add", kind="veth", ifname="r0", peer={"ifname": "h0", "net_ns_fd": HOST_NS}, **wish)
    for name, interface in ((ROUTER_NS, "r0"), (HOST_NS, "h0")):
        with netns.inside(name):
            Path(f"/proc/sys/net/ipv6/conf/{interface}/disable_ipv6").write_text("1")
        with IPRoute(netns=name, flags=0) as kernel:
            kernel.link("set", index=kernel.link_lookup(ifname=interface)[0], state="up")
    with IPRoute(netns=ROUTER_NS, flags=0) as kernel:
        deadline = clock() + LIMIT_S
        while kernel.link("get", ifname="r0")[0].get("operstate") != "UP":
            assert clock() < deadline


@contextmanager
def namespaces() -> Iterator[None]:
    made = []
    try:
        for name in (ROUTER_NS, HOST_NS):
            pyroute2_netns.create(name)
            made.append(name)
        make_veth()
        yield
    finally:
        for name in made:
            pyroute2_netns.remove(name)


def check_balance(counters: dict[Counter, int]) -> None:
    """What arp took or made is sent, consumed, dropped, handed on or waiting."""
    entered = counters.get(Counter.TAKEN, 0) + counters.get(Counter.GENERATED, 0)
    fates = {Kind.SENT, Kind.CONSUMED, Kind.DROPPED, Kind.WAITING}
    left = sum(value for counter, value in counters.items() if counter.kind in fates or counter is Counter.HANDED)
    assert entered == left, counters
