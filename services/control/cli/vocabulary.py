"""The objects and verbs of the command line, as tables: the parser, the help and the completion all read these.

The order of words is that of iproute2 6.1 (do_cmd, do_iproute, do_ipaddr, do_iplink, do_ipneigh, rtnl_rtntype_a2n),
since the first match decides what an abbreviation means. Words of `ip` that are not offered stand here too:
`ip route c` is `change`, and must not become something else.
"""

from collections.abc import Mapping
from typing import Final

from services.control.cli.config_verbs import CONFIG_VERB_WORDS, CONFIG_VERBS
from services.control.cli.insight_verbs import INSIGHT_VERBS
from services.control.cli.nat_verbs import NAT_VERB_WORDS, NAT_VERBS
from services.control.cli.route_verbs import ROUTE_VERB_WORDS, ROUTE_VERBS
from services.control.cli.values import (
    ADDRESS,
    DESTINATION,
    DEVICE,
    FILE,
    INTERFACE_ADDRESS,
    LINK_MTU,
    MAC,
    MARTIANS,
    NUD,
    REVERSE_PATH,
    SCOPE,
    SWITCH,
)
from services.control.cli.verb import HELP, SHOW, Operand, Verb
from services.control.cli.words import Keyword, Word

VERSION: Final = "version"
KEYGEN: Final = "keygen"
MONITOR: Final = "monitor"
TOP: Final = "top"
NEXTHOP: Final = "nexthop"


_POLICY_WORDS: Final = (
    Word("reverse-path", "reverse_path", REVERSE_PATH),
    Word("martians", "martians", MARTIANS),
    Word("directed-broadcast", "directed_broadcast", SWITCH),
    Word("redirects", "redirects", SWITCH),
    Word("proxy-arp", "proxy_arp", SWITCH),
)


def _address_change(name: str, summary: str) -> Verb:
    return Verb(
        method=f"addr.{name}",
        usage="addr {add|change|replace|del} ADDRESS/LENGTH dev NAME",
        summary=summary,
        words=(Word("dev", "dev", DEVICE),),
        operand=Operand("address", INTERFACE_ADDRESS, leads=("local",)),
        required=("address", "dev"),
    )


def _device_show(name: str, summary: str) -> Verb:
    return Verb(
        method=f"{name}.show",
        usage=f"{name} show [[dev] NAME]",
        summary=summary,
        words=(Word("dev", "dev", DEVICE),),
        operand=Operand("dev", DEVICE),
        filters=("up", "dynamic", "permanent", "primary", "secondary"),
    )


_NEIGHBOUR: Final = Operand("dst", ADDRESS, leads=("to",))
_NEIGHBOUR_DEV: Final = Word("dev", "dev", DEVICE)
_NEIGHBOUR_FILTERS: Final = ("nud", "proxy", "router", "unused", "vrf", "master", "nomaster", "managed", "use")


def _neighbour_change(name: str, summary: str) -> Verb:
    return Verb(
        method=f"neigh.{name}",
        usage="neigh {add|replace} ADDRESS lladdr MAC dev NAME [nud permanent]",
        summary=summary,
        words=(Word("lladdr", "lladdr", MAC), _NEIGHBOUR_DEV, Word("nud", "nud", NUD)),
        operand=_NEIGHBOUR,
        required=("dst", "lladdr", "dev"),
        filters=_NEIGHBOUR_FILTERS,
    )


def _neighbour_verb(name: str, summary: str) -> Verb:
    return Verb(
        method=f"neigh.{name}",
        usage=f"neigh {name} ADDRESS dev NAME",
        summary=summary,
        words=(_NEIGHBOUR_DEV,),
        operand=_NEIGHBOUR,
        required=("dst", "dev"),
        filters=_NEIGHBOUR_FILTERS,
    )


OBJECTS: Final = (
    Keyword("address", "addr"),
    Keyword("route", "route"),
    Keyword("neighbor", "neigh"),
    Keyword("neighbour", "neigh"),
    Keyword("link", "link"),
    Keyword("tunnel", None),
    Keyword("token", None),
    Keyword("maddress", None),
    Keyword("monitor", "monitor"),
    Keyword("counters", "counters"),
    Keyword("status", "status"),
    Keyword("show", "show"),
    Keyword("top", "top"),
    Keyword("config", "config"),
    Keyword("nat", "nat"),
    Keyword("capture", "capture"),
    Keyword("drops", "drops"),
    Keyword("trace", "trace"),
    Keyword("why", "why"),
    Keyword("keygen", "keygen"),
    Keyword("version", "version"),
    Keyword("help", HELP),
)

VERB_WORDS: Final[Mapping[str, tuple[Keyword, ...]]] = {
    "route": ROUTE_VERB_WORDS,
    "addr": (
        Keyword("add", "add"),
        Keyword("change", "change"),
        Keyword("chg", "change", abbreviable=False),
        Keyword("replace", "replace"),
        Keyword("delete", "del"),
        *SHOW,
        Keyword("flush", "flush"),
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
        *SHOW,
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
        *SHOW,
        Keyword("flush", "flush"),
        Keyword("probe", "probe"),
        Keyword("help", HELP),
    ),
    "show": (
        Keyword("drops", "drops"),
        Keyword("interfaces", "interfaces"),
        Keyword("fib", "fib"),
        Keyword("help", HELP),
    ),
    "config": CONFIG_VERB_WORDS,
    "nat": NAT_VERB_WORDS,
}

