"""What the verbs that show something ask control for, once or again and again."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from services.control.cli.grammar import Request
from services.control.cli.vocabulary import TOP

Ask = Callable[[Request], Any]
"""Asks control, as `services.control.cli.router.ask` does."""

FIRST_RATES_S: Final = 1.0
"""Over how long the first rates are taken: four reports of each service."""
_COUNTERS: Final = "counters"
_DROPS: Final = "show.drops"
_INTERFACES: Final = "show.interfaces"
_FIB: Final = "show.fib"


class Look:
    """Looks at the router; rates are those since the last look."""

    def __init__(self, ask: Ask, request: Request) -> None:
        self._ask = ask
        self._request = request
        self._before: Mapping[str, Any] | None = None

    def __call__(self) -> Any:
        """Return what the verb shows.

        :raises HopwireError: as `ask`.
        """
        method = self._request.method
        if method == _FIB:
            return self._ask(Request("fib", {}))
        if method not in (_DROPS, _INTERFACES, TOP):
            return self._ask(self._request)
        from services.control.cli import figures  # noqa: PLC0415 - help and wrong usage need no counters

        if self._before is None and method != _DROPS:
            self._before = self._counters()
            time.sleep(FIRST_RATES_S)
        before, now = self._before, self._counters()
        self._before = now
        growth = None if before is None else figures.rates(before, now)
        if method == _DROPS:
            return figures.drops(now, growth)
        status = self._ask(Request("status", {}))
        if method == TOP:
            return figures.top(status, now, growth or {})
        return figures.interfaces(status, now, growth or {}, self._request.params.get("dev"))

    def _counters(self) -> Mapping[str, Any]:
        counted: Mapping[str, Any] = self._ask(Request(_COUNTERS, self._request.params))
        return counted
