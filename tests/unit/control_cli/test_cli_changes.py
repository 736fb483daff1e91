"""What `monitor` makes of the published states. States as docs/bus.md describes them, lines written by hand."""

import struct
from typing import Any

from services.common.messages import (
    Interface,
    InterfaceAddress,
    Neighbour,
    NeighbourState,
    NextHop,
    Path,
    RouterState,
)
from services.common.parameters import InterfacePolicy
from services.control.cli.changes import NeighbourChanges, RouterChanges, line

POLICY = "reverse-path off martians strict directed-broadcast off redirects on proxy-arp off"


def interface(number: int, *addresses: int, **changed: Any) -> Interface:
    fields: dict[str, Any] = {
        "index": number,
        "name": f"eth{number}",
        "mac": bytes((2, 0, 0, 0, 0, number)),
        "mtu": 1500,
        "up": True,
        "addresses": [InterfaceAddress(address=one, prefix_length=24) for one in addresses],
        "policy": InterfacePolicy(
            reverse_path="off", martians="strict", directed_broadcast=False, redirects=True, proxy_arp=False
        ),
    }
    return Interface(**(fields | changed))


def route(prefix: int, length: int, path: int) -> bytes:
    return struct.pack("=IBI", prefix, length, path)


ETH1, ETH2 = interface(1, 0x0A000001), interface(2, 0x0A000101)
VIA_9 = Path(id=1, kind="unicast", next_hops=[NextHop(interface=1, gateway=0x0A000009)])
BOTH = Path(
    id=2,
    kind="unicast",
    next_hops=[NextHop(interface=1, gateway=0x0A000009), NextHop(interface=2, gateway=0x0A000109, weight=3)],
    mtu=1400,
)
BLACKHOLE = Path(id=3, kind="blackhole", next_hops=[])
START = RouterState(full=True, interfaces=[ETH1, ETH2], paths=[VIA_9], routes=route(0x0A020000, 16, 1))


def started() -> RouterChanges:
    router = RouterChanges()
    assert router.apply(START) == [], "what there is at the start is no change"
    return router


def lines(router: RouterChanges, state: RouterState) -> list[str]:
    return [line(change) for change in router.apply(state)]


def test_routes_come_change_and_go() -> None:
    router = started()
    state = RouterState(paths=[BOTH, BLACKHOLE], routes=route(0x0A030000, 16, 2) + route(0x0A020000, 16, 3))
    assert lines(router, state) == [
        "[route] 10.3.0.0/16 mtu 1400 nexthop via 10.0.0.9 dev eth1 weight 1 nexthop via 10.0.1.9 dev eth2 weight 3",
        "[route] blackhole 10.2.0.0/16",
    ]
    assert router.apply(RouterState(routes=route(0, 0, 1), paths=[], paths_gone=[])) == [
        {"object": "route", "dst": "default", "gateway": "10.0.0.9", "dev": "eth1"}
    ]
    assert lines(router, RouterState(routes=route(0x0A020000, 16, 0), paths_gone=[3])) == [
        "[route] Deleted blackhole 10.2.0.0/16"
    ]


def test_links_and_addresses() -> None:
    router = started()
    changed = interface(1, 0x0A000002, up=False, mtu=1400)
    assert lines(router, RouterState(interfaces=[changed])) == [
        f"[link] eth1 state DOWN mtu 1400 address 02:00:00:00:00:01 {POLICY}",
        "[address] Deleted 10.0.0.1/24 dev eth1",
        "[address] 10.0.0.2/24 dev eth1",
    ]
    assert lines(router, RouterState(interfaces_gone=[2])) == [
        "[address] Deleted 10.0.1.1/24 dev eth2",
        f"[link] Deleted eth2 state UP mtu 1500 address 02:00:00:00:00:02 {POLICY}",
    ]
    assert router.name(2) == "eth2", "its routes may go after it"


def test_a_snapshot_after_a_gap_shows_just_what_changed_meanwhile() -> None:
    router = started()
    again = RouterState(full=True, interfaces=[ETH1, ETH2], paths=[VIA_9], routes=route(0x0A020000, 16, 1))
    assert router.apply(again) == []
    renumbered = VIA_9.model_copy(update={"id": 7})
    other = RouterState(full=True, interfaces=[ETH1], paths=[renumbered], routes=route(0x0A040000, 16, 7))
    assert lines(router, other) == [
        "[address] Deleted 10.0.1.1/24 dev eth2",
        f"[link] Deleted eth2 state UP mtu 1500 address 02:00:00:00:00:02 {POLICY}",
        "[route] 10.4.0.0/16 via 10.0.0.9 dev eth1",
        "[route] Deleted 10.2.0.0/16 via 10.0.0.9 dev eth1",
    ]


def test_neighbours() -> None:
    router, neighbours = started(), NeighbourChanges()
    known = Neighbour(interface=1, address=0x0A000009, mac=bytes((2, 0, 0, 0, 0, 9)))
    assert neighbours.apply(NeighbourState(full=True, neighbours=[known]), router) == []
    moved = known.model_copy(update={"mac": bytes((2, 0, 0, 0, 0, 10))})
    new = Neighbour(interface=2, address=0x0A000109, mac=bytes((2, 0, 0, 0, 1, 9)))
    told = neighbours.apply(NeighbourState(neighbours=[moved, new, new], gone=[]), router)
    assert [line(change) for change in told] == [
        "[neigh] 10.0.0.9 dev eth1 lladdr 02:00:00:00:00:0a",
        "[neigh] 10.0.1.9 dev eth2 lladdr 02:00:00:00:01:09",
    ]
    assert neighbours.apply(NeighbourState(full=True, neighbours=[new]), router) == [
        {"object": "neigh", "deleted": True, "dst": "10.0.0.9", "dev": "eth1", "lladdr": "02:00:00:00:00:0a"}
    ]
    assert neighbours.apply(NeighbourState(gone=[(1, 0x0A000009)]), router) == [], "it was not there"
