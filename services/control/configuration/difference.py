"""How two configurations differ in what control and the services do themselves, in words. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from services.control.config import Config

_KERNELS: Final = frozenset({"links", "addresses", "routes"})
"""Compared with the kernel itself instead (`services.control.configuration.plan`)."""


def setting_lines(before: Config, after: Config) -> list[str]:
    """Return a line for each setting that is another one: `- icmp.errors_burst 50`, `+ icmp.errors_burst 9`."""
    old, new = (dict(_flat(config.model_dump(mode="json", exclude=set(_KERNELS)))) for config in (before, after))
    lines = []
    for name in [*old, *(name for name in new if name not in old)]:
        if old.get(name) != new.get(name):
            lines += [f"- {name} {old[name]}"] if name in old else []
            lines += [f"+ {name} {new[name]}"] if name in new else []
    return lines


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = f"{prefix}{key}".removeprefix("parameters.")
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif isinstance(value, list):
            yield from ((f"{name} {_words(item)}", "") for item in value)
        elif value is not None:
            yield name, _words(value)


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Mapping):
        return " ".join(_words(one) for one in value.values() if one not in (None, []))
    return ",".join(map(_words, value)) if isinstance(value, list) else str(value)
