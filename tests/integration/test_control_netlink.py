"""The mirror of a real kernel, in a network namespace.

The kernel is changed by pyroute2 or ip(8), never by the code under test; expected states are written by hand, or
come from the kernel's own lookup (RTM_GETROUTE).
"""

import errno
import os
import random
import socket
import struct
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from control_harness import HAS_IP, Mirror, Namespace, Treatment, Way, namespace

from services.common import netns

LIMIT_S = 10.0
pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]
needs_ip = pytest.mark.skipif(not HAS_IP, reason="needs ip(8) of iproute2")

TINY_BUFFER_BYTES = 2048  # SOCK_MIN_RCVBUF of Linux: a handful of announcements


@pytest.fixture
def space() -> Iterator[Namespace]:
    with namespace(f"ctln{os.getpid()}") as made:
        yield made


@pytest.fixture
def mirror(space: Namespace) -> Iterator[Mirror]:
    made = Mirror(space)
    made.follow()
    yield made
    made.netlink.close()


def unicast(*ways: Way, mtu: int = 0) -> Treatment:
    return "unicast", ways, mtu


LOCAL: Treatment = ("local", (), 0)


def broadcast(interface: str) -> Treatment:
    return "broadcast", ((interface, "0.0.0.0", 1),), 0


UNREACHABLE: Treatment = ("unreachable", (), 0)
BY_GATEWAY = unicast(("eth0", "10.0.0.9", 1))
START: dict[str, Treatment] = {
    "10.0.0.0/24": unicast(("eth0", "0.0.0.0", 1)),
    "10.0.0.1/32": LOCAL,
    "10.0.0.255/32": broadcast("eth0"),
    "10.1.0.0/24": unicast(("eth1", "0.0.0.0", 1)),
    "10.1.0.1/32": LOCAL,
    "10.1.0.255/32": broadcast("eth1"),
}


# --- Interfaces and addresses -----------------------------------------------------------------------------------------


def test_what_is_there_at_the_start(space: Namespace, mirror: Mirror) -> None:
    assert mirror.follow() == START
    (eth0,) = [one for one in mirror.interfaces.values() if one.name == "eth0"]
    (link,) = space.kernel.get_links(space.index("eth0"))
    assert eth0.index == space.index("eth0")
    assert eth0.mac.hex(":") == link.get("address")
    assert (eth0.mtu, eth0.up) == (1500, True)
    assert [(one.address, one.prefix_length) for one in eth0.addresses] == [(0x0A000001, 24)]
    assert {one.name for one in mirror.interfaces.values()} == {"eth0", "far0", "eth1", "far1"}
    assert mirror.rib.deviations() == []


def test_interfaces_come_change_and_go(space: Namespace, mirror: Mirror) -> None:
    space.kernel.link("add", ifname="new0", kind="veth", peer={"ifname": "peer0"})
    index = space.index("new0")
    mirror.follow()
    assert not mirror.interfaces[index].up
    space.up("new0")
    mirror.follow()
    assert not mirror.interfaces[index].up, "its peer is down: no carrier"
    space.up("peer0")
    space.kernel.link("set", index=index, mtu=9000, address="02:00:00:00:00:07")
    mirror.follow()
    assert mirror.interfaces[index].up
    assert (mirror.interfaces[index].mtu, mirror.interfaces[index].mac) == (9000, bytes((2, 0, 0, 0, 0, 7)))
    space.down("new0")
    space.kernel.link("set", index=index, ifname="renamed0")
    mirror.follow()
    assert mirror.interfaces[index].name == "renamed0"
    assert mirror.dumps == 1, "no route depended on any of this"
    space.kernel.link("del", index=index)
    mirror.follow()
    assert index not in mirror.interfaces


