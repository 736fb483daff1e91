"""The two steps of the sleep flag against each other, instruction by instruction, many thousand times.

The consumer announces its sleep and looks at HEAD; the producer moves HEAD and looks at the announcement. Both
start each round together, so that their stores and loads meet. If neither sees the other, a wake-up is lost: on x86
it happens in about one of a thousand such rounds when the fences are taken out.
"""

import os
import threading
import time
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pytest

from services.common.frame_ring import PrivateRing, go_to_sleep, publish, wake
from services.common.kernels import inlined, kernel
from services.common.memory import load_acquire, store_release

ROUNDS: Final = 300_000
PART: Final = 2_000
LIMIT_S: Final = 5.0
"""Where the processors are busy with other things, this many seconds of rounds are enough."""

# words of `meeting`, each on a cache line of its own: the round that one is ready for, and has done
PRODUCER_READY, CONSUMER_READY, PRODUCER_DONE = 0, 16, 32

Words = npt.NDArray[np.int64]


@inlined
def meet(meeting: Any, own: Any, other: Any, number: Any, linger: Any) -> None:
    store_release(meeting, own, number)
    while load_acquire(meeting, other) < number:
        pass
    for _ in range(linger):
        load_acquire(meeting, own)


@kernel("void", "int64[::1]", "int64[::1]", "int64", "int64", "boolean[::1]")
def produce(words: Words, meeting: Words, first: int, rounds: int, woke: Any) -> None:
    for number in range(first, first + rounds):
        meet(meeting, PRODUCER_READY, CONSUMER_READY, number + 1, number % 7)
        woke[number] = publish(words, number + 1)
        store_release(meeting, PRODUCER_DONE, number + 1)


@kernel("void", "int64[::1]", "int64[::1]", "int64", "int64", "boolean[::1]")
def consume(words: Words, meeting: Words, first: int, rounds: int, slept: Any) -> None:
    for number in range(first, first + rounds):
        meet(meeting, CONSUMER_READY, PRODUCER_READY, number + 1, number % 11)
        slept[number] = go_to_sleep(words, number)
        while load_acquire(meeting, PRODUCER_DONE) < number + 1:
            pass
        wake(words)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor runs nothing at the same time")
def test_one_of_the_two_always_sees_the_other() -> None:
    ring = PrivateRing(1, 64)
    meeting = np.zeros(48, np.int64)
    woke, slept = np.zeros(ROUNDS, np.bool_), np.zeros(ROUNDS, np.bool_)
    started = time.monotonic()
    done = 0
    while done < ROUNDS and (time.monotonic() < started + LIMIT_S or not done):
        producer = threading.Thread(target=produce, args=(ring.words, meeting, done, PART, woke))
        producer.start()
        consume(ring.words, meeting, done, PART, slept)
        producer.join()
        done += PART
    lost = np.flatnonzero(slept[:done] & ~woke[:done])
    assert not len(lost), f"{len(lost)} of {done} wake-ups were lost, the first in round {lost[0]}"
