"""Spares the kernel's IP stack the frames that only pass through: an nftables rule that drops them at netdev ingress.

AF_PACKET sockets see a frame before that hook, so hopwire still gets it. The rule, in the words of nft(8):

    table netdev hopwire {
        chain passing {
            type filter hook ingress devices = { eth0, eth1 } priority 300; policy accept;
            meta pkttype host ether type ip fib daddr type != { local, broadcast, multicast } drop
        }
    }

With address translation, one more rule for each range of ports that it has on an own address:

            ether type ip ip daddr 203.0.113.1 ip protocol tcp th dport >= 20000 th dport <= 59999 drop

Only frames to the interface's own MAC are looked at, so that those for a macvlan on top of it pass, and only
untagged ones, so that those for a VLAN interface reach that one's own sockets. The kernel takes an `Ethernet type`
from a tagged frame as 0x8100 (nft_payload.c, nft_payload_copy_vlan).

The messages are packed here, without the nft program: the pyroute2 0.9 encodings of the fib expression and of
a chain's devices are not those of linux/netfilter/nf_tables.h.
"""

import errno
import os
import socket
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from services.common import netlink
from services.common.netlink import attribute, nested
from services.common.wire import ipv4

TABLE: Final = "hopwire"
_PROBE_TABLE: Final = "hopwire-probe"
_CHAIN: Final = "passing"
_PRIORITY: Final = 300  # behind the administrator's own ingress chains, which are usually at 0

_NETLINK_NETFILTER: Final = 12  # linux/netlink.h

_SUBSYSTEM: Final = 10  # linux/netfilter/nfnetlink.h, NFNL_SUBSYS_NFTABLES
_BATCH_BEGIN: Final = 0x10
_BATCH_END: Final = 0x11
_FAMILY_NETDEV: Final = 5  # linux/netfilter.h, NFPROTO_NETDEV

_NEW_TABLE: Final = _SUBSYSTEM << 8 | 0  # linux/netfilter/nf_tables.h, enum nf_tables_msg_types
_DELETE_TABLE: Final = _SUBSYSTEM << 8 | 2
_NEW_CHAIN: Final = _SUBSYSTEM << 8 | 3
_NEW_RULE: Final = _SUBSYSTEM << 8 | 6

_HOOK_INGRESS: Final = 0  # linux/netfilter.h, NF_NETDEV_INGRESS
_REGISTER_VERDICT: Final = 0  # linux/netfilter/nf_tables.h from here on
_REGISTER_1: Final = 1
_META_PACKET_TYPE: Final = 19
_PAYLOAD_LINK_LAYER: Final = 0
_PAYLOAD_NETWORK: Final = 1
_PAYLOAD_TRANSPORT: Final = 2
_DESTINATION_PORT_OFFSET: Final = 2
_COMPARE_EQUAL: Final = 0
_COMPARE_NOT_EQUAL: Final = 1
_COMPARE_AT_MOST: Final = 3  # NFT_CMP_LTE
_COMPARE_AT_LEAST: Final = 5  # NFT_CMP_GTE
_FIB_RESULT_ADDRESS_TYPE: Final = 3
_FIB_BY_DESTINATION: Final = 1 << 1
_VERDICT_DROP: Final = 0

_PACKET_HOST: Final = 0  # linux/if_packet.h
_ETHER_TYPE_OFFSET: Final = 12
_ETHER_TYPE_IPV4: Final = b"\x08\x00"
_ADDRESS_TYPES_LEFT_ALONE: Final = (2, 3, 5)  # linux/rtnetlink.h: RTN_LOCAL, RTN_BROADCAST, RTN_MULTICAST
_NOT_SUPPORTED: Final = (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT, errno.EOPNOTSUPP)


class TranslatedPorts(NamedTuple):
    """Ports of an own address that hopwire's address translation answers for."""

    address: int
    protocol: int
    """TCP or UDP; 0: all of the address, whatever the protocol."""
    first: int
    last: int


