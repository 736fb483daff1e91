"""The arp process in a network namespace, with a raw host at the other end of its veth pair.

Control and the forwarder are played by the test. Expected bytes are written by hand, at the offsets of RFC 826.
"""

import errno
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq
from pyroute2 import IPRoute
from pyroute2 import netns as pyroute2_netns

from services.common import netns
from services.common.bus import RpcClient, RpcRefusedError, StatePublisher, StateSubscriber, bound, connected, receive
from services.common.counters import Counter, CounterBlock, Kind
from services.common.endpoints import Endpoints, prepare_run_dir
from services.common.messages import (
    Frame,
    Interface,
    InterfaceAddress,
    NeighbourState,
    NeighboursUsed,
    Report,
    RouterState,
    decode,
    decode_frames,
    encode,
    encode_frames,
)
from services.common.parameters import ArpParameters, Parameters
from services.common.runtime import clock

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

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

    def start(self) -> None:
        with netns.inside(ROUTER_NS):
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.arp", "--run-dir", str(self.endpoints.run_dir)], cwd=REPOSITORY
            )
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
            self.neighbours |= {(each.interface, each.address): each.mac for each in state.neighbours}
            for gone in state.gone:
                self.neighbours.pop(gone, None)
        while (parts := receive(self.forwarder)) is not None:
            header = decode(parts[0])
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


@pytest.fixture
def router(tmp_path: Path) -> Iterator[Router]:
    with namespaces():
        router = Router(prepare_run_dir(tmp_path / "run"))
        try:
            router.start()
            yield router
            check_balance(router.counters())
        finally:
            router.close()


def check_balance(counters: dict[Counter, int]) -> None:
    """What arp took or made is sent, consumed, dropped, handed on or waiting."""
    entered = counters.get(Counter.TAKEN, 0) + counters.get(Counter.GENERATED, 0)
    fates = {Kind.SENT, Kind.CONSUMED, Kind.DROPPED, Kind.WAITING}
    left = sum(value for counter, value in counters.items() if counter.kind in fates or counter is Counter.HANDED)
    assert entered == left, counters


def test_it_answers_a_request_for_its_own_address(router: Router) -> None:
    request = arp_bytes(1, (HOST_MAC, HOST_BYTES), (NO_MAC, OWN_BYTES))
    router.hand_arp(BROADCAST + HOST_MAC + b"\x08\x06" + request, packet_type=1)
    router.wait(lambda: bool(router.heard_arp(2)))
    (frame,) = [frame for frame in router.heard if frame[10 + 14 + 7] == 2]
    assert frame[10:16] == HOST_MAC
    assert frame[16:22] == router.mac
    assert frame[22:24] == b"\x08\x06"
    assert frame[24:52] == arp_bytes(2, (router.mac, OWN_BYTES), (HOST_MAC, HOST_BYTES))
    assert frame[52:] == bytes(60 - 42)  # padded to 60 bytes
    router.wait(lambda: router.neighbours == {(router.index, HOST): HOST_MAC})
    assert router.counters()[Counter.ARP_REPLIES_SENT] == 1


def test_it_announces_its_address_twice(router: Router) -> None:
    expected = arp_bytes(1, (router.mac, OWN_BYTES), (NO_MAC, OWN_BYTES))
    router.wait(lambda: len(router.heard) >= 2)
    for frame in router.heard:
        assert frame[10:] == BROADCAST + router.mac + b"\x08\x06" + expected + bytes(18)


def test_frames_wait_for_the_answer_and_leave_in_order_with_their_virtio_headers(router: Router) -> None:
    # struct virtio_net_hdr: flags NEEDS_CSUM, no GSO, header 54 bytes, checksum from byte 34 at its byte 16 (TCP)
    unfinished = struct.pack("=BBHHHH", 1, 0, 0, 0, 34, 16)
    # flags NEEDS_CSUM, GSO TCPv4, header 54 bytes, segments of 1448 bytes
    super_frame = struct.pack("=BBHHHH", 1, 1, 54, 1448, 34, 16)
    head = b"\0" * 12 + b"\x08\x00"
    tcp = bytes.fromhex("45000fa8 00004000 4006 0000 c0a80301 c0a80102 1234 5678 00000000 00000000 5010 ffff 0000 0000")
    payloads = [datagram(1), tcp[:2] + b"\x00\x64" + tcp[4:] + bytes(60), tcp + bytes(4008 - 40)]
    headers = [PLAIN, unfinished, super_frame]
    router.hand_unresolved(HOST, *(header + head + data for header, data in zip(headers, payloads, strict=True)))
    router.wait(lambda: bool(router.heard_arp(1)))
    assert router.heard_arp(1) == [arp_bytes(1, (router.mac, OWN_BYTES), (NO_MAC, HOST_BYTES)) + bytes(18)]
    assert router.counters()[Counter.WAITING] == 3
    assert router.heard_ip() == []

    reply = arp_bytes(2, (HOST_MAC, HOST_BYTES), (router.mac, OWN_BYTES))
    router.hand_arp(router.mac + HOST_MAC + b"\x08\x06" + reply, packet_type=0)
    router.wait(lambda: router.neighbours == {(router.index, HOST): HOST_MAC} and len(router.heard_ip()) == 3)
    for frame, payload in zip(router.heard_ip(), payloads, strict=True):
        assert frame[10:] == HOST_MAC + router.mac + b"\x08\x00" + payload
    assert [frame[:2] for frame in router.heard_ip()] == [b"\0\0", b"\1\0", b"\1\1"]  # flags and GSO type
    assert router.heard_ip()[1][6:10] == unfinished[6:]
    assert router.heard_ip()[2][4:6] == (1448).to_bytes(2, sys.byteorder)
    assert router.counters()[Counter.FORWARDED] == 3
    (shown,) = router.rpc.call("neigh.show")
    assert shown | {"age_s": 0} == {
        "dst": HOST,
        "interface": router.index,
        "lladdr": HOST_MAC,
        "state": "REACHABLE",
        "age_s": 0,
        "waiting_frames": 0,
    }


