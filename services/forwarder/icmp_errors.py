"""Which ICMP error answers a datagram that could not be forwarded: RFC 1812 section 4.3, pure."""

from dataclasses import dataclass
from typing import Final

from services.common.counters import NAT_REFUSALS, Counter
from services.common.wire import icmp, ipv4
from services.common.wire.checksum import internet_checksum


@dataclass(frozen=True)
class IcmpError:
    """An error to be sent: type, code, and the 32-bit word behind the checksum."""

    icmp_type: int
    code: int
    rest: int = 0


_TIME_EXCEEDED: Final = IcmpError(icmp.TIME_EXCEEDED, icmp.TTL_EXCEEDED)
_HOST_UNREACHABLE: Final = IcmpError(icmp.DESTINATION_UNREACHABLE, icmp.HOST_UNREACHABLE)

_PROHIBITED: Final = IcmpError(icmp.DESTINATION_UNREACHABLE, icmp.ADMINISTRATIVELY_PROHIBITED)

_ERRORS: Final = {
    Counter.DROP_TTL_EXCEEDED: _TIME_EXCEEDED,  # RFC 1812 section 5.3.1
    Counter.DROP_NO_ROUTE: IcmpError(icmp.DESTINATION_UNREACHABLE, icmp.NETWORK_UNREACHABLE),  # 5.2.7.1
    Counter.DROP_UNREACHABLE: _HOST_UNREACHABLE,  # as Linux: ip-route(8), `unreachable`
    Counter.DROP_PROHIBITED: _PROHIBITED,
    Counter.DROP_HOST_UNREACHABLE: _HOST_UNREACHABLE,  # 3.3.2: no answer to ARP
    **dict.fromkeys(NAT_REFUSALS, _PROHIBITED),  # RFC 5508 REQ-8
}


def parameter_problem(pointer: int) -> IcmpError:
    """Return the error that names the byte of a datagram that is wrong (RFC 792); it is the word's first."""
    return IcmpError(icmp.PARAMETER_PROBLEM, icmp.POINTER_INDICATES_ERROR, pointer << 24)


def redirect(gateway: int) -> IcmpError:
    """Return the message that tells a sender of a better way to a host (RFC 1812 section 5.2.7.2: never to a net)."""
    return IcmpError(icmp.REDIRECT, icmp.REDIRECT_HOST, gateway)


def error_for(verdict: Counter, mtu: int) -> IcmpError:
    """Return the error that tells a sender of a verdict; `mtu` is the next hop's, in bytes."""
    if verdict is Counter.DROP_MTU_EXCEEDED:
        # RFC 1191 section 4: the next-hop MTU stands in the low half of the word.
        return IcmpError(icmp.DESTINATION_UNREACHABLE, icmp.FRAGMENTATION_NEEDED, mtu)
    return _ERRORS[verdict]


def may_be_answered(datagram: bytes, *, sent_to_group: bool) -> bool:
    """Tell whether an ICMP error about a datagram is allowed: RFC 1812 section 4.3.2.7.

    :param sent_to_group: it came in a link-layer broadcast or multicast.
    """
    header = ipv4.parse(datagram)
    if sent_to_group or not ipv4.names_single_host(header.source):
        return False
    if header.destination >> 28 == 0xE or header.destination == ipv4.LIMITED_BROADCAST:
        return False
    if header.fragment_offset != 0:
        return False
    if header.protocol != ipv4.PROTOCOL_ICMP:
        return True
    # What is cut off before its type cannot be told from an error.
    payload = datagram[header.header_length :]
    return bool(payload) and not icmp.is_error(payload[icmp.TYPE])


def build_error(error: IcmpError, datagram: bytes, source: int) -> bytes:
    """Return the datagram that carries an error to the sender of `datagram`.

    :param source: the address of the interface that it leaves by (RFC 1812 section 4.3.2.4).
    """
    # RFC 1812 section 4.3.2.3: as much of the original as fits, without going over 576 bytes.
    quote = datagram[: icmp.MAX_ERROR_BYTES - ipv4.HEADER_BYTES - icmp.HEADER_BYTES]
    message = icmp.build(error.icmp_type, error.code, error.rest, quote)
    header = ipv4.build_header(
        source,
        ipv4.parse(datagram).source,
        ipv4.PROTOCOL_ICMP,
        len(message),
        tos=ipv4.TOS_INTERNETWORK_CONTROL,  # RFC 1812 section 4.3.2.5
    )
    return header + message


def build_echo_reply(datagram: bytes, options: bytes = b"") -> bytes | None:
    """Return the reply to an echo request (RFC 1812 section 4.3.3.6), or None when its checksum is wrong.

    :param options: the reply's, padded to a multiple of 4 bytes.
    """
    header = ipv4.parse(datagram)
    message = datagram[header.header_length : header.total_length]
    if internet_checksum(message) != 0:
        return None
    reply = icmp.build(icmp.ECHO_REPLY, 0, int.from_bytes(message[icmp.REST : icmp.HEADER_BYTES], "big"), message[8:])
    # RFC 1122 section 3.2.2.6: from the address it was sent to, with the same TOS.
    return (
        ipv4.build_header(
            header.destination,
            header.source,
            ipv4.PROTOCOL_ICMP,
            len(reply),
            tos=header.tos,
            identification=header.identification,
            options=options,
        )
        + reply
    )
