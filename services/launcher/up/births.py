"""The way of an instance from being wanted to being a process of the fork server's making: a pure core.

An instance waits until the fork server has loaded its package, and has answered the order before; then it is ordered;
then it is a process. When the server ends meanwhile, who has been ordered waits again: the server lets no process go on
before it has told of it.
"""

import signal

from services.launcher.up.fork_protocol import Order


class Births:
    """The instances that are no processes yet."""

    def __init__(self) -> None:
        """Nobody is wanted, and nothing loaded."""
        self._waiting: dict[str, Order] = {}
        self._ordered: Order | None = None
        self._signal: signal.Signals | None = None
        """What the instance that is ordered gets as soon as it is there."""
        self._loaded: set[str] = set()

    @property
    def pending(self) -> bool:
        """Whether somebody is wanted who is no process yet."""
        return bool(self._waiting) or self._ordered is not None

    def want(self, order: Order) -> None:
        """Have an instance made as soon as that can be."""
        self._waiting[order.instance] = order

    def on_loaded(self, package: str) -> None:
        """Take note that instances of a package can be ordered."""
        self._loaded.add(package)

    def next_order(self) -> Order | None:
        """Return what is to be ordered now, and take it as ordered; None if there is nothing to order yet."""
        due = [order for order in self._waiting.values() if order.package in self._loaded]
        if self._ordered is not None or not due:
            return None
        self._ordered = self._waiting.pop(due[0].instance)
        return self._ordered

    def on_answer(self) -> signal.Signals | None:
        """Take note that the order was answered; return the signal that the process is to get, if it is there."""
        number, self._ordered, self._signal = self._signal, None, None
        return number

    def withdraw(self, instance: str, number: signal.Signals) -> bool:
        """Have an instance get a signal, or, if it only waits, not come at all; return whether that was so."""
        if self._ordered is not None and self._ordered.instance == instance:
            self._signal = number
        return self._waiting.pop(instance, None) is not None

    def on_server_end(self) -> list[tuple[str, signal.Signals]]:
        """Take note that the server has gone; return who does not come any more, with the signal it was to get."""
        self._loaded.clear()
        order, number = self._ordered, self.on_answer()
        if order is None:
            return []
        if number is not None:
            return [(order.instance, number)]
        self._waiting[order.instance] = order
        return []
