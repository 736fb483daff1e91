"""A frame in words, for people: what it is, from whom, to whom. Any bytes, cut anywhere, give an answer."""

from typing import Any, Final

from services.common.wire import arp, ethernet, icmp, ipv4
from services.common.wire.errors import WireError

_PROTOCOL_NAMES: Final = {
    ipv4.PROTOCOL_ICMP: "icmp",
    2: "igmp",
    ipv4.PROTOCOL_TCP: "tcp",
    ipv4.PROTOCOL_UDP: "udp",
    47: "gre",
    50: "esp",
    89: "ospf",
    132: "sctp",
}  # IANA, protocol-numbers
_ICMP_NAMES: Final = {
    icmp.ECHO_REPLY: "echo reply",
    icmp.DESTINATION_UNREACHABLE: "destination unreachable",
    icmp.REDIRECT: "redirect",
    icmp.ECHO_REQUEST: "echo request",
    icmp.TIME_EXCEEDED: "time exceeded",
    icmp.PARAMETER_PROBLEM: "parameter problem",
}
_TCP_FLAGS: Final = ("fin", "syn", "rst", "psh", "ack", "urg")  # RFC 9293 section 3.1, bit 0 first
_WITH_PORTS: Final = (ipv4.PROTOCOL_TCP, ipv4.PROTOCOL_UDP)


def describe(frame: bytes) -> dict[str, Any]:
    """Return the fields of an Ethernet frame, or of its first bytes; what it does not have, or is cut off, is left out.

    Keys: `source_mac`, `destination_mac`, `ethertype`; of IPv4 `src`, `dst`, `protocol`, `ttl`, `tos`, `id`,
    `total_length`, `dont_fragment`, `fragment_offset` and `more_fragments`, `sport`, `dport`, `tcp_flags`, `icmp_type`,
    `icmp_code`; of ARP `operation`, `src`, `dst`.
    """
    if len(frame) < ethernet.HEADER_BYTES:
        return {}
    ethertype = ethernet.ethertype_of(frame)
    fields: dict[str, Any] = {
        "source_mac": ethernet.mac_text(frame[ethernet.SOURCE : ethernet.ETHERTYPE]),
        "destination_mac": ethernet.mac_text(frame[ethernet.DESTINATION : ethernet.SOURCE]),
        "ethertype": ethertype,
    }
    payload = frame[ethernet.HEADER_BYTES :]
    if ethertype == ethernet.ETHERTYPE_ARP:
        return fields | _describe_arp(payload)
    if ethertype == ethernet.ETHERTYPE_IPV4 and len(payload) >= ipv4.HEADER_BYTES:
        return fields | _describe_ipv4(payload)
    return fields


def _describe_arp(payload: bytes) -> dict[str, Any]:
    try:
        message = arp.parse(payload)
    except WireError:
        return {}
    return {
        "operation": "request" if message.operation == arp.REQUEST else "reply",
        "src": ipv4.address_text(message.sender_ip),
        "dst": ipv4.address_text(message.target_ip),
    }


def _describe_ipv4(payload: bytes) -> dict[str, Any]:
    header = ipv4.parse(payload)
    fields: dict[str, Any] = {
        "src": ipv4.address_text(header.source),
        "dst": ipv4.address_text(header.destination),
        "protocol": _PROTOCOL_NAMES.get(header.protocol, str(header.protocol)),
        "ttl": header.ttl,
        "tos": header.tos,
        "id": header.identification,
        "total_length": header.total_length,
        "dont_fragment": header.dont_fragment,
    }
    if header.fragment_offset or header.more_fragments:
        fields |= {"fragment_offset": header.fragment_offset * 8, "more_fragments": header.more_fragments}
    inner = payload[header.header_length : header.total_length]
    if header.fragment_offset or len(inner) < 4:
        return fields
    if header.protocol in _WITH_PORTS:
        fields |= {"sport": int.from_bytes(inner[:2], "big"), "dport": int.from_bytes(inner[2:4], "big")}
        if header.protocol == ipv4.PROTOCOL_TCP and len(inner) > 13:
            fields["tcp_flags"] = [name for bit, name in enumerate(_TCP_FLAGS) if inner[13] >> bit & 1]
    elif header.protocol == ipv4.PROTOCOL_ICMP:
        fields |= {"icmp_type": inner[icmp.TYPE], "icmp_code": inner[icmp.CODE]}
    return fields


def line(frame: bytes, length: int) -> str:
    """Return a frame in one line, such as `192.168.1.2.4000 > 10.0.0.1.53 udp, ttl 64, 74 bytes`."""
    fields = describe(frame)
    if not fields:
        return f"{length} bytes, no whole Ethernet header"
    if fields.get("operation") == "request":
        return f"arp request: {fields['src']} asks for {fields['dst']}, {length} bytes"
    if fields.get("operation") == "reply":
        return f"arp reply: {fields['src']} is at {fields['source_mac']}, {length} bytes"
    if "src" not in fields:
        macs = f"{fields['source_mac']} > {fields['destination_mac']}"
        return f"{macs} ethertype 0x{fields['ethertype']:04x}, {length} bytes"
    ends = [f"{fields[end]}.{fields[port]}" if port in fields else fields[end] for end, port in _ENDS]
    return f"{' > '.join(ends)} {_what(fields)}, ttl {fields['ttl']}, {length} bytes"


_ENDS: Final = (("src", "sport"), ("dst", "dport"))


def _what(fields: dict[str, Any]) -> str:
    what = str(fields["protocol"])
    if "icmp_type" in fields:
        name = _ICMP_NAMES.get(fields["icmp_type"])
        what += f" {name}" if name else ""
        what += f" {fields['icmp_type']}/{fields['icmp_code']}"
    if fields.get("tcp_flags"):
        what += f" {'+'.join(fields['tcp_flags'])}"
    if "fragment_offset" in fields:
        what += f", fragment at {fields['fragment_offset']}" + (", more follow" if fields["more_fragments"] else "")
    return what
