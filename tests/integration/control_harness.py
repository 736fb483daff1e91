"""A network namespace with a veth pair, a control process in it, and a subscriber of what it publishes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, TypeVar

import pytest
import zmq
from pyroute2 import IPRoute
from pyroute2 import netns as pyroute2_netns
from pyroute2.netlink.exceptions import NetlinkError

from services.common import netns
from services.common.bus import RpcClient, RpcRefusedError, StateSubscriber, connected, try_send
from services.common.endpoints import Endpoints
from services.common.messages import Interface, Report, RouterState, encode, unpack_routes
from services.common.parameters import Parameters
from services.common.runtime import clock
from services.control.mirror import KernelMirror
from services.control.netlink import KernelNetlink
from services.control.rib import Rib

REPOSITORY = Path(__file__).parents[2]
LIMIT_S = 30.0
HAS_IP = shutil.which("ip") is not None

T = TypeVar("T")


def wait_for(look: Callable[[], T], what: str) -> T:
    """Return the first true value of `look`."""
    deadline = time.monotonic() + LIMIT_S
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {LIMIT_S:.0f} s: {what}"
        time.sleep(0.01)
    return seen


class Namespace:
    """A namespace with eth0 (10.0.0.1/24) and its peer far0, and eth1 (10.1.0.1/24) and far1, all up.

    `kernel` changes it; what the kernel refuses is raised as `refused`, with the errno as `code`.
    """

    refused = NetlinkError

    def __init__(self, name: str) -> None:
        self.name = name
        with netns.inside(name):
            self.kernel = IPRoute()
        self.kernel.link("set", index=1, state="up")
        for number in (0, 1):
            with netns.inside(name):
                self.kernel.link("add", ifname=f"eth{number}", kind="veth", peer={"ifname": f"far{number}"})
            self.up(f"far{number}")
            self.up(f"eth{number}")
            self.kernel.addr("add", index=self.index(f"eth{number}"), address=f"10.{number}.0.1", prefixlen=24)

    def index(self, name: str) -> int:
        (index,) = self.kernel.link_lookup(ifname=name)
        return int(index)

    def up(self, name: str) -> None:
        self.kernel.link("set", index=self.index(name), state="up")

    def down(self, name: str) -> None:
        self.kernel.link("set", index=self.index(name), state="down")

    def ip(self, *words: str) -> Any:
        """Return what `ip -j` says, or None where it says nothing."""
        done = subprocess.run(["ip", "-n", self.name, "-j", *words], check=True, capture_output=True, text=True)
        return json.loads(done.stdout) if done.stdout.strip() else None

    def setting(self, name: str) -> str:
        with netns.inside(self.name):
            return Path("/proc/sys/net/ipv4", name).read_text(encoding="ascii").strip()


@contextmanager
def namespace(name: str) -> Iterator[Namespace]:
    pyroute2_netns.create(name)
    made = None
    try:
        with netns.inside(name):
            ipv6 = Path("/proc/sys/net/ipv6/conf/default/disable_ipv6")
            if ipv6.exists():
                ipv6.write_text("1\n", encoding="ascii")
        made = Namespace(name)
        yield made
    finally:
        if made is not None:
            made.kernel.close()
        pyroute2_netns.remove(name)


class Follower:
    """Follows control's state as docs/bus.md says."""

    def __init__(self, context: zmq.Context[Any], endpoints: Endpoints) -> None:
        self.subscriber = StateSubscriber(context, endpoints.control_state, endpoints.control_snapshot)
        self.interfaces: dict[int, Interface] = {}
        self.paths: dict[int, tuple[str, tuple[tuple[int, str, int], ...], int]] = {}
        self.routes: dict[str, int] = {}
        self.parameters: Parameters | None = None
        self.snapshots = 0
        self.changes = 0

    def follow(self) -> "Follower":
        """Apply what has come."""
        for state in self.subscriber.receive(clock()):
            assert isinstance(state, RouterState)
            self._apply(state)
        return self

    def _apply(self, state: RouterState) -> None:
        self.snapshots += state.full
        self.changes += not state.full
        if state.full:
            self.interfaces, self.paths, self.routes = {}, {}, {}
        self.parameters = state.parameters or self.parameters
        self.interfaces |= {one.index: one for one in state.interfaces}
        for path in state.paths:
            assert path.id not in self.paths
            hops = tuple((one.interface, str(IPv4Address(one.gateway)), one.weight) for one in path.next_hops)
            self.paths[path.id] = (path.kind, hops, path.mtu)
        for prefix, length, path_id in unpack_routes(state.routes):
            text = str(IPv4Network((prefix, length)))
            if path_id:
                self.routes[text] = path_id
            else:
                del self.routes[text]
        for path_id in state.paths_gone:
            del self.paths[path_id]
        for index in state.interfaces_gone:
            del self.interfaces[index]
        assert set(self.routes.values()) == set(self.paths)

    def table(self) -> dict[str, tuple[str, tuple[tuple[int, str, int], ...], int]]:
        return {prefix: self.paths[path_id] for prefix, path_id in self.routes.items()}

    def close(self) -> None:
        self.subscriber.close()


class ControlProcess:
    """`python -m services.control` in a namespace."""

    def __init__(self, namespace_name: str, run_dir: Path, *arguments: str, metrics: str = "off") -> None:
        self.run_dir = run_dir
        self.errors = run_dir.with_suffix(f".{time.monotonic_ns()}.err")
        command = [sys.executable, "-m", "services.control", "--run-dir", str(run_dir), "--metrics-listen", metrics]
        with netns.inside(namespace_name), self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [*command, *arguments], cwd=REPOSITORY, env=_environment(), stdin=subprocess.DEVNULL, stderr=errors
            )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=LIMIT_S)

    def log(self) -> str:
        return self.errors.read_text(encoding="utf-8")


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("HOPWIRE_")}


