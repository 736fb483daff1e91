"""A started lab as its tests see it: each router's control and processes, and the nodes' namespaces."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final, TypeVar

import zmq
from pyroute2 import IPRoute

from services.common import netns
from services.common.bus import RpcClient, RpcRefusedError
from services.common.endpoints import Endpoints
from services.launcher.lab.lab import Lab
from services.launcher.lab.topology import Topology

PREFIX: Final = f"r{os.getpid()}-"
LIMIT_S: Final = 10.0
"""The most that a test waits for a state, unless it says otherwise."""
_POLL_S: Final = 0.02

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
            raise AssertionError(f"not within {limit_s:g} s: {what}; seen last: {seen!r}")
        time.sleep(_POLL_S)
    return seen


def hopwire(program: str = "hopwire") -> str:
    """Return the path of an installed program."""
    return str(Path(sys.executable).with_name(program))


def inside(lab: Lab, node: str, make: Callable[[], T]) -> T:
    """Make something, such as a socket, that belongs to a node's namespace from then on."""
    with netns.inside(lab.namespace(node)):
        return make()


@contextmanager
def kernel(lab: Lab, node: str) -> Iterator[Any]:
    """Speak netlink with the kernel of a node's namespace."""
    with IPRoute(netns=lab.namespace(node), flags=0) as netlink:
        yield netlink


@contextmanager
def second_address(lab: Lab, node: str, address: str, interface: str = "eth0") -> Iterator[IPv4Address]:
    """Give a node's interface one more address for a while: nobody has asked for its MAC before."""
    with kernel(lab, node) as netlink:
        (index,) = netlink.link_lookup(ifname=interface)
        host, _, length = address.partition("/")
        netlink.addr("add", index=index, address=host, prefixlen=int(length))
        try:
            yield IPv4Address(host)
        finally:
            netlink.addr("del", index=index, address=host, prefixlen=int(length))


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

    def status(self) -> Any:
        """Return the answer to `status` of a control that may just be dead or starting; None if there is none."""
        client = RpcClient(_context, Endpoints(self.run_dir).control_rpc)
        try:
            return client.call("status", timeout_s=0.5)
        except RpcRefusedError:
            return None
        finally:
            client.close()

    def mac(self, interface: str) -> str:
        """Return the MAC of one of the router's interfaces."""
        return str(next(one["mac"] for one in self.ask("status")["interfaces"] if one["name"] == interface))

    def route_kind(self, address: str) -> str:
        """Return what the forwarder does with an address: `unicast`, `local`, `blackhole` and so on, or `none`."""
        try:
            return str(self.ask("route.get", dst=address).get("type", "unicast"))
        except RpcRefusedError as refused:
            if refused.error.code != "refused":
                raise
            return "none"

    def cli(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run control-cli."""
        command = [hopwire("control-cli"), "--run-dir", str(self.run_dir), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    def change(self, *words: str) -> None:
        """Change something with control-cli, which then says nothing."""
        done = self.cli(*words)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), (words, done.stderr)
        self.wait_until_followed()

    def wait_until_followed(self) -> None:
        """Wait until the forwarder forwards by all that control has told so far."""
        told = self.ask("fib")["control_generation"]
        wait_for("the forwarder follows control", lambda: self.ask("fib")["generation"] >= told)

    def show(self, *words: str) -> Any:
        """Return what control-cli shows as JSON."""
        done = self.cli("-j", *words)
        assert (done.returncode, done.stderr) == (0, ""), words
        return json.loads(done.stdout)

    def pids(self) -> dict[str, int]:
        """Return the process id of each service that lives, by instance; of control as its lock says."""
        status = self.status() or {"services": []}
        services = {one["instance"]: one["pid"] for one in status["services"] if one["up"]}
        lock = Endpoints(self.run_dir).lock("control")
        holder = lock.read_text() if lock.exists() else ""
        return services | ({"control": int(holder)} if holder else {})

    def is_ready(self) -> bool:
        status = self.status()
        return bool(status and status["ready"])

    def wait_until_ready(self, limit_s: float = LIMIT_S) -> None:
        wait_for("the router is ready", self.is_ready, limit_s)

    def kill(self, instance: str) -> None:
        """Kill one service, and wait until another process has taken its place and the router is ready."""
        pid = self.pids()[instance]
        os.kill(pid, signal.SIGKILL)
        wait_for(f"{instance} runs again", lambda: self.pids().get(instance, pid) != pid, 30.0)
        self.wait_until_ready(30.0)

    def wait_for_reports(self) -> dict[str, Any]:
        """Wait until every live service has reported anew, and return the counters of then."""
        started = time.monotonic()

        def all_have_reported() -> bool:
            asked_s = time.monotonic() - started
            status = self.status()
            return bool(status) and all(one["age_s"] < asked_s for one in status["services"] if one["up"])

        wait_for("all services report", all_have_reported)
        counters: dict[str, Any] = self.ask("counters")
        return counters

    def counts(self) -> Counts:
        """Return the counters as they are now."""
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


def fork_server_of(launcher: int) -> int | None:
    """Return the process id of the fork server of a `hopwire up`, if it has one just now."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == launcher and b"\0services.launcher.up.fork_server\0" in (process / "cmdline").read_bytes():
                return int(process.name)
        except OSError:  # it ended
            continue
    return None


class RouterLab(Lab):
    """A lab whose routers run hopwire."""

    def control(self, router: str = "router") -> Control:
        return Control(self.run_directory(router))

    def hopwire_pid(self, router: str) -> int:
        """Return the process id of a router's `hopwire up`."""
        return self._routers[router].process.pid

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


@contextmanager
def far_address(lab: Lab, host: str, address: str) -> Iterator[None]:
    """Give a host an address in a network of its own, as if it stood behind that host."""
    with kernel(lab, host) as netlink:
        netlink.addr("add", index=1, address=address, prefixlen=32)
        try:
            yield
        finally:
            netlink.addr("del", index=1, address=address, prefixlen=32)
