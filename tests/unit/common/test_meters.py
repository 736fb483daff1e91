"""Meters and histograms: the bucket of a value, in Python and in compiled code, and what outlives a process."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from services.common.counters import METERS_START, Counter, CounterBlock
from services.common.kernels import kernel
from services.common.meters import (
    BUCKETS,
    HISTOGRAM_VALUES,
    METER_VALUES,
    Histogram,
    Meter,
    Meters,
    MetersSnapshot,
    histogram_place,
)
from services.common.observation import observe


@kernel("void", "int64[::1]", "int64", "int64")
def observe_compiled(meters: npt.NDArray[np.int64], place: int, value: int) -> None:
    observe(meters, place, value)


# value: the least exponent b with value <= 2**b
EDGES = [
    *[(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (8, 3), (9, 4), (256, 8), (257, 9), (1024, 10)],
    *[(2**34, 34), (2**34 + 1, 35), (2**35, 35), (2**35 + 1, 35), (2**60, 35)],
]


def empty() -> tuple[Meters, npt.NDArray[np.int64]]:
    values = np.zeros(METER_VALUES, np.int64)
    return Meters(memoryview(values)), values


@pytest.mark.parametrize(("value", "bucket"), EDGES)
def test_the_bucket_of_a_value(value: int, bucket: int) -> None:
    expected = np.zeros(METER_VALUES, np.int64)
    place = histogram_place(Histogram.FORWARD_NS)
    expected[place] = value
    expected[place + 1 + bucket] = 1
    meters, values = empty()
    meters.observe(Histogram.FORWARD_NS, value)
    assert values.tolist() == expected.tolist()
    compiled = np.zeros(METER_VALUES, np.int64)
    observe_compiled(compiled, place, value)
    assert compiled.tolist() == expected.tolist()


def test_no_two_overlap() -> None:
    places = [*(int(meter) for meter in Meter), *(histogram_place(histogram) for histogram in Histogram)]
    assert places[: len(Meter)] == list(range(len(Meter)))
    assert np.diff(places[len(Meter) :]).tolist() == [HISTOGRAM_VALUES] * (len(Histogram) - 1)
    assert places[-1] + HISTOGRAM_VALUES == METER_VALUES


def test_a_snapshot_has_what_is_not_zero() -> None:
    meters, _ = empty()
    assert meters.snapshot() == MetersSnapshot()
    meters.add(Meter.WAKE_UPS, 3)
    meters.observe_batch(Histogram.FORWARD_FRAMES, Histogram.FORWARD_NS, 6, 3e-9)
    assert meters.snapshot() == MetersSnapshot(
        {"WAKE_UPS": 3}, {"FORWARD_FRAMES": [6, 0, 0, 0, 1], "FORWARD_NS": [3, 0, 0, 1]}
    )
    for exponent in range(BUCKETS):
        meters.observe(Histogram.RECEIVE_NS, 2**exponent)
    assert meters.snapshot().histograms["RECEIVE_NS"] == [2**BUCKETS - 1, *[1] * BUCKETS]


def test_they_outlive_their_process_beside_the_counters(tmp_path: Path) -> None:
    path = tmp_path / "arp.bin"
    block = CounterBlock(path)
    block.add(Counter.RX_FRAMES, 5, 7)
    block.meters.add(Meter.STARTS)
    block.meters.observe(Histogram.RESOLVE_FRAMES, 2)
    compiled: npt.NDArray[Any] = np.frombuffer(block.values, np.int64)
    assert compiled[METERS_START + Meter.STARTS] == 1
    del compiled
    block.close()
    again = CounterBlock(path)
    assert again.snapshot() == {7: {"RX_FRAMES": 5}}
    assert again.meters.snapshot() == MetersSnapshot({"STARTS": 1}, {"RESOLVE_FRAMES": [2, 0, 1]})
