"""Row 34: equal-cost multipath."""

import random
from collections import Counter, defaultdict

import pytest
from router_lab import wait_for

from conformance.datagrams import next_identification, plain_udp, with_checksum
from conformance.network import Network

FLOWS = 4000
"""So many that a right hash misses 15 % less than once in 100,000 runs: at 11:45 its deviation is 3.2 %."""
BEHIND = "10.34.0.0/16"
_BURST = 250
_IDENTIFICATION, _FLOW = slice(18, 20), slice(26, 38)  # in a frame; a flow by its addresses and ports


def _nexthops(net: Network, first: int, second: int) -> list[dict[str, object]]:
    return [{"via": net.h2.address, "weight": first}, {"via": net.h3.address, "weight": second}]


def _datagram(source: random.Random) -> bytes:
    """Return the first datagram of a random flow."""
    ports = (source.randrange(1024, 65_536), source.randrange(1024, 65_536))
    destination = f"10.34.{source.randrange(256)}.{source.randrange(1, 255)}"
    return plain_udp(f"172.17.{source.randrange(100, 200)}.{source.randrange(1, 255)}", destination, ports=ports)


def _as_protocol(datagram: bytes, protocol: int) -> bytes:
    return with_checksum(datagram[:9] + bytes((protocol,)) + datagram[10:])


def _again(datagram: bytes) -> bytes:
    """Return the next datagram of the same flow."""
    return with_checksum(datagram[:4] + next_identification().to_bytes(2, "big") + datagram[6:])


def _heard(net: Network) -> dict[str, list[bytes]]:
    """Return what has come to 10.34/16, by host."""
    return {
        station.name: [frame for frame in station.listen() if frame[30:32] == b"\x0a\x22"]
        for station in (net.h2, net.h3)
    }


def _carried(net: Network, datagrams: list[bytes]) -> dict[str, list[bytes]]:
    """Send all, in bursts that every queue has room for; return what came to each host, which must be all."""
    for start in range(0, len(datagrams), _BURST):
        burst = datagrams[start : start + _BURST]
        for datagram in burst:
            net.h1.send_ip(datagram)
        wanted = start + len(burst)
        wait_for("all arrive", lambda wanted=wanted: sum(map(len, _heard(net).values())) >= wanted)
    net.flush()
    heard = _heard(net)
    assert sum(map(len, heard.values())) == len(datagrams)
    return heard


@pytest.mark.parametrize(("first", "second"), [(1, 1), (2, 1), (11, 45)])
def test_row_34_weights_are_respected(net: Network, first: int, second: int) -> None:
    source = random.Random(34)
    with net.router.route(BEHIND, nexthops=_nexthops(net, first, second)):
        heard = _carried(net, [_datagram(source) for _ in range(FLOWS)])
    for name, weight in (("h2", first), ("h3", second)):
        assert len(heard[name]) == pytest.approx(FLOWS * weight / (first + second), rel=0.15), name


def test_row_34_a_flow_takes_one_way_and_is_never_reordered(net: Network) -> None:
    source = random.Random(340)
    flows = [_datagram(source) for _ in range(50)]
    sent = [_again(flow) for _ in range(40) for flow in flows]
    with net.router.route(BEHIND, nexthops=_nexthops(net, 1, 1)):
        heard = _carried(net, sent)
    sent_of: dict[bytes, list[bytes]] = defaultdict(list)
    for datagram in sent:
        sent_of[datagram[12:24]].append(datagram[4:6])
    ways: Counter[bytes] = Counter()
    for frames in heard.values():
        heard_of: dict[bytes, list[bytes]] = defaultdict(list)
        for frame in frames:
            heard_of[frame[_FLOW]].append(frame[_IDENTIFICATION])
        ways.update(heard_of.keys())
        assert all(sent_of[flow] == numbers for flow, numbers in heard_of.items())
    assert set(ways.values()) == {1}
    assert all(heard.values()), "both ways are used"


@pytest.mark.parametrize("what", ["source", "destination", "source_port", "destination_port", "protocol"])
def test_row_34_each_part_of_the_flow_counts(net: Network, what: str) -> None:
    """Flows that differ in one part only still use both ways (a protocol has but 256 values, ports 65,536)."""
    varied = []
    for number in range(1, 65):
        ports = (5000 + number * (what == "source_port"), 80 + number * (what == "destination_port"))
        source = f"172.17.200.{number if what == 'source' else 1}"
        destination = f"10.34.0.{number if what == 'destination' else 1}"
        datagram = plain_udp(source, destination, ports=ports)
        varied.append(_as_protocol(datagram, number + 140) if what == "protocol" else datagram)
    with net.router.route(BEHIND, nexthops=_nexthops(net, 1, 1)):
        heard = _carried(net, varied)
    assert all(heard.values())


def test_row_34_a_dead_next_hop_leaves_the_group(net: Network) -> None:
    source = random.Random(341)
    with net.router.route(BEHIND, nexthops=_nexthops(net, 1, 1)):
        net.set_carrier(net.h3, up=False)
        try:
            heard = _carried_to(net, [_datagram(source) for _ in range(100)])
        finally:
            net.set_carrier(net.h3, up=True)
        assert len(heard) == 100
        net.forget()
        assert all(_carried(net, [_datagram(source) for _ in range(200)]).values())


def _carried_to(net: Network, datagrams: list[bytes]) -> list[bytes]:
    """Send all, and return what came to h2 while h3 is away."""
    for datagram in datagrams:
        net.h1.send_ip(datagram)
    net.flush([net.h1, net.h2])
    return _heard(net)["h2"]