def install(interface_names: Sequence[str], translated: Sequence[TranslatedPorts] = ()) -> None:
    """Guard exactly these interfaces of this network namespace; what was guarded before is replaced in one step.

    Those that are not there any more are left out.

    :raises OSError: the kernel refuses, or knows no nftables at netdev ingress.
    """
    wanted = _existing(interface_names)
    try:
        _commit(_replacement(wanted, translated))
    except FileNotFoundError:
        remaining = _existing(wanted)
        if remaining == wanted:
            raise
        _commit(_replacement(remaining, translated))


def remove() -> None:
    """Take the guard away; no error when there is none, and none can be.

    :raises OSError: the kernel refuses.
    """
    try:
        _commit(_replacement([]))
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise


def probe() -> None:
    """Do nothing if the kernel offers all that the guard needs; nothing stays behind.

    :raises OSError: it does not, or the process lacks CAP_NET_ADMIN.
    """
    table = _text(1, _PROBE_TABLE)
    chain = table + _text(3, _CHAIN)
    _commit([(_NEW_TABLE, table), (_NEW_CHAIN, chain), (_NEW_RULE, _rule(_PROBE_TABLE)), (_DELETE_TABLE, table)])


def _existing(interface_names: Sequence[str]) -> list[str]:
    existing = {name for _index, name in socket.if_nameindex()}
    return [name for name in interface_names if name in existing]


def _replacement(interface_names: Sequence[str], translated: Sequence[TranslatedPorts] = ()) -> list[tuple[int, bytes]]:
    """Return the messages (type, attributes) after which the table guards these interfaces, or is gone."""
    table = _text(1, TABLE)
    # making it first lets the deletion succeed where there is none
    messages = [(_NEW_TABLE, table), (_DELETE_TABLE, table)]
    if interface_names:
        messages += [(_NEW_TABLE, table), (_NEW_CHAIN, _chain(interface_names)), (_NEW_RULE, _rule(TABLE))]
        messages += [(_NEW_RULE, _translated_rule(ports)) for ports in translated]
    return messages


def _chain(interface_names: Sequence[str]) -> bytes:
    devices = nested(4, *(_text(1, name) for name in interface_names))  # NFTA_HOOK_DEVS, NFTA_DEVICE_NAME
    hook = nested(4, _number(1, _HOOK_INGRESS), _number(2, _PRIORITY), devices)  # NFTA_CHAIN_HOOK, NFTA_HOOK_*
    return _text(1, TABLE) + _text(3, _CHAIN) + hook + _text(7, "filter")  # NFTA_CHAIN_TABLE, _NAME, _TYPE


def _rule(table: str) -> bytes:
    """Return the rule; each step that does not hold ends it, and the frame goes on to the kernel."""
    steps = [
        _load("meta", _META_PACKET_TYPE),  # NFTA_META_DREG, _KEY
        _compare(_COMPARE_EQUAL, bytes((_PACKET_HOST,))),
        # NFTA_PAYLOAD_DREG, _BASE, _OFFSET, _LEN
        _load("payload", _PAYLOAD_LINK_LAYER, _ETHER_TYPE_OFFSET, len(_ETHER_TYPE_IPV4)),
        _compare(_COMPARE_EQUAL, _ETHER_TYPE_IPV4),
        _load("fib", _FIB_RESULT_ADDRESS_TYPE, _FIB_BY_DESTINATION),  # NFTA_FIB_DREG, _RESULT, _FLAGS
        *(_compare(_COMPARE_NOT_EQUAL, struct.pack("=I", kind)) for kind in _ADDRESS_TYPES_LEFT_ALONE),
        _drop(),
    ]
    return _text(1, table) + _text(2, _CHAIN) + nested(4, *steps)  # NFTA_RULE_TABLE, _CHAIN, _EXPRESSIONS


