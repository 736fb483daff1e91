"""The ingress process on a veth pair in namespaces of its own, with a raw sender at the other end.

Control, forwarder and arp are played by the test.
"""

import ctypes
import errno
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import zmq
from pyroute2 import IPRoute
from pyroute2 import netns as pyroute2_netns

from services.common import netns
from services.common.bus import bound, receive
from services.common.counters import Counter, CounterBlock
from services.common.endpoints import Endpoints, prepare_run_dir
from services.common.frame_ring import SLOTS, RingConsumer
from services.common.messages import Bell, FrameBatch, Report, decode, decode_frames

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

ROUTER_NS: Final = f"ingt{os.getpid()}-r"
HOST_NS: Final = f"ingt{os.getpid()}-h"
LIMIT_S: Final = 30.0

ROUTER_MAC: Final = bytes.fromhex("02000000000b")
HOST_MAC: Final = bytes.fromhex("02000000000a")
BROADCAST: Final = b"\xff" * 6
PLAIN: Final = bytes(10)
ARP: Final = bytes.fromhex("0001 0800 06 04 0001 02000000000a c0a80701 000000000000 c0a80702")

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


@pytest.fixture(autouse=True)
def namespaces() -> Iterator[None]:
    try:
        make_pair()
        yield
    finally:
        for name in (ROUTER_NS, HOST_NS):
            if name in netns.names():
                pyroute2_netns.remove(name)


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """A short path, for Unix sockets."""
    path = Path(f"/tmp/ingt{os.getpid()}")
    yield path
    for entry in sorted(path.rglob("*"), reverse=True):
        entry.rmdir() if entry.is_dir() else entry.unlink()
    if path.exists():
        path.rmdir()


@pytest.fixture
def host() -> Iterator[Sender]:
    sender = Sender(HOST_NS, "h0")
    yield sender
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
        self.bell = bound(self.context, zmq.PULL, self.endpoints.forwarder_bell)
        self.frames = bound(self.context, zmq.PULL, self.endpoints.forwarder_frames)
        with netns.inside(ROUTER_NS):
            self.index = socket.if_nametoindex("e0")
        self.arguments = arguments
        self.report: Report | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self._log = run_dir / "stderr"

    def start(self) -> None:
        with netns.inside(ROUTER_NS), self._log.open("w") as log:
            self.process = subprocess.Popen(
                program(self.endpoints.run_dir, "--interface", "e0", *self.arguments), stderr=log
            )
        self.report = None
        wait_for("a report", self._is_ready)

    def _is_ready(self) -> bool:
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

    def counted(self) -> dict[str, int]:
        block = CounterBlock(self.endpoints.counters("ingress-e0"))
        counters = block.snapshot().get(self.index, {})
        block.close()
        return counters

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
        self.context.destroy(linger=0)


@contextmanager
def started(run_dir: Path, *arguments: str) -> Iterator[Router]:
    router = Router(run_dir, *arguments)
    try:
        router.start()
        yield router
    finally:
        router.close()


@pytest.fixture
def router(run_dir: Path) -> Iterator[Router]:
    with started(run_dir) as router:
        yield router


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


# --- frames into the ring ---------------------------------------------------------------------------------------------


def test_frames_arrive_whole_with_type_header_and_time(router: Router, host: Sender) -> None:
    sent: list[tuple[bytes, bytes, int]] = [
        (PLAIN, frame(bytes(range(46))), 0),
        (PLAIN, frame(b"\x45" + bytes(1499)), 0),
        (PLAIN, frame(b"to all", BROADCAST), 1),
        (PLAIN, frame(b"to a group", bytes.fromhex("01005e000005")), 2),
        (PLAIN, frame(b"to another", bytes.fromhex("02000000000c")), 3),
        (PLAIN, frame(b"not IPv4", ethertype=0x88CC), 0),
        (PARTIAL_VIRTIO, PARTIAL, 0),
        (GSO_VIRTIO, GSO, 0),
    ]
    ring = router.ring()
    assert ring.interface_index == router.index
    before_ns = time.time_ns()
    for virtio, data, _ in sent:
        host.send(data, virtio)
    entries = take(ring, len(sent))
    assert [entry[:3] for entry in entries] == sent
    assert all(before_ns <= seen_ns <= time.time_ns() for *_, seen_ns in entries)
    assert router.counted() | {"BELLS": 0} == {
        "RX_FRAMES": len(sent),
        "RX_BYTES": sum(len(data) for _, data, _ in sent),
        "HANDED": len(sent),
        "BELLS": 0,
    }
    wait_for("the same counters at control", lambda: router.reported().get("RX_FRAMES") == len(sent))


