"""A translating router on the bench, datagrams written by hand, and a reader that adds every checksum up.

eth0 (3) is inside, 192.168.1.1/24; eth1 (4) outside, 203.0.113.1/24 and .2, with the rest of the world behind it.
"""

import struct
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path as FilePath

from pipeline_rig import Bench, interface, route_records

from services.common.messages import Neighbour, NeighbourState, NextHop, Path, RouteKind, RouterState
from services.common.nat_rules import Masquerade, NatRules
from services.forwarder.nat.table import Translator
from services.forwarder.tables import ForwardingTables

INSIDE, OUTSIDE = 3, 4
HOST, HOST2, OUT, OUT2, REMOTE, REMOTE2 = (
    "192.168.1.2",
    "192.168.1.3",
    "203.0.113.1",
    "203.0.113.2",
    "198.51.100.7",
    "198.51.100.8",
)
TCP, UDP, ICMP = 6, 17, 1
FIN, SYN, RST, ACK = 1, 2, 4, 16
MASQUERADE = NatRules(masquerade=(Masquerade(interface="eth4"),))
ETHERNET = bytes.fromhex("020000000001 020000000099 0800")


def ones_sum(data: bytes) -> int:
    """The ones' complement sum, by the book (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def address(text: str) -> bytes:
    return IPv4Address(text).packed


@dataclass(frozen=True)
class Datagram:
    """What a test sends, and what it reads."""

    protocol: int
    source: str
    sport: int
    destination: str
    dport: int
    flags: int = SYN
    data: bytes = b"0123456789"
    icmp_type: int = 8
    checksum: str = "good"
    """good; zero: UDP without one; partial: left to the hardware."""
    word: int = 0
    identification: int = 7

    def back(self, **changes: object) -> "Datagram":
        """The answer to it."""
        icmp_type = 0 if self.icmp_type == 8 else 8
        turned = replace(
            self,
            source=self.destination,
            sport=self.dport,
            destination=self.source,
            dport=self.sport,
            flags=SYN | ACK,
            icmp_type=icmp_type,
        )
        return replace(turned, **changes)  # type: ignore[arg-type]

    @property
    def pseudo(self) -> bytes:
        return address(self.source) + address(self.destination) + struct.pack("!BBH", 0, self.protocol, len(self.l4(0)))

    def l4(self, checksum: int) -> bytes:
        if self.protocol == TCP:
            return (
                struct.pack("!HHIIBBHHH", self.sport, self.dport, 1, 2, 0x50, self.flags, 99, checksum, 0) + self.data
            )
        if self.protocol == UDP:
            return struct.pack("!HHHH", self.sport, self.dport, 8 + len(self.data), checksum) + self.data
        if self.protocol == ICMP:
            identifier = self.dport if self.icmp_type in (0, 14) else self.sport
            return struct.pack("!BBHHH", self.icmp_type, 0, checksum, identifier, 1) + self.data
        return self.data

    def packet(self) -> bytes:
        """The whole datagram of IPv4."""
        pseudo = b"" if self.protocol == ICMP else self.pseudo
        if self.checksum == "zero":
            body = self.l4(0)
        elif self.checksum == "partial":
            body = self.l4(ones_sum(pseudo))
        else:
            body = self.l4(ones_sum(pseudo + self.l4(0)) ^ 0xFFFF or 0xFFFF)
        return ip_packet(self.protocol, self.source, self.destination, body, self.word, self.identification)

    def virtio(self) -> bytes:
        if self.checksum != "partial":
            return bytes(10)
        return struct.pack("=BBHHHH", 1, 0, 0, 0, 34, 16 if self.protocol == TCP else 6)


def ip_packet(protocol: int, source: str, destination: str, body: bytes, word: int = 0, ident: int = 7) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), ident, word, 64, protocol, 0)
    head += address(source) + address(destination)
    return head[:10] + struct.pack("!H", ones_sum(head) ^ 0xFFFF) + head[12:] + body


def read(packet: bytes, *, partial: bool = False) -> Datagram:
    """Read a datagram that left; its checksums must be right, added up in full."""
    assert ones_sum(packet[:20]) == 0xFFFF
    protocol, body = packet[9], packet[20:]
    source, destination = str(IPv4Address(packet[12:16])), str(IPv4Address(packet[16:20]))
    word, ident = struct.unpack("!H", packet[6:8])[0], struct.unpack("!H", packet[4:6])[0]
    one = Datagram(protocol, source, 0, destination, 0, word=word, identification=ident, data=body)
    if word & 0x1FFF:
        return one
    if protocol == ICMP:
        assert ones_sum(body) == 0xFFFF
        identifier = struct.unpack("!H", body[4:6])[0]
        ports = {"dport": identifier} if body[0] in (0, 14) else {"sport": identifier}
        return replace(one, icmp_type=body[0], flags=0, data=body[8:], **ports)
    sport, dport = struct.unpack("!HH", body[:4])
    pseudo = packet[12:20] + struct.pack("!BBH", 0, protocol, len(body))
    place = 16 if protocol == TCP else 6
    held = struct.unpack("!H", body[place : place + 2])[0]
    if partial:
        assert held == ones_sum(pseudo)
    elif not (protocol == UDP and held == 0) and not word & 0x2000:
        assert ones_sum(pseudo + body) == 0xFFFF
    flags = body[13] if protocol == TCP else 0
    checksum = "partial" if partial else "zero" if held == 0 else "good"
    data = body[20:] if protocol == TCP else body[8:]
    return replace(one, sport=sport, dport=dport, flags=flags, checksum=checksum, data=data)


def tables() -> ForwardingTables:
    kinds: list[tuple[str, RouteKind, list[NextHop]]] = [
        ("192.168.1.1/32", "local", []),
        ("203.0.113.1/32", "local", []),
        ("203.0.113.2/32", "local", []),
        ("192.168.1.0/24", "unicast", [NextHop(interface=INSIDE, gateway=0)]),
        ("203.0.113.0/24", "unicast", [NextHop(interface=OUTSIDE, gateway=0)]),
        ("0.0.0.0/0", "unicast", [NextHop(interface=OUTSIDE, gateway=int(IPv4Address("203.0.113.9")))]),
    ]
    made = ForwardingTables()
    records = []
    for number, (prefix, _, _) in enumerate(kinds, 1):
        text, length = prefix.split("/")
        records.append((int(IPv4Address(text)), int(length), number))
    links = [
        interface(INSIDE, ("192.168.1.1", 24)),
        interface(OUTSIDE, ("203.0.113.1", 24), ("203.0.113.2", 24), mac="020000000101"),
    ]
    paths = [Path(id=number, kind=kind, next_hops=hops) for number, (_, kind, hops) in enumerate(kinds, 1)]
    made.apply_router_state(RouterState(full=True, interfaces=links, paths=paths, routes=route_records(records)))
    known = [(OUTSIDE, "203.0.113.9"), (INSIDE, HOST), (INSIDE, HOST2)]
    mac = bytes.fromhex("020000000109")
    made.apply_neighbour_state(
        NeighbourState(neighbours=[Neighbour(interface=i, address=int(IPv4Address(a)), mac=mac) for i, a in known])
    )
    return made


class NatBench:
    """A translating router, and a clock that a test turns."""

    def __init__(self, rules: NatRules = MASQUERADE, *, folder: FilePath, now: float = 1000.0) -> None:
        self.now = now
        self.tables = tables()
        self.translator = Translator(folder / "nat-sessions.bin")
        self.bench = Bench(self.tables)
        self.use(rules)

    def use(self, rules: NatRules) -> None:
        interfaces = {slot: self.tables.interfaces[index] for index, slot in self.tables.slots.items()}
        names = {found.name: slot for slot, found in interfaces.items()}
        self.tables.set_nat(self.translator.apply(rules, interfaces, names, self.now))
        self.translator.tick(self.now)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.translator.tick(self.now)

    def verdict(self, packet: bytes, by: int, virtio: bytes = bytes(10)) -> tuple[str, bytes, int | None]:
        """The verdict on a datagram, what became of it, and the interface that it leaves by."""
        answer = self.bench.one(ETHERNET + packet, by, 0, virtio)
        return answer.verdict, answer.frame[14:], answer.interface

    def send(self, sent: Datagram, by: int = INSIDE) -> Datagram:
        """Send a datagram that is forwarded, and read it as it leaves."""
        verdict, packet, out = self.verdict(sent.packet(), by, sent.virtio())
        assert verdict == "FORWARDED", verdict
        seen = read(packet, partial=sent.checksum == "partial")
        assert seen.data == sent.data
        assert out is not None
        return seen

    def fate(self, sent: Datagram, by: int = OUTSIDE) -> str:
        return self.verdict(sent.packet(), by, sent.virtio())[0]
