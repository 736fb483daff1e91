"""The verbs of `route`, as tables: see `vocabulary`."""

from collections.abc import Mapping
from typing import Final

from services.control.cli.values import (
    ADDRESS,
    DESTINATION,
    DEVICE,
    METRIC,
    PROTOCOL,
    ROUTE_MTU,
    ROUTE_TYPE,
    SCOPE,
    TABLE,
    WEIGHT,
)
from services.control.cli.verb import HELP, SHOW, Operand, Verb
from services.control.cli.words import Keyword, Word

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
_SELECTORS: Final = (
    Word("table", "table", TABLE, abbreviable=True),
    Word("protocol", "proto", PROTOCOL, abbreviable=True),
    Word("scope", "scope", SCOPE, abbreviable=True),
    Word("type", "type", ROUTE_TYPE, abbreviable=True),
    *_DEV,
    _VIA,
    Word("root", "root", DESTINATION),
    Word("match", "match", DESTINATION),
)
_SELECTED: Final = Operand("dst", DESTINATION, leads=("to", "exact"))
_SELECTORS_USAGE: Final = (
    "[[exact|root|match] PREFIX] [dev NAME] [via ADDRESS] [proto NAME|N] [scope NAME] [type NAME] "
    "[table main|local|all]"
)
# Of iproute_list_flush_or_save in ip/iproute.c.
_OTHER_SELECTORS: Final = (
    "vrf",
    "cached",
    "cloned",
    "tos",
    "dsfield",
    "iif",
    "mark",
    "metric",
    "priority",
    "src",
    "realms",
    "from",
)


def _route_change(name: str, summary: str) -> Verb:
    return Verb(
        method=f"route.{name}",
        usage=_ROUTE_USAGE,
        summary=summary,
        words=_ROUTE_WORDS,
        operand=Operand("dst", DESTINATION, leads=("to",), typed=True),
        hop_words=_HOP_WORDS,
        required=("dst",),
    )


ROUTE_VERB_WORDS: Final = (
    *SHOW,
    Keyword("add", "add"),
    Keyword("change", None),
    Keyword("chg", None, abbreviable=False),
    Keyword("replace", "replace"),
    Keyword("prepend", None),
    Keyword("append", None),
    Keyword("test", None),
    Keyword("delete", "del"),
    Keyword("get", "get"),
    Keyword("flush", "flush"),
    Keyword("save", None),
    Keyword("restore", None),
    Keyword("showdump", None),
    Keyword("help", HELP),
)

ROUTE_VERBS: Final[Mapping[str, Verb]] = {
    "show": Verb(
        method="route.show",
        usage=f"route show {_SELECTORS_USAGE}",
        summary="Show the kernel's routes: those to just this prefix; with root, to all within it; with match, "
        "to all that hold it.",
        words=_SELECTORS,
        operand=_SELECTED,
        filters=_OTHER_SELECTORS,
    ),
    "add": _route_change("add", "Add a route to the kernel's table main; refused where there is one already."),
    "replace": _route_change("replace", "Add a route, or put it in the place of the one that there is."),
    "del": _route_change("del", "Remove the first route that has all that is given."),
    "get": Verb(
        method="route.get",
        usage="route get ADDRESS [from ADDRESS [iif NAME]]",
        summary="Ask the forwarder's own table where a datagram goes: the prefix that matches, the next hop, its MAC, "
        "the MTU; with from, by which of several next hops; with iif, whether the reverse-path check of that "
        "interface lets it in.",
        words=(Word("from", "src", ADDRESS), Word("iif", "iif", DEVICE)),
        operand=Operand("dst", ADDRESS, leads=("to",)),
        required=("dst",),
        filters=("oif", "vrf", "mark", "tos", "dsfield", "fibmatch", "uid", "ipproto", "sport", "dport", "notify"),
    ),
    "flush": Verb(
        method="route.flush",
        usage=f"route flush {_SELECTORS_USAGE}",
        summary="Remove all routes that route show would show with the same words, of which one must be given.",
        words=_SELECTORS,
        operand=_SELECTED,
        at_least_one=("dst", *(word.key for word in _SELECTORS)),
        filters=_OTHER_SELECTORS,
    ),
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
