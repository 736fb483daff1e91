"""The network interfaces of this network namespace, and finding one by name, address or subnet.

In a container with several networks the order of the interfaces is not fixed, so that `eth0` may be any of them:
an address or a subnet names one for good.
"""

import errno
import os
import socket
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Interface, IPv4Network, NetmaskValueError
from typing import Final

from services.common import netlink
from services.common.errors import HopwireError

_RTM_GETLINK: Final = 18  # linux/rtnetlink.h
_RTM_GETADDR: Final = 22
_LINK = struct.Struct("=BxHiII")  # ifinfomsg: family, ARPHRD, index, flags, change
_ADDRESS = struct.Struct("=BBBBI")  # ifaddrmsg: family, prefix length, flags, scope, index
_IFLA_ADDRESS: Final = 1  # linux/if_link.h
_IFLA_IFNAME: Final = 3
_IFLA_MTU: Final = 4
_IFLA_MASTER: Final = 10
_IFA_ADDRESS: Final = 1  # linux/if_addr.h
_IFA_LOCAL: Final = 2
_DUMP_TIMEOUT_S: Final = 5.0
_DUMP_ATTEMPTS: Final = 10

_IFF_UP: Final = 0x1  # linux/if.h
_ARPHRD_ETHER: Final = 1  # linux/if_arp.h
_ARPHRD_NAMES: Final = {
    512: "PPP",
    768: "an IPv4-in-IPv4 tunnel",
    772: "the loopback interface",
    776: "an IPv6-in-IPv4 tunnel",
    778: "a GRE tunnel",
    65_534: "without a link layer (TUN, WireGuard)",
}


@dataclass(frozen=True)
class InterfaceInfo:
    """What the kernel says about one interface."""

    index: int
    name: str
    mac: bytes
    """6 bytes where `is_ethernet`."""
    mtu: int
    """Bytes of IP."""
    link_type: int
    """ARPHRD_* of linux/if_arp.h."""
    is_up: bool
    """Administratively; whether there is a carrier is another matter."""
    master: int
    """The index of the bridge, bond or VRF that it is a port of; 0 for none."""
    addresses: tuple[IPv4Interface, ...]

    @property
    def is_ethernet(self) -> bool:
        """Whether its frames begin with an Ethernet header."""
        return self.link_type == _ARPHRD_ETHER

    @property
    def is_usable(self) -> bool:
        """Whether hopwire routes by it: Ethernet, up, and nobody's port."""
        return self.is_ethernet and self.is_up and not self.master


def list_interfaces() -> list[InterfaceInfo]:
    """Return all interfaces of the calling thread's network namespace, by index.

    :raises HopwireError: the kernel does not answer.
    """
    try:
        links = _dump(_RTM_GETLINK, _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0))
        address_messages = _dump(_RTM_GETADDR, _ADDRESS.pack(socket.AF_INET, 0, 0, 0, 0))
    except OSError as error:
        raise HopwireError(f"cannot list the interfaces: {error}; does the kernel offer rtnetlink here?") from error
    addresses: dict[int, list[IPv4Interface]] = {}
    for payload in address_messages:
        _family, prefix_length, _flags, _scope, index = _ADDRESS.unpack_from(payload)
        found = netlink.attributes(payload[_ADDRESS.size :])
        # on a point-to-point link IFA_ADDRESS is the peer's; IFA_LOCAL is always our own
        own = found.get(_IFA_LOCAL) or found[_IFA_ADDRESS]
        addresses.setdefault(index, []).append(IPv4Interface((own, prefix_length)))
    interfaces = [_interface(payload, addresses) for payload in links]
    return sorted(interfaces, key=lambda interface: interface.index)