def test_tcp_of_a_host_with_its_offloads(router: Router) -> None:
    """What the kernel sends itself, its checksum unfinished."""
    for namespace, interface, address in ((ROUTER_NS, "e0", "10.9.8.1"), (HOST_NS, "h0", "10.9.8.2")):
        with netns.inside(namespace), IPRoute() as kernel:
            kernel.addr("add", index=kernel.link_lookup(ifname=interface)[0], address=address, prefixlen=24)
    with netns.inside(ROUTER_NS):
        listener = socket.create_server(("10.9.8.1", 80))
    with netns.inside(HOST_NS):
        client = socket.socket()
    ring = router.ring()
    with listener, client:
        client.settimeout(LIMIT_S)
        client.connect(("10.9.8.1", 80))
        client.sendall(b"x" * 20_000)
        super_frame = None
        while super_frame is None:
            (virtio, data, packet_type, _) = take(ring, 1)[0]
            flags, gso_type, _, gso_size, start, offset = struct.unpack("=BBHHHH", virtio)
            assert (packet_type, data[:12], flags & 1, start, offset) == (0, ROUTER_MAC + HOST_MAC, 1, 34, 16)
            if gso_type:
                super_frame = data
                assert (gso_type, gso_size) == (1, 1448)
    assert len(super_frame) > 1514
    assert super_frame.endswith(b"x" * 1448)


def test_tags(router: Router, host: Sender) -> None:
    ring = router.ring()
    host.send(ROUTER_MAC + HOST_MAC + bytes.fromhex("8100 0064 0800") + b"VLAN 100")
    host.send(ROUTER_MAC + HOST_MAC + bytes.fromhex("8100 e000 0800") + b"priority 7, no VLAN")
    assert [data for _, data, _, _ in take(ring, 1)] == [frame(b"priority 7, no VLAN")]
    assert router.counted()["DROP_VLAN"] == 1


def test_what_the_router_sends_itself_is_not_received(router: Router, host: Sender) -> None:
    ring = router.ring()
    itself = Sender(ROUTER_NS, "e0")
    itself.send(frame(b"outgoing", HOST_MAC))
    itself.close()
    host.send(frame(b"incoming"))
    assert [data for _, data, _, _ in take(ring, 1)] == [frame(b"incoming")]
    assert router.counted()["RX_FRAMES"] == 1


def test_many_frames_in_order(router: Router, host: Sender) -> None:
    """More than the ring has slots."""
    ring = router.ring()
    for number in range(3 * SLOTS):
        host.send(frame(number.to_bytes(4, "big") + bytes(42)))
        if number % 256 == 255:
            payloads = [data[14:18] for _, data, _, _ in take(ring, 256)]
            assert payloads == [one.to_bytes(4, "big") for one in range(number - 255, number + 1)]
    assert router.counted()["HANDED"] == router.counted()["RX_FRAMES"] == 3 * SLOTS


def test_without_a_forwarder_both_rings_hold_and_the_rest_is_counted(router: Router, host: Sender) -> None:
    total = SLOTS + 500
    for number in range(total):
        host.send(frame(number.to_bytes(4, "big")))
    wait_for("all are counted", lambda: router.counted().get("RX_FRAMES") == total)
    counted = router.counted()
    assert (counted["HANDED"], counted["DROP_FORWARDER_FULL"]) == (SLOTS, 500)
    ring = router.ring()
    assert [data[14:18] for _, data, _, _ in take(ring, SLOTS)] == [one.to_bytes(4, "big") for one in range(SLOTS)]
    host.send(frame(b"after"))
    assert [data for _, data, _, _ in take(ring, 1)] == [frame(b"after")]


def test_the_bell_rings_once_for_a_sleeping_consumer(router: Router, host: Sender) -> None:
    ring = router.ring()

    def rings() -> bool:
        ring.give_back(ring.available())
        assert ring.go_to_sleep()
        host.send(frame(b"wake up"))
        return bool(router.bell.poll(50))

    wait_for("the bell", rings)
    while (parts := receive(router.bell)) is not None:
        assert [decode(part) for part in parts] == [Bell(interface="e0", epoch=ring.epoch)]
    rung = router.counted()["BELLS"]
    ring.give_back(ring.available())
    for _ in range(20):
        host.send(frame(b"awake"))
    take(ring, 20)
    assert router.counted()["BELLS"] == rung
    assert ring.go_to_sleep()
    host.send(frame(b"wake up again"))
    assert router.bell.poll(int(LIMIT_S * 1000))
    assert receive(router.bell) is not None
    take(ring, 1)
    assert router.counted()["BELLS"] == rung + 1


