"""Checks of the network namespace: its interfaces, and what its kernel does besides hopwire."""

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Final

from services.common.interfaces import InterfaceInfo
from services.common.kernel_settings import read_setting, shortcomings
from services.launcher.doctor.finding import Finding, Level, fine, note, wrong

_RP_FILTER_STRICT: Final = 1  # ip-sysctl.rst of Linux; RFC 3704 section 2.2
_ARPHRD_LOOPBACK: Final = 772  # linux/if_arp.h
_SIOCETHTOOL: Final = 0x8946  # linux/sockios.h
_ETHTOOL_GFLAGS: Final = 0x25  # linux/ethtool.h
_ETH_FLAG_LRO: Final = 1 << 15
_INTERFACE_REQUEST = struct.Struct("16sP")  # struct ifreq: the name, a pointer


def interface_findings(interfaces: Sequence[InterfaceInfo]) -> Iterator[Finding]:
    """Judge which interfaces hopwire routes by."""
    if not any(interface.is_usable for interface in interfaces):
        yield wrong("no Ethernet interface is up", "bring one up: ip link set NAME up")
    for interface in interfaces:
        addresses = " ".join(str(address) for address in interface.addresses)
        if interface.is_usable and addresses:
            yield fine(f"{interface.name} {addresses} is up")
        elif interface.is_usable:
            yield note(
                f"{interface.name} is up, but has no IPv4 address: nothing is routed by it",
                f"give it one: ip addr add ADDRESS/LENGTH dev {interface.name}",
            )
        elif addresses and interface.is_ethernet and not interface.master:
            yield note(f"{interface.name} {addresses} is down", f"bring it up: ip link set {interface.name} up")
        elif addresses and not interface.is_ethernet and interface.link_type != _ARPHRD_LOOPBACK:
            yield note(
                f"{interface.name} is not Ethernet: neither hopwire nor, while it runs, the kernel routes by it",
                "let another network namespace or machine route for it",
            )


def setting_findings(usable: Sequence[str], *, router_runs: bool) -> Iterator[Finding]:
    """Judge the kernel's settings for these interfaces."""
    missing = shortcomings(usable)
    if router_runs or os.statvfs("/proc/sys").f_flag & os.ST_RDONLY:
        for line in missing:
            yield Finding.of_line(Level.WRONG, line)
        if not missing:
            yield fine("the kernel leaves forwarding, ARP replies and echo replies to hopwire")
    elif read_setting("net/ipv4/ip_forward") == "1":
        yield fine("the kernel forwards now; `hopwire up` takes that over while it runs")
    else:
        yield fine("the kernel's settings can be changed; `hopwire up` does so while it runs")


def reverse_path_findings(usable: Sequence[str]) -> Iterator[Finding]:
    """Judge rp_filter, of which the kernel takes the larger: `all`, or the interface's own."""
    everywhere = int(read_setting("net/ipv4/conf/all/rp_filter") or 0)
    strict = [
        name
        for name in usable
        if max(everywhere, int(read_setting(f"net/ipv4/conf/{name}/rp_filter") or 0)) == _RP_FILTER_STRICT
    ]
    if strict:
        yield note(
            f"rp_filter is strict on {', '.join(strict)}: what comes for the router itself by another interface than "
            "the answer leaves by is lost; forwarding is not affected",
            "if the router is reached by several ways: sysctl -w net.ipv4.conf.all.rp_filter=2",
        )


def offload_findings(usable: Sequence[str]) -> Iterator[Finding]:
    """Judge the offloads that a router cannot live with."""
    for name in usable:
        if _receives_merged(name):
            yield wrong(
                f"{name} merges received frames in a way that cannot be undone (large receive offload)",
                f"turn it off: ethtool -K {name} lro off",
            )


def _receives_merged(name: str) -> bool:
    """Tell whether large receive offload is on; a driver that cannot say has none."""
    value = (ctypes.c_uint32 * 2)(_ETHTOOL_GFLAGS, 0)  # struct ethtool_value: command, data
    request = bytearray(_INTERFACE_REQUEST.pack(os.fsencode(name), ctypes.addressof(value)))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            fcntl.ioctl(any_socket, _SIOCETHTOOL, request)
        except OSError:
            return False
    return bool(value[1] & _ETH_FLAG_LRO)
