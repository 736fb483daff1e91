"""Address translation in plain Python, as RFC 4787, 5382 and 5508 have it: dictionaries, and one rule after the other.

Which free port a new mapping gets is the translator's choice: the oracle is told, and checks that it may be.
"""

from dataclasses import dataclass, field

TCP, UDP, ICMP = 6, 17, 1
FIN, SYN, RST = 1, 2, 4
TIMEOUTS_S = {"opening": 240.0, "established": 7440.0, "udp": 300.0, "icmp": 60.0}

Endpoint = tuple[str, int]


@dataclass
class Session:
    """One session of an inside endpoint with a remote one."""

    protocol: int
    inside: Endpoint
    outside: Endpoint
    remote: Endpoint
    deadline: float = 0.0
    seen: set[str] = field(default_factory=set)
    finished: set[str] = field(default_factory=set)
    opened_from: str = "inside"

    def touch(self, side: str, flags: int, now: float) -> None:
        """A datagram of it, from a side, at a time."""
        if self.protocol == TCP:
            if flags & RST:
                self.seen, self.finished = set(), set()
            else:
                if flags & SYN and self.finished:
                    self.seen, self.finished = set(), set()
                self.seen.add(side)
                if flags & FIN:
                    self.finished.add(side)
            both = self.seen == {"inside", "outside"} and self.finished != {"inside", "outside"}
            state = "established" if both else "opening"
        else:
            state = "udp" if self.protocol == UDP else "icmp"
        self.deadline = now + TIMEOUTS_S[state]


class Nat:
    """A translator with one outside address, endpoint-independent mapping, and a kind of filtering."""

    def __init__(self, outside: str, filtering: str, first: int = 20_000, last: int = 59_999) -> None:
        self.outside, self.filtering, self.first, self.last = outside, filtering, first, last
        self.sessions: list[Session] = []

    def expire(self, now: float) -> None:
        self.sessions = [one for one in self.sessions if one.deadline > now]

    def mapping(self, protocol: int, inside: Endpoint) -> Endpoint | None:
        """The outside endpoint that an inside one has."""
        return next((s.outside for s in self.sessions if (s.protocol, s.inside) == (protocol, inside)), None)

    def _find(self, protocol: int, inside: Endpoint, remote: Endpoint) -> Session | None:
        wanted = (protocol, inside, remote)
        return next((s for s in self.sessions if (s.protocol, s.inside, s.remote) == wanted), None)

    def outbound(
        self, protocol: int, inside: Endpoint, remote: Endpoint, flags: int, chosen: Endpoint | None, now: float
    ) -> str | None:
        """What is wrong with a translation of a datagram from inside to `chosen` (None: it was dropped), or None."""
        session = self._find(protocol, inside, remote)
        mapped = self.mapping(protocol, inside)
        if session is None and protocol == TCP and flags & RST:
            return None if chosen is None else "a reset has begun a session"
        if chosen is None:
            return "dropped"
        if mapped is not None:
            if chosen != mapped:
                return f"the mapping is {mapped}"
        elif problem := self._is_no_choice(protocol, inside, chosen):
            return problem
        if session is None:
            session = Session(protocol, inside, chosen, remote)
            self.sessions.append(session)
        session.touch("inside", flags, now)
        return None

    def _is_no_choice(self, protocol: int, inside: Endpoint, chosen: Endpoint) -> str | None:
        taken = {s.outside for s in self.sessions if s.protocol == protocol}
        if chosen[0] != self.outside or chosen in taken:
            return "another's endpoint"
        low, high = (0, 65_535) if protocol == ICMP else (self.first, self.last)
        if not low <= chosen[1] <= high:
            return "a port out of range"
        wanted = (self.outside, inside[1])
        if low <= inside[1] <= high and wanted not in taken and chosen != wanted:
            return "the port was free, and not kept"
        if protocol == UDP and (chosen[1] ^ inside[1]) & 1:
            return "the parity is lost"
        return None

    def inbound(self, protocol: int, remote: Endpoint, port: int, flags: int, now: float) -> Endpoint | None:
        """The inside endpoint that a datagram from outside goes to; None: it is dropped, or the router's own."""
        outside = (self.outside, port)
        inside = next((s.inside for s in self.sessions if (s.protocol, s.outside) == (protocol, outside)), None)
        if inside is None:
            return None
        session = self._find(protocol, inside, remote)
        if session is None:
            if protocol == ICMP or not self._lets_in(protocol, outside, remote) or (protocol == TCP and flags & RST):
                return None
            session = Session(protocol, inside, outside, remote, opened_from="outside")
            self.sessions.append(session)
        session.touch("outside", flags, now)
        return inside

    def _lets_in(self, protocol: int, outside: Endpoint, remote: Endpoint) -> bool:
        if self.filtering == "endpoint-independent":
            return True
        return self.filtering == "address-dependent" and any(
            (s.protocol, s.outside, s.remote[0]) == (protocol, outside, remote[0]) and s.opened_from == "inside"
            for s in self.sessions
        )