def test_a_silent_next_hop_is_asked_three_times_and_its_frames_come_back(router: Router) -> None:
    router.publisher.publish(RouterState(parameters=Parameters()), clock())
    router.wait(lambda: router.report is not None and router.report.generation == router.publisher.sequence)
    first, second = (PLAIN + bytes(12) + b"\x08\x00" + datagram(number) for number in (1, 2))
    began = clock()
    router.hand_unresolved(SILENT, first, second)
    router.wait(lambda: len(router.returned) == 2)
    assert clock() - began >= 3.0
    assert [bytes(frame.data) for frame in router.returned] == [first, second]
    assert [(frame.in_interface, frame.out_interface, frame.next_hop) for frame in router.returned] == [
        (9, router.index, SILENT)
    ] * 2
    assert len(router.heard_arp(1)) == 3
    assert router.counters()[Counter.HANDED] == 2


def test_a_killed_process_leaves_no_frame_uncounted_and_works_again(router: Router) -> None:
    router.hand_unresolved(SILENT, PLAIN + bytes(12) + b"\x08\x00" + datagram(1))
    router.wait(lambda: router.counters().get(Counter.WAITING) == 1)
    assert router.stop(signal.SIGKILL) == -signal.SIGKILL
    router.start()
    assert router.counters().get(Counter.WAITING, 0) == 0
    assert router.counters()[Counter.DROP_RESTARTED] == 1
    router.heard.clear()
    router.hand_unresolved(HOST, PLAIN + bytes(12) + b"\x08\x00" + datagram(2))
    router.wait(lambda: bool(router.heard_arp(1)))
    reply = arp_bytes(2, (HOST_MAC, HOST_BYTES), (router.mac, OWN_BYTES))
    router.hand_arp(router.mac + HOST_MAC + b"\x08\x06" + reply, packet_type=0)
    router.wait(lambda: len(router.heard_ip()) == 1 and (router.index, HOST) in router.neighbours)


def test_it_stops_on_sigterm_and_counts_the_frames_that_waited(router: Router) -> None:
    router.hand_unresolved(SILENT, PLAIN + bytes(12) + b"\x08\x00" + datagram(1))
    router.wait(lambda: router.counters().get(Counter.WAITING) == 1)
    assert router.stop(signal.SIGTERM) == 0
    assert router.counters().get(Counter.WAITING, 0) == 0
    assert router.counters()[Counter.DROP_RESTARTED] == 1


def test_an_interface_may_go_and_come_back_under_another_index(router: Router) -> None:
    old_index, old_host = router.index, router.host
    router.hand_unresolved(SILENT, PLAIN + bytes(12) + b"\x08\x00" + datagram(1))
    router.wait(lambda: router.counters().get(Counter.WAITING) == 1)
    with IPRoute(netns=ROUTER_NS, flags=0) as kernel:
        kernel.link("del", index=old_index)
    router.publisher.publish(RouterState(interfaces_gone=[old_index]), clock())
    router.interfaces = []
    router.wait(lambda: router.report is not None and router.report.interfaces == [])
    assert router.counters()[Counter.DROP_UNKNOWN_INTERFACE] == 1

    make_veth()
    old_host.close()
    router.host = Host()
    router.interfaces = [router._kernel_interface()]
    assert router.index != old_index
    router.publisher.publish(RouterState(interfaces=router.interfaces), clock())
    router.wait(lambda: router.report is not None and router.report.interfaces == [router.index])
    router.heard.clear()
    request = arp_bytes(1, (HOST_MAC, HOST_BYTES), (NO_MAC, OWN_BYTES))
    router.hand_arp(BROADCAST + HOST_MAC + b"\x08\x06" + request, packet_type=1)
    router.wait(lambda: len(router.heard_arp(2)) == 1)


