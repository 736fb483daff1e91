"""Two network namespaces with two veth pairs between them, and a raw station at the hosts' end of each.

Datagrams are written by hand, at the offsets of RFC 791.
"""

import errno
import itertools
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pyroute2 import IPRoute
from pyroute2 import netns as pyroute2_netns

from services.common import netns
from services.common.messages import Interface, InterfaceAddress
from services.common.runtime import clock

LIMIT_S = 60.0
PLAIN = bytes(10)
# 10.0.0.2, 10.0.1.2, 10.0.1.99, 198.51.100.7
HOST0, HOST1, SILENT, FAR = 0x0A000002, 0x0A000102, 0x0A000163, 0xC6336407

_numbers = itertools.count()


def checksum(data: bytes) -> int:
    """The Internet checksum as RFC 1071 section 4.1 adds it up."""
    total: int = sum(word for (word,) in struct.iter_unpack("!H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def datagram(number: int, destination: int = HOST1, length: int = 100, ttl: int = 64, source: int = HOST0) -> bytes:
    """A UDP datagram that can be told from others by its identification."""
    head = struct.pack("!BBHHHBBHII", 0x45, 0, length, number, 0, ttl, 17, 0, source, destination)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + bytes(length - 20)


def numbers(datagrams: list[bytes]) -> list[int]:
    return [int.from_bytes(each[4:6], "big") for each in datagrams]


def aged(packet: bytes) -> bytes:
    """The datagram after one hop: TTL one less, the checksum summed up anew."""
    head = packet[:8] + bytes((packet[8] - 1,)) + packet[9:10] + b"\0\0" + packet[12:20]
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + packet[20:]


class Namespaces(NamedTuple):
    """The names of the router's network namespace and of the hosts'."""

    router: str
    host: str


class Host:
    """A station that speaks raw Ethernet on one interface; virtio headers are shown and taken."""

    def __init__(self, namespace: str, interface: str) -> None:
        with netns.inside(namespace):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
            self._socket.setsockopt(263, 15, 1)  # SOL_PACKET, PACKET_VNET_HDR
            self._socket.setsockopt(263, 23, 1)  # PACKET_IGNORE_OUTGOING
            self._socket.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
            self._socket.bind((interface, 3))
        self._socket.setblocking(False)
        self.heard: list[bytes] = []

    def send(self, frame: bytes, virtio: bytes = PLAIN) -> None:
        self._socket.send(virtio + frame)

    def listen(self) -> None:
        """Keep everything that has come, virtio headers in front."""
        while True:
            try:
                self.heard.append(self._socket.recv(70_000))
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENETDOWN:  # its interface went down
                    raise

    def datagrams(self) -> list[bytes]:
        return [frame[24:] for frame in self.heard if frame[22:24] == b"\x08\x00"]

    def close(self) -> None:
        self._socket.close()


def kernel_interface(namespace: str, name: str, address: int) -> Interface:
    """An interface of the router as control would publish it."""
    with IPRoute(netns=namespace, flags=0) as kernel:
        (link,) = kernel.link("get", ifname=name)
    return Interface(
        index=link["index"],
        name=name,
        mac=bytes.fromhex(link.get("address").replace(":", "")),
        mtu=1500,
        up=True,
        addresses=[InterfaceAddress(address=address, prefix_length=24)],
    )


def make_veth(spaces: Namespaces, number: int) -> None:
    """Join the router's r0 or r1 to the host's h0 or h1."""
    ends = ((spaces.router, f"r{number}"), (spaces.host, f"h{number}"))
    with IPRoute(netns=spaces.router, flags=0) as kernel:
        kernel.link("add", kind="veth", ifname=ends[0][1], peer={"ifname": ends[1][1], "net_ns_fd": spaces.host})
    for name, interface in ends:
        set_link(name, interface, state="up")
    with IPRoute(netns=spaces.router, flags=0) as kernel:
        deadline = clock() + LIMIT_S
        while kernel.link("get", ifname=ends[0][1])[0].get("operstate") != "UP":
            assert clock() < deadline


def set_link(namespace: str, interface: str, **what: object) -> None:
    with IPRoute(netns=namespace, flags=0) as kernel:
        kernel.link("set", index=kernel.link_lookup(ifname=interface)[0], **what)


@contextmanager
def namespaces() -> Iterator[Namespaces]:
    """Make both namespaces with two veth pairs between them, and take them away."""
    number = next(_numbers)
    spaces = Namespaces(f"fwdt{os.getpid()}-{number}-r", f"fwdt{os.getpid()}-{number}-h")
    made = []
    try:
        for name in spaces:
            pyroute2_netns.create(name)
            made.append(name)
            with netns.inside(name):  # no router solicitations among the frames
                Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
        make_veth(spaces, 0)
        make_veth(spaces, 1)
        yield spaces
    finally:
        for name in made:
            pyroute2_netns.remove(name)
