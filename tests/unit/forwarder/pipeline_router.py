"""A router with known routes on the bench, and datagrams written field by field."""

import struct
from ipaddress import IPv4Address

from pipeline_rig import Bench, interface, route_records

from services.common.messages import Neighbour, NeighbourState, NextHop, Path, RouteKind, RouterState
from services.forwarder.tables import ForwardingTables
from tests.oracle.router import with_checksum

ETH0, ETH1, ETH2 = 3, 4, 5
ETHERNET = bytes.fromhex("020000000001 020000000099 0800")
GATEWAY_MAC = bytes.fromhex("020000000109")
ETH1_MAC = bytes.fromhex("020000000101")
FAR = "198.51.100.7"
UDP, TCP, ICMP = 17, 6, 1
DF = 0x4000


def bench_with(*, mtu: int = 1500) -> Bench:
    """10.0.0.1/24 on eth0, 10.0.1.1/24 with a gateway on eth1, a link without one on eth2."""
    kinds: dict[str, RouteKind] = {
        "10.0.0.1/32": "local",
        "10.0.0.255/32": "broadcast",
        "10.0.1.1/32": "local",
        "10.0.1.255/32": "broadcast",
        "203.0.113.0/26": "blackhole",
        "203.0.113.64/26": "unreachable",
        "203.0.113.128/26": "prohibit",
    }
    hops = {
        "10.0.0.0/24": (ETH0, 0),
        "10.0.1.0/24": (ETH1, 0),
        "198.51.0.0/16": (ETH1, int(IPv4Address("10.0.1.9"))),
        "198.51.100.128/25": (ETH2, 0),
        "169.254.0.0/16": (ETH1, 0),
        "240.0.0.0/4": (ETH1, int(IPv4Address("10.0.1.9"))),
    }
    paths = [Path(id=number, kind=kind, next_hops=[]) for number, kind in enumerate(kinds.values(), 1)]
    paths += [
        Path(id=number, kind="unicast", next_hops=[NextHop(interface=index, gateway=gateway)])
        for number, (index, gateway) in enumerate(hops.values(), len(kinds) + 1)
    ]
    records = []
    for number, prefix in enumerate([*kinds, *hops], 1):
        address, length = prefix.split("/")
        records.append((int(IPv4Address(address)), int(length), number))
    tables = ForwardingTables()
    links = [interface(ETH0), interface(ETH1, mac=ETH1_MAC.hex(), mtu=mtu), interface(ETH2)]
    tables.apply_router_state(RouterState(full=True, interfaces=links, paths=paths, routes=route_records(records)))
    known = [
        Neighbour(interface=ETH1, address=int(IPv4Address("10.0.1.9")), mac=GATEWAY_MAC),
        Neighbour(interface=ETH1, address=int(IPv4Address("169.254.1.1")), mac=GATEWAY_MAC),
        Neighbour(interface=ETH0, address=int(IPv4Address("10.0.0.2")), mac=GATEWAY_MAC),
    ]
    tables.apply_neighbour_state(NeighbourState(neighbours=known))
    return Bench(tables)


def datagram(
    source: str = "10.0.0.2",
    destination: str = FAR,
    *,
    protocol: int = UDP,
    payload: bytes = bytes(8),
    ttl: int = 64,
    tos: int = 0,
    word: int = 0,
    options: bytes = b"",
    identification: int = 0,
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
        int(IPv4Address(source)),
        int(IPv4Address(destination)),
    )
    return with_checksum(head + options + payload)
