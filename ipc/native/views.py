"""Arrays by address, for compiled code that needs many.

An array costs a tenth of a microsecond as an argument of a compiled function. Where a function is
called for every batch, its arrays' addresses are kept in one record, written when they change, and
``array_at`` makes arrays of them inside. Whoever keeps an address keeps the array alive. Without
numba nothing of this runs.
"""

from typing import Any

import numpy.typing as npt

from ipc.native.compiled import HAVE_NUMBA

if HAVE_NUMBA:
    from numba import types
    from numba.extending import intrinsic
    from numba.np import arrayobj

    def _typer(_: Any, address: Any, count: Any, dtype: Any) -> Any:
        kind = types.Array(dtype.dtype, 1, "C")

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            view = context.make_array(kind)(context, builder)
            data = builder.inttoptr(args[0], view.data.type)
            size = context.get_constant(types.intp, context.get_abi_sizeof(view.data.type.pointee))
            populate: Any = arrayobj.populate_array  # untyped
            populate(view, data, [args[1]], [size], size, None)
            return view._getvalue()

        return kind(types.uint64, types.intp, dtype), generate

    array_at: Any = intrinsic(_typer)
    """Return the ``count`` elements of a dtype at an address, from within compiled code."""

    @intrinsic
    def _data_of(_: Any, array: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            data = context.make_array(signature.args[0])(context, builder, args[0]).data
            return builder.ptrtoint(data, context.get_value_type(types.uint64))

        return types.uint64(array), generate

    data_of: Any = _data_of
    """Return where the data of an array begins, from within compiled code."""
else:

    def array_at(address: Any, count: Any, dtype: Any) -> Any:
        """Fail: there is no compiled code."""
        raise RuntimeError("compiled code was called without numba")

    def data_of(array: Any) -> Any:
        """Fail: there is no compiled code."""
        raise RuntimeError("compiled code was called without numba")


def address_of(array: npt.NDArray[Any]) -> int:
    """Return where the data of a contiguous array begins."""
    assert array.flags.c_contiguous
    return array.ctypes.data
