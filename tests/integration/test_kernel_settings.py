"""Taking over from the kernel, and giving back, in real namespaces: settings, and the guard at netdev ingress.

A host and a router, joined by a veth pair. There is no hopwire: what the kernel does by itself is what is looked at.
"""

import os
import socket
import struct
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyroute2 import IPRoute
from pyroute2 import netns as pyroute2_netns
from pyroute2.nftables.main import NFTables

from services.common import guard, netns
from services.common.kernel_settings import KernelOwnership, read_setting, record_path, shortcomings

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

PREFIX = f"kst{os.getpid()}-"
HOST, ROUTER, CHILD = (f"{PREFIX}{name}" for name in ("host", "router", "child"))
LIMIT_S = 10.0
SETTINGS = Path("/proc/sys/net/ipv4")

ROUTER_ADDRESS = "10.1.0.1"
HOST_ADDRESS = "10.1.0.2"
BEYOND = "10.2.0.1"
"""Reached only through the router."""


def setting(name: str) -> str | None:
    return read_setting(f"net/ipv4/{name}")


def put(name: str, value: str) -> None:
    (SETTINGS / name).write_text(value)


def all_settings() -> dict[str, str]:
    """Everything of IPv4 in the present namespace that can be read."""
    files = [SETTINGS / "ip_forward", SETTINGS / "icmp_echo_ignore_all", *sorted((SETTINGS / "conf").glob("*/*"))]
    return {str(file.relative_to(SETTINGS)): file.read_text().strip() for file in files if os.access(file, os.R_OK)}


def guarded_devices() -> list[str]:
    """The devices in the hook of the table's chain, as pyroute2 decodes the kernel's answer."""
    with NFTables(nfgen_family=5) as kernel:  # NFPROTO_NETDEV
        return [
            device
            for chain in kernel.get_chains()
            if chain.get_attr("NFTA_CHAIN_TABLE") == "hopwire"
            for device in chain.get_attr("NFTA_CHAIN_HOOK").get_attr("NFTA_HOOK_DEVS").get_attrs("NFTA_DEVICE_NAME")
        ]


def add_interface(name: str, address: str, peer: str) -> None:
    """Join the router (interface `name`, with an address) and the host (interface `peer`)."""
    with IPRoute(netns=ROUTER, flags=0) as kernel:
        kernel.link("add", kind="veth", ifname=name, peer={"ifname": peer, "net_ns_fd": HOST})
        (index,) = kernel.link_lookup(ifname=name)
        kernel.addr("add", index=index, address=address, prefixlen=24, broadcast=address.rpartition(".")[0] + ".255")
        kernel.link("set", index=index, state="up")
    with IPRoute(netns=HOST, flags=0) as kernel:
        (index,) = kernel.link_lookup(ifname=peer)
        kernel.link("set", index=index, state="up")


@pytest.fixture
def router() -> Iterator[str]:
    """Two namespaces: r0 (10.1.0.1/24) of the router leads to h0 (10.1.0.2/24) of the host. Yields the router's."""
    made: list[str] = []
    try:
        for name in (HOST, ROUTER, CHILD):
            pyroute2_netns.create(name)
            made.append(name)
            with netns.inside(name):
                for scope in ("all", "default"):
                    Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6").write_text("1")
                put("ip_forward", "0")
        add_interface("r0", ROUTER_ADDRESS, "h0")
        with IPRoute(netns=HOST, flags=0) as kernel:
            (index,) = kernel.link_lookup(ifname="h0")
            kernel.addr("add", index=index, address=HOST_ADDRESS, prefixlen=24, broadcast="10.1.0.255")
            kernel.route("add", dst="default", gateway=ROUTER_ADDRESS)
            # the router's kernel will not say its MAC
            kernel.neigh("add", dst=ROUTER_ADDRESS, lladdr=mac(ROUTER, "r0"), ifindex=index, state="permanent")
        yield ROUTER
    finally:
        for name in made:
            pyroute2_netns.remove(name)


def mac(namespace: str, interface: str) -> str:
    with IPRoute(netns=namespace, flags=0) as kernel:
        (link,) = kernel.link("get", ifname=interface)
        return str(link.get("address"))


# --- settings ---------------------------------------------------------------------------------------------------------


