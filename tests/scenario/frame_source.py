"""A process that fills a frame ring: `python frame_source.py RING BELL_ENDPOINT FRAMES lockstep|free`.

Frame number n is `frame_bytes(n)` long, and its byte i is n + i. In lockstep each burst waits until the consumer has
given the one before back, and then for a short while that differs from burst to burst: so that it comes just while
the consumer goes to sleep, and no later frame makes up for a lost wake-up.

The last bell, rung when all frames were given back, says `FRAMES BURSTS`; the others are empty.
"""

import sys
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import zmq

from services.common.frame_ring import FULL, RingProducer, publish, reserve
from services.common.kernels import inlined, kernel
from services.common.memory import load_acquire

# the words that both ends share: the layout in frame_ring's docstring
TAIL: Final = 32
SLEEPS: Final = 48

SLOTS: Final = 64
AREA_BYTES: Final = 40_000
MOST_SPINS: Final = 600
"""About 1 µs: as long as the consumer takes from giving frames back until it sleeps."""
WAIT_UNTIL_ASLEEP: Final = 64
"""Every so many bursts the consumer is really asleep."""
SENDING_S: Final = 15.0
"""On a machine that has much else to do, the frames of so many seconds are enough."""
LIMIT_S: Final = 120.0
"""More than the consumer waits for a bell."""


@inlined
def frame_bytes(number: Any) -> Any:
    """Return the length of frame `number`: 14 to 1513 bytes, in no order."""
    return 14 + number * 7919 % 1500


@kernel("int64", "int64[::1]", "int64[:, ::1]", "uint8[::1]", "int64[::1]", "int64", "int64")
def push(words: Any, descriptors: Any, area: Any, ends: Any, burst: int, spins: int) -> int:
    """Push up to `burst` frames; return how many, negative when the consumer must be woken."""
    head = ends[0]
    for _ in range(burst):
        length = frame_bytes(head)
        position = reserve(words, descriptors, area.shape[0], head, ends[1], 10 + length)
        if position == FULL:
            break
        start = position % area.shape[0] + 10
        for place in range(length):
            area[start + place] = head + place
        slot = head % descriptors.shape[0]
        descriptors[slot, 0] = position
        descriptors[slot, 1] = length
        head += 1
        ends[1] = position + 10 + length
    pushed = head - ends[0]
    if pushed == 0:
        return 0
    for _ in range(spins):
        if load_acquire(words, TAIL) < 0:
            return 0
    ends[0] = head
    return int(-pushed if publish(words, head) else pushed)


@kernel("boolean", "int64[::1]", "int64", "int64", "int64")
def wait_for_word(words: Any, index: int, value: int, looks: int) -> bool:
    """Look at a shared word at most so many times; tell whether it has reached the value."""
    while load_acquire(words, index) < value and looks > 0:
        looks -= 1
    return looks > 0


def wait(words: Any, index: int, value: int) -> None:
    """Wait for a shared word to reach a value; end this process when it does not."""
    deadline = time.monotonic() + LIMIT_S
    while not wait_for_word(words, index, value, 10_000):
        time.sleep(0)
        if time.monotonic() > deadline:
            sys.exit(f"word {index} is {words[index]}, and never became {value}")


def main(ring_path: str, endpoint: str, frames: int, lockstep: bool) -> None:
    ring = RingProducer(Path(ring_path), 7, SLOTS, AREA_BYTES)
    context: zmq.Context[Any] = zmq.Context()
    bell = context.socket(zmq.PUSH)
    bell.connect(endpoint)
    random = np.random.default_rng(1)
    bursts = random.integers(1, 16, 1 << 16).tolist()
    spins = random.integers(0, MOST_SPINS, 1 << 16).tolist()
    ends = np.zeros(2, np.int64)
    print("ready", flush=True)
    sys.stdin.readline()
    number = 0
    deadline = time.monotonic() + SENDING_S
    while (head := int(ends[0])) < frames and time.monotonic() < deadline:
        number += 1
        if lockstep:
            wait(ring.words, TAIL, head)
            if number % WAIT_UNTIL_ASLEEP == 0:
                wait(ring.words, SLEEPS, 1)
        burst = min(bursts[number % len(bursts)], frames - head)
        pushed = push(ring.words, ring.descriptors, ring.area, ends, burst, spins[number % len(spins)])
        if pushed < 0:
            bell.send(b"")
        elif pushed == 0:
            time.sleep(0)  # full: let the consumer run
    wait(ring.words, TAIL, int(ends[0]))
    bell.send(b"%d %d" % (int(ends[0]), number))
    bell.close()
    context.term()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "lockstep")