VERBS: Final[Mapping[str, Mapping[str, Verb]]] = {
    "route": ROUTE_VERBS,
    "addr": {
        "show": _device_show("addr", "Show the interfaces and their IPv4 addresses."),
        "add": _address_change("add", "Give an interface an address; refused where it has it already."),
        "change": _address_change("change", "As replace."),
        "replace": _address_change("replace", "Give an interface an address, whether it has it already or not."),
        "del": _address_change("del", "Take an address from an interface."),
        "flush": Verb(
            method="addr.flush",
            usage="addr flush [[dev] NAME] [to PREFIX] [scope NAME]",
            summary="Remove all IPv4 addresses that have what is given: of this interface, within this prefix, of this "
            "scope. One of them must be given.",
            words=(
                Word("to", "to", DESTINATION),
                Word("scope", "scope", SCOPE),
                Word("dev", "dev", DEVICE),
            ),
            operand=Operand("dev", DEVICE),
            at_least_one=("dev", "to", "scope"),
            filters=("up", "dynamic", "permanent", "primary", "secondary", "label", "group", "type", "master"),
        ),
    },
    "link": {
        "set": Verb(
            method="link.set",
            usage="link set [dev] NAME [up|down] [mtu BYTES] [address MAC] [reverse-path off|loose|strict] "
            "[martians strict|linux] [directed-broadcast on|off] [redirects on|off] [proxy-arp on|off]",
            summary="Change an interface: up or down, its MTU, its MAC, and what the router lets in and out by it.",
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
        "show": _device_show("link", "Show the interfaces; with -d, the policy of each as well."),
    },
    "neigh": {
        "show": Verb(
            method="neigh.show",
            usage="neigh show [ADDRESS] [dev NAME]",
            summary="Show the neighbours that the arp service knows, and the frames that wait for them.",
            words=(_NEIGHBOUR_DEV,),
            operand=_NEIGHBOUR,
            filters=_NEIGHBOUR_FILTERS,
        ),
        "add": _neighbour_change("add", "Make a permanent entry; refused where there is an entry of any kind."),
        "replace": _neighbour_change("replace", "Make an entry permanent, whatever there is."),
        "del": _neighbour_verb("del", "Remove an entry of any kind."),
        "flush": Verb(
            method="neigh.flush",
            usage="neigh flush [all] [dev NAME]",
            summary="Remove all entries that are not permanent.",
            words=(Word("all", "all"), _NEIGHBOUR_DEV),
            filters=_NEIGHBOUR_FILTERS,
        ),
        "probe": _neighbour_verb("probe", "Have the neighbour asked now, and show what came of it."),
    },
    "show": {
        "drops": Verb(
            method="show.drops",
            usage="show drops [INTERFACE]",
            summary="Show every frame that was dropped, by reason and interface, with what the reason means.",
            words=(Word("dev", "dev", DEVICE),),
            operand=Operand("dev", DEVICE),
        ),
        "interfaces": Verb(
            method="show.interfaces",
            usage="show interfaces [INTERFACE]",
            summary="Show the state of each interface of the router and its rates over a second, or with --watch over "
            "the time since the last look.",
            words=(Word("dev", "dev", DEVICE),),
            operand=Operand("dev", DEVICE),
        ),
        "fib": Verb(
            method="show.fib",
            usage="show fib",
            summary="Show the forwarder's table: its size, its generation against that of control, its memory, its "
            "paths and groups of next hops.",
        ),
    },
    "config": CONFIG_VERBS,
    "nat": NAT_VERBS,
}

SINGLE: Final[Mapping[str, Verb]] = {
    "monitor": Verb(
        method=MONITOR,
        usage="monitor [all] [link] [address] [route] [neigh]",
        summary="Show changes of links, addresses, routes and neighbours as they come, a line each, until Ctrl-C.",
        words=(
            Word("all", "all"),
            Word("link", "link", abbreviable=True),
            Word("address", "address", abbreviable=True),
            Word("route", "route", abbreviable=True),
            Word("neighbor", "neigh", abbreviable=True),
            Word("neighbour", "neigh", abbreviable=True),
        ),
    ),
    "top": Verb(
        method=TOP,
        usage="top",
        summary="Show rates by interface and by drop reason and the health of the services, renewed every second; q or "
        "Ctrl-C ends it. Where there is no terminal, show them once.",
    ),
    "counters": Verb(
        method="counters",
        usage="counters [INTERFACE]",
        summary="Show what each interface counted, every drop with its reason, and whether the sums agree.",
        words=(Word("dev", "dev", DEVICE),),
        operand=Operand("dev", DEVICE),
    ),
    "status": Verb(
        method="status",
        usage="status",
        summary="Show whether the router is ready, what it waits for, its services and its interfaces.",
    ),
    **INSIGHT_VERBS,
    "keygen": Verb(
        method=KEYGEN,
        usage="keygen FILE",
        summary="Make a pair of keys for RPC between machines: FILE has both and is its owner's alone, FILE.pub the "
        "public one, which is shown as well. No router is needed.",
        operand=Operand("file", FILE),
        required=("file",),
    ),
    "version": Verb(method=VERSION, usage="version", summary="Show the version; no router is needed."),
}