def test_takes_what_it_needs_and_restores_everything_as_it_was(router: str, tmp_path: Path) -> None:
    ownership = KernelOwnership(record_path(tmp_path))
    add_interface("r1", "10.3.0.1", "h1")
    with netns.inside(router):
        put("ip_forward", "1")  # sets conf/*/forwarding, and conf/all/accept_redirects to 0
        put("conf/r1/forwarding", "0")
        put("conf/r0/arp_ignore", "2")
        before = all_settings()
        assert before["conf/r0/forwarding"] == "1"

        assert ownership.take(["r0"]) == []
        assert {name: setting(name) for name in before if setting(name) != before[name]} == {
            "ip_forward": "0",
            "conf/all/forwarding": "0",
            "icmp_echo_ignore_all": "1",
            "conf/default/forwarding": "0",
            "conf/lo/forwarding": "0",
            "conf/r0/forwarding": "0",
            "conf/r0/arp_ignore": "8",
            "conf/r0/accept_redirects": "0",
        }
        assert shortcomings(["r0"]) == []
        assert guarded_devices() == ["r0"]

        assert ownership.restore() == []
        assert all_settings() == before
        assert guarded_devices() == []
    assert list(tmp_path.iterdir()) == []


def test_forwarding_of_a_single_interface_is_taken_although_ip_forward_is_off(router: str, tmp_path: Path) -> None:
    ownership = KernelOwnership(record_path(tmp_path))
    with netns.inside(router):
        put("conf/r0/forwarding", "1")
        before = all_settings()
        assert before["ip_forward"] == "0"
        ownership.take(["r0"])
        assert setting("conf/r0/forwarding") == "0"
        ownership.restore()
        assert all_settings() == before


def test_interfaces_may_come_later_and_vanish_before_the_restore(router: str, tmp_path: Path) -> None:
    ownership = KernelOwnership(record_path(tmp_path))
    with netns.inside(router):
        put("ip_forward", "1")
        before = all_settings()
        ownership.take(["r0"])
        add_interface("r1", "10.3.0.1", "h1")
        add_interface("r2", "10.4.0.1", "h2")
        assert setting("conf/r1/forwarding") == "0", "from conf/default, which is 0 by now"
        assert ownership.take(["r0", "r1", "r2", "never-there"]) == []
        assert setting("conf/r1/arp_ignore") == "8"
        assert guarded_devices() == ["r0", "r1", "r2"]
        with IPRoute() as kernel:
            kernel.link("del", index=kernel.link_lookup(ifname="r2")[0])
        assert ownership.take(["r0", "r1"]) == []
        assert guarded_devices() == ["r0", "r1"]

        assert ownership.restore() == []
        after = all_settings()
        assert {name: after[name] for name in before} == before
        assert after["conf/r1/forwarding"] == "1", "what it would have had without us"
        assert after["conf/r1/arp_ignore"] == "0"


def test_an_interface_that_came_unnoticed_gets_what_default_had(router: str, tmp_path: Path) -> None:
    ownership = KernelOwnership(record_path(tmp_path))
    with netns.inside(router):
        put("ip_forward", "1")
        put("conf/default/forwarding", "0")
        ownership.take(["r0"])
        add_interface("r1", "10.3.0.1", "h1")
        ownership.restore()
        assert setting("ip_forward") == "1"
        assert setting("conf/r1/forwarding") == "0"


def test_taking_twice_keeps_the_first_record_and_asserts_the_settings_again(router: str, tmp_path: Path) -> None:
    ownership = KernelOwnership(record_path(tmp_path))
    with netns.inside(router):
        before = all_settings()
        ownership.take(["r0"])
        put("ip_forward", "1")  # as Docker does
        assert shortcomings(["r0"]) != []
        assert ownership.take(["r0"]) == []
        assert shortcomings(["r0"]) == []
        ownership.restore()
        assert all_settings() == before


def test_the_record_of_a_killed_process_is_the_truth(router: str, tmp_path: Path) -> None:
    code = f"""
        import os, signal
        from pathlib import Path
        from services.common import netns
        from services.common.kernel_settings import KernelOwnership, record_path
        netns.enter({router!r})
        KernelOwnership(record_path(Path({str(tmp_path)!r}))).take(["r0"])
        os.kill(os.getpid(), signal.SIGKILL)
    """
    with netns.inside(router):
        put("ip_forward", "1")
        before = all_settings()
        crashed = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], timeout=LIMIT_S, check=False)
        assert crashed.returncode == -9
        assert setting("ip_forward") == "0"

        ownership = KernelOwnership(record_path(tmp_path))
        assert ownership.take(["r0"]) == []
        assert ownership.restore() == []
        assert all_settings() == before
        assert guarded_devices() == []


def test_a_record_of_another_namespace_is_not_applied(router: str, tmp_path: Path) -> None:
    with netns.inside(router):
        put("ip_forward", "1")
        KernelOwnership(record_path(tmp_path)).take(["r0"])
    with netns.inside(HOST):
        before = all_settings()
        (warning,) = KernelOwnership(record_path(tmp_path)).restore()
        assert "another network namespace" in warning
        assert all_settings() == before


