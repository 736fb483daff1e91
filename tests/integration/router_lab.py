"""A started lab as its tests see it: each router's control, its processes, and the wires of the hosts."""

import ctypes
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import zmq

from services.common import netns
from services.common.bus import RpcClient, RpcRefusedError
from services.common.endpoints import Endpoints
from services.launcher.lab.lab import Lab
from services.launcher.lab.topology import Topology

PREFIX: Final = f"r{os.getpid()}-"
LIMIT_S: Final = 10.0
"""The most that a test waits for a state, unless it says otherwise."""
_POLL_S: Final = 0.02

_ETH_P_ALL: Final = 3  # linux/if_ether.h
_SOL_PACKET: Final = 263  # linux/socket.h
_PACKET_IGNORE_OUTGOING: Final = 23  # linux/if_packet.h
_PACKET_VNET_HDR: Final = 15
PLAIN: Final = bytes(10)
"""struct virtio_net_hdr of a frame without offloads."""
_ANY_FRAME_BYTES: Final = 70_000

_context: zmq.Context[Any] = zmq.Context()
_running: list["RouterLab"] = []

T = TypeVar("T")


def running_labs() -> list["RouterLab"]:
    """Return the labs whose routers run now."""
    return list(_running)


def wait_for(what: str, look: Callable[[], T | None], limit_s: float = LIMIT_S) -> T:
    """Look again and again until something true is seen, and return that."""
    deadline = time.monotonic() + limit_s
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {limit_s:g} s: {what}; last seen: {seen!r}")
        time.sleep(_POLL_S)
    return seen