# --- ARP, messages ----------------------------------------------------------------------------------------------------


def test_arp_frames_go_to_arp(router: Router, host: Sender) -> None:
    sent = 0

    def arrives() -> bool:
        nonlocal sent
        host.send(frame(ARP + bytes(18), BROADCAST, 0x0806))
        sent += 1
        return bool(router.arp.poll(50))

    wait_for("an ARP frame", arrives)
    header, *parts = router.arp.recv_multipart()
    batch = decode(header)
    assert batch == FrameBatch(purpose="arp", count=batch.count)
    for one in decode_frames(batch, parts):
        assert one[:5] == (router.index, 0, 0, 1, False)
        assert one.data == PLAIN + frame(ARP + bytes(18), BROADCAST, 0x0806)
    wait_for("all are counted", lambda: router.counted().get("RX_FRAMES") == sent)
    counted = router.counted()
    assert counted.get("HANDED", 0) + counted.get("DROP_ARP_FULL", 0) == sent
    assert counted["HANDED"] >= 1
    assert router.ring().available() == 0


def test_inline_frames_travel_in_messages(run_dir: Path, host: Sender) -> None:
    with started(run_dir, "--transport", "inline") as router:
        inline_frames_arrive(router, router.frames, host)
        assert not router.endpoints.ring("e0").exists()


def test_inline_frames_to_a_forwarder_elsewhere(run_dir: Path, host: Sender) -> None:
    with zmq.Context() as context, bound(context, zmq.PULL, f"ipc://{prepare_run_dir(run_dir).run_dir}/far") as far:
        with netns.inside(ROUTER_NS):
            far.bind("tcp://127.0.0.1:*")
        endpoint = far.get_string(zmq.LAST_ENDPOINT)
        with started(run_dir, "--transport", "inline", "--forwarder", endpoint) as router:
            inline_frames_arrive(router, far, host)
            assert not router.frames.poll(0)


def inline_frames_arrive(router: Router, forwarder: "zmq.Socket[bytes]", host: Sender) -> None:
    sent = 0

    def arrives() -> bool:
        nonlocal sent
        host.send(frame(b"hello"))
        sent += 1
        return bool(forwarder.poll(50))

    wait_for("a batch", arrives)
    host.send(PARTIAL, PARTIAL_VIRTIO)
    host.send(GSO, GSO_VIRTIO)
    arrived: list[bytes] = []
    while not arrived or arrived[-1] != GSO_VIRTIO + GSO:
        assert forwarder.poll(int(LIMIT_S * 1000))
        header, *parts = forwarder.recv_multipart()
        batch = decode(header)
        assert batch == FrameBatch(purpose="ip", count=batch.count)
        for one in decode_frames(batch, parts):
            assert one[:5] == (router.index, 0, 0, 0, False)
            arrived.append(bytes(one.data))
    assert set(arrived[:-2]) == {PLAIN + frame(b"hello")}
    assert arrived[-2] == PARTIAL_VIRTIO + PARTIAL
    counted = router.counted()
    assert counted["HANDED"] == len(arrived)
    assert counted["RX_FRAMES"] == sent + 2 == len(arrived) + counted.get("DROP_FORWARDER_FULL", 0)


# --- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(router: Router, number: signal.Signals) -> None:
    assert router.endpoints.ring("e0").exists()
    assert router.stop(number) == 0
    assert router.complaints() == []
    assert list(router.endpoints.rings.iterdir()) == []


def test_a_killed_one_starts_again_with_its_counts_and_a_new_ring(router: Router, host: Sender) -> None:
    ring = router.ring()
    host.send(frame(b"1"))
    take(ring, 1)
    assert router.stop(signal.SIGKILL) == -signal.SIGKILL
    router.start()
    assert not ring.is_current()
    again = router.ring()
    assert again.epoch != ring.epoch
    host.send(frame(b"2"))
    assert [data for _, data, _, _ in take(again, 1)] == [frame(b"2")]
    assert router.counted()["RX_FRAMES"] == 2


