"""The configuration: one YAML file, checked as a whole before any of it has an effect.

Every error names file, line and column, what stands there, and what is allowed.
"""

import difflib
import ipaddress
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from services.common.errors import HopwireError
from services.common.nat_rules import NatRules
from services.common.parameters import InterfacePolicy, Parameters
from services.control.configuration.settings import Addresses, InterfaceName, Links, Routes, RpcSettings
from services.control.policies import EVERY_INTERFACE

METRICS_OFF: Final = "off"
_MAX_FILE_BYTES: Final = 2**20
_OF_KEY: Final = "[key]"
"""How pydantic marks an error in a key of a mapping."""

LogLevel = Literal["debug", "info", "warning", "error"]


def listen_address(text: str) -> tuple[str, int]:
    """Return address and port of `127.0.0.1:9100` or `[::1]:9100`.

    :raises ValueError: any other text.
    """
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = ipaddress.IPv6Address(host[1:-1]) if bracketed else ipaddress.IPv4Address(host)
    except ValueError:
        colon = ""
    if not colon or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65_535:
        raise ValueError(f"{text!r} is not ADDRESS:PORT such as 127.0.0.1:9100, or {METRICS_OFF}")
    return str(address), int(port)


def _metrics_listen(value: Any) -> Any:
    if value is False:  # what YAML 1.1 makes of a bare `off`
        return METRICS_OFF
    if isinstance(value, str) and value != METRICS_OFF:
        listen_address(value)
    return value


def _with_those_of_all(interfaces: Mapping[str, InterfacePolicy]) -> Mapping[str, InterfacePolicy]:
    """Return the policies with what is said of every interface in place of what is not said of one."""
    of_all = interfaces.get(EVERY_INTERFACE, InterfacePolicy())
    return {
        name: of_all.model_copy(update={field: getattr(policy, field) for field in policy.model_fields_set})
        for name, policy in interfaces.items()
    }


