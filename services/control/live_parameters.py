"""The parameters in force: those of the configuration, and what was changed since. Pure.

A change holds until control ends or another configuration is applied: what shall last belongs into the configuration.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from services.common.parameters import Parameters


class LiveParameters:
    """All parameters, and whether they have changed."""

    def __init__(self, configured: Parameters) -> None:
        """Begin with what is configured."""
        self.current = configured
        self._changed = False

    def set(self, changes: Mapping[str, Any]) -> None:
        """Change some, all or none, by names such as `icmp.errors_per_second`.

        :raises ValueError: there is no such parameter, or a value is not allowed; in words.
        """
        values = self.current.model_dump()
        for name, value in changes.items():
            section, _, field = name.partition(".")
            if field not in values.get(section, {}) or isinstance(values[section][field], tuple):
                raise ValueError(f"{name}: no such parameter; there are: {', '.join(names())}")
            values[section][field] = value
        try:
            changed = Parameters.model_validate(values)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = ".".join(str(part) for part in first["loc"])
            raise ValueError(f"{name}: {first['input']!r}: {first['msg'].replace('Input should', 'should')}") from error
        self._changed = self._changed or changed != self.current
        self.current = changed

    def configure(self, configured: Parameters) -> None:
        """Begin anew with what is configured now."""
        self._changed = self._changed or configured != self.current
        self.current = configured

    def take_changed(self) -> bool:
        """Tell whether there was a change since the last call."""
        changed, self._changed = self._changed, False
        return changed


def names() -> list[str]:
    """Return the names of all parameters that are numbers."""
    values = Parameters().model_dump()
    return [
        f"{section}.{field}"
        for section, fields in values.items()
        for field, value in fields.items()
        if not isinstance(value, tuple)
    ]