def test_an_interface_that_vanishes_ends_it_with_one_line(router: Router) -> None:
    with netns.inside(HOST_NS), IPRoute() as kernel:
        kernel.link("del", index=kernel.link_lookup(ifname="h0")[0])
    assert router.wait() == 1
    assert router.complaints() == ["hopwire ingress: interface e0 vanished; start again when it is back"]
    assert list(router.endpoints.rings.iterdir()) == []


def test_an_interface_that_goes_down_and_comes_back(router: Router, host: Sender) -> None:
    ring = router.ring()
    set_link(ROUTER_NS, "e0", state="down")
    router.report = None
    wait_for("a report while it is down", lambda: router.read_reports() or router.report)
    assert router.is_running()
    set_link(ROUTER_NS, "e0", state="up")
    host.send(frame(b"back"))
    assert [data for _, data, _, _ in take(ring, 1)] == [frame(b"back")]


# --- bad input --------------------------------------------------------------------------------------------------------


def refused(run_dir: Path, *arguments: str, before: Callable[[], None] | None = None) -> tuple[int, list[str]]:
    """Run an ingress that does not start; return its exit status and the lines on stderr."""
    with netns.inside(ROUTER_NS):
        done = subprocess.run(
            program(run_dir, *arguments),
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
            preexec_fn=before,
        )
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()


def drop_net_raw() -> None:
    libc = ctypes.CDLL(None)
    assert libc.prctl(24, 13, 0, 0, 0) == 0  # PR_CAPBSET_DROP, CAP_NET_RAW


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--interface", "nope"), "no interface matches 'nope'; there are: "),
        (("--interface", "10.77.0.0/16"), "no interface matches '10.77.0.0/16'; there are: "),
        (("--interface", "lo"), "interface lo is not Ethernet but the loopback interface; there are: "),
        (("--interface", "e0", "--transport", "carrier-pigeon"), "transport 'carrier-pigeon' is unknown; choose "),
        (("--interface", "e0", "--log-level", "loud"), "log level 'loud' is unknown; choose debug, info, "),
        (("--interface", "e0", "--forwarder", "tcp://127.0.0.1:1"), "--forwarder is for frames inside messages; add "),
        (("--interface", "e0", "--arp", "nonsense"), "cannot connect to 'nonsense': "),
    ],
)
def test_one_line_and_status_1(run_dir: Path, arguments: tuple[str, ...], line: str) -> None:
    status, lines = refused(run_dir, *arguments)
    assert (status, len(lines)) == (1, 1), lines
    assert lines[0].startswith(f"hopwire ingress: {line}")
    assert not list(run_dir.glob("rings/*"))


def test_an_interface_that_is_down(run_dir: Path) -> None:
    set_link(ROUTER_NS, "e0", state="down")
    status, lines = refused(run_dir, "--interface", "e0")
    assert (status, lines) == (1, ["hopwire ingress: interface e0 is down; run: ip link set e0 up"])


def test_without_the_capability(run_dir: Path) -> None:
    status, lines = refused(run_dir, "--interface", "e0", before=drop_net_raw)
    assert (status, lines) == (
        1,
        ["hopwire ingress: cannot open an AF_PACKET socket: CAP_NET_RAW is missing; run as root"],
    )
    assert not list(run_dir.glob("rings/*"))


def test_a_second_instance(router: Router, host: Sender) -> None:
    status, lines = refused(router.endpoints.run_dir, "--interface", "e0")
    assert status == 1
    assert lines == [
        f"hopwire ingress: ingress-e0 already runs on {router.endpoints.run_dir} (process {router.pid}); "
        "stop it, or choose another --run-dir"
    ]
    host.send(frame(b"the first one still receives"))
    assert len(take(router.ring(), 1)) == 1


@pytest.mark.parametrize(
    "arguments",
    [(), ("--interface",), ("--interface", "e0", "--ring-mib", "0"), ("--interface", "e0", "--ring-mib", "x"), ("-z",)],
)
def test_usage_errors_have_status_2(run_dir: Path, arguments: tuple[str, ...]) -> None:
    status, lines = refused(run_dir, *arguments)
    assert status == 2
    assert any("Error" in line or "Usage" in line for line in lines)
    assert not any("Traceback" in line for line in lines)


def test_settings_from_the_environment(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOPWIRE_INTERFACE", "from-the-environment")
    monkeypatch.setenv("HOPWIRE_LOG_LEVEL", "error")
    status, lines = refused(run_dir)
    assert status == 1
    assert lines[0].startswith("hopwire ingress: no interface matches 'from-the-environment'")