class Config(BaseModel):
    """All that can be configured."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    log_level: LogLevel = Field("info", description="of the control service")
    metrics_listen: Annotated[str, BeforeValidator(_metrics_listen)] = Field(
        "127.0.0.1:9100", description="where Prometheus finds the metrics: ADDRESS:PORT, or off"
    )
    interfaces: Annotated[Mapping[InterfaceName, InterfacePolicy], AfterValidator(_with_those_of_all)] = Field(
        {}, description="the policy of each interface by its name; `*` for all that have no entry"
    )
    links: Links = Field({}, description="up or down and MTU of interfaces by name")
    addresses: Addresses = Field({}, description="IPv4 addresses of interfaces by name: 192.168.1.1/24")
    routes: Routes = Field((), description="routes of table main; they bear the protocol number 201, hopwire-config")
    rpc: RpcSettings | None = Field(None, description="RPC for other machines; none unless this is given")
    parameters: Parameters = Parameters()
    nat: NatRules = NatRules()


def read(path: Path) -> str:
    """Return the text of a configuration file.

    :raises HopwireError: it cannot be read, or is no text.
    """
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise HopwireError(f"configuration {path}: larger than {_MAX_FILE_BYTES} bytes; is it the right file?")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise HopwireError(f"configuration {path}: {error.strerror}; name another with --config") from error
    except UnicodeDecodeError as error:
        raise HopwireError(
            f"configuration {path}: not UTF-8 text (byte {error.start}); is it the right file?"
        ) from error


def load(path: Path) -> Config:
    """Return the configuration in a file; an empty one is all defaults.

    :raises HopwireError: it cannot be read, is no YAML, or says something that is not known or not allowed.
    """
    return parse(read(path), str(path))


def parse(text: str, source: str) -> Config:
    """Return the configuration in a text; `source` names it in errors.

    :raises HopwireError: as `load`.
    """
    try:
        root = yaml.compose(text, yaml.SafeLoader)
        if root is None:
            return Config()
        _check_structure(root, source)
        values = json.dumps(yaml.safe_load(text), default=str)
    except yaml.YAMLError as error:
        raise HopwireError(_yaml_problem(error, source)) from error
    except RecursionError as error:
        raise HopwireError(f"{source}: nested too deeply; is it the right file?") from error
    try:
        return Config.model_validate_json(values, strict=True)
    except ValidationError as error:
        raise HopwireError(_explained(error.errors(include_url=False), root, source)) from error


def overridden(config: Config, *, log_level: str | None, metrics_listen: str | None) -> Config:
    """Return a configuration with the values of flags or environment, where they are given, in place of its own.

    :raises HopwireError: such a value is not allowed.
    """
    flags = {"log_level": log_level, "metrics_listen": metrics_listen}
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        Config.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        flag = f"--{str(first['loc'][0]).replace('_', '-')}"
        raise HopwireError(f"{flag}: {_message(first, repr(first['input']))}") from error
    return config.model_copy(update=given)


def _message(error: ErrorDetails, written: str) -> str:
    """Return what is wrong with a value, which stands in front."""
    message = error["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
    message = message.replace("a valid array", "a list").replace("an object", "a block of keys and values")
    return message if message.startswith(written) else f"{written} {message}"


def _at(mark: Any, source: str) -> str:
    return f"{source}:{mark.line + 1}:{mark.column + 1}"


def _yaml_problem(error: yaml.YAMLError, source: str) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{_at(error.problem_mark, source)}: not YAML: {error.problem}"
    return f"{source}: not YAML: {' '.join(str(error).split())}"


def _check_structure(root: yaml.Node, source: str) -> None:
    """Refuse what the YAML library would take in silence: a key twice, keys that are no text, aliases.

    :raises HopwireError: there is such a thing.
    """
    if not isinstance(root, yaml.MappingNode):
        raise HopwireError(f"{_at(root.start_mark, source)}: expected keys and values, one `key: value` a line")
    seen: set[int] = set()
    pending: list[yaml.Node] = [root]
    while pending:
        node = pending.pop()
        if id(node) in seen:
            raise HopwireError(f"{_at(node.start_mark, source)}: an anchor that is used again; write it out")
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            pending += node.value
        elif isinstance(node, yaml.MappingNode):
            _check_keys(node, source)
            pending += [value for _, value in node.value]


def _check_keys(mapping: yaml.MappingNode, source: str) -> None:
    keys: set[str] = set()
    for key, _ in mapping.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
            raise HopwireError(f"{_at(key.start_mark, source)}: a key must be a word")
        if key.value in keys:
            raise HopwireError(f"{_at(key.start_mark, source)}: {key.value!r} is there already; remove one of them")
        keys.add(key.value)


def _explained(errors: list[ErrorDetails], root: yaml.Node, source: str) -> str:
    """Return the first error in words; an unknown key before others, which it often is the cause of."""
    error = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    location = list(error["loc"])
    if location[-1:] == [_OF_KEY]:
        key, _ = _find(root, location[:-1])
        return f"{_at(key.start_mark, source)}: {location[0]}: {_message(error, repr(location[-2]))}"
    path = ".".join(str(part) for part in location)
    if error["type"] == "missing":
        _, parent = _find(root, location[:-1])
        return f"{_at(parent.start_mark, source)}: {path} is missing"
    key, value = _find(root, location)
    if error["type"] == "extra_forbidden":
        return f"{_at(key.start_mark, source)}: unknown key {path!r}; {_known_keys(location)}"
    written = _written(value)
    if error["type"] == "value_error" and not isinstance(value, yaml.ScalarNode):
        return f"{_at(value.start_mark, source)}: {path}: {error['msg'].removeprefix('Value error, ')}"
    return f"{_at(value.start_mark, source)}: {path}: {_message(error, written)}"


def _written(value: yaml.Node) -> str:
    if isinstance(value, yaml.ScalarNode):
        return repr(value.value)
    return "a list" if isinstance(value, yaml.SequenceNode) else "a block of keys and values"


def _find(root: yaml.Node, location: Sequence[str | int]) -> tuple[yaml.Node, yaml.Node]:
    """Return the nodes of a key (or of an item of a list) and of its value."""
    key = value = root
    for part in location:
        if isinstance(value, yaml.SequenceNode) and isinstance(part, int):
            key = value = value.value[part]
        else:
            key, value = next(pair for pair in value.value if pair[0].value == part)
    return key, value


def _known_keys(location: Sequence[str | int]) -> str:
    schema = Config.model_json_schema()
    node = schema
    for part in location[:-1]:
        inner = node["items"] if isinstance(part, int) else node.get("properties", {}).get(part)
        node = inner or node["additionalProperties"]
        node = next((one for one in node.get("anyOf", ()) if "$ref" in one), node)  # one that may be left out
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    known = list(node["properties"])
    nearest = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"did you mean {nearest[0]!r}?" if nearest else f"there are: {', '.join(known)}"
