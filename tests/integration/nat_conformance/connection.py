"""A TCP connection through the router, both ends of which a test plays, in right sequence numbers."""

from nat_conformance.messages import Endpoint, data_of, ends, tcp
from nat_conformance.network import NatNetwork


class Connection:
    """Of an inside endpoint with an outside one.

    :ivar outside: where the inside endpoint is seen outside; known from its first segment on, unless given.
    :ivar sent: the next sequence number of the inside endpoint; `received`: of the outside one.
    """

    def __init__(self, net: NatNetwork, inside: Endpoint, remote: Endpoint, outside: Endpoint | None = None) -> None:
        self.net, self.inside, self.remote, self.outside = net, inside, remote, outside
        self.sent, self.received = 1000, 500_000

    @classmethod
    def opened(cls, net: NatNetwork, inside: Endpoint, remote: Endpoint) -> "Connection":
        """Open one from inside."""
        connection = cls(net, inside, remote)
        connection.out("S")
        connection.back("SA")
        connection.out("A")
        return connection

    def out(self, flags: str, data: bytes = b"") -> None:
        """Send a segment from inside, and see it arrive outside, always from the same endpoint."""
        acknowledged = self.received if "A" in flags else 0
        sent = tcp(self.inside, self.remote, flags, data, seq=self.sent, ack=acknowledged)
        seen = self.net.goes_out(sent)
        self.outside = self.outside or ends(seen)[0]
        assert ends(seen) == (self.outside, self.remote)
        assert data_of(seen) == data
        self.sent += len(data) + ("S" in flags and self.sent == 1000) + ("F" in flags)

    def back(self, flags: str, data: bytes = b"") -> None:
        """Send a segment from outside, and see it arrive inside."""
        assert self.outside
        acknowledged = self.sent if "A" in flags else 0
        sent = tcp(self.remote, self.outside, flags, data, seq=self.received, ack=acknowledged)
        seen = self.net.comes_in(sent, self.inside[0])
        assert ends(seen) == (self.remote, self.inside)
        assert data_of(seen) == data
        self.received += len(data) + ("S" in flags and self.received == 500_000) + ("F" in flags)

    def talk(self) -> None:
        """Data both ways."""
        self.out("PA", b"from inside")
        self.back("PA", b"from outside, longer")
        self.out("A")

    def close(self) -> None:
        """FIN from inside, then from outside."""
        self.out("FA")
        self.back("A")
        self.back("FA")
        self.out("A")
