"""An arp service without its process: resolver, effects and counters wired together on a virtual clock.

Bytes that go in and come out are written and read here by hand, at the offsets of RFC 826.
"""

from collections import Counter as Tally
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import structlog

from services.arp.actions import Action
from services.arp.effects import Effects
from services.arp.resolver import Resolver
from services.common.counters import Counter, CounterBlock, Kind
from services.common.endpoints import Endpoints
from services.common.insight import Insight
from services.common.messages import (
    Frame,
    Interface,
    InterfaceAddress,
    NeighbourState,
    RouterState,
)
from services.common.parameters import ArpParameters, Parameters

ETH0, ETH1 = 3, 4
OWN0 = 0x0A000001  # 10.0.0.1/24 on eth0
OWN1 = 0x0A010001  # 10.1.0.1/16 on eth1
HOST = 0x0A000002  # 10.0.0.2
SECOND_HOST = 0x0A000003
MAC0 = bytes.fromhex("020000000001")
MAC1 = bytes.fromhex("020000000101")
HOST_MAC = bytes.fromhex("020000000002")
NEW_MAC = bytes.fromhex("0200000000ff")
BROADCAST = b"\xff" * 6
REQUEST, REPLY = 1, 2
TO_US, TO_ALL, TO_ANOTHER = 0, 1, 3  # packet types of linux/if_packet.h


class Sent(NamedTuple):
    """A frame as it left, without its virtio header."""

    at: float
    interface: int
    data: bytes

    @property
    def is_arp(self) -> bool:
        return self.data[12:14] == b"\x08\x06"

    @property
    def operation(self) -> int:
        return self.data[21]

    @property
    def sender(self) -> tuple[bytes, int]:
        return self.data[22:28], int.from_bytes(self.data[28:32], "big")

    @property
    def target(self) -> tuple[bytes, int]:
        return self.data[32:38], int.from_bytes(self.data[38:42], "big")

    @property
    def is_announcement(self) -> bool:
        return self.is_arp and self.sender[1] == self.target[1]


def interface(
    index: int = ETH0, *, up: bool = True, mac: bytes = MAC0, addresses: tuple[tuple[int, int], ...] = ((OWN0, 24),)
) -> Interface:
    return Interface(
        index=index,
        name=f"eth{index - ETH0}",
        mac=mac,
        mtu=1500,
        up=up,
        addresses=[InterfaceAddress(address=address, prefix_length=length) for address, length in addresses],
    )


def arp_payload(operation: int, sender_mac: bytes, sender: int, target: int, target_mac: bytes = bytes(6)) -> bytes:
    head = bytes.fromhex("000108000604") + bytes((0, operation))
    return head + sender_mac + sender.to_bytes(4, "big") + target_mac + target.to_bytes(4, "big")


