"""CPU time as the benchmark reads it, and the cores that it gives to whom."""

import os
import time
from pathlib import Path

import pytest

from services.launcher.bench import cpu, traffic
from services.launcher.bench.steering import mask_text

STAT = """\
cpu  1000 200 30 9000 4000 5 6 70000 800 90
cpu0 500 100 15 4500 2000 2 3 35000 400 45
cpu1 500 100 15 4500 2000 2 3 35000 400 45
intr 1
"""


def test_what_is_idle_and_what_others_stole() -> None:
    assert cpu.idle_ticks(STAT) == (9000 + 4000 + 70000, 2)


def test_the_machine_is_busy_no_longer_than_it_has_cores() -> None:
    began, before = time.monotonic(), cpu.machine_s()
    used = time.process_time()
    while time.process_time() < used + 0.1:
        pass
    busy, elapsed = cpu.machine_s() - before, time.monotonic() - began
    cores = cpu.idle_ticks(Path("/proc/stat").read_text())[1]
    assert busy <= cores * elapsed + 0.05  # ticks of idling are whole ones


def test_a_family_is_all_that_descend_from_it() -> None:
    parents = {1: 0, 10: 1, 11: 10, 12: 11, 13: 10, 20: 1, 21: 20}
    assert cpu.family(10, parents) == {10, 11, 12, 13}
    assert cpu.family(21, parents) == {21}


def test_this_process_is_in_its_own_family_and_its_parents() -> None:
    assert os.getpid() in cpu.running_family(os.getpid())
    assert os.getpid() in cpu.running_family(os.getppid())


def test_a_process_has_the_time_that_it_says_itself() -> None:
    before = time.process_time()
    seen = cpu.processes_s([os.getpid()])
    assert before <= seen <= time.process_time()
    assert cpu.processes_s([]) == 0


@pytest.mark.parametrize(
    ("cores", "generators", "mask"), [(1, (0,), 0b1), (2, (0,), 0b10), (4, (0, 1), 0b1100), (5, (0, 1), 0b11100)]
)
def test_generators_have_half_of_the_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, generators: tuple[int, ...], mask: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert traffic.generator_cores() == generators
    assert traffic.other_cores_mask() == mask


def test_a_mask_of_cores_as_the_kernel_reads_it() -> None:
    assert [mask_text(mask) for mask in (0, 2, 1 << 31, 1 << 32, 0x1_2345_6789_ABCD_EF01)] == [
        "00000000",
        "00000002",
        "80000000",
        "00000001,00000000",
        "00000001,23456789,abcdef01",
    ]
