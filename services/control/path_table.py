"""The numbered paths of the published routes: equal ones share a number, and one that is free again is reused."""

from collections import Counter, deque
from typing import NamedTuple

from services.common.messages import NextHop, Path, RouteKind


class PathContent(NamedTuple):
    """What to do with a destination."""

    kind: RouteKind
    next_hops: tuple[tuple[int, int, int], ...] = ()
    """Interface, gateway, weight of each: of unicast; of broadcast the interface of the network."""
    mtu: int = 0


class NumberedPath:
    """A path that published routes use."""

    __slots__ = ("content", "id", "uses")

    def __init__(self, number: int, content: PathContent) -> None:
        self.id = number
        self.content = content
        self.uses = 0

    def message(self) -> Path:
        """Return it as the bus carries it."""
        hops = [
            NextHop(interface=interface, gateway=gateway, weight=weight)
            for interface, gateway, weight in self.content.next_hops
        ]
        return Path(id=self.id, kind=self.content.kind, next_hops=hops, mtu=self.content.mtu)


class PathTable:
    """Counts the uses of each path, and tells which came and went since the last publication."""

    def __init__(self) -> None:
        self._paths: dict[PathContent, NumberedPath] = {}
        self._new: dict[int, NumberedPath] = {}
        self._unused: dict[int, NumberedPath] = {}
        self._free: deque[int] = deque()
        self._highest = 0

    def acquire(self, content: PathContent) -> NumberedPath:
        """Return the path of this content for one more route."""
        path = self._paths.get(content)
        if path is None:
            path = NumberedPath(self._free_number(), content)
            self._paths[content] = self._new[path.id] = path
        self._unused.pop(path.id, None)
        path.uses += 1
        return path

    def release(self, path: NumberedPath) -> None:
        """Let go of a path for one route."""
        path.uses -= 1
        if not path.uses:
            self._unused[path.id] = path

    def take_changes(self) -> tuple[list[Path], list[int]]:
        """Return the paths to announce, and the numbers of those that no route uses any more.

        Such a number is given to another path at the earliest in the publication after this one.
        """
        gone = []
        for number, path in self._unused.items():
            del self._paths[path.content]
            self._free.append(number)
            if self._new.pop(number, None) is None:
                gone.append(number)
        new = [path.message() for path in self._new.values()]
        self._unused.clear()
        self._new.clear()
        return new, gone

    def all(self) -> list[Path]:
        """Return every path in use."""
        return [path.message() for path in self._paths.values() if path.uses]

    def uses_by_kind(self) -> Counter[str]:
        """Return how many routes use paths of each kind."""
        counts: Counter[str] = Counter()
        for path in self._paths.values():
            counts[path.content.kind] += path.uses
        return counts

    def _free_number(self) -> int:
        if self._free:
            return self._free.popleft()
        self._highest += 1
        return self._highest
