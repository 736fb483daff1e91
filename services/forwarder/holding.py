"""When a neighbour that arp tells of may be used: not while frames for it are still under way to arp. Pure.

Frames whose next hop is unresolved go to arp, which sends those that it has when the answer comes, and then tells the
forwarder the MAC. More of them may lie in the queue between the two by then; frames that the forwarder sent itself
from now on would overtake those (RFC 1122 section 2.3.2.2). So the neighbour is kept back until arp has said that all
frames for it are sent. Until then its frames wait here, and leave first when it is given free.

Positions are the forwarder's count of frames handed to arp (`services.common.ledger`).
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from services.common.messages import Frame, Neighbour, NeighbourState

Key = tuple[int, int]
"""Interface index and IPv4 address."""

MAX_TRACKED: Final = 4096
"""Next hops whose last frame's position is remembered one by one; for the others the highest forgotten one stands."""
MAX_HELD_FRAMES: Final = 1024
MAX_HELD_BYTES: Final = 8 * 2**20
"""What waits here in all, for a few milliseconds; what comes on top of it is dropped."""
ASK_INTERVAL_S: Final = 0.1
"""arp is asked again after this, while a neighbour is kept back: the question may have got lost with it."""
HOLD_LIMIT_S: Final = 1.0
"""A neighbour is used after this, whatever arp says: what it has not sent by then is lost, or it stands still."""


class Sorted(NamedTuple):
    """What becomes of frames whose next hop the tables do not know."""

    hand: list[Frame]
    """To arp."""
    held: list[Frame]
    dropped: list[Frame]


@dataclass
class Release:
    """What has changed: to be carried out in the order of the fields."""

    state: NeighbourState | None = None
    """For the tables."""
    send: list[Frame] = field(default_factory=list)
    """Frames that were held; their neighbour is in the tables now."""
    hand: list[Frame] = field(default_factory=list)
    """Frames that were held, for arp: their neighbour is not known any more."""
    ask: bool = False
    """Ask arp how far it is."""


@dataclass
class _Held:
    neighbour: Neighbour
    since: float
    frames: list[Frame] = field(default_factory=list)


class Holding:
    """The neighbours kept back, and their frames."""

    def __init__(self) -> None:
        """Begin with none. What a predecessor handed to arp is long sent when this one is ready."""
        self._last: OrderedDict[Key, int] = OrderedDict()
        self._forgotten = 0
        self._taken = 0
        self._held: dict[Key, _Held] = {}
        self._used: set[Key] = set()
        self._frames = self._bytes = 0
        self._ask_at = 0.0

    @property
    def waiting(self) -> int:
        """How many frames are held."""
        return self._frames

    def sort(self, frames: Sequence[Frame]) -> Sorted:
        """Decide about frames whose next hop the tables do not know. To be called for them in their order."""
        result = Sorted([], [], [])
        for frame in frames:
            held = self._held.get((frame.out_interface, frame.next_hop))
            if held is None:
                result.hand.append(frame)
            elif self._frames >= MAX_HELD_FRAMES or self._bytes + len(frame.data) > MAX_HELD_BYTES:
                result.dropped.append(frame)
            else:
                held.frames.append(frame)
                self._frames += 1
                self._bytes += len(frame.data)
                result.held.append(frame)
        return result

    def handed(self, frames: Sequence[Frame], position: int) -> None:
        """Take note that frames went to arp; `position` is the one behind the last of them."""
        for frame in frames:
            key = frame.out_interface, frame.next_hop
            self._last[key] = position
            self._last.move_to_end(key)
        while len(self._last) > MAX_TRACKED:
            self._forgotten = self._last.popitem(last=False)[1]

    def on_state(self, state: NeighbourState, now: float) -> Release:
        """Take what arp tells, and return what of it holds from now on."""
        self._take_note(state.taken)
        release = Release()
        gone = list(state.gone)
        if state.full:
            listed = {(each.interface, each.address) for each in state.neighbours}
            gone += [key for key in self._held if key not in listed]
            self._used &= listed
        for key in gone:
            self._used.discard(key)
            if key in self._held:
                release.hand += self._take(key).frames
        free = [each for each in state.neighbours if self._may_use(each, now)]
        waited = [each for each in (self._held[key].neighbour for key in self._held) if self._is_behind(each)]
        for neighbour in waited:
            release.send += self._take((neighbour.interface, neighbour.address)).frames
        self._used.update((each.interface, each.address) for each in (*free, *waited))
        release.state = state.model_copy(update={"neighbours": [*free, *waited], "gone": gone})
        self._ask(release, now)
        return release

    def on_time(self, now: float) -> Release:
        """Give free what has waited for too long, and tell whether to ask again. To be called now and then."""
        release = Release()
        late = [key for key, held in self._held.items() if now - held.since >= HOLD_LIMIT_S]
        if late:
            freed = [self._take(key) for key in late]
            release.state = NeighbourState(neighbours=[held.neighbour for held in freed])
            release.send = [frame for held in freed for frame in held.frames]
            self._used.update(late)
        if now >= self._ask_at:
            self._ask(release, now)
        return release

    def take_all(self) -> list[Frame]:
        """Give up all frames that are held."""
        return [frame for key in list(self._held) for frame in self._take(key).frames]

    def _take_note(self, taken: int) -> None:
        self._taken = taken
        while self._last and next(iter(self._last.values())) <= taken:
            self._last.popitem(last=False)

    def _is_behind(self, neighbour: Neighbour) -> bool:
        """Tell whether arp has taken every frame for a neighbour."""
        return self._last.get((neighbour.interface, neighbour.address), self._forgotten) <= self._taken

    def _may_use(self, neighbour: Neighbour, now: float) -> bool:
        """Tell whether a neighbour may be used at once; one that may not is kept back from now on."""
        key = neighbour.interface, neighbour.address
        if key in self._held:
            self._held[key].neighbour = neighbour
            return False
        if key in self._used or self._is_behind(neighbour):
            return True
        self._held[key] = _Held(neighbour, now)
        return False

    def _take(self, key: Key) -> _Held:
        held = self._held.pop(key)
        self._frames -= len(held.frames)
        self._bytes -= sum(len(frame.data) for frame in held.frames)
        return held

    def _ask(self, release: Release, now: float) -> None:
        if self._held:
            release.ask = True
            self._ask_at = now + ASK_INTERVAL_S
