"""The form in which a verb of the command line is described. The tables are in `vocabulary` and `route_verbs`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from services.control.cli.values import Value
from services.control.cli.words import Keyword, Word

HELP: Final = "help"
SHOW: Final = (Keyword("show", "show"), Keyword("lst", "show"), Keyword("list", "show"))


class Operand(NamedTuple):
    """What stands in a line without a keyword."""

    key: str
    value: Value
    leads: tuple[str, ...] = ()
    """Words that may stand before it and add nothing."""
    typed: bool = False
    """Whether a route type may stand before it."""


class Tail(NamedTuple):
    """What all the rest of a line is, from a word on that it may begin with."""

    key: str
    begins: Callable[[str], bool]
    choices: tuple[str, ...]
    """Words that it may begin with, for the completion."""


@dataclass(frozen=True)
class Verb:
    """The words of one verb."""

    method: str
    usage: str
    summary: str
    """What it does, in one sentence: for the manual."""
    words: tuple[Word, ...] = ()
    operand: Operand | None = None
    more: tuple[Operand, ...] = ()
    """Further operands, behind the first."""
    tail: Tail | None = None
    hop_words: tuple[Word, ...] = ()
    """The words behind each `nexthop`; empty where there is none."""
    required: tuple[str, ...] = ()
    """Params without which the line is not complete, in the order in which they are asked for."""
    at_least_one: tuple[str, ...] = ()
    """Params of which one must be given."""
    filters: tuple[str, ...] = ()
    """Words of `ip` that are not offered, and would else pass for the operand."""

    @property
    def operands(self) -> tuple[Operand, ...]:
        """All operands, in the order in which they stand."""
        return (*((self.operand,) if self.operand is not None else ()), *self.more)
