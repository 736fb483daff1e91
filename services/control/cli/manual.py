"""`python -m services.control.cli.manual`: the man page (man(7)), made from what the parser itself reads."""

from collections.abc import Iterable, Iterator

import typer.core
import typer.main

from services.common.endpoints import DEFAULT_RUN_DIR
from services.control.cli.main import EXIT_STATUSES, PROGRAM, app
from services.control.cli.router import RUN_DIR_VARIABLE
from services.control.cli.verb import Verb
from services.control.cli.vocabulary import SINGLE, VERBS

_DESCRIPTION = (
    "shows and changes what a hopwire router does. Its grammar and its abbreviations are those of ip(8). Changes are "
    "written to the kernel of the router's network namespace by control, the router's own service, and what only "
    "changes something prints nothing. An object without a verb is shown. On a terminal the answer is a table, "
    "elsewhere plain aligned text; scripts read the JSON of -j."
)
_EXAMPLES = (
    ("route add 10.2.0.0/16 via 192.168.0.9", "a route to a network behind a gateway"),
    ("route get 10.2.3.4 from 192.168.1.2 iif eth0", "what the forwarder does with such a datagram"),
    ("route flush root 10.0.0.0/8 proto hopwire", "away with all that was added here within a prefix"),
    ("show drops --watch 1", "what is dropped, why, and how fast"),
    ('capture drops "net 10.0.0.0/8 and udp" -w - | tshark -r -', "what is dropped of that, and why"),
    ("why 10.1.0.2 10.2.3.4 tcp/443", "what would become of such a datagram, and what would change it"),
    ("-j monitor route neigh", "changes as they come, one JSON object each"),
)
_ENVIRONMENT = (
    (RUN_DIR_VARIABLE, "The router's run directory, where --run-dir is not given."),
    ("NO_COLOR", "No colours on a terminal."),
)


def page() -> str:
    """Return the page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    name = _escaped(PROGRAM)
    yield f'.TH {PROGRAM.upper()} 1 "" hopwire "hopwire manual"'
    yield from (".SH NAME", f"{name} \\- show and change what a hopwire router does")
    yield from (".SH SYNOPSIS", f".B {name}", r"[\fIOPTION\fR...] \fIOBJECT\fR [\fIVERB\fR [\fIWORD\fR...]]")
    yield from (".SH DESCRIPTION", f".B {name}", _text(_DESCRIPTION))
    yield ".SH OPTIONS"
    yield "They stand before, between or behind the words."
    for option in typer.main.get_command(app).params:
        if isinstance(option, typer.core.TyperOption) and not option.hidden:
            yield from _option(option)
    yield from _item("-h, --help", "Show all verbs; OBJECT help shows those of one object.")
    yield ".SH VERBS"
    yield from _verbs([verb for group in VERBS.values() for verb in group.values()] + list(SINGLE.values()))
    yield ".SH EXIT STATUS"
    for status, meaning in EXIT_STATUSES.items():
        yield from _item(str(status), meaning)
    yield ".SH ENVIRONMENT"
    for variable, meaning in _ENVIRONMENT:
        yield from _item(variable, meaning)
    yield ".SH FILES"
    yield from _item(str(DEFAULT_RUN_DIR), "The run directory of a router that was not told another one.")
    yield ".SH EXAMPLES"
    for words, meaning in _EXAMPLES:
        yield from _item(f"{PROGRAM} {words}", meaning)
    yield from (".SH SEE ALSO", ".BR ip (8),", ".BR ip\\-route (8),", ".BR ip\\-monitor (8)")


def _option(option: typer.core.TyperOption) -> Iterator[str]:
    value = "" if option.is_flag or not option.metavar else f" {option.metavar}"
    yield from _item(", ".join(option.opts) + value, option.help or "")


def _verbs(verbs: Iterable[Verb]) -> Iterator[str]:
    """Yield each usage line once, with what all the verbs do that it is of."""
    by_usage: dict[str, list[Verb]] = {}
    for verb in verbs:
        by_usage.setdefault(verb.usage, []).append(verb)
    for usage, sharing in by_usage.items():
        if len(sharing) == 1:
            yield from _item(usage, sharing[0].summary)
            continue
        yield from _item(usage, f"{sharing[0].method.rpartition('.')[2]}: {sharing[0].summary}")
        for verb in sharing[1:]:
            yield from (".br", _text(f"{verb.method.rpartition('.')[2]}: {verb.summary}"))


def _item(term: str, text: str) -> Iterator[str]:
    yield from (".TP", f".B {_escaped(term)}", _text(text))


def _text(text: str) -> str:
    """Return a paragraph as one input line, which no text turns into a request: groff_man(7), groff(7)."""
    escaped = _escaped(text)
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped


def _escaped(text: str) -> str:
    return text.replace("\\", r"\e").replace("-", r"\-").replace('"', r"\(dq")


if __name__ == "__main__":
    print(page(), end="")
