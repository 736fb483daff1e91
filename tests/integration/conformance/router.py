"""The router under test, hopwire or the kernel of the same namespace, behind one set of verbs."""

import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any, Final

from router_lab import PREFIX, RouterLab, kernel, started, wait_for

from services.common import netns
from services.launcher.lab.topology import Host, Link, LinkEnd, Route, Router, Topology

INTERFACES: Final = ("eth0", "eth1", "eth2")
REACHABLE_S: Final = 2
"""Base reachable time of the router's neighbours, so that tests see their states change; the default is 30."""
DELAY_PROBE_S: Final = 1  # the default is 5
PERMANENT: Final = ("10.0.2.129", "02:00:00:00:02:81")
"""A neighbour that the configuration gives, on eth1."""
CONFIGURATION: Final = f"""\
metrics_listen: off
parameters:
  arp:
    base_reachable_time_s: {REACHABLE_S}
    delay_probe_time_s: {DELAY_PROBE_S}
    permanent_neighbours:
      - {{interface: eth1, address: {PERMANENT[0]}, mac: "{PERMANENT[1]}"}}
"""
_NUD_PERMANENT: Final = 0x80  # linux/neighbour.h
_ROUTE_TYPES: Final = {"blackhole": 6, "unreachable": 7, "prohibit": 8}  # linux/rtnetlink.h
_POLICY_SETTINGS: Final[Mapping[str, tuple[str, Mapping[object, int]]]] = {
    "reverse_path": ("rp_filter", {"off": 0, "strict": 1, "loose": 2}),
    "redirects": ("send_redirects", {False: 0, True: 1}),
    "proxy_arp": ("proxy_arp", {False: 0, True: 1}),
}
_KERNEL_SETTINGS: Final[Mapping[str, int]] = {
    "net/ipv4/icmp_ratelimit": 0,  # row 21 switches it on
    "net/ipv4/fib_multipath_hash_policy": 1,  # addresses, ports and protocol
    **{f"net/ipv4/conf/{scope}/rp_filter": 0 for scope in ("all", *INTERFACES)},
    "net/ipv4/conf/all/send_redirects": 0,  # on where this or the interface's own says so
    "net/ipv4/conf/all/bc_forwarding": 0,
    "net/ipv4/conf/all/ignore_routes_with_linkdown": 1,
    **{f"net/ipv4/conf/{name}/ignore_routes_with_linkdown": 1 for name in INTERFACES},
    "net/ipv4/conf/all/arp_ignore": 2,  # own addresses of the interface, to senders of its networks
    "net/ipv4/conf/all/arp_notify": 1,
    **{f"net/ipv4/conf/{name}/arp_notify": 1 for name in INTERFACES},
    **{f"net/ipv4/neigh/{name}/base_reachable_time_ms": REACHABLE_S * 1000 for name in INTERFACES},
    **{f"net/ipv4/neigh/{name}/delay_first_probe_time": DELAY_PROBE_S for name in INTERFACES},
    **{f"net/ipv4/neigh/{name}/proxy_delay": 0 for name in INTERFACES},
}


def _route(destination: str, gateway: str) -> Route:
    return Route(IPv4Network(destination), IPv4Address(gateway))


def _link(number: int) -> Link:
    ends = (("router", f"10.0.{number}.1/24"), (f"h{number}", f"10.0.{number}.2/24"))
    near, far = (LinkEnd(node, IPv4Interface(address)) for node, address in ends)
    return Link((near, far))


STAR: Final = Topology(
    name="star",
    hosts=tuple(Host(f"h{number}") for number in (1, 2, 3)),
    routers=(Router("router", tuple(_route(f"172.{16 + number}.0.0/16", f"10.0.{number}.2") for number in (1, 2, 3))),),
    links=tuple(_link(number) for number in (1, 2, 3)),
    picture="172.17/16 -- h1 10.0.1.2 -- router -- 10.0.2.2 h2 -- 172.18/16, and h3 10.0.3.2 -- 172.19/16\n",
)


