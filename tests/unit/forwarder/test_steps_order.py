"""The order in which `control.steps` lists the steps is that of the code that forwards."""

import pytest
from pipeline_router import DF, ETH0, ETHERNET, bench_with, datagram

from services.common.counters import Counter
from services.control.steps import STEPS

# For each step a change that makes a good datagram fail there
FAILS = {
    "frame": {"packet_type": 3},
    "header": {"checksum": True},
    "addresses": {"source": "127.0.0.1"},
    "source route": {"options": bytes([131, 3, 4, 0])},
    "destination": {"destination": "10.0.0.1"},
    "station": {"packet_type": 1},
    "link-local": {"destination": "169.254.1.1"},
    "ttl": {"ttl": 1},
    "route": {"destination": "203.0.113.1"},
    "mtu": {"word": DF, "payload": bytes(1481)},
    "neighbour": {"destination": "198.51.100.200"},
}
NAMES = list(FAILS)


def verdict_of(*names: str) -> Counter:
    """Let a datagram with these faults through; of two that set the same field, the first one's stands."""
    fields = {key: value for name in reversed(names) for key, value in FAILS[name].items()}
    packet_type = fields.pop("packet_type", 0)
    is_damaged = fields.pop("checksum", False)
    frame = bytearray(ETHERNET + datagram(**fields))
    if is_damaged:
        frame[24] ^= 0xFF
    return Counter[bench_with().one(bytes(frame), ETH0, packet_type).verdict]


def step_of(verdict: Counter) -> str:
    return next(step.name for step in STEPS if verdict in step.verdicts)


@pytest.mark.parametrize("name", NAMES)
def test_each_fault_alone_falls_at_its_step(name: str) -> None:
    assert step_of(verdict_of(name)) == name


@pytest.mark.parametrize(("first", "second"), [(a, b) for at, a in enumerate(NAMES) for b in NAMES[at + 1 :]])
def test_of_two_faults_the_earlier_step_decides(first: str, second: str) -> None:
    if set(FAILS[first]) & set(FAILS[second]):
        return  # a datagram has only one of either
    assert step_of(verdict_of(first, second)) == first
