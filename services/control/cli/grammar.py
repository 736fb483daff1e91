"""iproute2's grammar: the tokens of a command line become the one request to control that they mean. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from services.control.cli.filter_grammar import FilterError, compile_filter
from services.control.cli.route_verbs import ROUTE_TYPES
from services.control.cli.values import DESTINATION
from services.control.cli.verb import HELP, Tail, Verb
from services.control.cli.vocabulary import NEXTHOP, OBJECTS, SINGLE, VERB_WORDS, VERBS
from services.control.cli.words import Cursor, UsageError, Word, choose, find, offered, one_of, quoted

_LINE: Final = "OBJECT [VERB] ..."


@dataclass(frozen=True)
class Request:
    """What a command line asks for."""

    method: str
    """Of control's RPC; `HELP` and `VERSION` are answered by the program itself."""
    params: Mapping[str, Any]


def usage_lines(object_name: str | None = None) -> list[str]:
    """Return the usage lines of all verbs, or of those of one object."""
    verbs = [verb for name, group in VERBS.items() if object_name in (None, name) for verb in group.values()]
    verbs += [verb for name, verb in SINGLE.items() if object_name in (None, name)]
    return list(dict.fromkeys(verb.usage for verb in verbs))


def usage_of(method: str) -> str:
    """Return the usage line of the verb that asks for `method`."""
    verbs = [verb for group in VERBS.values() for verb in group.values()] + list(SINGLE.values())
    return next(verb.usage for verb in verbs if verb.method == method)


def parse(tokens: Sequence[str]) -> Request:
    """Return the request that a command line's tokens mean.

    :raises UsageError: any others, with the token that does not fit and what was expected.
    """
    if not tokens:
        raise UsageError("", None, f"an object is expected: {one_of(offered(OBJECTS))}", _LINE)
    keyword = choose(OBJECTS, tokens[0])
    if keyword is None or keyword.meaning is None:
        raise UsageError("", tokens[0], f"an object is expected: {one_of(offered(OBJECTS))}", _LINE)
    name = keyword.meaning
    if name == HELP:
        return Request(HELP, {})
    if name in SINGLE:
        return _parse_words(SINGLE[name], Cursor(name, SINGLE[name].usage, tokens[1:]))
    verb_name = _verb_name(name, tokens[1] if len(tokens) > 1 else None)
    if verb_name == HELP or tokens[2:3] == [HELP]:
        return Request(HELP, {"object": name})
    verb = VERBS[name][verb_name]
    return _parse_words(verb, Cursor(f"{name} {verb_name}", verb.usage, tokens[2:]))


def _verb_name(object_name: str, token: str | None) -> str:
    keywords = VERB_WORDS[object_name]
    if token is None and "show" in VERBS[object_name]:
        return "show"
    choices = one_of(offered(keywords))
    usage = f"{object_name} {'|'.join(offered(keywords))} ..."
    keyword = None if token is None else choose(keywords, token)
    if keyword is None:
        raise UsageError(object_name, token, f"{choices} is expected", usage)
    if keyword.meaning is None:
        raise UsageError(object_name, token, f"ip's {quoted(keyword.name)} is not offered; use {choices}", usage)
    return keyword.meaning


def _parse_words(verb: Verb, cursor: Cursor) -> Request:
    params: dict[str, Any] = {}
    while (token := cursor.take()) is not None:
        word = find(verb.words, token)
        if verb.tail is not None and verb.tail.begins(token):
            _parse_filter(verb.tail, cursor, token, params)
        elif word is not None:
            cursor.word(word, token, params)
        elif verb.hop_words and token == NEXTHOP:
            params["nexthops"] = _parse_nexthops(verb, cursor)
        else:
            _parse_operand(verb, cursor, token, params)
    _check_complete(verb, cursor, params)
    return Request(verb.method, params)


def _parse_filter(tail: Tail, cursor: Cursor, token: str, params: dict[str, Any]) -> None:
    """Take all that is left of the line as a filter, and check it; `token` is where it begins."""
    tokens = [token]
    while (following := cursor.take()) is not None:
        tokens.append(following)
    params[tail.key] = " ".join(tokens)
    try:
        compile_filter(params[tail.key])
    except FilterError as error:
        raise cursor.error(error.token, str(error)) from error


def _names(words: Iterable[Word], params: Mapping[str, Any]) -> list[str]:
    """Return the words that may still come, without their synonyms."""
    names = {(word.key, word.flag): word.name for word in reversed(tuple(words)) if word.key not in params}
    return list(reversed(names.values()))


def _parse_operand(verb: Verb, cursor: Cursor, token: str, params: dict[str, Any]) -> None:
    operand = next((each for each in verb.operands if each.key not in params), None)
    if token in verb.filters:
        raise cursor.error(token, f"ip's {quoted(token)} is not offered; use {one_of(_names(verb.words, params))}")
    if operand is None:
        names = _names(verb.words, params) + ([NEXTHOP] if verb.hop_words else [])
        names += ["a filter"] if verb.tail is not None else []
        raise cursor.error(token, f"{one_of(names)} is expected" if names else "nothing more is expected")
    operand_token: str | None = token
    place = ""
    if token in operand.leads:
        place = f" after {quoted(token)}"
        operand_token = cursor.take()
        word = find(verb.words, operand_token) if operand_token is not None else None
        if word is not None and word.value is DESTINATION and operand_token is not None:
            cursor.word(word, operand_token, params)  # `to root PREFIX`
            return
    if operand.typed and operand_token is not None:
        route_type = _route_type(cursor, operand_token)
        if route_type is not None:
            params["type"] = route_type
            place = f" after {quoted(operand_token)}"
            operand_token = cursor.take()
    params[operand.key] = cursor.read(operand.value, operand_token, place)


def _route_type(cursor: Cursor, token: str) -> str | None:
    keyword = choose(ROUTE_TYPES, token)
    if keyword is not None and keyword.name == token and keyword.meaning is None:
        types = one_of(offered(ROUTE_TYPES))
        raise cursor.error(token, f"routes of type {quoted(keyword.name)} are not offered; use {types}")
    return keyword.meaning if keyword is not None else None


def _parse_nexthops(verb: Verb, cursor: Cursor) -> list[dict[str, Any]]:
    """Read all that stands behind the first `nexthop`: nothing else may follow."""
    hops: list[dict[str, Any]] = [{}]
    while (token := cursor.take()) is not None:
        word = find(verb.hop_words, token)
        if word is not None:
            cursor.word(word, token, hops[-1])
        elif token == NEXTHOP and hops[-1]:
            hops.append({})
        else:
            choices = _names(verb.hop_words, hops[-1]) + ([NEXTHOP] if hops[-1] else [])
            raise cursor.error(token, f"{one_of(choices)} is expected")
    if not hops[-1]:
        raise cursor.error(None, f"{one_of(_names(verb.hop_words, {}))} is expected after {quoted(NEXTHOP)}")
    return hops


def _check_complete(verb: Verb, cursor: Cursor, params: Mapping[str, Any]) -> None:
    if "nexthops" in params and (both := [key for key in ("via", "dev") if key in params]):
        raise cursor.error(NEXTHOP, f"{both[0]} belongs behind nexthop when there is one")
    for key in verb.required:
        if key not in params:
            expected = next((each.value.expected for each in verb.operands if each.key == key), f'"{key}"')
            raise cursor.error(None, f"{expected} is expected")
    if verb.at_least_one and not any(key in params for key in verb.at_least_one):
        raise cursor.error(None, f"{one_of(_names(verb.words, params))} is expected")
