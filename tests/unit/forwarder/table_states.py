"""What control and arp may say to the forwarder's tables, and how to ask these."""

from ipaddress import IPv4Address, IPv4Network

from pipeline_rig import interface, route_records

from services.common.messages import Neighbour, NeighbourState, NextHop, Path, RouterState
from services.forwarder.questions import route_get
from services.forwarder.tables import ForwardingTables
from tests.oracle.router import Arrival, with_checksum

ETH0, ETH1, ETH2 = 7, 8, 31
MAC0, MAC1 = "020000000007", "020000000008"
HOST_MAC = bytes.fromhex("0200000000aa")
NEW_MAC = bytes.fromhex("0200000000bb")


def ip(text: str) -> int:
    return int(IPv4Address(text))


def route(prefix: str, path: int) -> tuple[int, int, int]:
    network = IPv4Network(prefix)
    return int(network.network_address), network.prefixlen, path


def unicast(number: int, *hops: tuple[int, str] | tuple[int, str, int], mtu: int = 0) -> Path:
    next_hops = [NextHop(interface=hop[0], gateway=ip(hop[1]), weight=hop[2] if len(hop) > 2 else 1) for hop in hops]
    return Path(id=number, kind="unicast", next_hops=next_hops, mtu=mtu)


def neighbour(index: int, address: str, mac: bytes = HOST_MAC) -> Neighbour:
    return Neighbour(interface=index, address=ip(address), mac=mac)


def tables_with(*states: RouterState | NeighbourState) -> ForwardingTables:
    tables = ForwardingTables()
    for state in states:
        apply(tables, state)
    return tables


def apply(tables: ForwardingTables, state: RouterState | NeighbourState) -> None:
    if isinstance(state, RouterState):
        tables.apply_router_state(state)
    else:
        tables.apply_neighbour_state(state)


def found(
    tables: ForwardingTables, destination: str, flow: int = 0
) -> tuple[str, int | None, str | None, bytes | None]:
    """Where a datagram goes: the route's kind, the interface, the next hop, its MAC."""
    answer = route_get(tables, ip(destination))
    if answer["chosen"] is None:
        return answer["kind"], None, None, None
    chosen = tables.resolve(ip(destination), flow)
    index = tables.index_of_slot[chosen.slot]
    return answer["kind"], index, str(IPv4Address(chosen.next_hop)), tables.mac_of(chosen)


TWO_LINKS = [interface(ETH0, ("10.0.0.1", 24), mac=MAC0), interface(ETH1, ("10.0.1.1", 24), mac=MAC1)]
BASIC = RouterState(
    full=True,
    interfaces=TWO_LINKS,
    paths=[unicast(1, (ETH0, "0.0.0.0")), unicast(2, (ETH1, "10.0.1.9")), Path(id=3, kind="local", next_hops=[])],
    routes=route_records([route("10.0.0.0/24", 1), route("0.0.0.0/0", 2), route("10.0.0.1/32", 3)]),
)


def datagram(
    source: int, destination: int, ports: bytes, protocol: int = 17, word: int = 0, rest: bytes = b""
) -> Arrival:
    head = bytes((0x45, 0, 0, 20 + 4 + len(rest), 0, 0)) + word.to_bytes(2, "big") + bytes((64, protocol, 0, 0))
    head += source.to_bytes(4, "big") + destination.to_bytes(4, "big")
    return Arrival(bytes(12) + b"\x08\x00" + with_checksum(head + ports + rest))
