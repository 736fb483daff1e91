"""The values of a command line: text in, what the RPC's params hold out."""

import ipaddress
import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from services.common.wire.ipv4 import prefix_mask

_NUMBER = re.compile(r"0|[1-9][0-9]{0,9}|0x[0-9a-f]{1,8}", re.ASCII | re.IGNORECASE)
_PROTOCOL_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}", re.ASCII | re.IGNORECASE)
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.ASCII | re.IGNORECASE)
_DECIMAL: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?", re.ASCII)
_INTERFACE_NAME = re.compile(r"[^\s/:]+")
_MAX_INTERFACE_NAME_BYTES: Final = 15  # IFNAMSIZ of linux/if.h is 16 with its closing zero
_U32_MAX: Final = 2**32 - 1


class InvalidArgumentError(ValueError):
    """A value of the right form that the kernel answers with EINVAL; the text says what is wrong and what is right."""


class Value(NamedTuple):
    """A kind of value."""

    expected: str
    """What must stand there, with its article: "an IPv4 address"."""
    read: Callable[[str], Any]
    """From a token to the param. Raises `ValueError` for text of another form."""
    choices: tuple[str, ...] = ()
    """What to offer when completing."""


def _address(text: str) -> ipaddress.IPv4Address:
    return ipaddress.IPv4Address(text)


def _prefix_length(text: str) -> int:
    """Read a length 0..32 or a contiguous netmask."""
    if "." in text:
        mask = int(_address(text))
        length = mask.bit_count()
        if mask != prefix_mask(length):
            raise ValueError(text)
        return length
    return _number(text, 0, 32)


def _interface(text: str) -> ipaddress.IPv4Interface:
    """Read `ADDRESS[/LENGTH]`; without a length it is one host."""
    address, slash, length = text.partition("/")
    return ipaddress.IPv4Interface((int(_address(address)), _prefix_length(length) if slash else 32))


def _destination(text: str) -> str:
    """Return `default`, or the prefix as `10.0.0.0/8`.

    :raises InvalidArgumentError: host bits are set.
    """
    if text in ("default", "any", "all"):
        return "default"
    interface = _interface(text)
    if interface.ip != interface.network.network_address:
        raise InvalidArgumentError(
            f"Invalid argument: host bits are set; the prefix is {interface.network}, the host {interface.ip}/32"
        )
    return str(interface.network) if interface.network.prefixlen else "default"


def _number(text: str, low: int, high: int) -> int:
    # Leading zeros are octal to iproute2 and decimal to people: refused.
    if not _NUMBER.fullmatch(text) or not low <= (number := int(text, 0)) <= high:
        raise ValueError(text)
    return number


def _decimal(text: str) -> int | float:
    if not _DECIMAL.fullmatch(text):
        raise ValueError(text)
    return float(text) if "." in text else int(text)


def numbers(what: str, low: int, high: int) -> Value:
    """Return the kind of value that is a number of a range."""
    return Value(f"{what} of {low} to {high}", lambda text: _number(text, low, high))


def _device(text: str) -> str:
    # The rule of dev_valid_name() in net/core/dev.c, less what no terminal shows.
    if (
        not _INTERFACE_NAME.fullmatch(text)
        or not text.isprintable()
        or text in (".", "..")
        or len(text.encode()) > _MAX_INTERFACE_NAME_BYTES
    ):
        raise ValueError(text)
    return text


def _protocol(text: str) -> int | str:
    if _PROTOCOL_NAME.fullmatch(text):
        return text
    return _number(text, 0, 255)


def _mac(text: str) -> str:
    if not _MAC.fullmatch(text):
        raise ValueError(text)
    return text.lower()


def _choice(text: str, choices: tuple[str, ...]) -> str:
    if text not in choices:
        raise ValueError(text)
    return text


def _scope(text: str) -> int | str:
    return text if text in _SCOPES else _number(text, 0, 255)


def _file(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError(text)
    return text


def _nud(text: str) -> str:
    if text != "permanent":
        raise ValueError(text)
    return text


def _flow(text: str) -> dict[str, int | str]:
    """Read `PROTOCOL` or `PROTOCOL/PORT`, where it has ports."""
    name, slash, port = text.partition("/")
    if name not in _FLOW_PROTOCOLS or (slash and name == "icmp"):
        raise ValueError(text)
    return {"protocol": name} | ({"port": _number(port, 0, 0xFFFF)} if slash else {})


def _choices(*choices: str) -> Value:
    return Value(f"{', '.join(choices[:-1])} or {choices[-1]}", lambda text: _choice(text, choices), choices)


_FLOW_PROTOCOLS: Final = ("icmp", "tcp", "udp")
_TABLES: Final = ("main", "local", "all")
_PROTOCOLS: Final = (
    *("kernel", "boot", "static", "dhcp", "zebra", "bird", "bgp", "ospf", "rip", "isis"),
    *("hopwire", "hopwire-config"),
)
_SCOPES: Final = ("global", "site", "link", "host", "nowhere")
_TYPES: Final = (
    "unicast",
    "local",
    "broadcast",
    "anycast",
    "multicast",
    "blackhole",
    "unreachable",
    "prohibit",
    "throw",
    "nat",
)

ADDRESS: Final = Value("an IPv4 address", lambda text: str(_address(text)))
DESTINATION: Final = Value("a prefix such as 10.0.0.0/8, an IPv4 address, or default", _destination, ("default",))
INTERFACE_ADDRESS: Final = Value("an IPv4 address such as 10.0.0.1/24", lambda text: str(_interface(text)))
DEVICE: Final = Value("the name of an interface (15 bytes at most, no space, slash or colon)", _device)
MAC: Final = Value("a MAC address such as 02:00:00:00:00:01", _mac)
PROTOCOL: Final = Value("a routing protocol's name or number 0 to 255", _protocol, _PROTOCOLS)
TABLE: Final = Value("a table: main, local or all", lambda text: _choice(text, _TABLES), _TABLES)
SCOPE: Final = Value("a scope: global, site, link, host, nowhere or a number 0 to 255", _scope, _SCOPES)
ROUTE_TYPE: Final = Value(f"a type of route: {', '.join(_TYPES)}", lambda text: _choice(text, _TYPES), _TYPES)
NUD: Final = Value("permanent (the arp service sees to all other states)", _nud, ("permanent",))
METRIC: Final = numbers("a number", 0, _U32_MAX)
ROUTE_MTU: Final = numbers("a number of bytes", 0, _U32_MAX)
LINK_MTU: Final = numbers("a number of bytes", 0, 2**31 - 1)
PORT: Final = numbers("a port", 1, 65_535)
ROW: Final = numbers("a row", 0, 2**31 - 1)
SWITCH: Final = Value("on or off", lambda text: _choice(text, ("on", "off")) == "on", ("on", "off"))
REVERSE_PATH: Final = _choices("off", "loose", "strict")
PARAMETER: Final = Value("a number", _decimal)
FILE: Final = Value("the name of a file", _file)
STEPS: Final = numbers("a number", 1, 10)  # as many configurations as are kept
MARTIANS: Final = _choices("strict", "linux")
FLOW: Final = Value("icmp, tcp or udp, the latter with a port such as tcp/443,", _flow, _FLOW_PROTOCOLS)
WEIGHT: Final = numbers("a number", 1, 256)  # rtnh_hops of linux/rtnetlink.h is one byte, holding weight - 1