def test_a_port_of_a_bridge_is_not_the_routers_and_leaving_the_bridge_is_no_end(
    space: Namespace, mirror: Mirror
) -> None:
    space.kernel.link("add", ifname="br0", kind="bridge")
    port, bridge = space.index("far1"), space.index("br0")
    space.kernel.link("set", index=port, master=bridge)
    mirror.follow()
    assert port not in mirror.interfaces
    assert bridge in mirror.interfaces
    space.kernel.link("set", index=port, master=0)
    mirror.follow()
    assert mirror.interfaces[port].name == "far1"


def test_addresses_come_and_go_with_all_that_hangs_on_them(space: Namespace, mirror: Mirror) -> None:
    index = space.index("eth0")
    space.kernel.addr("add", index=index, address="10.7.0.1", prefixlen=30)
    space.kernel.addr("add", index=index, address="10.0.0.2", prefixlen=24)
    assert mirror.follow() == START | {
        "10.7.0.0/30": unicast(("eth0", "0.0.0.0", 1)),
        "10.7.0.1/32": LOCAL,
        "10.7.0.3/32": broadcast("eth0"),
        "10.0.0.2/32": LOCAL,
    }
    assert [one.address for one in mirror.interfaces[index].addresses] == [0x0A000001, 0x0A070001, 0x0A000002]
    space.kernel.route("add", dst="10.8.0.0/16", gateway="10.7.0.2")
    space.kernel.addr("del", index=index, address="10.7.0.1", prefixlen=30)
    assert mirror.follow() == START | {
        "10.0.0.2/32": LOCAL,
        "10.8.0.0/16": unicast(("eth0", "10.7.0.2", 1)),  # the kernel keeps it, and so do we
    }
    space.kernel.flush_addr(index=index)
    assert mirror.follow() == {prefix: START[prefix] for prefix in START if prefix.startswith("10.1.")}


# --- Routes -----------------------------------------------------------------------------------------------------------


def test_routes_of_all_kinds(space: Namespace, mirror: Mirror) -> None:
    route = space.kernel.route
    eth0, eth1 = space.index("eth0"), space.index("eth1")
    route("add", dst="10.2.0.0/16", gateway="10.0.0.9")
    route("add", dst="default", gateway="10.1.0.9", metrics={"mtu": 1400})
    route("add", dst="10.3.0.0/16", oif=eth1, scope=253)
    route("add", dst="10.4.0.1/32", gateway="172.16.0.1", oif=eth0, flags=["onlink"])
    route("add", dst="10.5.0.0/16", type="blackhole")
    route("add", dst="10.6.0.0/16", type="unreachable")
    route("add", dst="10.7.0.0/16", type="prohibit")
    route("add", dst="10.8.0.0/16", type="throw")
    route("add", dst="10.9.0.0/16", oif=1)
    hops = [{"gateway": "10.0.0.9", "oif": eth0, "hops": 2}, {"gateway": "10.1.0.9", "oif": eth1}]
    route("add", dst="10.10.0.0/16", multipath=hops)
    route("add", dst="10.11.0.0/16", gateway="10.0.0.9", table=100)
    assert mirror.follow() == START | {
        "10.2.0.0/16": BY_GATEWAY,
        "0.0.0.0/0": unicast(("eth1", "10.1.0.9", 1), mtu=1400),
        "10.3.0.0/16": unicast(("eth1", "0.0.0.0", 1)),
        "10.4.0.1/32": unicast(("eth0", "172.16.0.1", 1)),
        "10.5.0.0/16": ("blackhole", (), 0),
        "10.6.0.0/16": UNREACHABLE,
        "10.7.0.0/16": ("prohibit", (), 0),
        "10.8.0.0/16": UNREACHABLE,
        "10.9.0.0/16": UNREACHABLE,
        "10.10.0.0/16": unicast(("eth0", "10.0.0.9", 3), ("eth1", "10.1.0.9", 1)),
    }
    assert mirror.messages == 2, "all that was there at once is one publication"
    assert mirror.dumps == 1
    assert mirror.rib.deviations() == [
        "1 route not followed: it leaves by lo, which is no Ethernet interface (answered as unreachable)",
        "1 route not followed: its type is throw (answered as unreachable)",
    ]
    before = mirror.follow()
    fresh = Mirror(space)
    assert fresh.follow() == before, "a dump says the same as the announcements did"
    fresh.netlink.close()


