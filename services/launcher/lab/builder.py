"""Makes a topology's namespaces, veth pairs, addresses and routes with pyroute2, and takes them down again."""

import errno
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, Final

from pyroute2 import IPRoute
from pyroute2 import netns as pyroute2_netns
from pyroute2.netlink.exceptions import NetlinkError

from services.common import netns
from services.common.errors import HopwireError
from services.launcher.lab.signals import uninterrupted
from services.launcher.lab.topology import Topology

DEFAULT_PREFIX: Final = "hw-"

_PREFIX = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]*)?")
_LINK_UP_LIMIT_S: Final = 10.0
_POLL_S: Final = 0.005
_LOOPBACK_INDEX: Final = 1
_FIRST_INDEX: Final = 100
"""Near ends get their index from here, far ends one from 2 on. A pair with twice the same index, as two empty
namespaces would give it, waits up to a second to come up: linkwatch_urgent_event in net/core/link_watch.c."""
_ANYWHERE: Final = IPv4Network("0.0.0.0/0")


@contextmanager
def namespaces(topology: Topology, prefix: str, *, kernel_forwarding: bool) -> Iterator[Mapping[str, str]]:
    """Build a topology, yield the name of each node's namespace, and take all of it down at the end.

    `kernel_forwarding` lets the routers' kernels forward; otherwise nothing passes until hopwire runs in them.

    :raises HopwireError: not root, a namespace of that name exists, or the kernel refuses.
    """
    names = {node.name: prefix + node.name for node in topology.nodes}
    _check(prefix, list(names.values()))
    made: list[str] = []
    try:
        with uninterrupted():
            _build(topology, names, made, kernel_forwarding)
        yield names
    finally:
        with uninterrupted():
            for name in made:
                if name in netns.names():  # unless somebody removed it by hand
                    pyroute2_netns.remove(name)


def _check(prefix: str, names: list[str]) -> None:
    if not _PREFIX.fullmatch(prefix):
        raise HopwireError(
            f"namespace prefix {prefix!r}: only letters, digits, '_', '.' and '-', as in {DEFAULT_PREFIX!r}"
        )
    if os.geteuid() != 0:
        raise HopwireError("a lab is made of network namespaces, and making them needs root; run it with sudo")
    existing = [name for name in names if name in netns.names()]
    if existing:
        raise HopwireError(
            f"network namespace {', '.join(existing)} exists already: end the lab that uses it, or remove "
            f"what is left of one with: {_removal(existing)}"
        )


def _removal(names: list[str]) -> str:
    """Return the shell commands that end what runs in these namespaces and remove them."""
    inodes = {netns.path(name).stat().st_ino for name in names}
    inside = [process.name for process in Path("/proc").glob("[0-9]*") if _namespace_inode(process) in inodes]
    commands = [f"kill {' '.join(inside)}"] if inside else []
    if shutil.which("ip"):
        commands += [f"ip netns delete {name}" for name in names]
    else:
        files = " ".join(str(netns.path(name)) for name in names)
        commands += [f"umount {files}", f"rm {files}"]
    return "; ".join(commands)


def _namespace_inode(process: Path) -> int | None:
    try:
        return (process / "ns" / "net").stat().st_ino
    except OSError:  # it ended, or is a kernel thread's
        return None


def _build(topology: Topology, names: Mapping[str, str], made: list[str], kernel_forwarding: bool) -> None:
    """Build everything, adding each namespace to `made` as it comes into being."""
    try:
        for name in names.values():
            pyroute2_netns.create(name)
            made.append(name)
        routers = {names[router.name] for router in topology.routers}
        for name in names.values():
            _set_parameters(name, forwarding=kernel_forwarding and name in routers)
        _make_links(topology, names)
        _make_bridges(topology, names)
        for node in topology.nodes:
            with IPRoute(netns=names[node.name], flags=0) as kernel:
                _configure(kernel, topology, node.name)
        for node in topology.nodes:
            with IPRoute(netns=names[node.name], flags=0) as kernel:
                _wait_until_up(kernel, names[node.name])
                for route in node.routes:
                    kernel.route("add", dst=_text(route.destination), gateway=str(route.gateway))
    except (OSError, NetlinkError) as error:
        number = error.code if isinstance(error, NetlinkError) else error.errno
        advice = (
            "this needs CAP_SYS_ADMIN and CAP_NET_ADMIN; in a container, start it with --privileged"
            if number in (errno.EPERM, errno.EACCES)
            else "is the kernel built with network namespaces and veth?"
        )
        raise HopwireError(f"the kernel refuses to build topology {topology.name}: {error}; {advice}") from error


