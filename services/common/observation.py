"""How compiled code counts a value in a histogram of `meters`: an instruction for the bucket, two additions."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from services.common.kernels import inlined
from services.common.meters import BUCKETS


@intrinsic  # type: ignore[untyped-decorator]
def _leading_zeros(_typing: Any, value: Any) -> Any:
    """Return how many leading bits of a 64-bit value are zero; 64 for 0."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.int64), generate


@inlined
def observe(meters: Any, place: Any, value: Any) -> None:
    """Count a value, of at least 0, in the histogram that begins at `place`."""
    meters[place] += value
    bucket = 64 - _leading_zeros(np.int64(value - 1)) if value > 1 else 0
    meters[place + 1 + min(bucket, BUCKETS - 1)] += 1
