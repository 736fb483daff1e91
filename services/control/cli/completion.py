"""What may come next on a command line: the words for the shell's completion. Pure."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from services.control.cli.route_verbs import ROUTE_TYPES
from services.control.cli.values import DEVICE, Value
from services.control.cli.verb import HELP, Verb
from services.control.cli.vocabulary import NEXTHOP, OBJECTS, SINGLE, VERB_WORDS, VERBS
from services.control.cli.words import choose, find, offered


class Candidates(NamedTuple):
    """What may come next."""

    words: list[str]
    interfaces: bool = False
    """Whether the name of an interface may."""


_NOTHING: Final = Candidates([])


def candidates(tokens: Sequence[str]) -> Candidates:
    """Return what may follow `tokens`; nothing where they make no sense."""
    if not tokens:
        return Candidates(offered(OBJECTS))
    keyword = choose(OBJECTS, tokens[0])
    if keyword is None or keyword.meaning is None or keyword.meaning == HELP:
        return _NOTHING
    if keyword.meaning in SINGLE:
        return _inside(SINGLE[keyword.meaning], tokens[1:])
    verb_words = VERB_WORDS[keyword.meaning]
    if len(tokens) == 1:
        return Candidates(offered(verb_words))
    verb_word = choose(verb_words, tokens[1])
    if verb_word is None or verb_word.meaning is None or verb_word.meaning == HELP:
        return _NOTHING
    return _inside(VERBS[keyword.meaning][verb_word.meaning], tokens[2:])


def _of_value(value: Value) -> Candidates:
    return Candidates(list(value.choices), interfaces=value is DEVICE)


def _inside(verb: Verb, tokens: Sequence[str]) -> Candidates:
    in_hops = bool(verb.hop_words) and NEXTHOP in tokens
    words = verb.hop_words if in_hops else verb.words
    keys: set[str] = set()
    given: list[str] = []
    waiting: Value | None = None
    for token in tokens:
        if verb.tail is not None and verb.tail.begins(token):
            return _NOTHING  # of a filter's own words, only the first is offered
        if waiting is not None:
            waiting = None
        elif token == NEXTHOP:
            keys.clear()
        elif (word := find((*verb.words, *verb.hop_words), token)) is not None:
            keys.add(word.key)
            waiting = word.value
        else:
            given += [operand.key for operand in verb.operands[len(given) : len(given) + 1]]
            keys.update(given)
    if waiting is not None:
        return _of_value(waiting)
    names = [word.name for word in words if word.key not in keys] + ([NEXTHOP] if verb.hop_words else [])
    names += verb.tail.choices if verb.tail is not None else ()
    operand = next((each for each in verb.operands if each.key not in keys and each.key not in given), None)
    if operand is None:
        return Candidates(names)
    types = offered(ROUTE_TYPES) if operand.typed else []
    value = _of_value(operand.value)
    return Candidates([*value.words, *types, *names], value.interfaces)
