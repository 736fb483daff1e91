"""The forwarder process between two veth pairs. Control, arp and, where a test wants it, ingress are played here.

Bytes are written by hand, at the offsets of RFC 791 and of the frame ring's own description.
"""

import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zmq
from forwarder_links import HOST0, HOST1, LIMIT_S, PLAIN, SILENT, Host, Namespaces, datagram, kernel_interface, numbers

from services.common import netns
from services.common.bell import Bell
from services.common.bus import RpcClient, StatePublisher, bound, connected, receive
from services.common.counters import Counter, CounterBlock, Kind
from services.common.endpoints import Endpoints
from services.common.frame_ring import RingProducer
from services.common.messages import (
    Frame,
    FrameBatch,
    Handed,
    Neighbour,
    NeighbourState,
    NeighboursUsed,
    NextHop,
    Report,
    RouterState,
    decode,
    decode_frames,
)
from services.common.messages import Path as RoutePath
from services.common.runtime import clock

HOST_MAC = bytes.fromhex("020000000102")
HEAD_WORD = 16  # of the ring's header
LOCAL, LINK0, LINK1, SMALL = 1, 2, 3, 4  # path ids


class Ring:
    """A frame ring whose producer is the test, word by word."""

    def __init__(self, router: "Router", name: str, interface_index: int) -> None:
        self.path = router.endpoints.ring(name)
        self.producer = RingProducer(self.path, interface_index, slots=256, area_bytes=1 << 20)
        self._router = router
        self.head = 0

    def put(self, *frames: bytes, age_s: float = 0.0, packet_type: int = 0, virtio: bytes = PLAIN) -> None:
        """Lay frames into slots of 4 KiB, hand them over and ring."""
        slots = len(self.producer.descriptors)
        for frame in frames:
            data = virtio + frame
            position = self.head * 4096
            place = position % len(self.producer.area)
            self.producer.area[place : place + len(data)] = np.frombuffer(data, np.uint8)
            stamp = time.time_ns() - int(age_s * 1e9)
            self.producer.descriptors[self.head % slots] = (position, len(frame), packet_type, stamp)
            self.head += 1
        self.set_head(self.head)

    def set_head(self, head: int) -> None:
        self.head = head
        self.producer.words[HEAD_WORD] = head
        self.ring_bell()

    def ring_bell(self) -> None:
        self._router.bell.ring()

    def is_worked_off(self) -> bool:
        return int(self.producer.words[2 * HEAD_WORD]) == self.head


