"""Rules as compiled code reads them: which addresses are outside, which pool each way has, where ports lead."""

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np

from services.common.counters import MAX_INTERFACES
from services.common.messages import Interface
from services.common.nat_rules import Masquerade, NatRules
from services.common.wire import ipv4
from services.forwarder.nat.layout import (
    ADDRESS_AND_PORT_DEPENDENT,
    ADDRESS_DEPENDENT,
    ENDPOINT_INDEPENDENT,
    FILTERING,
    FORWARD_WORDS,
    HOST_LIMIT,
    ICMP,
    MAPPING,
    MAX_ADDRESSES,
    OTHER,
    POOL_ADDRESSES,
    PORT_FIRST,
    PORT_KINDS,
    PORT_LAST,
    PORT_RESERVED,
    PORTS,
    TCP_ESTABLISHED,
    TCP_TRANSITORY,
    TIMEOUTS,
    UDP,
    NatArrays,
)

_BEHAVIOURS: Final = {
    "endpoint-independent": ENDPOINT_INDEPENDENT,
    "address-dependent": ADDRESS_DEPENDENT,
    "address-and-port-dependent": ADDRESS_AND_PORT_DEPENDENT,
}
_PROTOCOLS: Final = {"tcp": ipv4.PROTOCOL_TCP, "udp": ipv4.PROTOCOL_UDP}
_PORT_ROWS: Final = {"tcp": 0, "udp": 1}
_MS: Final = 1000


def _number(text: str) -> int:
    return int(ipaddress.IPv4Address(text))


