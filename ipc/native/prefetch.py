"""Asking for cache lines ahead of their use, from compiled code.

``prefetch(array, index)`` brings in the line where element ``index`` begins, in order to write it;
nothing is read and nothing can fault, so any index is allowed. Without numba it does nothing.
"""

from typing import Any

from ipc.native.compiled import HAVE_NUMBA

if HAVE_NUMBA:
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic

    @intrinsic
    def _prefetch(_: Any, array: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            view = context.make_array(array)(context, builder, args[0])
            place: Any = cgutils.get_item_pointer  # untyped
            where = place(context, builder, array, view, [args[1]])
            pointer, word = ir.IntType(8).as_pointer(), ir.IntType(32)
            kind = ir.FunctionType(ir.VoidType(), [pointer, word, word, word])
            function = builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
            to_write, keep, data = ir.Constant(word, 1), ir.Constant(word, 3), ir.Constant(word, 1)
            builder.call(function, [builder.bitcast(where, pointer), to_write, keep, data])
            return context.get_dummy_value()

        return types.void(array, types.uint64), generate

    prefetch: Any = _prefetch
else:

    def prefetch(array: Any, index: Any) -> None:
        """Do nothing."""
