"""A forwarder without its process: tables, fast path, slow path and counters wired together on a virtual clock.

192.168.1.0/24 on eth0 with host1, 192.168.0.0/24 on eth1 with host2, 10.9.0.0/16 on eth2 with a gateway and an MTU
of 1280. Bytes that go in and come out are written and read here by hand, at the offsets of RFC 791 and RFC 792.
"""

import struct
from ipaddress import IPv4Address
from pathlib import Path
from typing import NamedTuple

import numpy as np

from services.common.counters import BY_COLUMN, Counter, CounterBlock, Kind
from services.common.endpoints import Endpoints
from services.common.insight import Insight
from services.common.messages import (
    Frame,
    Interface,
    InterfaceAddress,
    Neighbour,
    NeighbourState,
    NextHop,
    RouteKind,
    RouterState,
)
from services.common.messages import Path as RoutePath
from services.common.observer import Observing
from services.common.parameters import IcmpParameters, InterfacePolicy
from services.forwarder.pipeline import BATCH, counter_row, forward_batch, make_batch, make_queues
from services.forwarder.slowpath import Actions, SlowFrame, SlowPath
from services.forwarder.tables import ForwardingTables

ETH0, ETH1, ETH2 = 3, 4, 5
MAC0, MAC1, MAC2 = (bytes.fromhex(f"02000000000{number}") for number in range(3))
HOST1_MAC, HOST2_MAC, GATEWAY_MAC = (bytes.fromhex(f"0200000000{number}") for number in ("a1", "a2", "a9"))
HOST1, HOST2, GATEWAY = "192.168.1.2", "192.168.0.2", "10.9.0.9"
FAR = "198.51.100.7"  # behind the gateway
TO_US, TO_ALL, TO_GROUP, TO_ANOTHER = range(4)  # packet types of linux/if_packet.h
PLAIN = bytes(10)
UDP, ICMP = 17, 1

KINDS: dict[str, RouteKind] = {
    "192.168.1.1/32": "local",
    "192.168.0.1/32": "local",
    "192.168.0.254/32": "local",
    "10.9.0.1/32": "local",
    "10.9.7.1/32": "local",
    "192.168.1.255/32": "broadcast",
    "192.168.0.255/32": "broadcast",
    "203.0.113.0/26": "blackhole",
    "203.0.113.64/26": "unreachable",
    "203.0.113.128/26": "prohibit",
}
WAYS = {
    "192.168.1.0/24": (ETH0, "0.0.0.0"),
    "192.168.0.0/24": (ETH1, "0.0.0.0"),
    "10.9.0.0/16": (ETH2, "0.0.0.0"),
    "198.51.100.0/24": (ETH2, GATEWAY),
}


def ip(text: str) -> int:
    return int(IPv4Address(text))