def test_an_interface_may_be_replaced_before_control_tells_of_it(router: Router) -> None:
    with IPRoute(netns=ROUTER_NS, flags=0) as kernel:
        kernel.link("del", index=router.index)
    request = arp_bytes(1, (HOST_MAC, HOST_BYTES), (NO_MAC, OWN_BYTES))
    router.hand_arp(BROADCAST + HOST_MAC + b"\x08\x06" + request, packet_type=1)
    router.wait(lambda: router.counters().get(Counter.DROP_TX_FAILED, 0) >= 1)
    router.wait(lambda: router.report is not None and router.report.interfaces == [])
    make_veth(index=router.index)
    router.host.close()
    router.host = Host()
    router.wait(lambda: router.report is not None and router.report.interfaces == [router.index])
    router.hand_arp(BROADCAST + HOST_MAC + b"\x08\x06" + request, packet_type=1)
    router.wait(lambda: len(router.heard_arp(2)) == 1)


def test_what_the_kernel_refuses_to_send_is_counted(router: Router) -> None:
    router.hand_arp(
        BROADCAST + HOST_MAC + b"\x08\x06" + arp_bytes(1, (HOST_MAC, HOST_BYTES), (NO_MAC, OWN_BYTES)), packet_type=1
    )
    router.wait(lambda: bool(router.neighbours))
    too_long = PLAIN + bytes(12) + b"\x08\x00" + datagram(1, 1600)  # MTU 1500, and no super-frame
    router.hand_unresolved(HOST, too_long)
    router.wait(lambda: router.counters().get(Counter.DROP_TX_FAILED) == 1)


def test_malformed_messages_are_counted_and_nothing_else(router: Router) -> None:
    frame = BROADCAST + HOST_MAC + b"\x08\x06" + arp_bytes(1, (HOST_MAC, HOST_BYTES), (NO_MAC, OWN_BYTES))
    header, descriptors, data = encode_frames("arp", [Frame(router.index, 0, 0, 1, False, PLAIN + frame)])
    ip_header = encode_frames("ip", [Frame(router.index, 0, 0, 1, False, PLAIN + frame)])[0]
    bad = [
        [b""],
        [b"\x01\xc1"],
        [b"\xff" * 40],
        [header],
        [header, descriptors],
        [header, descriptors, data[:-1]],
        [header, descriptors[:-4] + b"\xff\xff\xff\xff", data],
        [ip_header, descriptors, data],
        [encode(NeighboursUsed(neighbours=[])), b"more"],
        [encode(RouterState())],
    ]
    for parts in bad:
        router.send(parts)
    router.hand_arp(frame, packet_type=1)
    router.wait(lambda: bool(router.heard_arp(2)))
    assert router.counters()[Counter.BAD_MESSAGES] == len(bad)
    with pytest.raises(RpcRefusedError) as refused:
        router.rpc.call("neigh.sow")
    assert refused.value.error.code == "unknown-method"


def test_use_of_a_stale_neighbour_brings_it_to_delay(router: Router) -> None:
    request = arp_bytes(1, (HOST_MAC, HOST_BYTES), (NO_MAC, OWN_BYTES))
    router.hand_arp(BROADCAST + HOST_MAC + b"\x08\x06" + request, packet_type=1)
    router.wait(lambda: [each["state"] for each in router.rpc.call("neigh.show")] == ["STALE"])
    router.send([encode(NeighboursUsed(neighbours=[(router.index, HOST)]))])
    router.wait(lambda: [each["state"] for each in router.rpc.call("neigh.show")] == ["DELAY"])


def test_a_second_instance_is_refused_in_one_line(router: Router) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "services.arp"],
        cwd=REPOSITORY,
        env=os.environ | {"HOPWIRE_RUN_DIR": str(router.endpoints.run_dir)},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert router.process is not None
    assert second.returncode == 1
    assert second.stderr.count("\n") == 1
    assert f"arp already runs on {router.endpoints.run_dir} (process {router.process.pid})" in second.stderr


WITHOUT_NET_RAW = """
import ctypes, os, sys
assert ctypes.CDLL(None).prctl(24, 13, 0, 0, 0) == 0  # PR_CAPBSET_DROP, CAP_NET_RAW: gone with the next execve
os.execv(sys.executable, [sys.executable, "-m", "services.arp", "--run-dir", sys.argv[1]])
"""


def test_without_the_capability_it_says_so_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_NET_RAW, str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "hopwire arp: cannot open an AF_PACKET socket: CAP_NET_RAW is missing; run as root\n"
