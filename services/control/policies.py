"""Which policy each interface has: what the configuration says of its name, and what was changed since. Pure."""

from collections.abc import Container, Mapping
from typing import Any, Final

from services.common.parameters import InterfacePolicy

EVERY_INTERFACE: Final = "*"
"""The name in the configuration that stands for every interface."""


class InterfacePolicies:
    """The policies; changes last until control ends, another configuration is applied, or the interface goes."""

    def __init__(self, configured: Mapping[str, InterfacePolicy] | None = None) -> None:
        """Begin with what is configured, by interface name."""
        self._configured = configured or {}
        self._changed: dict[int, dict[str, Any]] = {}

    def of(self, index: int, name: str) -> InterfacePolicy:
        """Return the policy of an interface."""
        configured = self._configured.get(name) or self._configured.get(EVERY_INTERFACE) or InterfacePolicy()
        return configured.model_copy(update=self._changed.get(index, {}))

    def change(self, index: int, changes: Mapping[str, Any]) -> None:
        """Change fields of an interface's policy."""
        self._changed[index] = self._changed.get(index, {}) | dict(changes)

    def configure(self, configured: Mapping[str, InterfacePolicy]) -> None:
        """Begin anew with what is configured now."""
        self._configured = configured
        self._changed.clear()

    def forget_gone(self, existing: Container[int]) -> None:
        """Forget what was changed of interfaces that are no more."""
        self._changed = {index: changes for index, changes in self._changed.items() if index in existing}

    def absent(self, existing: Container[str]) -> list[str]:
        """Return the names in the configuration that no interface bears."""
        return [name for name in self._configured if name != EVERY_INTERFACE and name not in existing]
