"""Ordered loads and stores of shared words in compiled code: LLVM's atomics.

``load_acquire(words, index)`` and ``store_release(words, index, value)`` take an array of u32 or
u64, and are called from functions that ``ipc.native.compiled.compiled`` compiles. ``fence`` orders
loads among loads and stores among stores, and keeps the compiler from moving either; ``full_fence``
also orders a store before a later load. Without numba all of it is plain access, which x86-64
orders.
"""

from collections.abc import Callable
from typing import Any, cast

from ipc.native.compiled import HAVE_NUMBA, compiled

load_acquire: Callable[[Any, Any], Any]
store_release: Callable[[Any, Any, Any], None]
fence: Callable[[], None]
full_fence: Callable[[], None]

if HAVE_NUMBA:
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic

    def _address(context: Any, builder: Any, array: Any, value: Any, index: Any) -> Any:
        view = context.make_array(array)(context, builder, value)
        place: Any = cgutils.get_item_pointer  # untyped
        return place(context, builder, array, view, [index])

    def _load(_: Any, words: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            place = _address(context, builder, words, *args)
            return builder.load_atomic(place, "acquire", words.dtype.bitwidth // 8)

        return words.dtype(words, types.uint64), generate

    def _store(_: Any, words: Any, index: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            array, where, what = args
            place = _address(context, builder, words, array, where)
            builder.store_atomic(what, place, "release", words.dtype.bitwidth // 8)
            return context.get_dummy_value()

        return types.void(words, types.uint64, words.dtype), generate

    def _fence(ordering: str) -> Any:
        def declare(_: Any) -> Any:
            def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                builder.fence(ordering)
                return context.get_dummy_value()

            return types.void(), generate

        return intrinsic(declare)

    load_acquire, store_release = cast(Any, intrinsic(_load)), cast(Any, intrinsic(_store))
    fence, full_fence = _fence("acq_rel"), _fence("seq_cst")

else:

    def _plain_load(words: Any, index: Any) -> Any:
        return words[index]

    def _plain_store(words: Any, index: Any, value: Any) -> None:
        words[index] = value

    def _no_fence() -> None:
        pass

    load_acquire, store_release = _plain_load, _plain_store
    fence = full_fence = _no_fence


@compiled
def python_fence() -> None:
    """Be ``fence`` for callers in Python."""
    fence()


@compiled
def python_full_fence() -> None:
    """Be ``full_fence`` for callers in Python."""
    full_fence()
