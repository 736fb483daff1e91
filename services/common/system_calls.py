"""System calls that kernels make by themselves, so that a loop over batches need not come back to Python.

Each is the C library's function; a failure is returned as the negative error number, as the kernel itself does.
"""

import ctypes
import os
import select
import time
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils

from services.common.errors import HopwireError
from services.common.kernels import inlined, intrinsic

_INT: Final = ir.IntType(32)
_LONG: Final = ir.IntType(64)
_POINTER: Final = ir.IntType(8).as_pointer()
_POLLIN: Final = int(select.POLLIN)
# struct pollfd as a little-endian 64-bit word: the descriptor, 16 bits of events to wait for, 16 bits of what happened
_EVENTS_SHIFT: Final = 32
_HAPPENED_SHIFT: Final = 48
_DRAIN_BYTES: Final = 64
_TIMESPEC: Final = ir.LiteralStructType([_LONG, _LONG])  # struct timespec of 64-bit Linux
_NS: Final = 1_000_000_000

_PR_SET_TIMERSLACK: Final = 29  # linux/prctl.h
_FINEST_SLACK_NS: Final = 1

MONOTONIC: Final = time.CLOCK_MONOTONIC
REALTIME: Final = time.CLOCK_REALTIME


def work_in_batches() -> None:
    """Let this thread sleep for short and exact times, and not push others off their core when it wakes.

    Linux adds up to 50 µs to a short sleep (PR_SET_TIMERSLACK). And a thread of the normal policy that wakes takes the
    core at once: the reader of a ring would interrupt its writer at every frame. SCHED_BATCH lets the writer finish,
    so that there is a batch to read (sched(7)). Another policy stays. Neither needs a privilege.

    :raises HopwireError: the system refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(_FINEST_SLACK_NS), 0, 0, 0) != 0:
        raise HopwireError("the system refuses a timer slack of 1 ns (prctl); is it Linux?")
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        return  # whoever started this one has chosen
    try:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    except OSError as error:
        raise HopwireError(f"the system refuses the scheduling policy SCHED_BATCH: {error.strerror}") from error


def _call(builder: Any, name: str, returns: Any, *arguments: Any) -> Any:
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(returns, [argument.type for argument in arguments]), name
    )
    return builder.call(function, arguments)


def _or_error(builder: Any, result: Any) -> Any:
    """Return the result of a call as int64; where it is negative, the negative `errno` in its place."""
    place = cgutils.alloca_once_value(builder, builder.sext(result, _LONG))
    with builder.if_then(builder.icmp_signed("<", result, result.type(0)), likely=False):
        address = _call(builder, "__errno_location", _INT.as_pointer())
        builder.store(builder.neg(builder.sext(builder.load(address), _LONG)), place)
    return builder.load(place)


@intrinsic
def clock_ns(_typing: Any, clock: Any) -> Any:
    """Return a clock's time in nanoseconds (clock_gettime(2)): MONOTONIC, or REALTIME since 1970."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        spot = cgutils.alloca_once(builder, _TIMESPEC)
        number = builder.trunc(arguments[0], _INT)
        _call(builder, "clock_gettime", _INT, number, builder.bitcast(spot, _POINTER))
        seconds = builder.load(cgutils.gep_inbounds(builder, spot, 0, 0))
        rest = builder.load(cgutils.gep_inbounds(builder, spot, 0, 1))
        return builder.add(builder.mul(seconds, _LONG(_NS)), rest)

    return types.int64(types.int64), generate


@intrinsic
def sleep_ns(_typing: Any, duration: Any) -> Any:
    """Sleep for less than a second (nanosleep(2)); a signal ends it early."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        spot = cgutils.alloca_once(builder, _TIMESPEC)
        builder.store(_LONG(0), cgutils.gep_inbounds(builder, spot, 0, 0))
        builder.store(arguments[0], cgutils.gep_inbounds(builder, spot, 0, 1))
        _call(builder, "nanosleep", _INT, builder.bitcast(spot, _POINTER), _POINTER(None))
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def _poll(_typing: Any, watched: Any, limit_ms: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        count = builder.extract_value(array.shape, 0)
        pointer = builder.bitcast(array.data, _POINTER)
        return _or_error(builder, _call(builder, "poll", _INT, pointer, count, builder.trunc(arguments[1], _INT)))

    return types.int64(watched, types.int64), generate


@inlined
def wait_readable(watched: Any, limit_ms: Any) -> Any:
    """Wait until one of several files is readable or in error (poll(2)), for `limit_ms` at most; 0 does not wait.

    Returns how many are, 0 where the time ran out, or the negative error number (a signal: EINTR).

    :param watched: what `watch` returned; see `happened`.
    """
    return _poll(watched, np.int64(limit_ms))


@inlined
def happened(watched: Any, number: Any) -> Any:
    """Return the events (POLLIN, POLLERR, ...) of one of the files, after `wait_readable` has returned."""
    return watched[number] >> _HAPPENED_SHIFT & 0xFFFF


def watch(descriptors: Iterable[int]) -> npt.NDArray[np.int64]:
    """Return an array of struct pollfd for `wait_readable`, one 64-bit word for each file descriptor."""
    return np.array([descriptor | _POLLIN << _EVENTS_SHIFT for descriptor in descriptors], np.int64)


@intrinsic
def drain(_typing: Any, descriptor: Any) -> Any:
    """Read up to 64 bytes of a pipe and forget them (read(2)); return how many, or the negative error number."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        spot = cgutils.alloca_once(builder, ir.ArrayType(ir.IntType(8), _DRAIN_BYTES))
        number = builder.trunc(arguments[0], _INT)
        pointer = builder.bitcast(spot, _POINTER)
        return _or_error(builder, _call(builder, "read", _LONG, number, pointer, _LONG(_DRAIN_BYTES)))

    return types.int64(types.int64), generate


@intrinsic
def write_byte(_typing: Any, descriptor: Any) -> Any:
    """Write one zero byte to a file descriptor (write(2)); return 1, or the negative error number."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        spot = cgutils.alloca_once_value(builder, ir.IntType(8)(0))
        number = builder.trunc(arguments[0], _INT)
        return _or_error(builder, _call(builder, "write", _LONG, number, builder.bitcast(spot, _POINTER), _LONG(1)))

    return types.int64(types.int64), generate


@intrinsic
def send_messages(_typing: Any, descriptor: Any, messages: Any, count: Any, flags: Any) -> Any:
    """Send `count` messages, an array of struct mmsghdr at the address `messages` (sendmmsg(2)).

    Returns how many were sent, or the negative error number where it was none.
    """

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        descriptor, messages, count, flags = arguments
        result = _call(
            builder,
            "sendmmsg",
            _INT,
            builder.trunc(descriptor, _INT),
            builder.inttoptr(messages, _POINTER),
            builder.trunc(count, _INT),
            builder.trunc(flags, _INT),
        )
        return _or_error(builder, result)

    return types.int64(types.int64, types.int64, types.int64, types.int64), generate
