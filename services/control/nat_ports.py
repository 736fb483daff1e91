"""Which ports of the router's own addresses the translator answers for, so that the kernel must not. Pure."""

from collections.abc import Sequence
from ipaddress import IPv4Address
from typing import Final

from services.common.guard import TranslatedPorts
from services.common.messages import Interface
from services.common.nat_rules import NatRules
from services.common.wire import ipv4

_PROTOCOLS: Final = {"tcp": ipv4.PROTOCOL_TCP, "udp": ipv4.PROTOCOL_UDP}


def translated_ports(rules: NatRules, interfaces: Sequence[Interface]) -> list[TranslatedPorts]:
    """Return the ports that the forwarder gives out or forwards, and the addresses of one-to-one rules."""
    addresses = {interface.name: [entry.address for entry in interface.addresses] for interface in interfaces}
    outside: set[int] = set()
    for rule in rules.masquerade:
        named = [int(IPv4Address(text)) for text in rule.addresses]
        outside |= set(named or addresses.get(rule.interface, [])[:1])
    found = {
        TranslatedPorts(address, protocol, rules.first_port, rules.last_port)
        for address in outside
        for protocol in _PROTOCOLS.values()
    }
    for forward in rules.forward:
        address = int(IPv4Address(forward.address))
        found.add(TranslatedPorts(address, _PROTOCOLS[forward.protocol], forward.port, forward.last))
    found |= {TranslatedPorts(int(IPv4Address(each.outside)), 0, 0, 0) for each in rules.one_to_one}
    return sorted(found)