def _translated_rule(ports: TranslatedPorts) -> bytes:
    """Return the rule that keeps a translated datagram from the kernel, which would reset the connection."""
    steps = [
        _load("payload", _PAYLOAD_LINK_LAYER, _ETHER_TYPE_OFFSET, len(_ETHER_TYPE_IPV4)),
        _compare(_COMPARE_EQUAL, _ETHER_TYPE_IPV4),
        _load("payload", _PAYLOAD_NETWORK, ipv4.DESTINATION, 4),
        _compare(_COMPARE_EQUAL, struct.pack(">I", ports.address)),
    ]
    if ports.protocol:
        steps += [
            _load("payload", _PAYLOAD_NETWORK, ipv4.PROTOCOL, 1),
            _compare(_COMPARE_EQUAL, bytes((ports.protocol,))),
            _load("payload", _PAYLOAD_TRANSPORT, _DESTINATION_PORT_OFFSET, 2),
            _compare(_COMPARE_AT_LEAST, struct.pack(">H", ports.first)),
            _compare(_COMPARE_AT_MOST, struct.pack(">H", ports.last)),
        ]
    steps.append(_drop())
    return _text(1, TABLE) + _text(2, _CHAIN) + nested(4, *steps)


def _load(name: str, *values: int) -> bytes:
    """Return an expression that loads register 1: the register is its attribute 1, and then come these, in order."""
    return _expression(name, *(_number(kind, value) for kind, value in enumerate((_REGISTER_1, *values), start=1)))


def _compare(operator: int, value: bytes) -> bytes:
    """Return an expression that compares register 1 with a value (NFTA_CMP_SREG, _OP, _DATA; NFTA_DATA_VALUE)."""
    return _expression("cmp", _number(1, _REGISTER_1), _number(2, operator), nested(3, attribute(1, value)))


def _drop() -> bytes:
    """Return the verdict (NFTA_IMMEDIATE_DREG, _DATA; NFTA_DATA_VERDICT; NFTA_VERDICT_CODE)."""
    return _expression("immediate", _number(1, _REGISTER_VERDICT), nested(2, nested(2, _number(1, _VERDICT_DROP))))


def _expression(name: str, *attributes: bytes) -> bytes:
    return nested(1, _text(1, name), nested(2, *attributes))  # NFTA_LIST_ELEM: NFTA_EXPR_NAME, NFTA_EXPR_DATA


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">I", value))


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, os.fsencode(value) + b"\0")


def _commit(messages: Sequence[tuple[int, bytes]]) -> None:
    """Send a batch, which the kernel carries out as a whole or not at all, and raise the first error it reports."""
    batch = _message(_BATCH_BEGIN, 0, 0, 0, _SUBSYSTEM, b"")
    for sequence, (kind, attributes) in enumerate(messages, start=1):
        # every failure is reported, success only where an acknowledgement is asked for: once is enough
        acknowledge = netlink.NLM_F_ACK if sequence == len(messages) else 0
        batch += _message(kind, netlink.NLM_F_CREATE | acknowledge, sequence, _FAMILY_NETDEV, 0, attributes)
    batch += _message(_BATCH_END, 0, len(messages) + 1, 0, _SUBSYSTEM, b"")
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as kernel:
        kernel.bind((0, 0))
        kernel.sendto(batch, (0, 0))
        numbers = _answers(kernel)
    number = next((number for number in numbers if number), 0 if numbers else errno.EPROTO)
    if number:
        raise OSError(number, os.strerror(number))


def _message(kind: int, flags: int, sequence: int, family: int, resource: int, attributes: bytes) -> bytes:
    payload = struct.pack(">BBH", family, 0, resource) + attributes  # nfgenmsg: family, version, resource
    return netlink.message(kind, flags, sequence, payload)


def _answers(kernel: socket.socket) -> list[int]:
    """Return the error numbers of all answers: the kernel has queued them by the time that the send returns."""
    numbers: list[int] = []
    while True:
        try:
            datagram = kernel.recv(netlink.RECEIVE_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return numbers
        numbers += [
            netlink.error_number(payload)
            for kind, _flags, payload in netlink.messages(datagram)
            if kind == netlink.NLMSG_ERROR
        ]
