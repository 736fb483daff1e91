"""The frame ring between two processes: every frame arrives whole, in order, and no wake-up is lost."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq
from frame_source import WAIT_UNTIL_ASLEEP, frame_bytes

from services.common.frame_ring import INVALID, RingConsumer, frame_start
from services.common.kernels import kernel

FRAMES = 300_000
LIMIT_MS = 60_000
"""For a bell: far more than it takes. No other timeout wakes the consumer."""


@kernel("int64", "int64[:, ::1]", "uint8[::1]", "int64", "int64")
def first_damaged(descriptors: Any, area: Any, first: int, count: int) -> int:
    """Return the first of these frames that is not what the source made, or -1."""
    for number in range(first, first + count):
        start = frame_start(descriptors, area.shape[0], number)
        length = descriptors[number % descriptors.shape[0], 1]
        if start == INVALID or length != frame_bytes(number):
            return number
        for place in range(length):
            if area[start + place] != (number + place) & 0xFF:
                return number
    return -1


class Consumer:
    """What a forwarder does with its end, without the poll that would make up for a lost wake-up."""

    def __init__(self, ring: RingConsumer, bell: "zmq.Socket[bytes]") -> None:
        self.ring = ring
        self.bell = bell
        self.sleeps = 0
        self.bursts = 0

    def consume_all(self) -> None:
        ring = self.ring
        while not self.bursts:
            available = ring.available()
            if available:
                assert 0 < available <= len(ring.descriptors)
                damaged = first_damaged(ring.descriptors, ring.area, ring.tail, available)
                assert damaged < 0, f"frame {damaged} is damaged"
                ring.give_back(available)
            elif ring.go_to_sleep():
                self.sleeps += 1
                self._sleep()

    def _sleep(self) -> None:
        # Also a bell for frames that were found before the consumer lay down has taken its flag back: whoever is
        # woken lies down anew.
        assert self.bell.poll(LIMIT_MS), f"lost wake-up: asleep at frame {self.ring.tail}, after {self.sleeps}"
        if end := self.bell.recv():
            frames, self.bursts = map(int, end.split())
            assert self.ring.tail == frames


@contextmanager
def source(path: Path, endpoint: str, mode: str) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("frame_source.py")), str(path), endpoint, str(FRAMES), mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("mode", ["lockstep", "free"])
def test_every_frame_arrives_and_no_wake_up_is_lost(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "eth0.ring"
    endpoint = f"ipc://{tmp_path}/bell"
    with zmq.Context() as context, context.socket(zmq.PULL) as bell:
        bell.bind(endpoint)
        with source(path, endpoint, mode) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            consumer = Consumer(RingConsumer(path), bell)
            consumer.ring.wake()
            process.stdin.write("go\n")
            process.stdin.flush()
            consumer.consume_all()
            assert process.wait(LIMIT_MS / 1000) == 0
        assert not bell.poll(0), "a bell after the end"
    if mode == "lockstep":
        assert consumer.sleeps >= consumer.bursts // WAIT_UNTIL_ASLEEP
