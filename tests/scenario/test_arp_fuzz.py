"""Any bytes and any order of events: nothing is raised, every frame is accounted for, every bound holds."""

import tempfile
from contextlib import closing
from pathlib import Path

from arp_network import ETH0, ETH1, HOST, HOST_MAC, MAC0, NEW_MAC, OWN0, Network, arp_payload, interface
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.common.counters import Counter
from services.common.messages import Frame, RouterState
from services.common.parameters import ArpParameters

BOUNDS = ArpParameters(max_neighbours=4, max_waiting_frames=3, max_waiting_bytes=400, max_total_waiting_bytes=800)

interfaces = st.sampled_from([ETH0, ETH1, 77])
packet_types = st.sampled_from([0, 1, 2, 3, 4, 6])
addresses = st.one_of(st.sampled_from([0, HOST, HOST + 1, OWN0, 0x0A0000FF, 0xFFFFFFFF]), st.integers(0, 2**32 - 1))
macs = st.one_of(st.sampled_from([HOST_MAC, NEW_MAC, MAC0, bytes(6), b"\xff" * 6]), st.binary(min_size=6, max_size=6))
arp_payloads = st.builds(arp_payload, st.sampled_from([0, 1, 2, 3, 255]), macs, addresses, addresses, macs)
arp_frames = st.builds(
    lambda destination, source, payload: bytes(10) + destination + source + b"\x08\x06" + payload,
    macs,
    macs,
    st.one_of(arp_payloads, st.binary(max_size=60)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.one_of(arp_frames, st.binary(min_size=10, max_size=90)), packet_types, interfaces)))
def test_any_bytes_as_arp(frames: list[tuple[bytes, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as directory, closing(Network(Path(directory), BOUNDS)) as network:
        network.datagram()
        for data, packet_type, on in frames:
            network.hear_frame(data, packet_type, on)
        network.check_balance()
        assert network.count(Counter.TAKEN) == len(frames) + 1


events = st.one_of(
    st.tuples(st.just("datagram"), addresses, interfaces, st.integers(10, 500), st.booleans()),
    st.tuples(st.just("arp"), arp_payloads, interfaces, packet_types),
    st.tuples(st.just("used"), addresses),
    st.tuples(st.just("time"), st.floats(0.0, 40.0)),
    st.tuples(st.just("link"), st.booleans(), st.booleans()),
    st.tuples(st.just("gone"), interfaces),
    st.tuples(st.just("send fails"), st.sampled_from([None, Counter.DROP_TX_FULL, Counter.DROP_TX_FAILED])),
    st.tuples(st.just("forwarder"), st.booleans()),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(events, max_size=60))
@example([("datagram", HOST, ETH0, 100, False), ("time", 3.0), ("forwarder", False), ("datagram", HOST, ETH0, 9, True)])
def test_any_order_of_events(happenings: list[tuple[object, ...]]) -> None:
    with tempfile.TemporaryDirectory() as directory, closing(Network(Path(directory), BOUNDS)) as network:
        for happening in happenings:
            apply(network, *happening)
            network.check_balance()
            shown = network.resolver.show(network.now)
            assert len(shown) <= BOUNDS.max_neighbours
            assert all(each["waiting_frames"] <= BOUNDS.max_waiting_frames for each in shown)
            # every entry has a deadline ahead, so none lives for ever
            assert not shown or network.now <= network.resolver.next_deadline() < float("inf")
        network.perform(network.resolver.on_stop())
        assert network.count(Counter.WAITING) == 0


def apply(network: Network, kind: object, *values: object) -> None:
    match (kind, *values):
        case ("datagram", int(next_hop), int(out), int(length), bool(generated)):
            network.unresolved(Frame(1, out, next_hop, 0, generated, bytes(length)))
        case ("arp", bytes(payload), int(on), int(packet_type)):
            network.hear_frame(bytes(10) + MAC0 + HOST_MAC + b"\x08\x06" + payload, packet_type, on)
        case ("used", int(address)):
            network.use(address)
        case ("time", float(seconds)):
            network.advance(seconds)
        case ("link", bool(up), bool(has_address)):
            addresses = ((OWN0, 24),) if has_address else ()
            network.control(RouterState(interfaces=[interface(up=up, addresses=addresses)]))
        case ("gone", int(index)):
            network.control(RouterState(interfaces_gone=[index]))
        case ("send fails", reason):
            network.send_fails = reason if isinstance(reason, Counter) else None
        case ("forwarder", bool(is_there)):
            network.forwarder_is_there = is_there
