"""The verbs of `config`, as tables: see `vocabulary`."""

from collections.abc import Mapping
from typing import Final

from services.control.cli.values import FILE, PARAMETER, STEPS
from services.control.cli.verb import HELP, SHOW, Operand, Verb
from services.control.cli.words import Keyword, Word

CHECK: Final = "config.check"
"""Answered by the program itself, as nothing but the file is needed."""
DIFF: Final = "config.diff"
APPLY: Final = "config.apply"
SAVE: Final = "config.save"
ROLLBACK: Final = "config.rollback"
CONFIRMABLE: Final = (APPLY, ROLLBACK)
"""Those that go back by themselves where `--confirm` says so."""

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

_FILE: Final = Operand("file", FILE)

CONFIG_VERB_WORDS: Final = (
    *SHOW,
    Keyword("check", "check"),
    Keyword("diff", "diff"),
    Keyword("apply", "apply"),
    Keyword("confirm", "confirm"),
    Keyword("save", "save"),
    Keyword("rollback", "rollback"),
    Keyword("history", "history"),
    Keyword("set", "set"),
    Keyword("help", HELP),
)

CONFIG_VERBS: Final[Mapping[str, Verb]] = {
    "show": Verb(method="config.show", usage="config show", summary="Show the configuration in force."),
    "check": Verb(
        method=CHECK,
        usage="config check FILE",
        summary="Read a file and name the first thing in it that is not known or not allowed, with line and column. No "
        "router is needed.",
        operand=_FILE,
        required=("file",),
    ),
    "diff": Verb(
        method=DIFF,
        usage="config diff FILE",
        summary="Show what applying a file would change: - what goes, + what comes.",
        operand=_FILE,
        required=("file",),
    ),
    "apply": Verb(
        method=APPLY,
        usage="config apply FILE [--confirm SECONDS]",
        summary="Bring about what a file says, as a whole or not at all, and touch nothing that is right already. With "
        "--confirm it goes back by itself after so many seconds, unless config confirm comes first.",
        operand=_FILE,
        required=("file",),
    ),
    "confirm": Verb(
        method="config.confirm", usage="config confirm", summary="Keep the configuration that would go back by itself."
    ),
    "save": Verb(
        method=SAVE,
        usage="config save [FILE]",
        summary="Write what is in force as a file: the settings, the links, the lasting addresses, and the routes of "
        "the configuration and of control-cli. Without FILE control writes it to the file that it was started with.",
        operand=_FILE,
    ),
    "rollback": Verb(
        method=ROLLBACK,
        usage="config rollback [N] [--confirm SECONDS]",
        summary="Go back to the configuration before this one, or to that N before; "
        "that of now becomes the first before.",
        operand=Operand("steps", STEPS),
    ),
    "history": Verb(
        method="config.history",
        usage="config history",
        summary="Show the configurations that there were, by the N of config rollback; 0 is the one in force.",
    ),
    "set": Verb(
        method="config.set",
        usage="config set PARAMETER VALUE [PARAMETER VALUE ...]",
        summary="Change numbers of the configuration, at once, until another one is applied or control ends.",
        words=_PARAMETER_WORDS,
        at_least_one=tuple(word.key for word in _PARAMETER_WORDS),
    ),
}
