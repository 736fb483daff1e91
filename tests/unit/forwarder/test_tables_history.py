"""Deltas one after the other, and a snapshot of what they come to, must give the same answers."""

import struct

from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline_rig import interface, route_records
from table_states import (
    ETH0,
    ETH1,
    ETH2,
    HOST_MAC,
    MAC0,
    MAC1,
    NEW_MAC,
    apply,
    found,
    ip,
    neighbour,
    route,
    tables_with,
    unicast,
)

from services.common.messages import Interface, Neighbour, NeighbourState, Path, RouterState
from services.forwarder.tables import ForwardingTables

PREFIXES = ("0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.128/25", "10.1.2.200/32", "172.16.0.0/12")
PROBES = ("1.1.1.1", "10.2.0.0", "10.1.3.0", "10.1.2.1", "10.1.2.129", "10.1.2.200", "172.20.1.1")
GATEWAYS = ("10.0.0.8", "10.0.0.9", "0.0.0.0")


@st.composite
def histories(draw: st.DrawFn) -> list[RouterState | NeighbourState]:
    """Changes as control and arp publish them: only what they have announced is named, and withdrawn before it goes."""
    steps: list[RouterState | NeighbourState] = []
    links: dict[int, Interface] = {}
    paths: dict[int, Path] = {}
    routes: dict[str, int] = {}
    for _ in range(draw(st.integers(1, 12))):
        kind = draw(st.sampled_from(("link", "route", "route", "withdraw", "neighbour", "neighbour gone", "link gone")))
        index = draw(st.sampled_from((ETH0, ETH1, ETH2)))
        if kind == "link":
            links[index] = interface(
                index, mac=draw(st.sampled_from((MAC0, MAC1))), mtu=draw(st.sampled_from((1500, 900)))
            )
            steps.append(RouterState(interfaces=[links[index]]))
        elif kind == "route" and links:
            number = len(steps) + 1
            hops = draw(
                st.lists(st.tuples(st.sampled_from(sorted(links)), st.sampled_from(GATEWAYS)), min_size=1, max_size=3)
            )
            paths[number] = unicast(number, *hops, mtu=draw(st.sampled_from((0, 600))))
            prefix = draw(st.sampled_from(PREFIXES))
            old, routes[prefix] = routes.get(prefix), number
            gone = [] if old is None or old in routes.values() else [old]
            steps.append(
                RouterState(paths=[paths[number]], routes=route_records([route(prefix, number)]), paths_gone=gone)
            )
        elif kind == "withdraw" and routes:
            prefix = draw(st.sampled_from(sorted(routes)))
            steps.append(RouterState(routes=route_records([route(prefix, 0)]), paths_gone=[routes.pop(prefix)]))
        elif kind == "link gone" and index in links:
            del links[index]
            lost = [
                prefix
                for prefix, number in routes.items()
                if index in {hop.interface for hop in paths[number].next_hops}
            ]
            numbers = [routes.pop(prefix) for prefix in lost]
            steps.append(
                RouterState(
                    interfaces_gone=[index],
                    routes=route_records([route(prefix, 0) for prefix in lost]),
                    paths_gone=numbers,
                )
            )
        elif kind == "neighbour":
            mac = draw(st.sampled_from((HOST_MAC, NEW_MAC)))
            steps.append(NeighbourState(neighbours=[neighbour(index, draw(st.sampled_from(GATEWAYS[:2])), mac)]))
        elif kind == "neighbour gone":
            steps.append(NeighbourState(gone=[(index, ip(draw(st.sampled_from(GATEWAYS[:2]))))]))
    return steps


def summed_up(steps: list[RouterState | NeighbourState]) -> tuple[RouterState, NeighbourState]:
    """What a history comes to, as control and arp would put it in a snapshot."""
    links: dict[int, Interface] = {}
    paths: dict[int, Path] = {}
    routes: dict[tuple[int, int], int] = {}
    macs: dict[tuple[int, int], bytes] = {}
    for step in steps:
        if isinstance(step, NeighbourState):
            macs |= {(each.interface, each.address): each.mac for each in step.neighbours}
            for gone in step.gone:
                macs.pop(gone, None)
            continue
        links |= {each.index: each for each in step.interfaces}
        paths |= {each.id: each for each in step.paths}
        routes |= {(prefix, length): number for prefix, length, number in struct.iter_unpack("=IBI", step.routes)}
        for index in step.interfaces_gone:
            del links[index]
            macs = {owner: mac for owner, mac in macs.items() if owner[0] != index}  # arp forgets them, too
    kept = {where: number for where, number in routes.items() if number}
    router = RouterState(
        full=True,
        interfaces=list(links.values()),
        paths=[paths[number] for number in set(kept.values())],
        routes=route_records([(*where, number) for where, number in kept.items()]),
    )
    neighbours = [Neighbour(interface=index, address=address, mac=mac) for (index, address), mac in macs.items()]
    return router, NeighbourState(full=True, neighbours=neighbours)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(histories())
def test_deltas_and_a_snapshot_of_their_outcome_give_the_same_answers(
    steps: list[RouterState | NeighbourState],
) -> None:
    followed = tables_with(*steps)
    snapshot = summed_up(steps)
    fresh = tables_with(*snapshot)
    # No frames went anywhere: what arp is asked for are next hops that fell silent, which no snapshot tells of.
    silent = NeighbourState(gone=followed.take_used())
    apply(fresh, silent)
    assert answers(followed) == answers(fresh)
    for state in snapshot:  # a snapshot that says nothing new changes nothing
        apply(followed, state)
    assert answers(followed) == answers(fresh)


def answers(tables: ForwardingTables) -> list[tuple[object, ...]]:
    probes = [(probe, flow) for probe in PROBES for flow in range(6)]
    return [(*found(tables, probe, flow), tables.resolve(ip(probe), flow).mtu) for probe, flow in probes]