def test_a_read_only_proc_sys_is_told_setting_by_setting(router: str, tmp_path: Path) -> None:
    code = f"""
        from pathlib import Path
        from services.common.kernel_settings import KernelOwnership, record_path
        for line in KernelOwnership(record_path(Path({str(tmp_path)!r}))).take(["r0"]):
            print(line)
    """
    script = 'mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, "-c", textwrap.dedent(code)]

    def warnings() -> list[str]:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=True)
        return done.stdout.splitlines()

    with netns.inside(router):
        put("ip_forward", "1")
        named = [line.partition(" should be ")[0] for line in warnings()]
        assert named == [
            "net.ipv4.ip_forward, net.ipv4.conf.r0.forwarding",
            "net.ipv4.icmp_echo_ignore_all",
            "net.ipv4.conf.r0.arp_ignore",
            "net.ipv4.conf.r0.accept_redirects",
        ]
        for name, value in (
            ("ip_forward", "0"),
            ("icmp_echo_ignore_all", "1"),
            ("conf/all/accept_redirects", "0"),
            ("conf/r0/accept_redirects", "0"),
            ("conf/all/arp_ignore", "8"),  # the kernel takes the larger of `all` and the interface's own
        ):
            put(name, value)
        assert warnings() == []


# --- the kernel keeps quiet, and its own services work ----------------------------------------------------------------


def icmp_echo(number: int) -> bytes:
    """RFC 792: type 8, code 0, the checksum, identifier 0, sequence number."""
    return struct.pack(">BBHHH", 8, 0, 0xFFFF - 0x0800 - number, 0, number)


def answers_to_ping() -> bool:
    with netns.inside(HOST), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as host:
        host.settimeout(0.3)
        host.sendto(icmp_echo(1), (ROUTER_ADDRESS, 0))
        try:
            answer = host.recv(2048)
        except TimeoutError:
            return False
        return answer[20:21] == b"\0"


def answers_to_arp() -> bool:
    """Ask for the router's MAC, with the bytes of RFC 826, and look for the reply."""
    own = bytes.fromhex(mac(HOST, "h0").replace(":", ""))
    request = b"\xff" * 6 + own + bytes.fromhex("0806 0001 0800 06 04 0001") + own
    request += socket.inet_aton(HOST_ADDRESS) + bytes(6) + socket.inet_aton(ROUTER_ADDRESS)
    with netns.inside(HOST), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806)) as host:
        host.bind(("h0", 0x0806))
        host.settimeout(0.3)
        host.send(request)
        try:
            return host.recv(2048)[20:22] == b"\0\2"
        except TimeoutError:
            return False


def test_the_kernel_leaves_arp_and_echo_alone_and_answers_again_afterwards(router: str, tmp_path: Path) -> None:
    ownership = KernelOwnership(record_path(tmp_path))
    assert (answers_to_arp(), answers_to_ping()) == (True, True)
    with netns.inside(router):
        ownership.take(["r0"])
    assert (answers_to_arp(), answers_to_ping()) == (False, False)
    with netns.inside(router):
        ownership.restore()
    assert (answers_to_arp(), answers_to_ping()) == (True, True)


def tcp_through(namespace: str, address: str) -> bytes:
    """What a server in a namespace hears from the host, in both directions, over TCP."""
    with netns.inside(namespace):
        listener = socket.create_server((address, 0))
    with listener:
        with netns.inside(HOST):
            client = socket.create_connection(listener.getsockname(), timeout=LIMIT_S)
        listener.settimeout(LIMIT_S)
        server, _ = listener.accept()
        with client, server:
            server.settimeout(LIMIT_S)
            client.sendall(b"to the router")
            server.sendall(server.recv(100).upper())
            return client.recv(100)


def test_tcp_to_the_router_works_while_everything_is_taken(router: str, tmp_path: Path) -> None:
    with netns.inside(router):
        assert KernelOwnership(record_path(tmp_path)).take(["r0"]) == []
    assert tcp_through(router, ROUTER_ADDRESS) == b"TO THE ROUTER"


@pytest.mark.parametrize("destination", ["10.1.0.255", "255.255.255.255", "224.0.0.5", ROUTER_ADDRESS])
def test_the_guard_leaves_what_is_for_the_router_to_its_kernel(router: str, destination: str) -> None:
    with netns.inside(router):
        guard.install(["r0"])
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind(("", 0))
        membership = socket.inet_aton("224.0.0.5") + socket.inet_aton(ROUTER_ADDRESS)  # AllSPFRouters of OSPF
        server.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        server.settimeout(LIMIT_S)
    with server, netns.inside(HOST), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as host:
        host.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        host.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"h0")
        host.sendto(b"for the router", (destination, server.getsockname()[1]))
        assert server.recv(100) == b"for the router"


# --- the guard and frames that pass -----------------------------------------------------------------------------------

FRAMES = 50


def ip_received() -> int:
    """How many datagrams the IP stack of the present namespace has looked at: InReceives of /proc/net/snmp."""
    names, values = [
        line.split() for line in Path("/proc/thread-self/net/snmp").read_text().splitlines() if line.startswith("Ip:")
    ]
    return int(values[names.index("InReceives")])


