"""The file of the run directory that the sessions live in, so that they outlive the forwarder.

A page of header says what it is: magic, version, geometry, boot, secrets of the hash tables, and a check over all of
that. Each session has a check of its own (`layout.CHECK`).
"""

import hashlib
import mmap
import os
import secrets
import struct
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from services.common.errors import HopwireError
from services.forwarder.nat.layout import SESSION_WORDS, Words

_MAGIC: Final = b"hopwireN"
_VERSION: Final = 1
_HEADER = struct.Struct("=8sIIQ16sqq32s")  # magic, version, words of a session, capacity, boot, seed, multiplier, check
_HEADER_BYTES: Final = 4096
_WORD_BYTES: Final = 8
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class Secrets(NamedTuple):
    """What the hashes of keys depend on, and which outside address a host is paired with: it keeps that one."""

    seed: int
    multiplier: int


class SessionFile:
    """Memory for sessions, mapped from a file.

    :ivar words: (capacity * SESSION_WORDS,)
    """

    def __init__(self, memory: mmap.mmap, capacity: int, hashing: Secrets) -> None:
        """Take mapped memory; use `open_file` or `make_file`."""
        self.capacity = capacity
        self.hashing = hashing
        self.words: Words = np.frombuffer(memory, np.int64, capacity * SESSION_WORDS, _HEADER_BYTES)


def _boot() -> bytes:
    """Return 16 bytes that tell this boot from others: times in the file are of its monotonic clock."""
    return bytes.fromhex(_BOOT_ID.read_text(encoding="ascii").strip().replace("-", ""))


def _header(capacity: int, hashing: Secrets) -> bytes:
    fields = (_MAGIC, _VERSION, SESSION_WORDS, capacity, _boot(), hashing.seed, hashing.multiplier)
    check = hashlib.sha256(_HEADER.pack(*fields, b"")).digest()
    return _HEADER.pack(*fields, check)


def _size(capacity: int) -> int:
    return _HEADER_BYTES + capacity * SESSION_WORDS * _WORD_BYTES


def open_file(path: Path) -> SessionFile | None:
    """Map the file that a predecessor left; None where there is none, or it is of another version or boot, or damaged.

    :raises HopwireError: it cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HopwireError(f"cannot open {path}: {error.strerror}; check the run directory") from error
    try:
        held = os.pread(descriptor, _HEADER.size, 0)
        if len(held) < _HEADER.size:
            return None
        capacity, seed, multiplier = (_HEADER.unpack(held)[place] for place in (3, 5, 6))
        hashing = Secrets(seed, multiplier)
        if held != _header(capacity, hashing) or os.fstat(descriptor).st_size != _size(capacity):
            return None
        return SessionFile(mmap.mmap(descriptor, _size(capacity)), capacity, hashing)
    finally:
        os.close(descriptor)


def make_file(path: Path, capacity: int, hashing: Secrets | None = None) -> SessionFile:
    """Make a new file, without sessions, in place of an older one, which whoever has mapped it keeps.

    :param hashing: by default new ones.
    :raises HopwireError: it cannot be made, or there is no room for it.
    """
    hashing = hashing or Secrets(secrets.randbits(62), secrets.randbits(62) | 1)
    fresh = path.with_suffix(".new")
    try:
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        try:
            # on a full tmpfs a hole would end the process by SIGBUS as soon as a session comes to it
            os.posix_fallocate(descriptor, 0, _size(capacity))
            os.pwrite(descriptor, _header(capacity, hashing), 0)
            memory = mmap.mmap(descriptor, _size(capacity))
            fresh.rename(path)
        finally:
            os.close(descriptor)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise HopwireError(
            f"cannot keep NAT sessions in {path}: {error.strerror}; make room, or set a smaller nat.max_sessions"
        ) from error
    return SessionFile(memory, capacity, hashing)
