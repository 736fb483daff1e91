"""The rtnetlink sockets (rtnetlink(7), netlink(7)): announcements as they come, and dumps of all that there is."""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from services.common import netlink
from services.common.errors import HopwireError
from services.common.netlink import (
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLMSG_DONE,
    NLMSG_ERROR,
    RECEIVE_BYTES,
)
from services.common.waiting import is_readable
from services.control.kernel_types import DumpError, KernelEvent, RouteBatch, Unsettled
from services.control.netlink_messages import (
    ADDRESS_HEADER,
    LINK_HEADER,
    NEXT_HOP_HEADER,
    ROUTE_HEADER,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_GETNEXTHOP,
    RTM_GETROUTE,
    RTM_GETRULE,
    RTM_NEWROUTE,
    address_from,
    event,
    explanation,
    is_foreign_rule,
    link_from,
    next_hop_object_from,
)
from services.control.rib import KernelDump
from services.control.route_kernels import DUMPED
from services.control.route_scan import Message, RouteScanner
from services.control.route_table import RouteTables

RECEIVE_BUFFER_BYTES: Final = 128 * 2**20
"""Room for some 100,000 announcements; the kernel uses it only while they wait."""
MAX_DATAGRAMS: Final = 16_384
"""Announcements taken at one go, so that a flood of them does not keep the service from its other work."""
READ_AT_ONCE_BYTES: Final = 2 * 2**20
"""How much is received before it is looked into."""
_DUMP_TIMEOUT_S: Final = 5.0

# linux/netlink.h and asm-generic/socket.h, which the socket module does not have
_SOL_NETLINK: Final = 270
_NETLINK_ADD_MEMBERSHIP: Final = 1
_NETLINK_CAP_ACK: Final = 10
_NETLINK_EXT_ACK: Final = 11
_NETLINK_GET_STRICT_CHK: Final = 12
_SO_RCVBUFFORCE: Final = 33

# linux/rtnetlink.h
_RTNLGRP_LINK: Final = 1
_RTNLGRP_IPV4_IFADDR: Final = 5
_RTNLGRP_IPV4_ROUTE: Final = 7
_RTNLGRP_IPV4_RULE: Final = 8
_RTNLGRP_NEXTHOP: Final = 32
_GROUPS: Final = (_RTNLGRP_LINK, _RTNLGRP_IPV4_IFADDR, _RTNLGRP_IPV4_ROUTE, _RTNLGRP_IPV4_RULE, _RTNLGRP_NEXTHOP)

_SEQUENCE = struct.Struct("=8xI")  # of struct nlmsghdr


class KernelRefusedError(Exception):
    """A request that the kernel did not carry out.

    :ivar number: its errno.
    :ivar explanation: the kernel's own words (extended acknowledgement, linux/netlink.h), or nothing.
    """

    def __init__(self, number: int, explanation: str) -> None:
        super().__init__(explanation or os.strerror(number))
        self.number = number
        self.explanation = explanation


class _Part(NamedTuple):
    """A part of a dump."""

    data: npt.NDArray[np.uint8]
    datagrams: list[tuple[int, int]]
    """Start and end of each in the data."""
    is_drained: bool
    """Nothing more lies ready: the end of the dump is in this part, unless the kernel is slow."""