def _set_parameters(namespace: str, *, forwarding: bool) -> None:
    """Set what a new namespace would otherwise take over from the machine's own."""
    with netns.inside(namespace):
        _set_parameter("net/ipv4/ip_forward", int(forwarding))
        # before the interfaces come: no neighbour discovery, no multicast reports among the frames
        for scope in ("all", "default"):
            _set_parameter(f"net/ipv6/conf/{scope}/disable_ipv6", 1)


def _set_parameter(name: str, value: int) -> None:
    file = Path("/proc/sys", name)
    if file.exists():  # a kernel may come without IPv6
        file.write_text(f"{value}\n", encoding="ascii")


def _make_links(topology: Topology, names: Mapping[str, str]) -> None:
    """Make each veth pair with both ends in their namespaces at once: no name is ever taken outside."""
    for index, link in enumerate(topology.links, start=_FIRST_INDEX):
        near, far = link.ends
        with IPRoute(netns=names[near.node], flags=0) as kernel:
            kernel.link(
                "add",
                kind="veth",
                index=index,
                ifname=topology.interface(near).name,
                mtu=link.mtu,
                peer={"ifname": topology.interface(far).name, "mtu": link.mtu, "net_ns_fd": names[far.node]},
            )


def _make_bridges(topology: Topology, names: Mapping[str, str]) -> None:
    """Make each bridge and its ports, which have no address; the far ends are the hosts' interfaces."""
    first = _FIRST_INDEX + len(topology.links)
    for bridge in topology.bridges:
        with IPRoute(netns=names[bridge.router], flags=0) as kernel:
            kernel.link("add", kind="bridge", ifname=bridge.name)
            (master,) = kernel.link_lookup(ifname=bridge.name)
            for number, host in enumerate(bridge.hosts):
                kernel.link(
                    "add",
                    kind="veth",
                    index=first + number,
                    ifname=f"{bridge.name}p{number}",
                    peer={"ifname": topology.interface(host).name, "net_ns_fd": names[host.node]},
                )
                kernel.link("set", index=first + number, master=master, state="up")
        first += len(bridge.hosts)


def _configure(kernel: Any, topology: Topology, node: str) -> None:
    kernel.link("set", index=_LOOPBACK_INDEX, state="up")
    for interface in topology.interfaces(node):
        (index,) = kernel.link_lookup(ifname=interface.name)
        address = interface.address
        kernel.addr(
            "add",
            index=index,
            address=str(address.ip),
            prefixlen=address.network.prefixlen,
            broadcast=str(address.network.broadcast_address),
        )
        kernel.link("set", index=index, state="up")


def _wait_until_up(kernel: Any, namespace: str) -> None:
    """Wait until no interface drops what is sent, which it does for a moment after its peer came up."""
    deadline = time.monotonic() + _LINK_UP_LIMIT_S
    while True:
        down = [link.get("ifname") for link in kernel.get_links() if link.get("operstate") == "DOWN"]
        if not down:
            return
        if time.monotonic() > deadline:
            raise HopwireError(f"{', '.join(down)} in {namespace} did not come up within {_LINK_UP_LIMIT_S:.0f} s")
        time.sleep(_POLL_S)


def _text(destination: IPv4Network) -> str:
    return "default" if destination == _ANYWHERE else str(destination)
