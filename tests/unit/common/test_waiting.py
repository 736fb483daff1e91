"""Waiting for a descriptor: ready, not ready, gone, and numbers that select(2) does not take."""

import fcntl
import os
import resource
import select
from collections.abc import Iterator

import pytest

from services.common.waiting import is_readable, is_writable

BEYOND_SELECT = 1024  # FD_SETSIZE


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", 0) as out, os.fdopen(writer, "wb", 0) as into:
        yield out.fileno(), into.fileno()


def test_readable_is_what_has_something_to_read(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    assert not is_readable(reader)
    os.write(writer, b"x")
    assert is_readable(reader, 60)
    os.read(reader, 1)
    assert not is_readable(reader, 0.01)


def test_readable_is_what_nobody_writes_to_any_more() -> None:
    reader, writer = os.pipe()
    os.close(writer)
    with os.fdopen(reader, "rb", 0) as out:
        assert is_readable(out, 60)


def test_writable_is_what_has_room(pipe: tuple[int, int]) -> None:
    _reader, writer = pipe
    os.set_blocking(writer, False)
    assert is_writable(writer, 60)
    while is_writable(writer):
        os.write(writer, bytes(4096))
    with pytest.raises(BlockingIOError):
        os.write(writer, bytes(4096))
    assert not is_writable(writer, 0.01)


def test_descriptors_beyond_those_of_select(pipe: tuple[int, int]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard <= BEYOND_SELECT:
        pytest.skip("this process may not have so many descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * BEYOND_SELECT), hard))
    try:
        high = fcntl.fcntl(pipe[0], fcntl.F_DUPFD_CLOEXEC, BEYOND_SELECT)
        with os.fdopen(high, "rb", 0) as source:
            os.write(pipe[1], b"x")
            with pytest.raises(ValueError, match="out of range"):
                select.select([source], [], [], 0)
            assert is_readable(source)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