class Network:
    """The router's side of a network; what it sends, publishes and hands back is kept."""

    def __init__(self, directory: Path, arp: ArpParameters | None = None, random: float = 0.5) -> None:
        self.now = 1000.0
        self.counters = CounterBlock(directory / "arp.bin")
        self.resolver = Resolver(lambda: random)
        self.sent: list[Sent] = []
        self.neighbours: dict[tuple[int, int], bytes] = {}
        self.returned: list[Frame] = []
        self.events: list[str] = []
        self.send_fails: Counter | None = None
        self.forwarder_is_there = True
        self.insight = Insight(Endpoints(directory), "arp")
        self.effects = Effects(
            self.counters, self._send, self._hand_back, self._publish, structlog.get_logger(), self.insight
        )
        state = RouterState(
            full=True,
            interfaces=[interface(), interface(ETH1, mac=MAC1, addresses=((OWN1, 16),))],
            parameters=Parameters(arp=arp or ArpParameters()),
        )
        self.control(state)
        self.advance(2.0)
        self.sent.clear()  # the announcements

    # --- Outward, as the service's shell offers it

    def _send(self, interface_index: int, data: bytes) -> Counter | None:
        assert data[:10] == bytes(10)
        if self.send_fails is not None:
            return self.send_fails
        self.sent.append(Sent(self.now, interface_index, data[10:]))
        self.events.append("sent")
        return None

    def _hand_back(self, frames: list[Frame]) -> bool:
        if self.forwarder_is_there:
            self.returned += frames
        return self.forwarder_is_there

    def _publish(self, state: NeighbourState) -> None:
        self.events.append("published")
        self.neighbours |= {(each.interface, each.address): each.mac for each in state.neighbours}
        for gone in state.gone:
            self.neighbours.pop(gone, None)

    # --- Inward

    def perform(self, actions: list[Action]) -> None:
        self.effects.perform(actions)
        self.effects.flush()

    def control(self, state: RouterState) -> None:
        self.perform(self.resolver.on_router_state(state, self.now))

    def datagram(self, number: int = 0, next_hop: int = HOST, out: int = ETH0, *, generated: bool = False) -> None:
        """Let the forwarder hand over a frame of 74 bytes that carries a number."""
        data = bytes(10) + bytes(12) + b"\x08\x00" + number.to_bytes(4, "big") + bytes(56)
        self.unresolved(Frame(9, out, next_hop, TO_US, generated, memoryview(data)))

    def unresolved(self, frame: Frame) -> None:
        self.perform(self.resolver.on_unresolved(frame, self.now))

    def hear_frame(self, frame: bytes, packet_type: int = TO_ALL, on: int = ETH0) -> None:
        self.perform(self.resolver.on_arp_frame(Frame(on, 0, 0, packet_type, False, frame), self.now))

    def hear(
        self,
        operation: int,
        sender_mac: bytes,
        sender: int,
        target: int,
        packet_type: int | None = None,
        on: int = ETH0,
    ) -> None:
        """Let an ARP message come in: requests by broadcast, replies to the router's MAC."""
        if packet_type is None:
            packet_type = TO_ALL if operation == REQUEST else TO_US
        head = bytes(10) + (BROADCAST if packet_type == TO_ALL else MAC0) + sender_mac + b"\x08\x06"
        self.hear_frame(head + arp_payload(operation, sender_mac, sender, target) + bytes(18), packet_type, on)

    def answer(self, mac: bytes = HOST_MAC, sender: int = HOST, target: int = OWN0) -> None:
        """Let a reply to the router come in."""
        self.hear(REPLY, mac, sender, target)

    def use(self, *addresses: int, out: int = ETH0) -> None:
        self.perform(self.resolver.on_used([(out, address) for address in addresses], self.now))

    def advance(self, seconds: float) -> None:
        """Let time go by, deadline for deadline."""
        target = self.now + seconds
        while (deadline := self.resolver.next_deadline()) <= target:
            assert deadline >= self.now
            self.now = deadline
            self.perform(self.resolver.on_time(self.now))
        self.now = target

    def advance_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.now = self.resolver.next_deadline()
            self.perform(self.resolver.on_time(self.now))

    # --- What is to be seen

    def state(self, address: int = HOST, out: int = ETH0) -> str | None:
        states = [
            each["state"] for each in self.resolver.show(self.now) if (each["interface"], each["dst"]) == (out, address)
        ]
        return states[0] if states else None

    def requests(self) -> list[Sent]:
        return [each for each in self.sent if each.is_arp and each.operation == REQUEST and not each.is_announcement]

    def replies(self) -> list[Sent]:
        return [each for each in self.sent if each.is_arp and each.operation == REPLY]

    def announcements(self) -> list[Sent]:
        return [each for each in self.sent if each.is_announcement]

    def numbers(self) -> list[int]:
        """The numbers of the datagrams that left, in order."""
        return [int.from_bytes(each.data[14:18], "big") for each in self.sent if not each.is_arp]

    def count(self, counter: Counter) -> int:
        return self.counters.total(counter)

    def drops(self) -> dict[str, int]:
        return {
            counter.name: self.count(counter)
            for counter in Counter
            if counter.kind is Kind.DROPPED and self.count(counter)
        }

    def check_balance(self) -> None:
        """Whatever was taken or made is sent, consumed, dropped, waiting or handed back: on every interface."""
        fates = {Kind.SENT, Kind.CONSUMED, Kind.DROPPED, Kind.WAITING}
        for row in (0, ETH0, ETH1):
            entered = self.counters.get(Counter.TAKEN, row) + self.counters.get(Counter.GENERATED, row)
            left = sum(self.counters.get(each, row) for each in Counter if each.kind in fates)
            assert entered == left + self.counters.get(Counter.HANDED, row)
        waiting = sum(each["waiting_frames"] for each in self.resolver.show(self.now))
        assert self.count(Counter.WAITING) == waiting
        usable = {(each.interface, each.address): each.mac for each in self.resolver.usable()}
        assert self.neighbours == usable
        self._check_gauges()

    def _check_gauges(self) -> None:
        """What is reported of the table is what is in it."""
        shown = self.resolver.show(self.now)
        states = Tally((each["interface"], each["state"]) for each in shown)
        counted = {
            (index, state.value): number for (index, state), number in self.resolver.neighbours_by_state().items()
        }
        assert {key: number for key, number in counted.items() if number} == states
        waiting: Tally[int] = Tally()
        for each in shown:
            waiting[each["interface"]] += each["waiting_bytes"]
        assert +Tally(self.resolver.waiting_bytes()) == +waiting
