"""System calls out of compiled code: their results, and their errors as negative numbers."""

import errno
import os
import select
import socket
import time
from collections.abc import Callable

import pytest

from services.common.kernels import kernel
from services.common.system_calls import (
    MONOTONIC,
    REALTIME,
    clock_ns,
    drain,
    send_messages,
    sleep_ns,
    wait_readable,
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


@kernel("int64", "int64", "int64")
def _wait(descriptor: int, limit_ms: int) -> int:
    return wait_readable(descriptor, limit_ms)  # type: ignore[no-any-return]


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


def test_waiting_for_a_pipe() -> None:
    readable, writable = os.pipe()
    try:
        assert _wait(readable, 0) == 0
        assert _write(writable) == 1
        assert _wait(readable, 10_000) == select.POLLIN
        assert os.read(readable, 10) == b"\0"
        os.close(writable)
        assert _wait(readable, 0) & select.POLLHUP
    finally:
        os.close(readable)


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
    assert _wait(CLOSED, 0) == select.POLLNVAL
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        assert _send(udp.fileno(), 8, 1) == -errno.EFAULT


def test_working_in_batches_needs_no_privilege() -> None:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if os.geteuid() == 0:
                os.setuid(65_534)
            work_in_batches()
            status = 0 if os.sched_getscheduler(0) == os.SCHED_BATCH else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