def passing_datagram() -> bytes:
    """UDP 10.1.0.2:1000 → 10.2.0.1:2000, one byte, no UDP checksum."""
    header = bytes.fromhex("4500001d000000004011") + bytes.fromhex("66cb")
    return header + bytes.fromhex("0a010002 0a020001 03e8 07d0 0009 0000 58")


def counted(ethernet: bytes) -> tuple[int, bool]:
    """Send the router frames that only pass: how many a packet socket saw, and whether its IP stack was spared them."""
    with netns.inside(ROUTER):
        watcher = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
        watcher.setsockopt(263, 23, 1)  # SOL_PACKET, PACKET_IGNORE_OUTGOING
        watcher.bind(("r0", 3))
        watcher.settimeout(LIMIT_S)
        before = ip_received()
    with netns.inside(HOST), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as host:
        host.bind(("h0", 0))
        for _ in range(FRAMES):
            host.send(ethernet + passing_datagram())
    seen = 0
    with watcher:
        while seen < FRAMES:
            seen += passing_datagram() in watcher.recv(2048)
    # TCP on the same link comes behind the frames, and through: then the kernel is done with them. It is a few frames.
    assert tcp_through(ROUTER, ROUTER_ADDRESS) == b"TO THE ROUTER"
    with netns.inside(ROUTER):
        return seen, ip_received() - before < FRAMES


def ethernet_to(mac_text: str, ether_type: str) -> bytes:
    return bytes.fromhex(mac_text.replace(":", "")) + bytes.fromhex("020000000009") + bytes.fromhex(ether_type)


def test_frames_that_pass_are_seen_by_packet_sockets_and_spared_the_ip_stack(router: str) -> None:
    passing = ethernet_to(mac(router, "r0"), "0800")
    assert counted(passing) == (FRAMES, False)
    with netns.inside(router):
        guard.install(["r0"])
    assert counted(passing) == (FRAMES, True)
    with netns.inside(router):
        guard.remove()
        guard.remove()
    assert counted(passing) == (FRAMES, False)


def test_the_guard_leaves_tagged_frames_to_their_own_interface(router: str) -> None:
    """802.1Q with VLAN 0, which the kernel takes as untagged when nobody else does: so it must come through to it."""
    with netns.inside(router):
        guard.install(["r0"])
    assert counted(ethernet_to(mac(router, "r0"), "8100 0000 0800")) == (FRAMES, False)


def test_the_guard_leaves_frames_for_a_macvlan_alone(router: str) -> None:
    """Its address is none of the router's: a container's, say."""
    with IPRoute(netns=router, flags=0) as kernel:
        (lower,) = kernel.link_lookup(ifname="r0")
        kernel.link("add", kind="macvlan", ifname="m0", link=lower, macvlan_mode="bridge", net_ns_fd=CHILD)
    with IPRoute(netns=CHILD, flags=0) as kernel:
        (index,) = kernel.link_lookup(ifname="m0")
        kernel.addr("add", index=index, address="10.1.0.77", prefixlen=24)
        kernel.link("set", index=index, state="up")
    with netns.inside(router):
        guard.install(["r0"])
    assert tcp_through(CHILD, "10.1.0.77") == b"TO THE ROUTER"


def test_the_guard_follows_an_interface_that_is_made_anew(router: str) -> None:
    with netns.inside(router):
        guard.install(["r0"])
        with IPRoute() as kernel:
            kernel.link("del", index=kernel.link_lookup(ifname="r0")[0])
        guard.install(["r0"])
        assert guarded_devices() == []
    add_interface("r0", ROUTER_ADDRESS, "h0")
    with IPRoute(netns=HOST, flags=0) as kernel:
        (index,) = kernel.link_lookup(ifname="h0")
        kernel.addr("add", index=index, address=HOST_ADDRESS, prefixlen=24)
        kernel.neigh("add", dst=ROUTER_ADDRESS, lladdr=mac(ROUTER, "r0"), ifindex=index, state="permanent")
    with netns.inside(router):
        guard.install(["r0"])
        assert guarded_devices() == ["r0"]
    assert counted(ethernet_to(mac(router, "r0"), "0800")) == (FRAMES, True)


def test_an_existing_table_is_replaced(router: str) -> None:
    add_interface("r1", "10.3.0.1", "h1")
    with netns.inside(router):
        guard.install(["r0"])
        guard.install(["r1"])
        assert guarded_devices() == ["r1"]
    assert counted(ethernet_to(mac(router, "r0"), "0800")) == (FRAMES, False)


def test_probing_leaves_nothing(router: str) -> None:
    with netns.inside(router):
        guard.probe()
        with NFTables(nfgen_family=5) as kernel:
            assert list(kernel.get_tables()) == []