def test_metric_replace_append_and_delete(space: Namespace, mirror: Mirror) -> None:
    route = space.kernel.route
    route("add", dst="10.2.0.0/16", gateway="10.1.0.9", priority=50)
    route("add", dst="10.2.0.0/16", gateway="10.0.0.9", priority=10)
    assert mirror.follow()["10.2.0.0/16"] == BY_GATEWAY
    route("replace", dst="10.2.0.0/16", gateway="10.0.0.8", priority=10)
    assert mirror.follow()["10.2.0.0/16"] == unicast(("eth0", "10.0.0.8", 1))
    route("append", dst="10.2.0.0/16", gateway="10.0.0.7", priority=10)
    assert mirror.follow()["10.2.0.0/16"] == unicast(("eth0", "10.0.0.8", 1))
    route("del", dst="10.2.0.0/16", gateway="10.0.0.8", priority=10)
    assert mirror.follow()["10.2.0.0/16"] == unicast(("eth0", "10.0.0.7", 1))
    route("del", dst="10.2.0.0/16", priority=10)
    assert mirror.follow()["10.2.0.0/16"] == unicast(("eth1", "10.1.0.9", 1))
    space.kernel.flush_routes(table=254)
    left = {"10.0.0.1/32", "10.0.0.255/32", "10.1.0.1/32", "10.1.0.255/32"}
    assert mirror.follow() == {prefix: START[prefix] for prefix in left}


def test_an_interface_that_goes_down_takes_its_routes_in_silence(space: Namespace, mirror: Mirror) -> None:
    eth0, eth1 = space.index("eth0"), space.index("eth1")
    space.kernel.route("add", dst="10.2.0.0/16", gateway="10.0.0.9")
    hops = [{"gateway": "10.0.0.9", "oif": eth0}, {"gateway": "10.1.0.9", "oif": eth1}]
    space.kernel.route("add", dst="10.3.0.0/16", multipath=hops)
    space.kernel.route("add", dst="10.2.0.0/16", gateway="10.1.0.9", priority=100)
    assert mirror.follow()["10.2.0.0/16"] == BY_GATEWAY
    space.down("eth0")
    without = {prefix: START[prefix] for prefix in START if prefix.startswith("10.1.")}
    fallback = unicast(("eth1", "10.1.0.9", 1))
    gone = mirror.follow()
    assert gone == without | {"10.0.0.1/32": LOCAL, "10.2.0.0/16": fallback, "10.3.0.0/16": fallback}
    space.up("eth0")
    both = unicast(("eth0", "10.0.0.9", 1), ("eth1", "10.1.0.9", 1))
    assert mirror.follow() == START | {"10.2.0.0/16": fallback, "10.3.0.0/16": both}


def test_a_link_without_carrier_leaves_and_comes_back(space: Namespace, mirror: Mirror) -> None:
    space.kernel.route("add", dst="10.2.0.0/16", gateway="10.0.0.9")
    before = mirror.follow()
    without = {
        prefix: treatment for prefix, treatment in before.items() if treatment not in (BY_GATEWAY, START["10.0.0.0/24"])
    }
    for change, wanted in ((space.down, without), (space.up, before)):
        change("far0")
        deadline = time.monotonic() + LIMIT_S
        while (seen := mirror.follow()) != wanted:  # the kernel follows a carrier up to a second later
            assert time.monotonic() < deadline, seen


def test_an_interface_that_vanishes(space: Namespace, mirror: Mirror) -> None:
    space.kernel.route("add", dst="10.2.0.0/16", gateway="10.0.0.9")
    mirror.follow()
    space.kernel.link("del", index=space.index("eth0"))
    assert mirror.follow() == {prefix: START[prefix] for prefix in START if prefix.startswith("10.1.")}
    assert {one.name for one in mirror.interfaces.values()} == {"eth1", "far1"}