class RuleCompiler:
    """Writes rules into a translator's arrays, between two batches."""

    def __init__(self, nat: NatArrays, interfaces: Mapping[int, Interface], slots: Mapping[str, int]) -> None:
        """Take what the rules' names stand for.

        :param interfaces: by slot.
        :param slots: of interfaces, by name.
        """
        self._nat = nat
        self._interfaces = interfaces
        self._slots = slots
        self.problems: list[str] = []
        """Rules that name what is not there; they wait until it is."""

    def write(self, rules: NatRules) -> None:
        """Write all rules and settings in place of those before. Sessions are not touched."""
        nat = self._nat
        for array in (nat.translate, nat.pools, nat.forwards, nat.one_to_one, nat.address_slots):
            array[:] = 0
        self._write_settings(rules)
        for pool, masquerade in enumerate(rules.masquerade, start=1):
            self._write_masquerade(pool, masquerade)
        self._write_one_to_one(rules)
        self._write_forwards(rules)
        _count_ports(nat, rules.first_port, rules.last_port)

    def _write_settings(self, rules: NatRules) -> None:
        scalars = self._nat.scalars
        scalars[FILTERING] = _BEHAVIOURS[rules.filtering]
        scalars[MAPPING] = _BEHAVIOURS[rules.mapping]
        scalars[PORT_FIRST] = rules.first_port
        scalars[PORT_LAST] = rules.last_port
        scalars[HOST_LIMIT] = rules.max_sessions_per_host
        timeouts = rules.timeouts
        for state, seconds in (
            (TCP_TRANSITORY, timeouts.tcp_transitory_s),
            (TCP_ESTABLISHED, timeouts.tcp_established_s),
            (UDP, timeouts.udp_s),
            (ICMP, timeouts.icmp_s),
            (OTHER, timeouts.other_s),
        ):
            scalars[TIMEOUTS + state] = int(seconds * _MS)

    def _address(self, address: int, slot: int) -> int | None:
        """Return the number of an outside address, a new one where it has none; None when all are taken."""
        known: list[int] = self._nat.addresses.tolist()
        try:
            number = known.index(address)
        except ValueError:
            free = [place for place in range(MAX_ADDRESSES) if known[place] == 0 or self._is_idle(place)]
            if not free:
                self.problems.append(f"more than {MAX_ADDRESSES} outside addresses")
                return None
            number = free[0]
            self._nat.addresses[number] = address
        self._nat.address_slots[number] = slot
        return number

    def _is_idle(self, number: int) -> bool:
        """Tell whether no rule names an address, and no mapping has a port of it."""
        first = number * PORT_KINDS * PORTS
        ports = self._nat.ports[first : first + PORT_KINDS * PORTS]
        return self._nat.address_slots[number] == 0 and not ports.any()

    def _slot_of(self, address: int) -> int | None:
        """Return the slot of the interface that has an address."""
        for slot, interface in self._interfaces.items():
            if any(entry.address == address for entry in interface.addresses):
                return slot
        return None

    def _write_masquerade(self, pool: int, rule: Masquerade) -> None:
        slot = self._slots.get(rule.interface)
        if slot is None:
            self.problems.append(f"masquerade {rule.interface}: no such interface")
            return
        own = [entry.address for entry in self._interfaces[slot].addresses]
        addresses = [_number(text) for text in rule.addresses if _number(text) in own]
        missing = [text for text in rule.addresses if _number(text) not in own]
        self.problems += [f"masquerade {rule.interface}: it does not have the address {text}" for text in missing]
        if not rule.addresses:
            addresses = own[:1]
        numbers = [number for address in addresses if (number := self._address(address, slot)) is not None]
        if not numbers:
            self.problems.append(f"masquerade {rule.interface}: it has no address")
            return
        first = pool * (1 + POOL_ADDRESSES)
        self._nat.pools[first : first + 1 + len(numbers)] = [len(numbers), *numbers]
        for inside in self._inside(rule, slot):
            self._nat.translate[inside * MAX_INTERFACES + slot] = pool

    def _inside(self, rule: Masquerade, outside: int) -> Iterable[int]:
        if not rule.inside:
            return [slot for slot in range(1, MAX_INTERFACES) if slot != outside]
        missing = [name for name in rule.inside if name not in self._slots]
        self.problems += [f"masquerade {rule.interface}: no inside interface {name}" for name in missing]
        return [self._slots[name] for name in rule.inside if name in self._slots]

    def _write_one_to_one(self, rules: NatRules) -> None:
        table = self._nat.one_to_one
        for rule in rules.one_to_one:
            slot = self._slot_of(_number(rule.outside))
            number = None if slot is None else self._address(_number(rule.outside), slot)
            if number is None:
                self.problems.append(f"one-to-one {rule.outside}: no interface has this address")
                continue
            place = 1 + int(table[0]) * 2
            table[place : place + 2] = (number, _number(rule.inside))
            table[0] += 1

    def _write_forwards(self, rules: NatRules) -> None:
        nat = self._nat
        rows = nat.ports.reshape(MAX_ADDRESSES, PORT_KINDS * PORTS)
        for known in np.flatnonzero(nat.addresses).tolist():
            rows[known] &= 0xFF ^ PORT_RESERVED
        for rule in rules.forward:
            slot = self._slot_of(_number(rule.address))
            number = None if slot is None else self._address(_number(rule.address), slot)
            if number is None:
                self.problems.append(f"forward {rule.address} port {rule.port}: no interface has this address")
                continue
            place = 1 + int(nat.forwards[0]) * FORWARD_WORDS
            nat.forwards[place : place + FORWARD_WORDS] = (
                _PROTOCOLS[rule.protocol],
                number,
                rule.port,
                rule.last,
                _number(rule.to),
                rule.first_target_port,
            )
            nat.forwards[0] += 1
            row = (number * PORT_KINDS + _PORT_ROWS[rule.protocol]) * PORTS
            nat.ports[row + rule.port : row + rule.last + 1] |= PORT_RESERVED


def _count_ports(nat: NatArrays, first: int, last: int) -> None:
    """Count the ports of the range that are not free, even ones and odd ones, of each outside address and kind."""
    rows = nat.ports.reshape(MAX_ADDRESSES * PORT_KINDS, PORTS)
    for row in range(MAX_ADDRESSES * PORT_KINDS):
        if nat.addresses[row // PORT_KINDS] == 0:
            continue
        begin, end = (0, PORTS) if row % PORT_KINDS == 2 else (first, last + 1)
        taken = rows[row, begin:end] != 0
        even = begin & 1
        nat.ports_used[row * 2] = int(taken[even::2].sum())
        nat.ports_used[row * 2 + 1] = int(taken[1 - even :: 2].sum())
