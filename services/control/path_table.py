"""The numbered paths of the published routes: equal ones share a number, and one that is free again is reused."""

from collections import Counter, deque
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from services.common.messages import NextHop, Path, RouteKind

_IDLE_PATHS: Final = 1024
"""Paths that no published route uses, before those that nothing else refers to are forgotten."""


class PathContent(NamedTuple):
    """What to do with a destination."""

    kind: RouteKind
    next_hops: tuple[tuple[int, int, int], ...] = ()
    """Interface, gateway, weight of each: of unicast; of broadcast the interface of the network."""
    mtu: int = 0


class PathTable:
    """Numbers paths from 1, and tells which came into use and went out of it since the last publication.

    :ivar uses: (numbers,) how many published routes each path has; kept right by whoever publishes.
    """

    def __init__(self) -> None:
        self.uses = np.zeros(64, np.int64)
        self._announced = np.zeros(64, np.bool_)
        self._numbers: dict[PathContent, int] = {}
        self._contents: dict[int, PathContent] = {}
        self._free: deque[int] = deque()
        self._highest = 0

    def number(self, content: PathContent) -> int:
        """Return the number of a path; it is announced when a route uses it."""
        number = self._numbers.get(content)
        if number is None:
            number = self._free_number()
            self._numbers[content] = number
            self._contents[number] = content
        return number

    def take_changes(self, touched: npt.NDArray[np.int64]) -> tuple[list[Path], list[int]]:
        """Return the paths to announce, and the numbers of those that no route uses any more.

        Such a number is forgotten, and given to another path at the earliest in the publication after this one.

        :param touched: the paths of which some route's use began or ended, each as often as it likes; 0 stands for
            none.
        """
        new, gone = [], []
        for number in np.unique(touched).tolist():
            used, announced = bool(self.uses[number]), bool(self._announced[number])
            if number == 0 or used == announced:
                continue
            self._announced[number] = used
            if used:
                new.append(self._message(number))
            else:
                gone.append(number)
                self._forget(number)
        return new, gone

    def tidy(self, referred: npt.NDArray[np.int32]) -> None:
        """Forget the paths without routes that nobody refers to, once there are many."""
        if len(self._contents) - int(np.count_nonzero(self._announced)) < _IDLE_PATHS:
            return
        for number in set(self._contents) - set(referred.tolist()):
            if not self._announced[number]:
                self._forget(number)

    def all(self) -> list[Path]:
        """Return every path in use."""
        return [self._message(number) for number in np.flatnonzero(self.uses).tolist()]

    def uses_by_kind(self) -> Counter[str]:
        """Return how many routes use paths of each kind."""
        counts: Counter[str] = Counter()
        for number in np.flatnonzero(self.uses).tolist():
            counts[self._contents[number].kind] += int(self.uses[number])
        return counts

    def _message(self, number: int) -> Path:
        content = self._contents[number]
        hops = [
            NextHop(interface=interface, gateway=gateway, weight=weight)
            for interface, gateway, weight in content.next_hops
        ]
        return Path(id=number, kind=content.kind, next_hops=hops, mtu=content.mtu)

    def _forget(self, number: int) -> None:
        del self._numbers[self._contents.pop(number)]
        self._free.append(number)

    def _free_number(self) -> int:
        if self._free:
            return self._free.popleft()
        self._highest += 1
        if self._highest >= len(self.uses):
            self.uses = np.concatenate([self.uses, np.zeros_like(self.uses)])
            self._announced = np.concatenate([self._announced, np.zeros_like(self._announced)])
        return self._highest
