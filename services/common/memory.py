"""What kernels need of memory beyond NumPy: order between processes, prefetch, plain copies.

Acquire and release are free on x86 and needed on ARM; the full fence between a store and a load is needed on both.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.np.arrayobj import populate_array

from services.common.kernels import intrinsic, kernel


def _element_pointer(context: Any, builder: Any, signature: Any, arguments: Any) -> tuple[Any, Any]:
    array_type = signature.args[0]
    array = context.make_array(array_type)(context, builder, arguments[0])
    pointer = cgutils.get_item_pointer(context, builder, array_type, array, [arguments[1]], wraparound=False)
    return pointer, array_type.dtype.bitwidth // 8


@intrinsic
def load_acquire(_typing: Any, array: Any, index: Any) -> Any:
    """Load array[index]; what the writer stored before its release is seen after this."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer, size = _element_pointer(context, builder, signature, arguments)
        return builder.load_atomic(pointer, "acquire", size)

    return array.dtype(array, types.intp), generate


@intrinsic
def store_release(_typing: Any, array: Any, index: Any, value: Any) -> Any:
    """Store array[index] = value; all earlier stores are seen before it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer, size = _element_pointer(context, builder, signature, arguments)
        builder.store_atomic(arguments[2], pointer, "release", size)
        return context.get_dummy_value()

    return types.void(array, types.intp, array.dtype), generate


@intrinsic
def exchange(_typing: Any, array: Any, index: Any, value: Any) -> Any:
    """Store array[index] = value and return what stood there, in one sequentially consistent step."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer, _ = _element_pointer(context, builder, signature, arguments)
        return builder.atomic_rmw("xchg", pointer, arguments[2], "seq_cst")

    return array.dtype(array, types.intp, array.dtype), generate


@intrinsic
def full_fence(_typing: Any) -> Any:
    """Order all stores before it and all loads behind it."""

    def generate(context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def release_fence(_typing: Any) -> Any:
    """Order all loads and stores before it, and all stores behind it."""

    def generate(context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        builder.fence("release")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def prefetch(_typing: Any, array: Any, index: Any) -> Any:
    """Bring the cache line of array[index] near, without waiting for it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer, _ = _element_pointer(context, builder, signature, arguments)
        byte_pointer = ir.IntType(8).as_pointer()
        word = ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [byte_pointer, word, word, word]),
            "llvm.prefetch.p0i8",
        )
        builder.call(function, [builder.bitcast(pointer, byte_pointer), word(0), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@intrinsic
def copy_bytes(_typing: Any, target: Any, target_place: Any, source: Any, source_place: Any, count: Any) -> Any:
    """Copy `count` bytes between two byte arrays that do not overlap.

    A slice assignment would first look for an overlap, and allocate.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target_type, _, source_type, _, _ = signature.args
        to = context.make_array(target_type)(context, builder, arguments[0])
        of = context.make_array(source_type)(context, builder, arguments[2])
        to_pointer = cgutils.get_item_pointer(context, builder, target_type, to, [arguments[1]], wraparound=False)
        of_pointer = cgutils.get_item_pointer(context, builder, source_type, of, [arguments[3]], wraparound=False)
        cgutils.raw_memcpy(builder, to_pointer, of_pointer, arguments[4], 1)
        return context.get_dummy_value()

    return types.void(target, types.intp, source, types.intp, types.intp), generate


@kernel("int64", "int64[::1]", "int64")
def read_position(words: Any, index: int) -> int:
    """Return words[index] with acquire order."""
    return int(load_acquire(words, index))


@kernel("void", "int64[::1]", "int64", "int64")
def write_position(words: Any, index: int, value: int) -> None:
    """Store words[index] = value with release order."""
    store_release(words, index, value)


def _array_at(dtype: Any) -> Any:
    """Return an intrinsic that views memory at an address as a flat array of a type."""

    @intrinsic
    def view(_typing: Any, address: Any, count: Any) -> Any:
        array_type = types.Array(dtype, 1, "C")

        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            address, count = arguments
            array = context.make_array(array_type)(context, builder)
            size = dtype.bitwidth // 8
            populate_array(
                array,
                data=builder.inttoptr(address, array.data.type),
                shape=cgutils.pack_array(builder, [count]),
                strides=cgutils.pack_array(builder, [count.type(size)]),
                itemsize=count.type(size),
                meminfo=None,
            )
            return array._getvalue()

        return array_type(types.int64, types.int64), generate

    return view


bytes_at = _array_at(types.uint8)
"""bytes_at(address, count): the memory of another owner as a uint8 array. The caller answers for its being there."""
words_at = _array_at(types.int64)
"""words_at(address, count): the same as int64."""
