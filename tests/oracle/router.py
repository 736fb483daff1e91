"""What a router does with one frame, in plain Python: the yardstick for the compiled fast path.

It shares no code with it: headers are read with `struct`, prefixes compared with `ipaddress`, checksums always summed
anew over the whole header. It is slow, and short enough to be checked against the RFCs by eye.
"""

import struct
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network

HOST, BROADCAST, MULTICAST, OTHERHOST = range(4)  # packet types of linux/if_packet.h
GSO_TCPV4, GSO_UDP_L4, GSO_ECN = 1, 5, 0x80  # virtio 1.2 section 5.1.6

NO_HOST = [IPv4Network(text) for text in ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4")]  # RFC 6890
GROUPS = IPv4Network("224.0.0.0/4")
LOOPBACK = IPv4Network("127.0.0.0/8")
NOBODY = IPv4Address("0.0.0.0")
LINK_LOCAL = IPv4Network("169.254.0.0/16")  # RFC 3927
EVERYBODY = IPv4Address("255.255.255.255")


@dataclass(frozen=True)
class Hop:
    """A way out: by an interface, to a gateway or (None) to the destination itself."""

    interface: int
    gateway: IPv4Address | None = None
    weight: int = 1


@dataclass(frozen=True)
class Route:
    """A route; `kind` in ip-route(8)'s words. The hop of a broadcast names the interface of its network."""

    prefix: IPv4Network
    kind: str = "unicast"
    hops: tuple[Hop, ...] = ()
    mtu: int = 0


@dataclass(frozen=True)
class Link:
    """An interface."""

    mac: bytes
    mtu: int = 1500
    up: bool = True
    redirects: bool = True
    reverse_path: str = "off"
    martians: str = "strict"
    directed_broadcast: bool = False


@dataclass(frozen=True)
class Arrival:
    """A frame as it comes in, and what its ring entry says of it."""

    frame: bytes
    packet_type: int = HOST
    virtio: bytes = bytes(10)
    entry_is_true: bool = True


@dataclass(frozen=True)
class Answer:
    """The fate of a frame: a counter's name, the frame's bytes afterwards, and where it goes."""

    verdict: str
    frame: bytes
    interface: int | None = None
    next_hop: IPv4Address | None = None
    mtu: int | None = None


@dataclass
class Router:
    """Links by index, routes, and MACs by interface and address."""

    links: dict[int, Link]
    routes: list[Route]
    neighbours: dict[tuple[int, IPv4Address], bytes] = field(default_factory=dict)

    def answers(self, arrival: Arrival, in_interface: int) -> list[Answer]:
        """Return what may happen to a frame: one answer for each next hop that its flow may be given."""
        frame = arrival.frame
        reason = "DROP_RING_ENTRY" if not arrival.entry_is_true else invalid(frame, arrival.packet_type)
        if reason is not None:
            return [Answer(reason, frame)]
        frame = frame[: 14 + struct.unpack_from("!H", frame, 16)[0]]  # padding is no part of it: RFC 894
        link = self.links.get(in_interface)
        if link is None or not link.up:
            return [Answer("DROP_UNKNOWN_INTERFACE", frame)]
        return self._routed(frame, arrival, in_interface)

    def _routed(self, frame: bytes, arrival: Arrival, in_interface: int) -> list[Answer]:
        datagram = frame[14:]
        source, destination = (IPv4Address(datagram[at : at + 4]) for at in (12, 16))
        route = self.lookup(destination)
        kind = route.kind if route else None
        as_linux = self.links[in_interface].martians == "linux"
        reason = self._refused(datagram, source, destination, in_interface)
        if reason is None and kind == "local":
            reason = to_router(datagram, arrival.packet_type)
        broadcast = kind in ("broadcast", "multicast")
        if reason is None and broadcast and arrival.packet_type != HOST:
            reason = "LOCAL_GROUP"
        if reason is None and broadcast and not self._may_broadcast(route, in_interface):
            reason = "DROP_DIRECTED_BROADCAST"
        if reason is None and arrival.packet_type != HOST:
            reason = "DROP_LINK_BROADCAST"
        if reason is None and not as_linux and (source in LINK_LOCAL or destination in LINK_LOCAL):
            reason = "DROP_LINK_LOCAL"
        if reason is None and datagram[8] <= 1:
            reason = "DROP_TTL_EXCEEDED"
        if reason is None and kind != "unicast" and not broadcast:
            reason = {
                None: "DROP_NO_ROUTE",
                "blackhole": "DROP_BLACKHOLE",
                "prohibit": "DROP_PROHIBITED",
                "unreachable": "DROP_UNREACHABLE",
            }[kind]
        if reason is not None:
            return [Answer(reason, frame)]
        assert route is not None
        hops = [hop for hop in route.hops if hop.interface in self.links]
        if broadcast:
            return [self._sent(frame, arrival, route, replace(hops[0], gateway=EVERYBODY), destination)]
        return [self._sent(frame, arrival, route, hop, destination) for hop in hops] or [
            Answer("DROP_UNREACHABLE", frame)
        ]

    def _may_broadcast(self, route: Route | None, in_interface: int) -> bool:
        """A directed broadcast leaves only by another interface, which lets it: RFC 2644."""
        hops = [hop.interface for hop in route.hops if hop.interface in self.links] if route else []
        return bool(hops) and hops[0] != in_interface and self.links[hops[0]].directed_broadcast

    def _refused(self, datagram: bytes, source: IPv4Address, destination: IPv4Address, in_interface: int) -> str | None:
        """Addresses that no datagram carries, groups (the kernel's), ways back (RFC 3704), source routes (RFC 7126)."""
        link = self.links[in_interface]
        reason = martian_linux(source, destination) if link.martians == "linux" else martian(source, destination)
        if reason is not None:
            return reason
        if destination in GROUPS or destination == EVERYBODY:
            return "LOCAL_GROUP"
        back = self.lookup(source)
        if back is not None and back.kind in ("local", "broadcast", "multicast"):
            return "DROP_MARTIAN_SOURCE"
        ways = [hop.interface for hop in back.hops if hop.interface in self.links] if back else []
        good = back is not None and back.kind == "unicast" and bool(ways)
        if link.reverse_path != "off" and not good:
            return "DROP_REVERSE_PATH"
        if link.reverse_path == "strict" and in_interface not in ways:
            return "DROP_REVERSE_PATH"
        return "DROP_SOURCE_ROUTED" if {131, 137} & set(option_types(datagram)) else None

    def _sent(self, frame: bytes, arrival: Arrival, route: Route, hop: Hop, destination: IPv4Address) -> Answer:
        link = self.links[hop.interface]
        next_hop = hop.gateway or destination
        mtu = min(link.mtu, route.mtu or link.mtu)
        if not link.up:
            return Answer("DROP_UNREACHABLE", frame)
        if {7, 68} & set(option_types(frame[14:])) or has_malformed_option(frame[14:]):
            return Answer("OPTIONS_FILLED", frame, hop.interface, next_hop, mtu)
        if longest_on_wire(frame[14:], arrival.virtio) > mtu:
            if frame[20] & 0x40:  # DF
                return Answer("DROP_MTU_EXCEEDED", frame, hop.interface, next_hop, mtu)
            return Answer("FRAGMENTED", aged(frame), hop.interface, next_hop, mtu)
        mac = b"\xff" * 6 if next_hop == EVERYBODY else self.neighbours.get((hop.interface, next_hop))
        if mac is None:
            return Answer("HANDED", aged(frame), hop.interface, next_hop, mtu)
        return Answer("FORWARDED", mac + link.mac + aged(frame)[12:], hop.interface, next_hop, mtu)

    def is_hairpin(self, answer: "Answer", in_interface: int) -> bool:
        """Tell whether a frame left by where it came in, so that its sender may know better: RFC 1812 5.2.7.2."""
        left = answer.interface == in_interface and answer.verdict == "FORWARDED"
        return left and self.links[in_interface].redirects

    def lookup(self, address: IPv4Address) -> Route | None:
        """Return the route with the longest prefix that holds an address."""
        matching = [route for route in self.routes if address in route.prefix]
        return max(matching, key=lambda route: route.prefix.prefixlen, default=None)


def martian(source: IPv4Address, destination: IPv4Address) -> str | None:
    """Return what is wrong with addresses: RFC 1812 section 5.3.7."""
    to_everybody = destination == EVERYBODY
    speechless = source in NO_HOST[0] and to_everybody  # a host without an address: RFC 1122 3.2.1.3
    if any(source in block for block in NO_HOST) and not speechless:
        return "DROP_MARTIAN_SOURCE"
    if any(destination in block for block in NO_HOST) and destination not in GROUPS and not to_everybody:
        return "DROP_MARTIAN_DESTINATION"
    return None


def martian_linux(source: IPv4Address, destination: IPv4Address) -> str | None:
    """Return what is wrong with addresses in the eyes of Linux 5.3 and later: ip_route_input_slow."""
    if source in GROUPS or source == EVERYBODY or source in LOOPBACK:
        return "DROP_MARTIAN_SOURCE"
    if source == NOBODY and destination != EVERYBODY:
        return "DROP_MARTIAN_SOURCE"
    return "DROP_MARTIAN_DESTINATION" if destination == NOBODY or destination in LOOPBACK else None


def invalid(frame: bytes, packet_type: int) -> str | None:
    """Return why a frame is not taken for IPv4: not ours, not IPv4, or RFC 1812 section 5.2.2."""
    payload = frame[14:]
    if packet_type == OTHERHOST:
        return "DROP_FOREIGN_MAC"
    if frame[12:14] != b"\x08\x00":
        return "NOT_IPV4"
    if len(payload) < 20:
        return "DROP_IP_SHORT"
    if payload[0] >> 4 != 4:
        return "DROP_IP_VERSION"
    header_bytes = 4 * (payload[0] & 15)
    if header_bytes < 20 or header_bytes > len(payload):
        return "DROP_IP_HEADER_LENGTH"
    if checksum(payload[:header_bytes]) != 0:
        return "DROP_IP_CHECKSUM"
    (total_length,) = struct.unpack_from("!H", payload, 2)
    if total_length < header_bytes:
        return "DROP_IP_TOTAL_LENGTH"
    return "DROP_IP_TRUNCATED" if total_length > len(payload) else None


def checksum(data: bytes) -> int:
    """Return the Internet checksum, added up word by word as RFC 1071 section 4.1 does."""
    total = 0
    for (word,) in struct.iter_unpack("!H", data + bytes(len(data) % 2)):
        total += word
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def with_checksum(datagram: bytes) -> bytes:
    """Return a datagram whose header's checksum is right, as far as its header length lets tell."""
    header_bytes = max(20, 4 * (datagram[0] & 15))
    blank = datagram[:10] + b"\0\0" + datagram[12:header_bytes]
    return blank[:10] + struct.pack("!H", checksum(blank)) + datagram[12:]


def aged(frame: bytes) -> bytes:
    """Return a frame whose datagram's TTL is one less, with the checksum computed anew."""
    datagram = frame[14:]
    return frame[:14] + with_checksum(datagram[:8] + bytes((datagram[8] - 1,)) + datagram[9:])


def option_types(datagram: bytes) -> list[int]:
    """Return the types of a header's options up to the first that makes no sense (RFC 791 section 3.1)."""
    left = datagram[20 : 4 * (datagram[0] & 15)]
    types = []
    while left and left[0] != 0:
        types.append(left[0])
        if left[0] == 1:
            left = left[1:]
        elif len(left) >= 2 and left[1] >= 2:
            left = left[left[1] :]
        else:
            break
    return types


def has_malformed_option(datagram: bytes) -> bool:
    """Tell whether an option has no length, or one that cannot be (RFC 791 section 3.1)."""
    left = datagram[20 : 4 * (datagram[0] & 15)]
    while left and left[0] != 0:
        if left[0] == 1:
            left = left[1:]
        elif len(left) < 2 or left[1] < 2 or left[1] > len(left):
            return True
        else:
            left = left[left[1] :]
    return False


def to_router(datagram: bytes, packet_type: int) -> str:
    """Return who takes a datagram to the router itself: only echo requests are not the kernel's."""
    (fragment_word,) = struct.unpack_from("!H", datagram, 6)
    if packet_type == HOST and datagram[9] == 1 and fragment_word & 0x3FFF != 0:
        return "WAITING"  # for the rest of it: RFC 791 section 3.2
    return "ECHO_ANSWERED" if is_echo_request(datagram, packet_type) else "LOCAL"


def is_echo_request(datagram: bytes, packet_type: int) -> bool:
    """Tell whether a datagram is a whole echo request with a whole ICMP header, sent to one host alone."""
    header_bytes = 4 * (datagram[0] & 15)
    (fragment_word,) = struct.unpack_from("!H", datagram, 6)
    whole = fragment_word & 0x3FFF == 0
    return (
        packet_type == HOST
        and datagram[9] == 1
        and whole
        and len(datagram) >= header_bytes + 8
        and datagram[header_bytes] == 8
    )


def longest_on_wire(datagram: bytes, virtio: bytes) -> int:
    """Return the bytes of the longest datagram that a frame becomes when its super-frame (GSO) is cut."""
    _, gso_type, _, gso_size = struct.unpack_from("=BBHH", virtio)
    header_bytes = 4 * (datagram[0] & 15)
    if gso_type & ~GSO_ECN == GSO_TCPV4 and len(datagram) >= header_bytes + 20:
        header_bytes += 4 * (datagram[header_bytes + 12] >> 4)
    elif gso_type & ~GSO_ECN == GSO_UDP_L4:
        header_bytes += 8
    else:
        return len(datagram)
    longest: int = min(len(datagram), header_bytes + gso_size)
    return longest
