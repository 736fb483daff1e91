"""Address translation as the forwarder's shell drives it: rules from control, the time, upkeep, held fragments."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import structlog

from services.common.counters import Counter, CounterBlock
from services.common.errors import HopwireError
from services.common.messages import NatFigures, RouterState
from services.common.meters import Meter
from services.common.nat_rules import NatRules
from services.common.observer import Observer, Observing
from services.forwarder.nat import questions
from services.forwarder.nat.fragment_queue import FragmentQueue, laid_out
from services.forwarder.nat.table import Translator
from services.forwarder.pipeline import counter_row
from services.forwarder.tables import ForwardingTables

Area = npt.NDArray[np.uint8]
Forward = Callable[[int, Area, int, npt.NDArray[np.int64], int, int, npt.NDArray[np.int64], Observer, float], None]
"""Lets a batch go through the fast path: `Forwarder._forward`."""


class Translating:
    """The translator, and what the shell does for it."""

    def __init__(
        self,
        path: Path,
        tables: ForwardingTables,
        fragments: FragmentQueue,
        counters: CounterBlock,
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        """Begin without rules; `path` is the file of the sessions."""
        self._translator = Translator(path)
        self._tables = tables
        self._fragments = fragments
        self._counters = counters
        self._log = log
        self._rules = NatRules()
        self._opened = 0

    def follow(self, state: RouterState, now: float) -> None:
        """Take over what a state of control's changes: rules, or the interfaces that rules name."""
        if state.nat is None and not (state.interfaces or state.interfaces_gone or state.full):
            return
        if state.nat is not None:
            self._rules = state.nat
        interfaces = {slot: self._tables.interfaces[index] for index, slot in self._tables.slots.items()}
        names = {interface.name: slot for slot, interface in interfaces.items()}
        before = set(self._translator.problems)
        was_in_use = self._translator.in_use
        try:
            self._tables.set_nat(self._translator.apply(self._rules, interfaces, names, now))
        except HopwireError as error:
            self._log.error("no address translation", reason=error.message)
            return
        for problem in sorted(set(self._translator.problems) - before):
            self._log.warning("a rule of nat has to wait", reason=problem)
        if self._translator.in_use and not was_in_use:
            self._log.info("translating", sessions=self._translator.taken_up)

    def keep_house(self, now: float, forward: Forward, observing: Observing) -> None:
        """Tell the time, see to a slice of the sessions, and let fragments go whose first one has come."""
        if not self._translator.in_use:
            return
        self._translator.tick(now)
        self._translator.keep_house(now)
        if not len(self._fragments):
            return
        for held in self._fragments.released(self._tables.nat, now):
            area, descriptors = laid_out(held, time.time_ns())
            row = counter_row(self._counters, held.in_interface)
            row[Counter.TAKEN] -= 1  # it was taken when it came
            forward(held.in_interface, area, area.ctypes.data, descriptors, 0, 1, row, observing.recorder, now)

    def figures(self) -> NatFigures | None:
        """Return what is reported to control; None without rules. Sessions that were opened meanwhile are counted."""
        opened = self._translator.opened
        self._counters.meters.add(Meter.NAT_SESSIONS_OPENED, opened - min(opened, self._opened))
        self._opened = opened  # less than before in another table
        return self._translator.figures()

    def answer(self, method: str, params: dict[str, Any], now: float) -> Any:
        """Answer a question of the RPC.

        :raises RpcRefusedError: with the codes of docs/bus.md.
        """
        return questions.answer(self._translator, method, params, now)
