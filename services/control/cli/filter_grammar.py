"""Filters as tcpdump writes them (pcap-filter(7)), in so far as a router's frames need them. Pure.

expression = factor {("and" | "&&" | "or" | "||") factor}      from left to right, both of the same rank
factor     = ("not" | "!") factor | "(" expression ")" | primitive
primitive  = ["src" | "dst"] ["host"] ADDRESS | ["src" | "dst"] "net" PREFIX
           | ["tcp" | "udp"] ["src" | "dst"] ("port" N | "portrange" N-N)
           | "ip" | "arp" | "icmp" | "tcp" | "udp" | ["ip"] "proto" (N | NAME) | "less" N | "greater" N
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from services.common import packet_filter as pf
from services.common.wire import ethernet, ipv4

_TOKENS: Final = re.compile(r"[()!]|&&|\|\||[^\s()!&|]+|\S")
_ALL_BITS: Final = 0xFFFF_FFFF
_MOST_BYTES: Final = 0xFFFF_FFFF
_NUMBER: Final = re.compile(r"[0-9]{1,10}", re.ASCII)
_DIRECTIONS: Final = {"src": (pf.SOURCE,), "dst": (pf.DESTINATION,), "": (pf.SOURCE, pf.DESTINATION)}
_PORTS: Final = {
    "src": (pf.SOURCE_PORT,),
    "dst": (pf.DESTINATION_PORT,),
    "": (pf.SOURCE_PORT, pf.DESTINATION_PORT),
}
_PROTOCOLS: Final = {"icmp": ipv4.PROTOCOL_ICMP, "tcp": ipv4.PROTOCOL_TCP, "udp": ipv4.PROTOCOL_UDP}
_NAMES: Final = {**_PROTOCOLS, "igmp": 2, "gre": 47, "esp": 50, "ospf": 89, "sctp": 132}  # IANA, protocol-numbers
_AND: Final = ("and", "&&")
_OR: Final = ("or", "||")
_NOT: Final = ("not", "!")

FIRST_WORDS: Final = (
    "host", "net", "src", "dst", "port", "portrange", "ip", "arp", "icmp", "tcp", "udp", "proto", "less", "greater",
    "not",
)  # fmt: skip
"""What a filter may begin with; beside these, "!" and "("."""
_PRIMITIVE: Final = "host, net, src, dst, port, portrange, ip, arp, icmp, tcp, udp, proto, less or greater"


class FilterError(ValueError):
    """A filter that cannot be read."""

    def __init__(self, token: str | None, problem: str) -> None:
        """Say what is wrong with `token`, or with the end where that is None."""
        super().__init__(problem)
        self.token = token


def begins_filter(token: str) -> bool:
    """Tell whether a filter may begin with a word of the command line, in which it may stand as a whole."""
    return token.split(" ", maxsplit=1)[0] in FIRST_WORDS or token.startswith(("!", "("))


def compile_filter(text: str) -> list[pf.Instruction]:
    """Return the program of a filter; of an empty text the one that accepts all.

    :raises FilterError: with the token that does not fit, and what was expected.
    """
    tokens = _TOKENS.findall(text)
    if not tokens:
        return []
    parser = _Parser(tokens)
    node = parser.expression()
    if (token := parser.take()) is not None:
        raise FilterError(token, '"and" or "or" is expected')
    backwards: list[pf.Instruction] = []
    _emit(node, pf.ACCEPT, pf.REJECT, backwards)
    if len(backwards) > pf.MAX_INSTRUCTIONS:
        raise FilterError(
            tokens[-1], f"the filter is too long: {len(backwards)} comparisons, and {pf.MAX_INSTRUCTIONS} at most"
        )
    last = len(backwards) - 1
    return [(*one[: pf.YES], _forward(one[pf.YES], last), _forward(one[pf.NO], last)) for one in reversed(backwards)]


def _forward(jump: int, last: int) -> int:
    return jump if jump < 0 else last - jump


@dataclass(frozen=True)
class _Test:
    field: int
    mask: int
    low: int
    high: int


@dataclass(frozen=True)
class _Not:
    of: "_Node"


@dataclass(frozen=True)
class _Both:
    first: "_Node"
    second: "_Node"
    either: bool
    """One is enough."""


_Node = _Test | _Not | _Both


def _emit(node: _Node, yes: int, no: int, out: list[pf.Instruction]) -> int:
    """Append a node's instructions, the last one first; return the place of its first one."""
    if isinstance(node, _Not):
        return _emit(node.of, no, yes, out)
    if isinstance(node, _Both):
        second = _emit(node.second, yes, no, out)
        return _emit(node.first, *((yes, second) if node.either else (second, no)), out)
    out.append((node.field, node.mask, node.low, node.high, yes, no))
    return len(out) - 1


def _is(field: int, value: int) -> _Test:
    return _Test(field, _ALL_BITS, value, value)


