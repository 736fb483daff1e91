"""A host of the tests: it sends and hears raw frames; its kernel answers ARP for it, and says nothing else.

The kernel has the host's addresses on its loopback and no route to anywhere, so that it cannot answer IP.
"""

import ctypes
import errno
import itertools
import socket
import struct
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Final

from router_lab import RouterLab, kernel, wait_for
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from services.common import netns

Wanted = Callable[[bytes], bool]

EVERYBODY: Final = "ff:ff:ff:ff:ff:ff"
LOAD_PORT: Final = 9  # discard: the background load, which no station hears
_ETH_P_ALL: Final = 3  # linux/if_ether.h
_SOL_PACKET: Final = 263  # linux/socket.h
_PACKET_IGNORE_OUTGOING: Final = 23  # linux/if_packet.h
_SO_RCVBUFFORCE: Final = 33  # asm-generic/socket.h
_SO_ATTACH_FILTER: Final = 26
_RECEIVE_BUFFER_BYTES: Final = 64 << 20
_RT_SCOPE_HOST, _RTN_LOCAL, _RT_TABLE_LOCAL = 254, 2, 255  # linux/rtnetlink.h
_LOOPBACK: Final = 1
_ALL_BUT_LOAD: Final = (  # classic BPF, linux/filter.h: (code, if true, if false, operand)
    (0x28, 0, 0, 12),  # ldh the EtherType
    (0x15, 0, 5, 0x0800),
    (0x30, 0, 0, 23),  # ldb the protocol
    (0x15, 0, 3, 17),
    (0x28, 0, 0, 36),  # ldh the UDP destination port; headers of the load have no options
    (0x15, 0, 1, LOAD_PORT),
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0x40000),  # keep
)


class Station:
    """One of h1, h2, h3.

    :ivar address: its own on the link; 10.0.N.64 to 127 are its too, and everything behind `far`.
    :ivar gateway: the router's address on its link.
    :ivar interface: the router's interface on its link.
    """

    def __init__(self, lab: RouterLab, number: int) -> None:
        self.name, self.number = f"h{number}", number
        self.interface = f"eth{number - 1}"
        self.address, self.gateway = f"10.0.{number}.2", f"10.0.{number}.1"
        self.broadcast = f"10.0.{number}.255"
        self.far = f"172.{16 + number}.0.0/16"
        self._far_hosts = itertools.count((172 << 24) + (16 + number << 16) + 1)
        self._near_hosts = itertools.cycle(range(64, 128))
        self._played_hosts = itertools.cycle(range(130, 250))
        self._lab = lab
        with kernel(lab, "router") as router:
            (link,) = router.link("get", ifname=self.interface)
            self.router_mac: str = link.get("address")
        self._quieten_kernel()
        self._open()
        self._heard: list[bytes] = []

    def _quieten_kernel(self) -> None:
        with kernel(self._lab, self.name) as host:
            (index,) = host.link_lookup(ifname="eth0")
            host.flush_addr(index=index)
            for destination in (f"{self.address}/32", f"10.0.{self.number}.64/26"):
                host.route(
                    "add",
                    dst=destination,
                    oif=_LOOPBACK,
                    type=_RTN_LOCAL,
                    scope=_RT_SCOPE_HOST,
                    table=_RT_TABLE_LOCAL,
                )

    def _open(self) -> None:
        program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in _ALL_BUT_LOAD))
        with netns.inside(self._lab.namespace(self.name)):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        sock_fprog = struct.pack("@HP", len(_ALL_BUT_LOAD), ctypes.addressof(program))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, sock_fprog)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        self._socket.bind(("eth0", _ETH_P_ALL))
        self._socket.setblocking(False)
        self.mac: str = self._socket.getsockname()[4].hex(":")

    def close(self) -> None:
        self._socket.close()

    def far_host(self) -> str:
        """Return the address of a host behind this one that was never used before."""
        return str(IPv4Address(next(self._far_hosts)))

    def near_host(self) -> str:
        """Return an address on the link that this station's kernel answers ARP for."""
        return f"10.0.{self.number}.{next(self._near_hosts)}"

    def played_host(self) -> str:
        """Return an address on the link that nobody answers ARP for, unless the test does so itself."""
        return f"10.0.{self.number}.{next(self._played_hosts)}"

    def played_mac(self, address: str, variant: int = 0) -> str:
        """Return a MAC for a host that the test plays."""
        return f"02:00:{variant:02x}:00:{self.number:02x}:{int(address.rpartition('.')[2]):02x}"

    # sending

    def send(self, frame: Packet | bytes) -> None:
        """Send one Ethernet frame."""
        data = bytes(frame)
        wait_for("room in the transmit queue", lambda: self._try_send(data))

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

    def send_ip(self, datagram: Packet | bytes, to: str | None = None) -> None:
        """Send a datagram to the router, or to another MAC."""
        self.send(Ether(src=self.mac, dst=to or self.router_mac, type=0x0800) / bytes(datagram))

    def send_arp(self, to: str = EVERYBODY, **fields: object) -> None:
        """Send an ARP message; what is not given: a request of this station."""
        values = {"op": 1, "hwsrc": self.mac, "psrc": self.address, "hwdst": "00:00:00:00:00:00", **fields}
        self.send(Ether(src=self.mac, dst=to) / ARP(**values))

    def answer(self, address: str, mac: str) -> None:
        """Tell the router the MAC of a host that the test plays."""
        self.send_arp(self.router_mac, op=2, psrc=address, hwsrc=mac, pdst=self.gateway, hwdst=self.router_mac)

    # hearing

    def forget(self) -> None:
        """Forget what was heard up to now."""
        self.listen()
        self._heard.clear()

    def listen(self) -> list[bytes]:
        """Take in what has come, and return all that was heard since `forget`, in order."""
        while True:
            try:
                self._heard.append(self._socket.recv(70_000))
            except BlockingIOError:
                return self._heard
            except OSError as error:
                if error.errno != errno.ENETDOWN:  # its link went down, as some tests want it
                    raise

    def heard(self, wanted: Wanted) -> list[Packet]:
        """Return what was heard of a kind."""
        return [Ether(frame) for frame in self.listen() if wanted(frame)]

    def wait_to_hear(self, what: str, wanted: Wanted, count: int = 1, limit_s: float = 10.0) -> list[Packet]:
        """Wait for at least so many frames of a kind, and return them."""

        def look() -> list[bytes] | None:
            seen = [frame for frame in self.listen() if wanted(frame)]
            return seen if len(seen) >= count else None

        return [Ether(frame) for frame in wait_for(f"{self.name} hears {what}", look, limit_s)]
