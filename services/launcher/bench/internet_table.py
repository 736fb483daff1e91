"""A routing table of the Internet's size, and how it gets into the kernel quickly."""

import errno
import gzip
import ipaddress
import os
import socket
import struct
from collections.abc import Sequence
from ipaddress import IPv4Network
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from services.common.errors import HopwireError
from services.common.netlink import NLM_F_CREATE, NLM_F_REQUEST, NLMSG_ERROR, error_number, messages

LENGTHS: Final = {
    8: 16,
    9: 13,
    10: 38,
    11: 103,
    12: 299,
    13: 581,
    14: 1203,
    15: 2100,
    16: 13_490,
    17: 8235,
    18: 13_798,
    19: 24_870,
    20: 42_611,
    21: 50_750,
    22: 108_623,
    23: 96_510,
    24: 537_698,
    25: 20,
    26: 3,
    27: 11,
    28: 18,
    29: 17,
    30: 3,
    31: 3,
    32: 886,
}
"""How many prefixes of each length a table of the Internet has (901,899 in all)."""
_UNROUTABLE: Final = tuple(IPv4Network(text) for text in ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3"))
"""This network, loopback, multicast and reserved: RFC 6890."""
_RESERVED: Final = (*_UNROUTABLE, IPv4Network("192.168.0.0/16"), IPv4Network("198.18.0.0/15"))
"""No generated prefix lies in these: no unicast, or the benchmark's own networks."""

_RTM_NEWROUTE: Final = 24  # linux/rtnetlink.h
_NLM_F_REPLACE: Final = 0x100  # linux/netlink.h
_MESSAGE: Final = np.dtype(
    [
        *(("length", "=u4"), ("kind", "=u2"), ("flags", "=u2"), ("sequence", "=u4"), ("port", "=u4")),
        *(("family", "u1"), ("prefix_length", "u1"), ("zero", "=u2"), ("table", "u1"), ("protocol", "u1")),
        *(("scope", "u1"), ("type", "u1"), ("route_flags", "=u4")),
        *(("destination_header", "=u4"), ("destination", ">u4"), ("gateway_header", "=u4"), ("gateway", ">u4")),
    ]
)
"""nlmsghdr, rtmsg, RTA_DST and RTA_GATEWAY."""
_ATTRIBUTE: Final = struct.Struct("=HH")
_AT_ONCE: Final = 512
"""Messages of a send: an skb of netlink(7) then stays below the 212,992 bytes of a socket's default buffer."""
_PROTOCOL: Final = 186  # RTPROT_BGP of linux/rtnetlink.h

Column = npt.NDArray[np.uint32]


class Table:
    """Prefixes and their lengths, in columns of equal length."""

    def __init__(self, prefixes: Column, lengths: Column) -> None:
        self.prefixes = prefixes
        self.lengths = lengths
        self._keys = np.sort(prefixes.astype(np.int64) << 6 | lengths)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.prefixes)

    def holds(self, prefix: int, length: int) -> bool:
        """Tell whether a prefix is one of them."""
        key = prefix << 6 | length
        place = int(np.searchsorted(self._keys, key))
        return place < len(self._keys) and int(self._keys[place]) == key

    def matched(self, address: int) -> tuple[int, int] | None:
        """Return the longest prefix that holds an address."""
        for length in range(32, 0, -1):
            prefix = address & ~(0xFFFF_FFFF >> length)
            if self.holds(prefix, length):
                return prefix, length
        return None


