"""The network interfaces of this network namespace, and finding one by name, address or subnet.

In a container with several networks the order of the interfaces is not fixed, so that `eth0` may be any of them:
an address or a subnet names one for good.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Interface, IPv4Network, NetmaskValueError
from typing import Any, Final

from services.common.errors import HopwireError

_AF_INET: Final = 2
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
    # Imported here: most of those who need the names above do not ask the kernel.
    from pyroute2 import IPRoute  # noqa: PLC0415
    from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415

    try:
        with IPRoute() as kernel:
            links = list(kernel.get_links())
            addresses = list(kernel.get_addr(family=_AF_INET))
    except (OSError, NetlinkError) as error:
        raise HopwireError(f"cannot list the interfaces: {error}; does the kernel offer rtnetlink here?") from error
    return sorted((_info(link, addresses) for link in links), key=lambda interface: interface.index)


def _info(link: Any, addresses: Sequence[Any]) -> InterfaceInfo:
    return InterfaceInfo(
        index=link["index"],
        name=link.get("ifname"),
        mac=bytes.fromhex((link.get("address") or "").replace(":", "")),
        mtu=link.get("mtu") or 0,
        link_type=link["ifi_type"],
        is_up=bool(link["flags"] & _IFF_UP),
        master=link.get("master") or 0,
        addresses=tuple(
            # on a point-to-point link IFA_ADDRESS is the peer's; IFA_LOCAL is always our own
            IPv4Interface((address.get("local") or address.get("address"), address["prefixlen"]))
            for address in addresses
            if address["index"] == link["index"]
        ),
    )


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
