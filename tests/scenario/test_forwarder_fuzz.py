"""Any bytes leave the forwarder alive, and each frame has one fate."""

from ipaddress import IPv4Address
from pathlib import Path

import pytest
from forwarder_network import ETH0, ETH1, ETH2, FAR, GATEWAY, HOST1, HOST2, Network

from services.common.counters import Counter
from tests.unit.forwarder.random_frames import FrameMaker

OWN = ("192.168.1.1", "10.9.0.1")
AIMS = [IPv4Address(text) for text in (*OWN * 2, HOST1, HOST2, FAR, GATEWAY, "198.18.0.1", "192.168.1.77")]
EXPECTED = {
    "FORWARDED",
    "FRAGMENTED",
    "OPTIONS_FILLED",
    "DROP_MTU_EXCEEDED",
    "DROP_OPTION_MALFORMED",
    "DROP_GSO_UNFRAGMENTABLE",
    "DROP_REASSEMBLY_TIMEOUT",
    "DROP_ICMP_CHECKSUM",
}


@pytest.mark.parametrize("seed", range(4))
def test_random_frames(tmp_path: Path, seed: int) -> None:
    network = Network(tmp_path)
    network.route("198.18.0.0/15", ETH2, GATEWAY)
    maker = FrameMaker(seed, AIMS)
    for number in range(4000):
        arrival = maker.arrival()
        network.receive(
            arrival.frame[14:],
            on=(ETH0, ETH1, ETH2)[number % 3],
            packet_type=arrival.packet_type,
            virtio=arrival.virtio,
        )
        network.now += 0.01
        network.slow_path.expire(network.now)
    network.check_balance()
    network.now += 30.0
    network.slow_path.expire(network.now)
    network.check_balance()
    assert network.counters.total(Counter.WAITING) == 0
    assert set(network.counted()) >= EXPECTED