def checksum(data: bytes) -> int:
    """The Internet checksum as RFC 1071 section 4.1 adds it up."""
    total: int = sum(word for (word,) in struct.iter_unpack("!H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def datagram(
    source: str = HOST1,
    destination: str = HOST2,
    payload: bytes = bytes(range(16)),
    *,
    protocol: int = UDP,
    ttl: int = 64,
    word: int = 0,
    options: bytes = b"",
    tos: int = 0,
    identification: int = 0x1234,
) -> bytes:
    head = struct.pack(
        "!BBHHHBBHII",
        0x45 + len(options) // 4,
        tos,
        20 + len(options) + len(payload),
        identification,
        word,
        ttl,
        protocol,
        0,
        ip(source),
        ip(destination),
    )
    head += options
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


class Sent(NamedTuple):
    """A frame as it left, without its virtio header."""

    interface: int
    data: bytes

    @property
    def datagram(self) -> bytes:
        return self.data[14:]


class IcmpMessage(NamedTuple):
    """An ICMP message, read by hand."""

    interface: int
    source: str
    destination: str
    icmp_type: int
    code: int
    rest: int
    data: bytes


class Network:
    """The router's side of a network; what it sends and hands to arp is kept."""

    def __init__(self, directory: Path, icmp: IcmpParameters | None = None) -> None:
        self.now = 1000.0
        self.unix_time = 0.0
        self.cost_us = 0
        """What the slow path's work on the last batch has cost, as it estimates."""
        self.counters = CounterBlock(directory / "forwarder.bin")
        self.tables = ForwardingTables()
        self.insight = Insight(Endpoints(directory), "forwarder")
        self.observing = Observing(self.insight)
        self.slow_path = SlowPath(
            self.tables,
            self.counters,
            icmp or IcmpParameters(),
            self.now,
            lambda: self.unix_time,
            self.insight.dropped,
        )
        self.sent: list[Sent] = []
        self.handed: list[Frame] = []
        self._batch = make_batch()
        self._queues = make_queues()
        self.control(
            RouterState(
                full=True,
                interfaces=[
                    interface(ETH0, MAC0, ("192.168.1.1", 24)),
                    interface(ETH1, MAC1, ("192.168.0.254", 32), ("192.168.0.1", 24)),
                    interface(ETH2, MAC2, ("10.9.7.1", 24), ("10.9.0.1", 16), mtu=1280),
                ],
                paths=[RoutePath(id=number, kind=kind, next_hops=[]) for number, kind in enumerate(KINDS.values(), 1)]
                + [way(number, *hop) for number, hop in enumerate(WAYS.values(), len(KINDS) + 1)],
                routes=b"".join(record(prefix, number) for number, prefix in enumerate([*KINDS, *WAYS], 1)),
            )
        )
        self.learn(ETH0, HOST1, HOST1_MAC)
        self.learn(ETH1, HOST2, HOST2_MAC)
        self.learn(ETH2, GATEWAY, GATEWAY_MAC)

    def control(self, state: RouterState) -> None:
        self.tables.apply_router_state(state)

    def route(self, prefix: str, index: int, gateway: str = "0.0.0.0", *, mtu: int = 0) -> None:
        """Add a route; its path gets a number of its own."""
        number = 100 + len(self.tables)
        self.control(RouterState(paths=[way(number, index, gateway, mtu)], routes=record(prefix, number)))

    def learn(self, index: int, address: str, mac: bytes) -> None:
        entry = Neighbour(interface=index, address=ip(address), mac=mac)
        self.tables.apply_neighbour_state(NeighbourState(neighbours=[entry]))

    def forget(self, index: int, address: str) -> None:
        self.tables.apply_neighbour_state(NeighbourState(gone=[(index, ip(address))]))

    # --- Inward

    def receive(
        self, *datagrams: bytes, on: int = ETH0, packet_type: int = TO_US, virtio: bytes = PLAIN, padding: int = 0
    ) -> None:
        """Let datagrams come in as one batch."""
        head = MAC0 + HOST1_MAC + b"\x08\x00"
        data = [virtio + head + each + bytes(padding) for each in datagrams]
        assert len(data) <= BATCH
        area = np.frombuffer(bytearray(b"".join(data)), np.uint8)
        descriptors = np.zeros((BATCH, 4), np.int64)
        at = 0
        for number, each in enumerate(data):
            descriptors[number, :3] = (at, len(each) - 10, packet_type)
            at += len(each)
        row = counter_row(self.counters, on)
        outcome = forward_batch(
            area,
            area.ctypes.data,
            descriptors,
            0,
            len(data),
            self.tables.slots.get(on, 0),
            on,
            self.tables.arrays,
            self._batch,
            self._queues,
            row,
            self.observing.arrays,
        )
        self._transmit(area, outcome.touched)
        actions = Actions()
        for number in self._batch.slow[: outcome.slow].tolist():
            self.slow_path.handle(self._slow_frame(area, number, on), self.now, actions)
        self.cost_us = actions.cost_us
        self._carry_out(actions)

    def _transmit(self, area: np.ndarray, touched: int) -> None:
        queues = self._queues
        for slot in queues.touched[:touched].tolist():
            for address, length in queues.vectors[slot, : queues.queued[slot]].tolist():
                start = address - area.ctypes.data
                frame = area[start + 10 : start + length].tobytes()
                index = self.tables.index_of_slot[slot]
                self.sent.append(Sent(index, frame))
                self.counters.add(Counter.FORWARDED, 1, index)
            queues.queued[slot] = 0

    def _slow_frame(self, area: np.ndarray, number: int, on: int) -> SlowFrame:
        batch = self._batch
        start = int(batch.start[number])
        return SlowFrame(
            BY_COLUMN[batch.verdict[number]],
            on,
            int(batch.packet_type[number]),
            area[start - 10 : start + int(batch.length[number])].tobytes(),
            int(batch.slot[number]),
            int(batch.next_hop[number]),
            int(batch.mtu[number]),
        )

    def give_back(self, *frames: Frame) -> None:
        """Let arp return frames whose next hop never answered."""
        actions = Actions()
        for frame in frames:
            self.counters.add(Counter.TAKEN, 1, frame.in_interface)
            self.slow_path.undeliverable(frame, self.now, actions)
        self._carry_out(actions)

    def _carry_out(self, actions: Actions) -> None:
        for send in actions.send:
            index = self.tables.index_of_slot[send.slot]
            self.sent.append(Sent(index, send.frame))
            self.counters.add(Counter.GENERATED_SENT, 1, index)
        self.handed += actions.resolve
        self.counters.add(Counter.HANDED, len(actions.resolve))

    # --- What is to be seen

    def take_icmp(self) -> list[IcmpMessage]:
        """Return and forget what was sent, all of it ICMP of the router's own."""
        messages = [read_icmp(each.interface, each.datagram) for each in self.sent]
        self.sent.clear()
        return messages

    def counted(self) -> dict[str, int]:
        """Everything but what is the same for all tests."""
        common = {Counter.TAKEN, Counter.SLOW_PATH}
        return {
            each.name: self.counters.total(each) for each in Counter if self.counters.total(each) and each not in common
        }

    def check_balance(self) -> None:
        """Whatever was taken or made is sent, delivered, consumed, dropped, held or handed on."""
        total = self.counters.total
        fates = {Kind.SENT, Kind.DELIVERED, Kind.CONSUMED, Kind.DROPPED, Kind.WAITING}
        left = sum(total(each) for each in Counter if each.kind in fates)
        assert total(Counter.TAKEN) + total(Counter.GENERATED) == left + total(Counter.HANDED)
        assert total(Counter.HANDED) == len(self.handed)


def interface(
    index: int, mac: bytes, *addresses: tuple[str, int], mtu: int = 1500, redirects: bool = True
) -> Interface:
    own = [InterfaceAddress(address=ip(address), prefix_length=length) for address, length in addresses]
    policy = InterfacePolicy(redirects=redirects)
    return Interface(index=index, name=f"eth{index - ETH0}", mac=mac, mtu=mtu, up=True, addresses=own, policy=policy)


def way(number: int, index: int, gateway: str, mtu: int = 0) -> RoutePath:
    return RoutePath(id=number, kind="unicast", next_hops=[NextHop(interface=index, gateway=ip(gateway))], mtu=mtu)


def record(prefix: str, number: int) -> bytes:
    """A route as the bus packs it: address, length, path, in native order."""
    address, length = prefix.split("/")
    return struct.pack("=IBI", ip(address), int(length), number)


def read_icmp(index: int, packet: bytes) -> IcmpMessage:
    """Read a datagram that must be ICMP, whole, and with right checksums."""
    header = packet[: 4 * (packet[0] & 15)]
    message = packet[len(header) :]
    assert checksum(header) == 0
    assert checksum(message) == 0
    assert int.from_bytes(packet[2:4], "big") == len(packet)
    assert packet[9] == ICMP
    source, destination = (str(IPv4Address(packet[at : at + 4])) for at in (12, 16))
    icmp_type, code, _, rest = struct.unpack_from("!BBHI", message)
    return IcmpMessage(index, source, destination, icmp_type, code, rest, message[8:])