@needs_ip
def test_nexthop_objects(space: Namespace, mirror: Mirror) -> None:
    space.ip("nexthop", "add", "id", "7", "via", "10.0.0.9", "dev", "eth0")
    space.ip("nexthop", "add", "id", "8", "via", "10.1.0.9", "dev", "eth1")
    space.ip("nexthop", "add", "id", "9", "group", "7,2/8")
    space.ip("route", "add", "10.2.0.0/16", "nhid", "9")
    space.ip("route", "add", "10.3.0.0/16", "nhid", "7")
    assert mirror.follow() == START | {
        "10.2.0.0/16": unicast(("eth0", "10.0.0.9", 2), ("eth1", "10.1.0.9", 1)),
        "10.3.0.0/16": BY_GATEWAY,
    }
    space.ip("nexthop", "replace", "id", "7", "via", "10.0.0.8", "dev", "eth0")
    replaced = unicast(("eth0", "10.0.0.8", 1))
    assert mirror.follow()["10.3.0.0/16"] == replaced
    space.ip("nexthop", "del", "id", "8")
    assert mirror.follow() == START | {"10.2.0.0/16": replaced, "10.3.0.0/16": replaced}
    space.ip("nexthop", "del", "id", "7")
    assert mirror.follow() == START


@needs_ip
def test_nexthop_objects_that_routes_only_name(space: Namespace, mirror: Mirror) -> None:
    with netns.inside(space.name):
        Path("/proc/sys/net/ipv4/nexthop_compat_mode").write_text("0")
    space.ip("nexthop", "add", "id", "7", "via", "10.0.0.9", "dev", "eth0")
    space.ip("nexthop", "add", "id", "8", "via", "10.1.0.9", "dev", "eth1")
    space.ip("nexthop", "add", "id", "9", "group", "7,200/8", "type", "resilient", "buckets", "8")
    space.ip("route", "add", "10.2.0.0/16", "nhid", "9")
    grouped = unicast(("eth0", "10.0.0.9", 200), ("eth1", "10.1.0.9", 1))
    assert mirror.follow() == START | {"10.2.0.0/16": grouped}
    mirror.rib.unsettled = "asked for by the test"
    assert mirror.follow() == START | {"10.2.0.0/16": grouped}
    dumps = mirror.dumps
    space.ip("nexthop", "replace", "id", "7", "via", "10.0.0.8", "dev", "eth0")
    replaced = unicast(("eth0", "10.0.0.8", 200), ("eth1", "10.1.0.9", 1))
    assert mirror.follow() == START | {"10.2.0.0/16": replaced}
    assert mirror.dumps == dumps
    space.ip("nexthop", "del", "id", "8")
    assert mirror.follow() == START | {"10.2.0.0/16": unicast(("eth0", "10.0.0.8", 1))}
    space.ip("route", "del", "10.2.0.0/16")
    assert mirror.follow() == START


@needs_ip
def test_rules_are_not_followed_but_mentioned(space: Namespace, mirror: Mirror) -> None:
    space.ip("rule", "add", "from", "10.9.0.1", "table", "100")
    mirror.follow()
    assert mirror.rib.deviations() == [
        "1 routing rule not followed (see `ip rule`): all traffic takes the tables local, main and default"
    ]
    space.ip("rule", "del", "from", "10.9.0.1", "table", "100")
    mirror.follow()
    assert mirror.rib.deviations() == []


# --- When it goes wrong -----------------------------------------------------------------------------------------------


def test_an_overrun_leads_to_a_dump_and_only_the_difference_is_published(space: Namespace) -> None:
    mirror = Mirror(space, receive_buffer_bytes=TINY_BUFFER_BYTES)
    try:
        mirror.follow()
        space.kernel.route("add", dst="10.2.0.0/16", gateway="10.0.0.9")
        mirror.follow()
        # The links' coming up may have overrun so small a buffer already.
        dumps, messages = mirror.dumps, mirror.messages
        for number in range(200):
            space.kernel.route("add", dst=f"10.100.{number}.0/24", gateway="10.0.0.9")
        space.kernel.route("del", dst="10.2.0.0/16")
        after = mirror.follow()
        assert mirror.dumps > dumps
        assert mirror.messages == messages + 1
        assert after == START | {f"10.100.{number}.0/24": BY_GATEWAY for number in range(200)}
        space.kernel.route("del", dst="10.100.7.0/24")
        assert "10.100.7.0/24" not in mirror.follow()
    finally:
        mirror.netlink.close()