class RouterUnderTest(ABC):
    """What the rows need a router to be told. All has an effect when the method returns."""

    name: str

    def __init__(self, lab: RouterLab) -> None:
        self.lab = lab

    @abstractmethod
    def set_policy(self, interface: str, name: str, value: str | bool) -> None:
        """Set one field of `InterfacePolicy` on an interface."""

    @abstractmethod
    def set_icmp_limits(self, *, on: bool) -> None:
        """Limit ICMP errors to one destination; hopwire always does."""

    @abstractmethod
    def change(self, method: str, **params: Any) -> None:
        """Carry out `route.add`, `route.replace`, `route.del`, `addr.add`, `addr.del`, `link.set` of control's RPC."""

    @abstractmethod
    def settle(self) -> None:
        """Wait until nothing is under way."""

    @abstractmethod
    def wait_until_noticed(self, interface: str, *, up: bool) -> None:
        """Wait until the forwarding table is that of an interface whose carrier has come or gone."""

    @abstractmethod
    def neighbour_count(self) -> int:
        """Return the number of entries in the table of neighbours."""

    @contextmanager
    def counted(self, **_counters: int) -> Iterator[None]:
        """Check that the block makes these counters of hopwire grow by so much; the kernel has others."""
        yield

    @contextmanager
    def policy(self, interface: str, name: str, value: str | bool, default: str | bool) -> Iterator[None]:
        """Set a policy for a while."""
        self.set_policy(interface, name, value)
        try:
            yield
        finally:
            self.set_policy(interface, name, default)

    @contextmanager
    def route(self, destination: str, **spec: Any) -> Iterator[None]:
        """Have a route for a while; `spec` is that of `route.add`."""
        self.change("route.add", dst=destination, **spec)
        try:
            yield
        finally:
            what = {"type": spec["type"]} if "type" in spec else {}
            self.change("route.del", dst=destination, **what)

    @contextmanager
    def address(self, address: str, interface: str) -> Iterator[None]:
        """Have one more address for a while."""
        self.change("addr.add", address=address, dev=interface)
        try:
            yield
        finally:
            self.change("addr.del", address=address, dev=interface)

    @contextmanager
    def mtu(self, interface: str, mtu: int) -> Iterator[None]:
        """Have another MTU for a while; 1500 again then."""
        self.change("link.set", dev=interface, mtu=mtu)
        try:
            yield
        finally:
            self.change("link.set", dev=interface, mtu=1500)