class KernelNetlink:
    """Both sockets, in the network namespace of the thread that makes them.

    The socket of announcements is open before the first dump, so that no change falls between the two. Poll it by
    `fileno`.
    """

    def __init__(self, receive_buffer_bytes: int = RECEIVE_BUFFER_BYTES) -> None:
        """Open the sockets.

        :raises HopwireError: the kernel lacks a group of announcements (nexthop objects came with Linux 5.3).
        """
        self._sequence = 0
        self._room = memoryview(bytearray(READ_AT_ONCE_BYTES))
        self._data = np.frombuffer(self._room, np.uint8)
        self._scanner = RouteScanner()
        self._announcements = _netlink_socket()
        self._requests = _netlink_socket()
        try:
            _set_receive_buffer(self._announcements, receive_buffer_bytes)
            for group in _GROUPS:
                self._announcements.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
            self._announcements.setblocking(False)
            self._requests.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
            self._requests.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
            self._requests.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
            self._requests.settimeout(_DUMP_TIMEOUT_S)
        except OSError as error:
            self.close()
            raise HopwireError(f"rtnetlink: {error.strerror}; hopwire needs Linux 5.3 or later") from error

    def fileno(self) -> int:
        """Return the descriptor that is readable when there are announcements."""
        return self._announcements.fileno()

    def close(self) -> None:
        """Close both sockets."""
        self._announcements.close()
        self._requests.close()

    # --- Announcements ------------------------------------------------------------------------------------------------

    def events(self) -> Iterator[KernelEvent]:
        """Return the announcements that wait, `MAX_DATAGRAMS` of them at most; an overrun is one of them."""
        datagrams: list[tuple[int, int]] = []
        end = 0
        lost = False
        while not lost and len(datagrams) < MAX_DATAGRAMS and end <= READ_AT_ONCE_BYTES - RECEIVE_BYTES:
            size = self._next_announcement(end)
            if size is None:
                break
            lost = not size
            datagrams.append((end, end + size))
            end += size + 3 & ~3
        try:
            for found in self._scanner.read(self._data, datagrams):
                told = found if isinstance(found, RouteBatch) else event(*found)
                if told is not None:
                    yield told
        except (struct.error, ValueError):
            yield Unsettled("an announcement of the kernel could not be read")
        if lost:
            yield Unsettled("announcements of the kernel were lost")

    def discard_events(self) -> None:
        """Throw away all announcements that wait: what they say is in a dump that begins now."""
        while self._next_announcement(0) is not None:
            pass

    def _next_announcement(self, place: int) -> int | None:
        """Receive a datagram of the kernel to a place; return its size, 0 for those that are lost, None for none."""
        room = self._room[place : place + RECEIVE_BYTES]
        while True:
            try:
                size, _, flags, (port, _) = self._announcements.recvmsg_into([room])
            except BlockingIOError:
                return None
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                return 0
            if port == 0:  # from the kernel: any process may send here
                return 0 if flags & socket.MSG_TRUNC else size

    # --- Changes ------------------------------------------------------------------------------------------------------

    def request(self, kind: int, flags: int, payload: bytes) -> None:
        """Have the kernel carry out a request, and wait for the end of it.

        :raises KernelRefusedError: it does not, or does not answer.
        """
        try:
            for _, _, answer in self._answers(kind, NLM_F_ACK | flags, payload):
                if number := netlink.error_number(answer):
                    raise KernelRefusedError(number, explanation(answer))
                return
        except OSError as error:
            raise KernelRefusedError(error.errno or errno.ETIMEDOUT, "rtnetlink does not answer") from error

    # --- Dumps --------------------------------------------------------------------------------------------------------

    def dump(self) -> KernelDump:
        """Return all links, addresses, rules, nexthop objects and routes.

        The links come first: their dump waits for the kernel's RTNL lock (rtnl_dumpit of Linux), and so for the end
        of any operation that has announced itself already but not yet carried out what it does to the routes.

        :raises DumpError: something changed under it, or the kernel did not answer: to be made again.
        """
        header = ROUTE_HEADER.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
        try:
            links = [link_from(payload) for payload in self._dump(RTM_GETLINK, LINK_HEADER.pack(0, 0, 0, 0, 0))]
            addresses = self._dump(RTM_GETADDR, ADDRESS_HEADER.pack(socket.AF_INET, 0, 0, 0, 0))
            return KernelDump(
                links=[link for link in links if link is not None],
                addresses=[address_from(payload) for payload in addresses],
                foreign_rules=self._count_foreign_rules(header),
                next_hop_objects=tuple(
                    next_hop_object_from(payload) for payload in self._dump(RTM_GETNEXTHOP, NEXT_HOP_HEADER.pack(0, 0))
                ),
                tables=self._dump_routes(header),
            )
        except (struct.error, ValueError) as error:
            raise DumpError(f"a message of the kernel could not be read: {error}") from error

    def _count_foreign_rules(self, header: bytes) -> int:
        try:
            return sum(is_foreign_rule(payload) for payload in self._dump(RTM_GETRULE, header))
        except DumpError as error:
            if error.number in (errno.EOPNOTSUPP, errno.EAFNOSUPPORT):  # a kernel without policy routing
                return 0
            raise

    def _dump_routes(self, request: bytes) -> RouteTables:
        """Return all routes of the tables that count: one large part is received while the last one is read."""
        tables = RouteTables()
        self._scanner.interrupted = False
        rooms = (self._room, memoryview(bytearray(READ_AT_ONCE_BYTES)))
        try:
            with ThreadPoolExecutor(1, "dump") as receiver:
                self._ask(RTM_GETROUTE, NLM_F_DUMP, request)
                self._requests.setblocking(False)
                part = self._receive_dump(rooms[0])
                while True:
                    rooms = rooms[::-1]
                    following = None if part.is_drained else receiver.submit(self._receive_dump, rooms[0])
                    if self._append_routes(part, tables):
                        return tables
                    part = self._receive_dump(rooms[0]) if following is None else following.result()
        except OSError as error:
            raise _no_dump(error) from error
        finally:
            self._requests.settimeout(_DUMP_TIMEOUT_S)

    def _append_routes(self, part: _Part, tables: RouteTables) -> bool:
        """Append the routes in a part of a dump; tell whether it is the last one.

        :raises DumpError: the dump is of no use.
        """
        for found in self._scanner.read(part.data, part.datagrams):
            if isinstance(found, RouteBatch):
                tables.apply(found._replace(operations=np.full_like(found.operations, DUMPED)))
            elif _ends_dump(found, interrupted=self._scanner.interrupted):
                return True
            elif found.kind == RTM_NEWROUTE:
                raise DumpError("a route of the kernel could not be read")
        return False

    def _receive_dump(self, room: memoryview) -> _Part:
        """Receive what the kernel has ready of a dump, one datagram at the least.

        :raises OSError: it has nothing ready for too long.
        """
        if not is_readable(self._requests, _DUMP_TIMEOUT_S):
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        datagrams: list[tuple[int, int]] = []
        end = 0
        while end <= READ_AT_ONCE_BYTES - RECEIVE_BYTES:
            try:
                size = self._requests.recv_into(room[end : end + RECEIVE_BYTES])
            except BlockingIOError:
                break
            if self._is_answer(room[end : end + size]):
                datagrams.append((end, end + size))
                end += size + 3 & ~3
        is_drained = not is_readable(self._requests)
        return _Part(np.frombuffer(room, np.uint8), datagrams, is_drained)

    def _dump(self, kind: int, request: bytes) -> Iterator[bytes]:
        """Yield the payloads of the messages that answer a dump request."""
        interrupted = False
        try:
            for message in self._answers(kind, NLM_F_DUMP, request):
                interrupted = interrupted or bool(message.flags & NLM_F_DUMP_INTR)
                if _ends_dump(message, interrupted=interrupted):
                    return
                yield message.payload
        except OSError as error:
            raise _no_dump(error) from error

    def _ask(self, kind: int, flags: int, payload: bytes) -> None:
        self._sequence += 1
        self._requests.send(netlink.message(kind, flags, self._sequence, payload))

    def _is_answer(self, data: bytes | memoryview) -> bool:
        """Tell whether a datagram answers the last request, and is no rest of a dump that was given up."""
        return len(data) >= _SEQUENCE.size and _SEQUENCE.unpack_from(data) == (self._sequence,)

    def _answers(self, kind: int, flags: int, payload: bytes) -> Iterator[Message]:
        """Send a request and yield the messages that answer it, without end."""
        self._ask(kind, flags, payload)
        while True:
            data = self._requests.recv(RECEIVE_BYTES)
            if self._is_answer(data):
                yield from (Message(*message) for message in netlink.messages(data))


def _ends_dump(message: Message, *, interrupted: bool) -> bool:
    """Tell whether a dump ends with a message.

    :raises DumpError: it ends, and is of no use.
    """
    if message.kind not in (NLMSG_DONE, NLMSG_ERROR):
        return False
    if number := netlink.error_number(message.payload):
        raise DumpError(f"the kernel refused a dump: {os.strerror(number)}", number)
    if interrupted:
        raise DumpError("the tables changed during a dump")
    return True


def _no_dump(error: OSError) -> DumpError:
    return DumpError(f"no dump from the kernel: {error.strerror or error}", error.errno or 0)


def _netlink_socket() -> socket.socket:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    made.bind((0, 0))
    return made


def _set_receive_buffer(announcements: socket.socket, size: int) -> None:
    try:
        announcements.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)
    except PermissionError:  # without CAP_NET_ADMIN: up to net.core.rmem_max
        announcements.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