def generated(share: float = 1.0, seed: int = 20) -> Table:
    """Return a table with the Internet's lengths: the same for the same seed.

    :param share: of the Internet's number of prefixes.
    """
    chance = np.random.default_rng(seed)
    prefixes, lengths = [], []
    for length, number in LENGTHS.items():
        count = max(1, round(number * share))
        drawn = chance.choice(1 << length, min(1 << length, count * 3 // 2 + 64), replace=False, shuffle=True)
        candidates = (drawn.astype(np.int64) << (32 - length)).astype(np.uint32)
        allowed = ~np.logical_or.reduce([_within(candidates, network) for network in _RESERVED])
        prefixes.append(candidates[allowed][:count])
        lengths.append(np.full(len(prefixes[-1]), length, np.uint32))
    return Table(np.concatenate(prefixes), np.concatenate(lengths))


def destinations(table: Table, count: int, excluded: Sequence[IPv4Network], seed: int = 21) -> Column:
    """Return as many addresses, each in a prefix drawn from the table by chance: the same for the same seed.

    :param excluded: no address is in these, nor in those that no datagram may go to.
    :raises HopwireError: there is hardly any other.
    """
    chance = np.random.default_rng(seed)
    rows = chance.integers(0, len(table), 4 * count)
    hosts = chance.integers(0, 1 << 32, 4 * count, np.uint32) & (0xFFFF_FFFF >> table.lengths[rows].astype(np.uint64))
    drawn = table.prefixes[rows] | hosts.astype(np.uint32)
    refused = [_within(drawn, network) for network in (*_UNROUTABLE, *excluded)]
    allowed: Column = drawn[~np.logical_or.reduce(refused)][:count]
    if len(allowed) < count:
        raise HopwireError("most prefixes of the table are for no unicast, or the benchmark's own; name another file")
    return allowed


def _within(prefixes: Column, network: IPv4Network) -> npt.NDArray[np.bool_]:
    inside: npt.NDArray[np.bool_] = (prefixes & np.uint32(int(network.netmask))) == int(network.network_address)
    return inside


def read(path: Path) -> Table:
    """Return the IPv4 prefixes in a file, one a line; it may be compressed by gzip.

    :raises HopwireError: it cannot be read, or has a line that is no prefix.
    """
    prefixes, lengths = [], []
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open(encoding="ascii") as lines:
            for number, line in enumerate(lines, 1):
                if ":" in line or not line.strip():
                    continue
                try:
                    network = IPv4Network(line.strip())
                except ValueError as error:
                    raise HopwireError(f"{path}:{number}: {line.strip()!r} is no prefix such as 10.0.0.0/8") from error
                prefixes.append(int(network.network_address))
                lengths.append(network.prefixlen)
    except (OSError, UnicodeDecodeError) as error:
        raise HopwireError(f"prefixes {path}: {error}; name another file") from error
    return Table(np.array(prefixes, np.uint32), np.array(lengths, np.uint32))


class RouteLoader:
    """Writes routes into the kernel of the network namespace of the thread that makes it: many in one system call."""

    def __init__(self) -> None:
        """Open the socket."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))

    def replace(self, prefixes: Column, lengths: Column, gateways: Column) -> None:
        """Put in routes of table main, or have them lead to other gateways.

        :raises HopwireError: the kernel refuses one.
        """
        requests = _route_messages(prefixes, lengths, gateways)
        for first in range(0, len(requests), _AT_ONCE):
            self._socket.send(requests[first : first + _AT_ONCE].tobytes())
            self._check(requests)

    def _check(self, sent: npt.NDArray[np.void]) -> None:
        """Look for a refusal: the kernel has answered when a send returns, and says nothing where it has no reason."""
        try:
            data = self._socket.recv(65_536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        for kind, _, payload in messages(data):
            if kind == NLMSG_ERROR and (number := error_number(payload)):
                sequence = int.from_bytes(payload[12:16], "little")  # of the header that nlmsgerr quotes
                what = f"{ipaddress.IPv4Address(int(sent[sequence]['destination']))}/{sent[sequence]['prefix_length']}"
                hint = "is its gateway reachable?" if number == errno.ENETUNREACH else "see dmesg"
                raise HopwireError(f"the kernel refused the route to {what}: {os.strerror(number)}; {hint}")

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def _route_messages(prefixes: Column, lengths: Column, gateways: Column) -> npt.NDArray[np.void]:
    made = np.zeros(len(prefixes), _MESSAGE)
    made["length"] = _MESSAGE.itemsize
    made["kind"] = _RTM_NEWROUTE
    made["flags"] = NLM_F_REQUEST | NLM_F_CREATE | _NLM_F_REPLACE
    made["sequence"] = np.arange(len(prefixes))
    made["family"] = socket.AF_INET
    made["prefix_length"] = lengths
    made["table"] = 254  # RT_TABLE_MAIN
    made["protocol"] = _PROTOCOL
    made["type"] = 1  # RTN_UNICAST
    made["destination_header"] = int.from_bytes(_ATTRIBUTE.pack(8, 1), "little")  # RTA_DST
    made["destination"] = prefixes
    made["gateway_header"] = int.from_bytes(_ATTRIBUTE.pack(8, 5), "little")  # RTA_GATEWAY
    made["gateway"] = gateways
    return made
