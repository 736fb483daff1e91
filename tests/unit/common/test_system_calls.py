"""System calls out of compiled code: their results, and their errors as negative numbers."""

import errno
import os
import select
import signal
import socket
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from services.common.kernels import kernel
from services.common.system_calls import (
    MONOTONIC,
    REALTIME,
    clock_ns,
    drain,
    happened,
    send_messages,
    sleep_ns,
    wait_readable,
    watch,
    work_in_batches,
    write_byte,
)

CLOSED = 1_000_000


@kernel("int64", "int64")
def _clock(number: int) -> int:
    return clock_ns(number)  # type: ignore[no-any-return]


@kernel("void", "int64")
def _sleep(duration: int) -> None:
    sleep_ns(duration)


@kernel("int64", "int64[::1]", "int64")
def _wait(watched: npt.NDArray[np.int64], limit_ms: int) -> int:
    return wait_readable(watched, limit_ms)  # type: ignore[no-any-return]


@kernel("int64", "int64[::1]", "int64")
def _happened(watched: npt.NDArray[np.int64], number: int) -> int:
    return happened(watched, number)  # type: ignore[no-any-return]


@kernel("int64", "int64")
def _drain(descriptor: int) -> int:
    return drain(descriptor)  # type: ignore[no-any-return]


@kernel("int64", "int64")
def _write(descriptor: int) -> int:
    return write_byte(descriptor)  # type: ignore[no-any-return]


@kernel("int64", "int64", "int64", "int64")
def _send(descriptor: int, messages: int, count: int) -> int:
    return send_messages(descriptor, messages, count, 0)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("number", "reference"), [(MONOTONIC, time.monotonic_ns), (REALTIME, time.time_ns)], ids=["monotonic", "realtime"]
)
def test_clocks_are_pythons(number: int, reference: Callable[[], int]) -> None:
    before = reference()
    seen = _clock(number)
    assert before <= seen <= reference()


def test_a_sleep_lasts_as_long_as_it_says() -> None:
    before = time.monotonic_ns()
    _sleep(2_000_000)
    assert time.monotonic_ns() - before >= 2_000_000


def test_waiting_for_pipes() -> None:
    quiet, quiet_end = os.pipe()
    readable, writable = os.pipe()
    watched = watch([quiet, readable])
    try:
        assert _wait(watched, 0) == 0
        assert _write(writable) == 1
        assert _wait(watched, 10_000) == 1
        assert [_happened(watched, number) for number in range(2)] == [0, select.POLLIN]
        assert os.read(readable, 10) == b"\0"
        assert _wait(watched, 0) == _happened(watched, 1) == 0
        os.close(writable)
        os.write(quiet_end, b"x")
        assert _wait(watched, 0) == 2
        assert [_happened(watched, number) for number in range(2)] == [select.POLLIN, select.POLLHUP]
    finally:
        for descriptor in (quiet, quiet_end, readable):
            os.close(descriptor)


def test_a_signal_ends_the_waiting() -> None:
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    readable, writable = os.pipe()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        assert _wait(watch([readable]), 60_000) == -errno.EINTR
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        os.close(readable)
        os.close(writable)


def test_draining_a_pipe() -> None:
    readable, writable = os.pipe()
    os.set_blocking(readable, False)
    try:
        os.write(writable, b"x" * 100)
        assert [_drain(readable) for _ in range(3)] == [64, 36, -errno.EAGAIN]
    finally:
        os.close(readable)
        os.close(writable)


def test_errors_are_negative_numbers() -> None:
    assert _write(CLOSED) == -errno.EBADF
    assert _drain(CLOSED) == -errno.EBADF
    assert _send(CLOSED, 0, 1) == -errno.EBADF
    watched = watch([CLOSED])
    assert _wait(watched, 0) == 1
    assert _happened(watched, 0) == select.POLLNVAL
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        assert _send(udp.fileno(), 8, 1) == -errno.EFAULT


@pytest.mark.parametrize(
    ("before", "after"), [(os.SCHED_OTHER, os.SCHED_BATCH), (os.SCHED_IDLE, os.SCHED_IDLE)], ids=["other", "idle"]
)
def test_working_in_batches_needs_no_privilege_and_keeps_a_policy_that_was_chosen(before: int, after: int) -> None:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.sched_setscheduler(0, before, os.sched_param(0))
            if os.geteuid() == 0:
                os.setuid(65_534)
            work_in_batches()
            status = 0 if os.sched_getscheduler(0) == after else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
