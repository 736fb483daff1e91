"""The verbs of `nat`, as tables: see `vocabulary`."""

from collections.abc import Mapping
from typing import Final

from services.control.cli.values import ADDRESS, DEVICE, PORT, ROW
from services.control.cli.verb import HELP, SHOW, Verb
from services.control.cli.words import Keyword, Word

NAT_VERB_WORDS: Final = (
    Keyword("add", "add"),
    Keyword("delete", "del"),
    *SHOW,
    Keyword("sessions", "sessions"),
    Keyword("flush", "flush"),
    Keyword("help", HELP),
)
_KINDS: Final = ("masquerade", "tcp", "udp", "one_to_one")
_NAMES: Final = (
    Word("masquerade", "masquerade", DEVICE, abbreviable=True),
    Word("tcp", "tcp", ADDRESS),
    Word("udp", "udp", ADDRESS),
    Word("one-to-one", "one_to_one", ADDRESS, abbreviable=True),
    Word("port", "port", PORT),
)
_TARGETS: Final = (
    Word("to", "to", ADDRESS),
    Word("to-port", "to_port", PORT),
    Word("last-port", "last_port", PORT),
    Word("inside", "inside", DEVICE),
    Word("address", "address", ADDRESS),
)

NAT_VERBS: Final[Mapping[str, Verb]] = {
    "show": Verb(
        method="nat.show",
        usage="nat show",
        summary="Show the rules of address translation, how full its table is, and the first thousand sessions.",
    ),
    "sessions": Verb(
        method="nat.sessions",
        usage="nat sessions [first ROW]",
        summary="Show up to a thousand sessions from a row of the table on; the last line names the row to go on with.",
        words=(Word("first", "first", ROW),),
    ),
    "add": Verb(
        method="nat.add",
        usage="nat add {masquerade NAME [inside NAME] [address ADDRESS] | {tcp|udp} ADDRESS port N [last-port N] "
        "to ADDRESS [to-port N] | one-to-one ADDRESS to ADDRESS}",
        summary="Translate the sources of what leaves by an interface; forward ports of an outside address to an "
        "inside host; or give an outside address to one inside host wholly. Kept in the run directory.",
        words=(*_NAMES, *_TARGETS),
        at_least_one=_KINDS,
    ),
    "del": Verb(
        method="nat.del",
        usage="nat del {masquerade NAME | {tcp|udp} ADDRESS port N | one-to-one ADDRESS}",
        summary="Remove a rule; its sessions go on until they end.",
        words=(*_NAMES, *_TARGETS),
        at_least_one=_KINDS,
    ),
    "flush": Verb(method="nat.flush", usage="nat flush", summary="End all sessions; the rules stay."),
}
