"""An interface's policy, changed with control-cli while frames go through: conformance rows 28 to 31."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from router_lab import Control, RouterLab
from router_traffic import Wire
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import Ether

from services.common.parameters import InterfacePolicy

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

HOST1, HOST2 = "192.168.1.2", "192.168.0.2"


@contextmanager
def policy(control: Control, interface: str, **fields: object) -> Iterator[None]:
    control.ask("link.set", dev=interface, **fields)
    control.wait_until_followed()
    try:
        yield
    finally:
        control.ask("link.set", dev=interface, **InterfacePolicy().model_dump())
        control.wait_until_followed()


@pytest.fixture
def router(pair: RouterLab) -> Control:
    return pair.control()


def send(lab: RouterLab, source: str, destination: str, ttl: int = 64, mark: bytes = b"") -> None:
    with Wire(lab, "host1") as wire:
        head = Ether(src=wire.mac, dst=lab.control().mac("eth0"))
        wire.send(bytes(head / IP(src=source, dst=destination, ttl=ttl) / UDP(sport=7, dport=7) / mark))


def carries(mark: bytes) -> Callable[[bytes], bool]:
    return lambda frame: frame[12:14] == b"\x08\x00" and mark in frame


def assert_dropped(lab: RouterLab, counter: str, source: str, destination: str, ttl: int = 64) -> None:
    """Dropped under this counter, and nobody is told."""
    before = lab.control().counts()
    with Wire(lab, "host1") as near:
        send(lab, source, destination, ttl)
        lab.control().settle()
        after = lab.control().counts()
        assert after.since(before, "DROP_") == {counter: 1}
        assert near.listen(lambda frame: frame[12:14] == b"\x08\x00" and IP(frame[14:]).haslayer(ICMP)) == []


def assert_forwarded(lab: RouterLab, source: str, destination: str) -> Ether:
    mark = f"{source}>{destination}".encode()
    with Wire(lab, "host2") as far:
        send(lab, source, destination, mark=mark)
        (heard,) = far.wait_to_hear("the datagram", carries(mark))
    frame = Ether(heard.frame)
    assert frame[IP].ttl == 63
    return frame


def test_what_is_set_is_shown(router: Control) -> None:
    words = ("reverse-path", "loose", "martians", "linux", "directed-broadcast", "on", "redirects", "off")
    with policy(router, "eth1", redirects=True):
        router.change("link", "set", "eth1", *words, "proxy-arp", "on")
        links = {link["ifname"]: link.get("policy") for link in router.show("link", "show")}
        assert links["eth1"] == {
            "reverse_path": "loose",
            "martians": "linux",
            "directed_broadcast": True,
            "redirects": False,
            "proxy_arp": True,
        }
        assert links["eth0"]["reverse_path"] == "off"
        assert links["lo"] is None
        lines = router.cli("-d", "link", "show", "eth1").stdout.splitlines()
        assert lines[0].split()[5:10] == ["REVERSE-PATH", "MARTIANS", "DIRECTED-BROADCAST", "REDIRECTS", "PROXY-ARP"]
        assert lines[1].split()[5:10] == ["loose", "linux", "on", "off", "on"]


def test_a_policy_of_the_loopback_is_refused(router: Control) -> None:
    done = router.cli("link", "set", "lo", "martians", "linux")
    assert done.returncode == 1
    assert done.stderr.startswith("control-cli: lo is no Ethernet interface")
    assert router.cli("link", "set", "nowhere", "martians", "linux").stderr.startswith("control-cli: No such device")


@pytest.mark.parametrize(
    ("source", "loose", "strict"),
    [
        (HOST1, True, True),
        ("192.168.0.77", True, False),  # behind the other interface
        ("100.64.0.1", False, False),  # no route at all
    ],
)
def test_row_31_reverse_path(pair: RouterLab, router: Control, source: str, loose: bool, strict: bool) -> None:
    assert_forwarded(pair, source, HOST2)
    for check, passes in (("loose", loose), ("strict", strict)):
        with policy(router, "eth0", reverse_path=check):
            if passes:
                assert_forwarded(pair, source, HOST2)
            else:
                assert_dropped(pair, "DROP_REVERSE_PATH", source, HOST2)
                assert_dropped(pair, "DROP_REVERSE_PATH", source, "192.168.1.1")


def test_row_28_directed_broadcast(pair: RouterLab, router: Control) -> None:
    assert_dropped(pair, "DROP_DIRECTED_BROADCAST", HOST1, "192.168.0.255")
    with policy(router, "eth0", directed_broadcast=True):
        assert_dropped(pair, "DROP_DIRECTED_BROADCAST", HOST1, "192.168.0.255")
    with policy(router, "eth1", directed_broadcast=True):
        frame = assert_forwarded(pair, HOST1, "192.168.0.255")
        assert (frame.dst, frame.src) == ("ff:ff:ff:ff:ff:ff", router.mac("eth1"))
        assert_dropped(pair, "DROP_TTL_EXCEEDED", HOST1, "192.168.0.255", ttl=1)
    assert_dropped(pair, "DROP_DIRECTED_BROADCAST", HOST1, "192.168.0.255")


@pytest.mark.parametrize(
    ("source", "counter"),
    [
        ("0.1.2.3", "DROP_MARTIAN_SOURCE"),
        ("240.0.0.1", "DROP_MARTIAN_SOURCE"),
        ("169.254.1.1", "DROP_LINK_LOCAL"),
    ],
)
def test_rows_29_and_30_as_linux(pair: RouterLab, router: Control, source: str, counter: str) -> None:
    assert_dropped(pair, counter, source, HOST2)
    with policy(router, "eth0", martians="linux"):
        assert_forwarded(pair, source, HOST2)
        assert_dropped(pair, "DROP_MARTIAN_SOURCE", "127.0.0.1", HOST2)
    with policy(router, "eth1", martians="linux"):
        assert_dropped(pair, counter, source, HOST2)