def _interface(payload: bytes, addresses: dict[int, list[IPv4Interface]]) -> InterfaceInfo:
    _family, link_type, index, flags, _change = _LINK.unpack_from(payload)
    found = netlink.attributes(payload[_LINK.size :])
    return InterfaceInfo(
        index=index,
        name=os.fsdecode(found[_IFLA_IFNAME].rstrip(b"\0")),
        mac=found.get(_IFLA_ADDRESS, b""),
        mtu=int.from_bytes(found[_IFLA_MTU], sys.byteorder),
        link_type=link_type,
        is_up=bool(flags & _IFF_UP),
        master=int.from_bytes(found.get(_IFLA_MASTER, b""), sys.byteorder),
        addresses=tuple(addresses.get(index, ())),
    )


def _dump(kind: int, payload: bytes) -> list[bytes]:
    """Return the payloads of all answers to a dump request.

    :raises OSError: the kernel refuses, or its list kept changing while it was read.
    """
    for _attempt in range(_DUMP_ATTEMPTS):
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
            kernel.settimeout(_DUMP_TIMEOUT_S)
            kernel.sendto(netlink.message(kind, netlink.NLM_F_DUMP, 1, payload), (0, 0))
            answers = _answers(kernel)
        if answers is not None:
            return answers
    raise OSError(errno.EBUSY, "the kernel's list does not stop changing")


def _answers(kernel: socket.socket) -> list[bytes] | None:
    """Return what the kernel answers up to the end of its dump; None if it had to begin anew."""
    payloads: list[bytes] = []
    interrupted = False
    while True:
        for kind, flags, payload in netlink.messages(kernel.recv(netlink.RECEIVE_BYTES)):
            interrupted = interrupted or bool(flags & netlink.NLM_F_DUMP_INTR)
            if kind == netlink.NLMSG_DONE:
                return None if interrupted else payloads
            if kind == netlink.NLMSG_ERROR:
                number = netlink.error_number(payload)
                raise OSError(number, os.strerror(number))
            payloads.append(payload)


def find_interface(selector: str) -> InterfaceInfo:
    """Return the one usable interface of that name (`eth0`), address (`10.0.10.20`) or subnet (`10.0.10.0/24`).

    :raises HopwireError: none or several match, or it is not Ethernet, is down, or is a port of another interface.
    """
    return choose_interface(selector, list_interfaces())


def choose_interface(selector: str, interfaces: Sequence[InterfaceInfo]) -> InterfaceInfo:
    """Do what `find_interface` does, among these interfaces."""
    matches = _matches(selector, interfaces)
    if not matches:
        raise HopwireError(f"no interface matches {selector!r}; there are: {_listing(interfaces)}")
    if len(matches) > 1:
        names = ", ".join(interface.name for interface in matches)
        raise HopwireError(f"several interfaces match {selector!r}: {names}; choose one by its name")
    (interface,) = matches
    if not interface.is_ethernet:
        kind = _ARPHRD_NAMES.get(interface.link_type, f"of link type {interface.link_type}")
        raise HopwireError(f"interface {interface.name} is not Ethernet but {kind}; there are: {_listing(interfaces)}")
    if interface.master:
        master = next((other.name for other in interfaces if other.index == interface.master), "another interface")
        raise HopwireError(f"interface {interface.name} is a port of {master}; choose {master} itself")
    if not interface.is_up:
        raise HopwireError(f"interface {interface.name} is down; run: ip link set {interface.name} up")
    return interface


def _matches(selector: str, interfaces: Sequence[InterfaceInfo]) -> list[InterfaceInfo]:
    by_name = [interface for interface in interfaces if interface.name == selector]
    if by_name:
        return by_name
    try:
        if "/" in selector:
            subnet = IPv4Network(selector, strict=False)
            return [one for one in interfaces if any(address.ip in subnet for address in one.addresses)]
        wanted = IPv4Address(selector)
    except (AddressValueError, NetmaskValueError):
        return []
    return [one for one in interfaces if any(address.ip == wanted for address in one.addresses)]


def _listing(interfaces: Sequence[InterfaceInfo]) -> str:
    described = [" ".join((one.name, *(str(address) for address in one.addresses))) for one in interfaces]
    return ", ".join(described) or "none"