class Control:
    """What a router's control says, by its RPC and by the program control-cli."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir

    def ask(self, method: str, **params: Any) -> Any:
        client = RpcClient(_context, Endpoints(self.run_dir).control_rpc)
        try:
            return client.call(method, params, timeout_s=LIMIT_S)
        finally:
            client.close()

    def asked(self, method: str) -> Any:
        """Return the answer of a control that may just be dead or starting, None if there is none."""
        client = RpcClient(_context, Endpoints(self.run_dir).control_rpc)
        try:
            return client.call(method, timeout_s=0.5)
        except RpcRefusedError:
            return None
        finally:
            client.close()

    def cli(self, *words: str) -> "subprocess.CompletedProcess[str]":
        program = [str(Path(sys.executable).with_name("control-cli")), "--run-dir", str(self.run_dir)]
        return subprocess.run([*program, *words], capture_output=True, text=True, timeout=30, check=False)

    def change(self, *words: str) -> None:
        """Change something with control-cli, which then says nothing."""
        done = self.cli(*words)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), words

    def show(self, *words: str) -> Any:
        """Return what control-cli shows as JSON."""
        done = self.cli("-j", *words)
        assert (done.returncode, done.stderr) == (0, ""), words
        return json.loads(done.stdout)

    def pids(self) -> dict[str, int]:
        """Return the process id of each service that lives, by instance."""
        status = self.asked("status") or {"services": []}
        services = {one["instance"]: one["pid"] for one in status["services"] if one["up"]}
        lock = Endpoints(self.run_dir).lock("control")
        return services | ({"control": int(lock.read_text())} if lock.exists() and lock.read_text() else {})

    def is_ready(self) -> bool:
        status = self.asked("status")
        return bool(status and status["ready"])

    def wait_until_ready(self, limit_s: float = LIMIT_S) -> None:
        wait_for(f"{self.run_dir.name} is ready: {self.asked('status')}", self.is_ready, limit_s)

    def wait_for_reports(self) -> dict[str, Any]:
        """Wait until every live service has reported anew, and return the counters of then."""
        started = time.monotonic()

        def all_have_reported() -> bool:
            status = self.asked("status")
            elapsed = time.monotonic() - started
            return bool(status) and all(one["age_s"] < elapsed for one in status["services"] if one["up"])

        wait_for(f"all services of {self.run_dir.name} report", all_have_reported)
        counters: dict[str, Any] = self.ask("counters")
        return counters

    def counts(self) -> "Counts":
        return Counts(self.wait_for_reports()["interfaces"])

    def settle(self) -> None:
        """Wait until every frame has a fate: the balance has nothing in flight."""
        deadline = time.monotonic() + LIMIT_S
        while (counters := self.wait_for_reports())["balance"]["in_flight"] != 0:
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"{self.run_dir.name}: {counters['balance']['in_flight']} frames without a fate\n"
                    f"{self.cli('counters').stdout}\n{json.dumps(counters['services'], indent=1)}"
                )


class Counts:
    """Counters of one moment, by interface name and counter name."""

    def __init__(self, by_interface: dict[str, dict[str, int]]) -> None:
        self._by_interface = by_interface

    def get(self, counter: str, interface: str | None = None) -> int:
        rows = self._by_interface.values() if interface is None else [self._by_interface.get(interface, {})]
        return sum(row.get(counter, 0) for row in rows)

    def since(self, before: "Counts", prefix: str = "") -> dict[str, int]:
        """Return what was counted since `before`, summed over the interfaces, of counters whose name begins so."""
        names = {name for row in self._by_interface.values() for name in row if name.startswith(prefix)}
        return {name: grown for name in sorted(names) if (grown := self.get(name) - before.get(name))}


class RouterLab(Lab):
    """A lab whose routers run hopwire."""

    def control(self, router: str = "router") -> Control:
        return Control(self.run_directory(router))

    @property
    def controls(self) -> list[Control]:
        return [self.control(router.name) for router in self.topology.routers]


@contextmanager
def started(topology: Topology, tag: str) -> Iterator[RouterLab]:
    """Build a lab, run its routers, and check at the end that every frame had a fate and every router ended well."""
    with RouterLab(topology, prefix=f"{PREFIX}{tag}-") as lab:
        lab.start_routers()
        _running.append(lab)
        try:
            yield lab
            for control in lab.controls:
                control.settle()
        finally:
            _running.remove(lab)
        statuses = lab.stop_routers()
        assert set(statuses.values()) <= {0}, statuses


class Wire:
    """A packet socket on a host's interface: sends any frame, hears every frame that comes."""

    def __init__(self, lab: Lab, node: str, interface: str = "eth0") -> None:
        with netns.inside(lab.namespace(node)):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
            self._socket.bind((interface, _ETH_P_ALL))
            self.mac = self._socket.getsockname()[4]
        self._socket.setblocking(False)
        self.heard: list[bytes] = []
        """Ethernet frames; without their virtio headers."""

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_exception: object) -> None:
        self._socket.close()

    def send(self, frame: bytes, header: bytes = PLAIN) -> None:
        """Send a frame behind a virtio header; waits for room where the queue is full."""
        wait_for("room in the transmit queue", lambda: self._try_send(header + frame))

    def _try_send(self, data: bytes) -> bool:
        try:
            self._socket.send(data)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            return False
        return True

    def listen(self) -> list[bytes]:
        """Take in what has come, and return all that was heard."""
        while True:
            try:
                self.heard.append(self._socket.recv(_ANY_FRAME_BYTES)[len(PLAIN) :])
            except BlockingIOError:
                return self.heard

    def wait_to_hear(self, what: str, wanted: Callable[[bytes], bool], limit_s: float = LIMIT_S) -> list[bytes]:
        """Wait for frames of a kind and return those."""
        return wait_for(what, lambda: [frame for frame in self.listen() if wanted(frame)], limit_s)


def inside(lab: Lab, node: str, make: Callable[[], T]) -> T:
    """Make something, such as a socket, that belongs to a node's namespace from then on."""
    with netns.inside(lab.namespace(node)):
        return make()


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def run_python(lab: Lab, node: str, program: str, *arguments: str, limit_s: float = 60.0) -> str:
    """Run a Python program in a node and return its output; it must end with status 0."""
    done = lab.run(node, [sys.executable, "-c", program, *arguments], limit_s=limit_s)
    assert done.returncode == 0, done.stderr
    return done.stdout