def test_a_message_that_is_not_from_the_kernel_is_not_believed(space: Namespace, mirror: Mirror) -> None:
    # ip route add blackhole default, as the kernel would announce it, sent by a process
    body = struct.pack("=8BI", 2, 0, 0, 0, 254, 3, 0, 6, 0)
    forged = struct.pack("=IHHII", 16 + len(body), 24, 0x600, 0, 0) + body
    port = mirror.netlink._announcements.getsockname()[0]
    with netns.inside(space.name):
        forger = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    with forger:
        forger.sendto(forged, (port, 0))
    space.kernel.route("add", dst="10.2.0.0/16", gateway="10.0.0.9")
    assert mirror.follow() == START | {"10.2.0.0/16": BY_GATEWAY}


def test_the_published_table_answers_as_the_kernel_does(space: Namespace, mirror: Mirror) -> None:
    """Random changes, flaps among them; after each batch random destinations, looked up by the kernel and by us."""
    chance = random.Random(20)
    gateways = {"eth0": "10.0.0.9", "eth1": "10.1.0.9"}
    for _ in range(25):
        for _ in range(8):
            _change_something(space, chance, gateways)
        mirror.follow()
        for _ in range(10):
            destination = IPv4Address(chance.choice((0x0A020000, 0x0A030000)) + chance.getrandbits(16))
            # The kernel follows a carrier up to a second later.
            deadline = time.monotonic() + LIMIT_S
            while (answer := _as_kernel_says(mirror.lookup(destination))) != _kernel_lookup(space, destination):
                assert time.monotonic() < deadline, f"{destination}: {answer}, {_kernel_lookup(space, destination)}"
                mirror.follow()


def _change_something(space: Namespace, chance: random.Random, gateways: dict[str, str]) -> None:
    name = chance.choice(list(gateways))
    length = chance.choice((0, 9, 15, 16, 20, 24, 32))
    prefix = IPv4Network((chance.choice((0x0A020000, 0x0A030000)) + chance.getrandbits(16), length), strict=False)
    action = chance.choice(("replace", "replace", "replace", "replace", "special", "del", "flap", "carrier"))
    try:
        if action == "replace":
            metric = chance.choice((0, 5))
            space.kernel.route("replace", dst=str(prefix), gateway=gateways[name], priority=metric)
        elif action == "special":
            space.kernel.route("replace", dst=str(prefix), type=chance.choice(("blackhole", "prohibit")))
        elif action == "del":
            space.kernel.route("del", dst=str(prefix))
        else:
            flapping = name if action == "flap" else name.replace("eth", "far")
            space.down(flapping)
            space.up(flapping)
    except space.refused as error:  # no such route; or the gateway's link is down
        if error.code not in (errno.ESRCH, errno.ENETUNREACH):
            raise


def _kernel_lookup(space: Namespace, destination: IPv4Address) -> tuple[str, str, str] | str:
    try:
        (answer,) = space.kernel.route("get", dst=str(destination))
    except space.refused as error:
        return {errno.ENETUNREACH: "none", errno.EINVAL: "blackhole", errno.EACCES: "prohibit"}[error.code]
    (link,) = space.kernel.get_links(answer.get("oif"))
    return "unicast", link.get("ifname"), answer.get("gateway") or "0.0.0.0"


def _as_kernel_says(treatment: Treatment | None) -> tuple[str, str, str] | str:
    if treatment is None:
        return "none"
    kind, ways, _ = treatment
    return (kind, ways[0][0], ways[0][1]) if kind == "unicast" else kind
