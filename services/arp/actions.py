"""What the resolver asks its shell to do."""

from typing import NamedTuple

from services.common.counters import Counter
from services.common.messages import Frame
from services.common.wire.arp import ArpMessage


class SendArp(NamedTuple):
    """Send an ARP message, from its sender's MAC, to the Ethernet address `destination`."""

    interface: int
    destination: bytes
    message: ArpMessage


class Transmit(NamedTuple):
    """Send frames, in order, with these Ethernet addresses."""

    interface: int
    destination: bytes
    source: bytes
    frames: list[Frame]
    waited: bool
    """They are counted as waiting."""


class Return(NamedTuple):
    """Give frames back to the forwarder: their next hop does not answer."""

    frames: list[Frame]
    waited: bool


class Publish(NamedTuple):
    """Tell the forwarder a neighbour's MAC."""

    interface: int
    address: int
    mac: bytes


class Withdraw(NamedTuple):
    """Tell the forwarder that a neighbour's MAC is not known any more."""

    interface: int
    address: int


class Count(NamedTuple):
    """Add to a counter; interface 0 stands for one that is not known."""

    counter: Counter
    interface: int
    amount: int = 1
    frame: Frame | None = None
    """That was dropped, for the flight recorder."""


class Conflict(NamedTuple):
    """Tell the operator that another host uses an address of this router (RFC 5227 section 2.4)."""

    interface: int
    address: int
    mac: bytes


class AskRoute(NamedTuple):
    """Ask the forwarder where datagrams to an address leave; its answer bears the number."""

    number: int
    address: int


Action = SendArp | Transmit | Return | Publish | Withdraw | Count | Conflict | AskRoute
