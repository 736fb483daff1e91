"""How a command line is taken apart: keywords, their abbreviations, and the error that names the offending token.

iproute2 takes some of its words abbreviated to any length and others only in full; among the abbreviable ones the
first in its own order wins. The tables of `grammar` follow that order.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from services.common.errors import HopwireError
from services.control.cli.values import InvalidArgumentError, Value


class UsageError(HopwireError):
    """A command line that is no request."""

    def __init__(self, command: str, token: str | None, problem: str, usage: str) -> None:
        """Say what is wrong with `token`, or with the end of the line where that is None.

        :param command: as far as it was understood: `route add`.
        :param usage: the line that shows how it is written, without the program's name.
        """
        where = f"{command}: " if command else ""
        what = "the command line is not complete" if token is None else quoted(token)
        super().__init__(f"{where}{what}: {problem}")
        self.token = token
        self.usage = usage


def quoted(token: str) -> str:
    """Return a token in quotes, with what a terminal would not show written as an escape."""
    shown = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in token)
    return f'"{shown}"'


def one_of(names: Sequence[str]) -> str:
    """Return `a, b or c`."""
    return " or ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


class Keyword(NamedTuple):
    """A word of iproute2's."""

    name: str
    meaning: str | None
    """What it stands for; None where hopwire does not offer it, so that its abbreviation means nothing else."""
    abbreviable: bool = True


def matches(name: str, token: str, *, abbreviable: bool) -> bool:
    """Tell whether `token` is `name`, or stands for it."""
    return token == name or (abbreviable and bool(token) and name.startswith(token))


def choose(keywords: Iterable[Keyword], token: str) -> Keyword | None:
    """Return the first keyword that `token` stands for."""
    return next((word for word in keywords if matches(word.name, token, abbreviable=word.abbreviable)), None)


def offered(keywords: Iterable[Keyword]) -> list[str]:
    """Return what the keywords mean, each once, in their order."""
    return list(dict.fromkeys(word.meaning for word in keywords if word.meaning is not None))


@dataclass(frozen=True)
class Word:
    """A keyword inside a verb, and what it puts into the request's params."""

    name: str
    key: str
    value: Value | None = None
    """What follows it; None for a flag."""
    flag: bool = True
    """The param of a flag."""
    abbreviable: bool = False


def find(words: Iterable[Word], token: str) -> Word | None:
    """Return the first word that `token` stands for."""
    return next((word for word in words if matches(word.name, token, abbreviable=word.abbreviable)), None)


class Cursor:
    """The tokens behind the verb, taken one after the other."""

    def __init__(self, command: str, usage: str, tokens: Sequence[str]) -> None:
        self._command = command
        self._usage = usage
        self._tokens = tokens
        self._position = 0

    def take(self) -> str | None:
        """Return the next token, or None at the end of the line."""
        if self._position == len(self._tokens):
            return None
        self._position += 1
        return self._tokens[self._position - 1]

    def value(self, value: Value, behind: str) -> Any:
        """Take a value; `behind` is the word it belongs to."""
        return self.read(value, self.take(), f" after {quoted(behind)}")

    def read(self, value: Value, token: str | None, place: str = "") -> Any:
        """Return the param that `token` stands for."""
        if token is None:
            raise self.error(None, f"{value.expected} is expected{place}")
        try:
            return value.read(token)
        except InvalidArgumentError as error:
            raise self.error(token, str(error)) from error
        except ValueError as error:
            raise self.error(token, f"{value.expected} is expected{place}") from error

    def word(self, word: Word, token: str, params: dict[str, Any]) -> None:
        """Put what a keyword says into `params`; `token` is how it was written."""
        if word.key in params:
            raise self.error(token, f"{word.name} is given already")
        params[word.key] = word.flag if word.value is None else self.value(word.value, token)

    def error(self, token: str | None, problem: str) -> UsageError:
        """Return the error for `token`."""
        return UsageError(self._command, token, problem, self._usage)