def _any(tests: Sequence[_Node]) -> _Node:
    node = tests[0]
    for test in tests[1:]:
        node = _Both(node, test, either=True)
    return node


class _Parser:
    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    def take(self) -> str | None:
        if self._at == len(self._tokens):
            return None
        self._at += 1
        return self._tokens[self._at - 1]

    def _next_is(self, *words: str) -> bool:
        return self._at < len(self._tokens) and self._tokens[self._at] in words

    def expression(self) -> _Node:
        node = self._factor()
        while self._next_is(*_AND, *_OR):
            either = self.take() in _OR
            node = _Both(node, self._factor(), either)
        return node

    def _factor(self) -> _Node:
        self._depth += 1
        if self._depth > pf.MAX_INSTRUCTIONS:
            raise FilterError(self._tokens[self._at - 1], "the filter is nested too deeply")
        try:
            if self._next_is(*_NOT):
                self.take()
                return _Not(self._factor())
            if self._next_is("("):
                self.take()
                node = self.expression()
                if (token := self.take()) != ")":
                    raise FilterError(token, '")", "and" or "or" is expected')
                return node
            return self._primitive()
        finally:
            self._depth -= 1

    def _primitive(self) -> _Node:
        word = self.take()
        if word in ("less", "greater"):
            number = self._number(word, _MOST_BYTES)
            return _Test(pf.LENGTH, _ALL_BITS, *((0, number) if word == "less" else (number, _MOST_BYTES)))
        if word == "arp":
            return _is(pf.ETHERTYPE, ethernet.ETHERTYPE_ARP)
        if word == "ip" and not self._next_is("proto"):
            return _is(pf.ETHERTYPE, ethernet.ETHERTYPE_IPV4)
        if word == "proto" or (word == "ip" and self.take() == "proto"):
            return _is(pf.PROTOCOL, self._protocol())
        if word in ("tcp", "udp") and self._next_is("src", "dst", "port", "portrange"):
            return _Both(_is(pf.PROTOCOL, _PROTOCOLS[word]), self._port(), either=False)
        if word in _PROTOCOLS:
            return _is(pf.PROTOCOL, _PROTOCOLS[word])
        if word in ("src", "dst", "host", "net", "port", "portrange"):
            self._at -= 1
            return self._port() if self._is_port() else self._place()
        raise FilterError(word, f"{_PRIMITIVE} is expected")

    def _is_port(self) -> bool:
        following = self._tokens[self._at : self._at + 2]
        return any(word in ("port", "portrange") for word in following[: 2 if following[0] in ("src", "dst") else 1])

    def _direction(self) -> str:
        return (self.take() or "") if self._next_is("src", "dst") else ""

    def _place(self) -> _Node:
        """Read `[src|dst] [host] ADDRESS` or `[src|dst] net PREFIX`."""
        direction = self._direction()
        if self._next_is("net"):
            self.take()
            token = self._argument("a prefix such as 10.0.0.0/8", "net", _prefix)
            network = IPv4Network(token)
            mask, low = int(network.netmask), int(network.network_address)
            return _any([_Test(field, mask, low, low) for field in _DIRECTIONS[direction]])
        if self._next_is("host"):
            self.take()
        address = int(IPv4Address(self._argument("an IPv4 address", direction or "host", _address)))
        return _any([_is(field, address) for field in _DIRECTIONS[direction]])

    def _port(self) -> _Node:
        direction = self._direction()
        word = self.take()
        if word == "port":
            low = high = self._number(word, 0xFFFF)
        elif word == "portrange":
            low, high = (int(part) for part in self._argument("two ports such as 8000-8010", word, _range).split("-"))
        else:
            raise FilterError(word, "port or portrange is expected")
        return _any([_Test(field, _ALL_BITS, low, high) for field in _PORTS[direction]])

    def _protocol(self) -> int:
        token = self.take()
        if token is not None and token in _NAMES:
            return _NAMES[token]
        if token is None or not _NUMBER.fullmatch(token) or int(token) > 0xFF:
            raise FilterError(token, f'a protocol\'s number 0 to 255 or {", ".join(_NAMES)} is expected after "proto"')
        return int(token)

    def _number(self, behind: str, most: int) -> int:
        token = self.take()
        if token is None or not _NUMBER.fullmatch(token) or int(token) > most:
            raise FilterError(token, f'a number of 0 to {most} is expected after "{behind}"')
        return int(token)

    def _argument(self, expected: str, behind: str, check: Callable[[str], bool]) -> str:
        token = self.take()
        if token is None or not check(token):
            raise FilterError(token, f'{expected} is expected after "{behind}"')
        return token


def _address(text: str) -> bool:
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True


def _prefix(text: str) -> bool:
    try:
        IPv4Network(text)
    except ValueError:
        return False
    return True


def _range(text: str) -> bool:
    low, dash, high = text.partition("-")
    both = dash and all(_NUMBER.fullmatch(part) and int(part) <= 0xFFFF for part in (low, high))
    return bool(both) and int(low) <= int(high)