class Router:
    """The forwarder process, and around it the other services as the test plays them."""

    def __init__(self, endpoints: Endpoints, spaces: Namespaces) -> None:
        self.endpoints = endpoints
        self.spaces = spaces
        self.context: zmq.Context[Any] = zmq.Context()
        addresses = {"r0": 0x0A000001, "r1": 0x0A000101}
        self.interfaces = [kernel_interface(spaces.router, *each) for each in addresses.items()]
        self.neighbours = {(self.index(1), HOST1): HOST_MAC, (self.index(0), HOST0): HOST_MAC}
        self.control = StatePublisher(
            self.context, endpoints.control_state, endpoints.control_snapshot, self.router_state
        )
        self.arp = StatePublisher(self.context, endpoints.arp_state, endpoints.arp_snapshot, self._neighbour_state)
        self.control_answers = True
        self.reports = bound(self.context, zmq.PULL, endpoints.control_reports)
        self.to_arp = bound(self.context, zmq.PULL, endpoints.arp_frames)
        self.frames = connected(self.context, zmq.PUSH, endpoints.forwarder_frames)
        self.bell = Bell(endpoints.forwarder_bell)
        self.rpc = RpcClient(self.context, endpoints.forwarder_rpc)
        self.unresolved: list[Frame] = []
        self.batches: list[int] = []
        self.used: set[tuple[int, int]] = set()
        self.taken = self.asked = 0
        self.arp_answers = True
        self.report: Report | None = None
        self._before: dict[str, int] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.hosts = [Host(spaces.host, "h0"), Host(spaces.host, "h1")]

    def index(self, number: int) -> int:
        return self.interfaces[number].index

    def mac(self, number: int) -> bytes:
        return self.interfaces[number].mac

    def router_state(self) -> RouterState:
        """10.0.0.0/24 on r0, 10.0.1.0/24 and 198.51.100.0/24 on r1, 198.18.0.0/15 there with an MTU of 68."""
        hops = [NextHop(interface=each.index, gateway=0) for each in self.interfaces]
        far = [NextHop(interface=hop.interface, gateway=HOST1) for hop in hops[1:]]
        small = [NextHop(interface=hop.interface, gateway=SILENT) for hop in hops[1:]]
        return RouterState(
            full=True,
            interfaces=self.interfaces,
            paths=[
                RoutePath(id=LOCAL, kind="local", next_hops=[]),
                RoutePath(id=LINK0, kind="unicast", next_hops=hops[:1]),
                RoutePath(id=LINK1, kind="unicast", next_hops=hops[1:]),
                RoutePath(id=5, kind="unicast", next_hops=far),
                RoutePath(id=SMALL, kind="unicast", next_hops=small, mtu=68),
            ],
            routes=b"".join(
                struct.pack("=IBI", *route)
                for route in (
                    (0x0A000001, 32, LOCAL),
                    (0x0A000101, 32, LOCAL),
                    (0x0A000000, 24, LINK0),
                    (0x0A000100, 24, LINK1),
                    (0xC6336400, 24, 5),
                    (0xC6120000, 15, SMALL),
                )
            ),
        )

    def _neighbour_state(self) -> NeighbourState:
        known = [
            Neighbour(interface=index, address=address, mac=mac) for (index, address), mac in self.neighbours.items()
        ]
        return NeighbourState(full=True, neighbours=known, taken=self.taken)

    # --- Processes

    def start(self, service: str, *arguments: str) -> subprocess.Popen[bytes]:
        with netns.inside(self.spaces.router), self._log(service).open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"services.{service}", "--run-dir", str(self.endpoints.run_dir), *arguments],
                stderr=log,
            )
        self.processes[service] = process
        return process

    def _log(self, service: str) -> Path:
        return self.endpoints.run_dir.with_name(f"{service}.log")

    def _logs(self) -> dict[str, str]:
        return {service: self._log(service).read_text()[-2000:] for service in self.processes}

    def start_forwarder(self) -> None:
        self.report = None
        self.start("forwarder")
        self.wait(self.is_ready)

    def start_ingress(self, *arguments: str) -> None:
        self.start("ingress", "--interface", "r0", *arguments)

    def is_ready(self) -> bool:
        """The forwarder has taken over all that control has said, and can send by all interfaces."""
        wanted = [each.index for each in self.interfaces]
        return (
            self.report is not None
            and self.report.ready
            and self.report.generation == self.control.sequence
            and sorted(self.report.interfaces) == sorted(wanted)
        )

    def stop(self, service: str, number: signal.Signals) -> int:
        process = self.processes.pop(service)
        process.send_signal(number)
        return process.wait(LIMIT_S)

    def wait(self, condition: Callable[[], object]) -> None:
        """Play the other services until a condition holds."""
        deadline = clock() + LIMIT_S
        while not condition():
            assert clock() < deadline, f"not within {LIMIT_S} s; counted {self.counted()}; {self._logs()}"
            for service, process in self.processes.items():
                assert process.poll() is None, f"{service} ended: {self._log(service).read_text()}"
            self._play()
            self.reports.poll(2)

    def _play(self) -> None:
        if self.control_answers:
            self.control.answer_requests()
            self.control.beat(clock())
        self.arp.answer_requests()
        self.arp.beat(clock())
        while (parts := receive(self.reports)) is not None:
            report = decode(parts[0])
            if report.service == "forwarder":
                self.report = report
        while (parts := receive(self.to_arp)) is not None:
            message = decode(parts[0])
            if isinstance(message, NeighboursUsed):
                self.used |= set(message.neighbours)
            elif isinstance(message, FrameBatch) and message.purpose == "unresolved":
                self.unresolved += decode_frames(message, parts[1:])
                self.batches.append(message.count)
                assert message.handed is not None
                self.taken = message.handed + message.count
            elif isinstance(message, Handed):
                self.taken = message.handed
                self.asked += message.answer
                if message.answer and self.arp_answers:
                    self.arp.publish(NeighbourState(taken=self.taken), clock())
        for host in self.hosts:
            host.listen()

    def publish(self, state: RouterState) -> None:
        self.control.publish(state, clock())

    def learn(self, number: int, address: int, mac: bytes = HOST_MAC, *, untaken: int = 0) -> None:
        """Play arp that has learned a neighbour, and has not taken so many of the forwarder's last frames yet."""
        self.neighbours[self.index(number), address] = mac
        known = Neighbour(interface=self.index(number), address=address, mac=mac)
        self.arp.publish(NeighbourState(neighbours=[known], taken=self.taken - untaken), clock())

    def hand(self, parts: list[bytes]) -> None:
        """Send a message to the forwarder's frames endpoint."""
        assert self.frames.poll(int(LIMIT_S * 1000), zmq.POLLOUT), "the forwarder does not listen"
        self.frames.send_multipart(parts)

    def frame(self, packet: bytes) -> bytes:
        """A frame of host 0 to the router."""
        return self.mac(0) + HOST_MAC + b"\x08\x00" + packet

    # --- What is to be seen

    def mark(self) -> None:
        """Count and listen from now on."""
        self._before.clear()
        self._before = self.counted()
        for host in self.hosts:
            host.listen()
            host.heard.clear()
        self.unresolved.clear()
        self.batches.clear()

    def counted(self) -> dict[str, int]:
        path = self.endpoints.counters("forwarder")
        if not path.exists():
            return {}
        block = CounterBlock(path)
        try:
            now = {counter.name: block.total(counter) - self._before.get(counter.name, 0) for counter in Counter}
        finally:
            block.close()
        return {name: count for name, count in now.items() if count}

    def count(self, counter: Counter) -> int:
        return self.counted().get(counter.name, 0)

    def check_balance(self) -> None:
        """What the forwarder took or made is sent, delivered, consumed, dropped, held or handed on."""
        counted = self.counted()
        fates = {Kind.SENT, Kind.DELIVERED, Kind.CONSUMED, Kind.DROPPED, Kind.WAITING}
        left = sum(counted.get(counter.name, 0) for counter in Counter if counter.kind in fates)
        entered = counted.get("TAKEN", 0) + counted.get("GENERATED", 0)
        assert entered == left + counted.get("HANDED", 0), counted

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()
        for host in self.hosts:
            host.close()
        self.rpc.close()
        self.context.destroy(linger=0)


def works(router: Router, ring: Ring) -> None:
    """See that frames still go through, whatever happened before."""
    router.wait(ring.is_worked_off)
    router.hosts[1].heard.clear()
    ring.put(router.frame(datagram(0xBEEF)))
    router.wait(lambda: 0xBEEF in numbers(router.hosts[1].datagrams()))