class HopwireRouter(RouterUnderTest):
    """hopwire, told by control-cli and control's RPC."""

    name = "hopwire"

    def __init__(self, lab: RouterLab) -> None:
        super().__init__(lab)
        self.control = lab.control()

    def set_policy(self, interface: str, name: str, value: str | bool) -> None:
        word = {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value
        self.control.change("link", "set", interface, name.replace("_", "-"), word)
        self.control.wait_until_ready()

    def set_icmp_limits(self, *, on: bool) -> None:
        pass

    def change(self, method: str, **params: Any) -> None:
        self.control.ask(method, **params)
        if not method.startswith("route."):  # what follows from an address or a link, control learns by and by
            self.control.wait_for_reports()
        self.control.wait_until_ready()
        self.control.wait_until_followed()

    def settle(self) -> None:
        self.control.settle()

    def wait_until_noticed(self, interface: str, *, up: bool) -> None:
        def noticed() -> bool:
            shown = self.control.ask("status")["interfaces"]
            return any(one["name"] == interface and one["up"] is up for one in shown)

        wait_for(f"hopwire knows that {interface} has {'a' if up else 'no'} carrier", noticed)
        self.control.wait_until_ready(30.0)
        self.control.wait_until_followed()

    def neighbour_count(self) -> int:
        return len(self.control.ask("neigh.show"))

    @contextmanager
    def counted(self, **counters: int) -> Iterator[None]:
        before = self.control.counts()
        yield
        grown = self.control.counts().since(before)
        seen = {name: grown.get(name, 0) for name in counters}
        assert seen == counters, f"counted {seen}, not {counters}; of all drops {grown}"


class KernelRouter(RouterUnderTest):
    """Linux's own forwarding, told by netlink and sysctl: the control group."""

    name = "kernel"

    def __init__(self, lab: RouterLab) -> None:
        super().__init__(lab)
        self.set_kernel(_KERNEL_SETTINGS)
        self._add_permanent()

    def _add_permanent(self) -> None:
        """Add the permanent neighbour, which an interface set down does not keep."""
        with kernel(self.lab, "router") as netlink:
            (index,) = netlink.link_lookup(ifname="eth1")
            netlink.neigh("replace", dst=PERMANENT[0], lladdr=PERMANENT[1], ifindex=index, state=_NUD_PERMANENT)

    def set_kernel(self, settings: Mapping[str, int]) -> None:
        """Write sysctls of the router's namespace."""
        with netns.inside(self.lab.namespace("router")):
            for name, value in settings.items():
                Path("/proc/sys", name).write_text(f"{value}\n", encoding="ascii")

    def set_policy(self, interface: str, name: str, value: str | bool) -> None:
        if name == "martians":
            return  # it has but one
        if name == "directed_broadcast":  # the interfaces that it comes in by decide here
            self.set_kernel({f"net/ipv4/conf/{scope}/bc_forwarding": int(value) for scope in ("all", *INTERFACES)})
            return
        setting, values = _POLICY_SETTINGS[name]
        self.set_kernel({f"net/ipv4/conf/{interface}/{setting}": values[value]})

    def set_icmp_limits(self, *, on: bool) -> None:
        self.set_kernel({"net/ipv4/icmp_ratelimit": 1000 if on else 0})  # milliseconds between two

    def change(self, method: str, **params: Any) -> None:
        kind, _, verb = method.partition(".")
        with kernel(self.lab, "router") as netlink:

            def index(name: str) -> int:
                (found,) = netlink.link_lookup(ifname=name)
                return int(found)

            if kind == "link":
                state = {"state": "up" if params["up"] else "down"} if "up" in params else {}
                mtu = {"mtu": params["mtu"]} if "mtu" in params else {}
                netlink.link("set", index=index(params["dev"]), **state, **mtu)
                if params.get("up"):
                    self._add_permanent()
            elif kind == "addr":
                own = IPv4Interface(params["address"])
                broadcast = str(own.network.broadcast_address)
                netlink.addr(
                    verb,
                    index=index(params["dev"]),
                    address=str(own.ip),
                    prefixlen=own.network.prefixlen,
                    broadcast=broadcast,
                )
            else:
                netlink.route(verb, **_netlink_route(params, index))

    def settle(self) -> None:
        pass  # the kernel forwards a frame of a veth before it takes the next one

    def wait_until_noticed(self, interface: str, *, up: bool) -> None:
        pass  # its own table changes with the link

    def neighbour_count(self) -> int:
        with kernel(self.lab, "router") as netlink:
            return len(netlink.get_neighbours())


def _netlink_route(params: Mapping[str, Any], index: Any) -> dict[str, Any]:
    route: dict[str, Any] = {"dst": params["dst"]}
    if "type" in params:
        route["type"] = _ROUTE_TYPES[params["type"]]
    if "via" in params:
        route["gateway"] = params["via"]
    if "dev" in params:
        route["oif"] = index(params["dev"])
    if "metric" in params:
        route["priority"] = params["metric"]
    if "mtu" in params:
        route["metrics"] = {"mtu": params["mtu"]}
    if "nexthops" in params:
        route["multipath"] = [{"gateway": hop["via"], "hops": hop["weight"] - 1} for hop in params["nexthops"]]
    return route


@contextmanager
def running(name: str) -> Iterator[RouterUnderTest]:
    """Build the three hosts around the router and let `hopwire` or the `kernel` forward."""
    if name == "kernel":
        with kernel_lab() as lab:
            yield KernelRouter(lab)
        return
    with hopwire_lab("c") as lab:
        yield HopwireRouter(lab)


@contextmanager
def kernel_lab() -> Iterator[RouterLab]:
    """Build the three hosts around a router whose kernel forwards."""
    with RouterLab(STAR, prefix=f"{PREFIX}k-", kernel_forwarding=True) as lab:
        yield lab


@contextmanager
def hopwire_lab(tag: str) -> Iterator[RouterLab]:
    """Build the three hosts around a router that runs hopwire, with `CONFIGURATION`."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as configuration:
        configuration.write(CONFIGURATION)
        configuration.flush()
        os.environ["HOPWIRE_CONFIG"] = configuration.name
        try:
            with started(STAR, tag) as lab:
                del os.environ["HOPWIRE_CONFIG"]
                yield lab
        finally:
            os.environ.pop("HOPWIRE_CONFIG", None)