def run_to_end(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m services.control` where it is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "services.control", *arguments],
        cwd=REPOSITORY,
        env=_environment() | variables,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


class Router:
    """A control process with a client, which may be killed and started again."""

    def __init__(self, space: Namespace, run_dir: Path, *arguments: str, metrics: str = "off") -> None:
        self.space = space
        self.endpoints = Endpoints(run_dir)
        self.context: zmq.Context[Any] = zmq.Context()
        self._arguments = arguments
        self._metrics = metrics
        self.control = self.start()
        self.client = RpcClient(self.context, self.endpoints.control_rpc)
        self.follower = Follower(self.context, self.endpoints)

    def start(self) -> ControlProcess:
        self.control = ControlProcess(self.space.name, self.endpoints.run_dir, *self._arguments, metrics=self._metrics)
        return self.control

    def ask(self, method: str, **params: Any) -> Any:
        return self.client.call(method, params, LIMIT_S)

    def wait_until(self, look: Callable[[Follower], Any], what: str) -> Any:
        return wait_for(lambda: look(self.follower.follow()), what)

    def wait_until_mirrored(self) -> None:
        self.wait_until(lambda follower: follower.snapshots, "a snapshot")

    def close(self) -> None:
        self.control.stop()
        self.client.close()
        self.follower.close()
        self.context.destroy()


RouterT = TypeVar("RouterT", bound=Router)


@contextmanager
def router(
    space: Namespace,
    run_dir: Path,
    *arguments: str,
    metrics: str = "off",
    kind: type[RouterT] = Router,  # type: ignore[assignment]
) -> Iterator[RouterT]:
    running = kind(space, run_dir, *arguments, metrics=metrics)
    try:
        yield running
    finally:
        running.close()


def refusal(running: Router, method: str, **params: Any) -> tuple[str, str]:
    with pytest.raises(RpcRefusedError) as caught:
        running.ask(method, **params)
    return caught.value.error.code, caught.value.error.message


class PlayedService:
    """Sends reports as a service would, while the test lets it."""

    def __init__(self, running: Router, service: str, instance: str, *interfaces: int, endpoint: str = "") -> None:
        self._socket = connected(running.context, zmq.PUSH, endpoint or running.endpoints.control_reports)
        self._fields: dict[str, Any] = {
            "service": service,
            "instance": instance,
            "pid": 4711,
            "ready": True,
            "interfaces": list(interfaces),
            "counters": {},
        }

    def report(self, **changes: Any) -> None:
        self._fields |= changes
        self._socket.send(encode(Report.model_validate(self._fields)))

    def try_report(self) -> bool:
        return try_send(self._socket, [encode(Report.model_validate(self._fields))])

    def close(self) -> None:
        self._socket.close()


# --- The mirror without its process -----------------------------------------------------------------------------------

Way = tuple[str, str, int]
Treatment = tuple[str, tuple[Way, ...], int]
LOOPBACK = {"127.0.0.0/8", "127.0.0.1/32", "127.255.255.255/32"}


class Mirror:
    """Netlink adapter, mirror and routing information base, and the published state with names for numbers."""

    def __init__(self, space: Namespace, **options: int) -> None:
        with netns.inside(space.name):
            self.netlink = KernelNetlink(**options)
        self.rib = Rib()
        self.mirror = KernelMirror(self.netlink, self.rib)
        self.interfaces: dict[int, Interface] = {}
        self.paths: dict[int, Treatment] = {}
        self.routes: dict[IPv4Network, int] = {}
        self.messages = 0
        self.dumps = 0
        self._count_dumps()

    def _count_dumps(self) -> None:
        dump = self.netlink.dump

        def counted() -> Any:
            self.dumps += 1
            return dump()

        self.netlink.dump = counted  # type: ignore[method-assign]

    def follow(self) -> dict[str, Treatment]:
        """Follow until the mirror rests, and return the published routes besides those of the loopback."""
        for _ in range(100):
            if self.mirror.follow():
                break
        else:
            raise AssertionError(f"the mirror does not come to rest: {self.rib.unsettled}")
        state = self.rib.take_changes()
        if state is not None:
            self.messages += 1
            self._apply(state)
        table = {str(prefix): self.paths[path] for prefix, path in self.routes.items()}
        return {prefix: treatment for prefix, treatment in table.items() if prefix not in LOOPBACK}

    def _apply(self, state: RouterState) -> None:
        self.interfaces |= {one.index: one for one in state.interfaces}
        for path in state.paths:
            ways = tuple(
                (self.rib.interface_name(hop.interface), str(IPv4Address(hop.gateway)), hop.weight)
                for hop in path.next_hops
            )
            self.paths[path.id] = (path.kind, ways, path.mtu)
        for prefix, length, path_id in unpack_routes(state.routes):
            if path_id:
                self.routes[IPv4Network((prefix, length))] = path_id
            else:
                del self.routes[IPv4Network((prefix, length))]
        for path_id in state.paths_gone:
            del self.paths[path_id]
        for index in state.interfaces_gone:
            del self.interfaces[index]

    def lookup(self, destination: IPv4Address) -> Treatment | None:
        holding = [prefix for prefix in self.routes if destination in prefix]
        return self.paths[self.routes[max(holding, key=lambda prefix: prefix.prefixlen)]] if holding else None
