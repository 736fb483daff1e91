"""The options of a conformance suite."""

from typing import Any

import pytest


def option(config: pytest.Config, name: str, default: Any) -> Any:
    """Return an option; the default where pytest runs on all tests, and has not read what defines it."""
    return config.getoption(name, default)
