"""The objects and verbs of the command line, as tables: the parser, the help and the completion all read these.

The order of words is that of iproute2 6.1 (do_cmd, do_iproute, do_ipaddr, do_iplink, do_ipneigh, rtnl_rtntype_a2n),
since the first match decides what an abbreviation means. Words of `ip` that are not offered stand here too:
`ip route c` is `change`, and must not become something else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from services.control.cli.values import (
    ADDRESS,
    DESTINATION,
    DEVICE,
    INTERFACE_ADDRESS,
    LINK_MTU,
    MAC,
    MARTIANS,
    METRIC,
    NUD,
    PARAMETER,
    PROTOCOL,
    REVERSE_PATH,
    ROUTE_MTU,
    SWITCH,
    TABLE,
    WEIGHT,
    Value,
)
from services.control.cli.words import Keyword, Word

HELP: Final = "help"
VERSION: Final = "version"
NEXTHOP: Final = "nexthop"


class Operand(NamedTuple):
    """What stands in a line without a keyword."""

    key: str
    value: Value
    leads: tuple[str, ...] = ()
    """Words that may stand before it and add nothing."""
    typed: bool = False
    """Whether a route type may stand before it."""


@dataclass(frozen=True)
class Verb:
    """The words of one verb."""

    method: str
    usage: str
    words: tuple[Word, ...] = ()
    operand: Operand | None = None
    hop_words: tuple[Word, ...] = ()
    """The words behind each `nexthop`; empty where there is none."""
    required: tuple[str, ...] = ()
    """Params without which the line is not complete, in the order in which they are asked for."""
    at_least_one: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()
    """Words of `ip` that are not offered, and would else pass for the operand."""


_DEV: Final = (Word("dev", "dev", DEVICE), Word("oif", "dev", DEVICE))
_VIA: Final = Word("via", "via", ADDRESS)
_ROUTE_WORDS: Final = (
    Word("src", "src", ADDRESS),
    _VIA,
    Word("metric", "metric", METRIC, abbreviable=True),
    Word("priority", "metric", METRIC, abbreviable=True),
    Word("preference", "metric", METRIC),
    Word("mtu", "mtu", ROUTE_MTU),
    Word("onlink", "onlink"),
    Word("protocol", "proto", PROTOCOL, abbreviable=True),
    *_DEV,
)
_HOP_WORDS: Final = (_VIA, *_DEV, Word("weight", "weight", WEIGHT))
_ROUTE_USAGE: Final = (
    "route {add|replace|del} [unicast|blackhole|unreachable|prohibit] PREFIX [via ADDRESS] [dev NAME] [metric N] "
    "[mtu BYTES] [src ADDRESS] [proto NAME|N] [onlink] [nexthop [via ADDRESS] [dev NAME] [weight N]]..."
)


_POLICY_WORDS: Final = (
    Word("reverse-path", "reverse_path", REVERSE_PATH),
    Word("martians", "martians", MARTIANS),
    Word("directed-broadcast", "directed_broadcast", SWITCH),
    Word("redirects", "redirects", SWITCH),
    Word("proxy-arp", "proxy_arp", SWITCH),
)


PARAMETERS: Final = (
    "arp.base_reachable_time_s",
    "arp.delay_probe_time_s",
    "arp.retransmit_time_s",
    "arp.multicast_solicit",
    "arp.unicast_solicit",
    "arp.requests_per_second",
    "arp.failed_time_s",
    "arp.stale_time_s",
    "arp.locktime_s",
    "arp.max_neighbours",
    "arp.max_waiting_frames",
    "arp.max_waiting_bytes",
    "arp.max_total_waiting_bytes",
    "icmp.errors_per_second",
    "icmp.errors_burst",
    "icmp.per_destination_per_second",
    "icmp.per_destination_burst",
)
"""What `config set` changes: the numbers of `common.parameters`, which would take too long to load here."""
_PARAMETER_WORDS: Final = tuple(Word(name, name, PARAMETER) for name in PARAMETERS)


def _route_change(name: str) -> Verb:
    return Verb(
        method=f"route.{name}",
        usage=_ROUTE_USAGE,
        words=_ROUTE_WORDS,
        operand=Operand("dst", DESTINATION, leads=("to",), typed=True),
        hop_words=_HOP_WORDS,
        required=("dst",),
    )


def _address_change(name: str) -> Verb:
    return Verb(
        method=f"addr.{name}",
        usage="addr {add|del} ADDRESS/LENGTH dev NAME",
        words=(Word("dev", "dev", DEVICE),),
        operand=Operand("address", INTERFACE_ADDRESS, leads=("local",)),
        required=("address", "dev"),
    )


def _device_show(name: str) -> Verb:
    return Verb(
        method=f"{name}.show",
        usage=f"{name} show [[dev] NAME]",
        words=(Word("dev", "dev", DEVICE),),
        operand=Operand("dev", DEVICE),
        filters=("up", "dynamic", "permanent", "primary", "secondary"),
    )


_NEIGHBOUR: Final = Operand("dst", ADDRESS, leads=("to",))
_NEIGHBOUR_DEV: Final = Word("dev", "dev", DEVICE)
_NEIGHBOUR_FILTERS: Final = ("nud", "proxy", "router", "unused", "vrf", "master", "nomaster", "managed", "use")


def _neighbour_change(name: str) -> Verb:
    return Verb(
        method=f"neigh.{name}",
        usage="neigh {add|replace} ADDRESS lladdr MAC dev NAME [nud permanent]",
        words=(Word("lladdr", "lladdr", MAC), _NEIGHBOUR_DEV, Word("nud", "nud", NUD)),
        operand=_NEIGHBOUR,
        required=("dst", "lladdr", "dev"),
        filters=_NEIGHBOUR_FILTERS,
    )


def _neighbour_verb(name: str) -> Verb:
    return Verb(
        method=f"neigh.{name}",
        usage=f"neigh {name} ADDRESS dev NAME",
        words=(_NEIGHBOUR_DEV,),
        operand=_NEIGHBOUR,
        required=("dst", "dev"),
        filters=_NEIGHBOUR_FILTERS,
    )


_SHOW: Final = (Keyword("show", "show"), Keyword("lst", "show"), Keyword("list", "show"))

OBJECTS: Final = (
    Keyword("address", "addr"),
    Keyword("route", "route"),
    Keyword("neighbor", "neigh"),
    Keyword("neighbour", "neigh"),
    Keyword("link", "link"),
    Keyword("counters", "counters"),
    Keyword("status", "status"),
    Keyword("config", "config"),
    Keyword("version", "version"),
    Keyword("help", HELP),
)

VERB_WORDS: Final[Mapping[str, tuple[Keyword, ...]]] = {
    "route": (
        *_SHOW,
        Keyword("add", "add"),
        Keyword("change", None),
        Keyword("chg", None, abbreviable=False),
        Keyword("replace", "replace"),
        Keyword("prepend", None),
        Keyword("append", None),
        Keyword("test", None),
        Keyword("delete", "del"),
        Keyword("get", "get"),
        Keyword("flush", None),
        Keyword("save", None),
        Keyword("restore", None),
        Keyword("showdump", None),
        Keyword("help", HELP),
    ),
    "addr": (
        Keyword("add", "add"),
        Keyword("change", None),
        Keyword("chg", None, abbreviable=False),
        Keyword("replace", None),
        Keyword("delete", "del"),
        *_SHOW,
        Keyword("flush", None),
        Keyword("save", None),
        Keyword("showdump", None),
        Keyword("restore", None),
        Keyword("help", HELP),
    ),
    "link": (
        Keyword("add", None),
        Keyword("set", "set"),
        Keyword("change", "set"),
        Keyword("replace", None),
        Keyword("delete", None),
        *_SHOW,
        Keyword("xstats", None),
        Keyword("afstats", None),
        Keyword("property", None),
        Keyword("help", HELP),
    ),
    "neigh": (
        Keyword("add", "add"),
        Keyword("change", None),
        Keyword("chg", None, abbreviable=False),
        Keyword("replace", "replace"),
        Keyword("delete", "del"),
        Keyword("get", None),
        *_SHOW,
        Keyword("flush", "flush"),
        Keyword("probe", "probe"),
        Keyword("help", HELP),
    ),
    "config": (*_SHOW, Keyword("set", "set"), Keyword("help", HELP)),
}

VERBS: Final[Mapping[str, Mapping[str, Verb]]] = {
    "route": {
        "show": Verb(
            method="route.show",
            usage="route show [PREFIX] [dev NAME] [via ADDRESS] [proto NAME|N] [table main|local|all]",
            words=(
                Word("table", "table", TABLE, abbreviable=True),
                Word("protocol", "proto", PROTOCOL, abbreviable=True),
                *_DEV,
                _VIA,
            ),
            operand=Operand("dst", DESTINATION, leads=("to", "exact")),
        ),
        "add": _route_change("add"),
        "replace": _route_change("replace"),
        "del": _route_change("del"),
        "get": Verb(
            method="route.get",
            usage="route get ADDRESS",
            operand=Operand("dst", ADDRESS, leads=("to",)),
            required=("dst",),
        ),
    },
    "addr": {"add": _address_change("add"), "del": _address_change("del"), "show": _device_show("addr")},
    "link": {
        "set": Verb(
            method="link.set",
            usage="link set [dev] NAME [up|down] [mtu BYTES] [address MAC] [reverse-path off|loose|strict] "
            "[martians strict|linux] [directed-broadcast on|off] [redirects on|off] [proxy-arp on|off]",
            words=(
                Word("up", "up"),
                Word("down", "up", flag=False),
                Word("mtu", "mtu", LINK_MTU),
                Word("address", "address", MAC, abbreviable=True),
                *_POLICY_WORDS,
                Word("dev", "dev", DEVICE),
            ),
            operand=Operand("dev", DEVICE),
            required=("dev",),
            at_least_one=("up", "mtu", "address", *(word.key for word in _POLICY_WORDS)),
        ),
        "show": _device_show("link"),
    },
    "neigh": {
        "show": Verb(
            method="neigh.show",
            usage="neigh show [ADDRESS] [dev NAME]",
            words=(_NEIGHBOUR_DEV,),
            operand=_NEIGHBOUR,
            filters=_NEIGHBOUR_FILTERS,
        ),
        "add": _neighbour_change("add"),
        "replace": _neighbour_change("replace"),
        "del": _neighbour_verb("del"),
        "flush": Verb(
            method="neigh.flush",
            usage="neigh flush [all] [dev NAME]",
            words=(Word("all", "all"), _NEIGHBOUR_DEV),
            filters=_NEIGHBOUR_FILTERS,
        ),
        "probe": _neighbour_verb("probe"),
    },
    "config": {
        "show": Verb(method="config.show", usage="config show"),
        "set": Verb(
            method="config.set",
            usage="config set PARAMETER VALUE [PARAMETER VALUE ...]",
            words=_PARAMETER_WORDS,
            at_least_one=tuple(word.key for word in _PARAMETER_WORDS),
        ),
    },
}

SINGLE: Final[Mapping[str, Verb]] = {
    "counters": Verb(method="counters", usage="counters"),
    "status": Verb(method="status", usage="status"),
    "version": Verb(method=VERSION, usage="version"),
}

ROUTE_TYPES: Final = (
    Keyword("local", None, abbreviable=False),
    Keyword("nat", None, abbreviable=False),
    Keyword("broadcast", None),
    Keyword("brd", None, abbreviable=False),
    Keyword("anycast", None),
    Keyword("multicast", None),
    Keyword("prohibit", "prohibit"),
    Keyword("unreachable", "unreachable"),
    Keyword("blackhole", "blackhole"),
    Keyword("xresolve", None),
    Keyword("unicast", "unicast"),
    Keyword("throw", None, abbreviable=False),
)
