"""Loads, stores and copies at any byte of an array, for compiled code: one machine access each.

numba has no unaligned access of its own; byte by byte it costs five times as much (measured on
report encoding). Nothing is checked here: callers keep within the array. Without numba nothing of
this runs, and the names only stand for it.
"""

from typing import Any

from ipc.native.compiled import HAVE_NUMBA

if HAVE_NUMBA:
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic

    _BYTE = ir.IntType(8)

    def _address(context: Any, builder: Any, kind: Any, array: Any, index: Any, to: Any) -> Any:
        """Return a pointer to the byte ``array[index]``, as a pointer to ``to``."""
        data = context.make_array(kind)(context, builder, array).data
        return builder.bitcast(builder.gep(data, [index]), to.as_pointer())

    def _store(bits: int, big_endian: bool) -> Any:
        def typer(_: Any, out: Any, at: Any, value: Any) -> Any:
            def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                kind, word = signature.args[0], ir.IntType(bits)
                number = args[2]
                if number.type.width > bits:
                    number = builder.trunc(number, word)
                elif number.type.width < bits:
                    number = builder.zext(number, word)
                if big_endian:
                    number = builder.bswap(number)
                pointer = _address(context, builder, kind, args[0], args[1], word)
                builder.store(number, pointer, align=1)
                return context.get_dummy_value()

            return types.void(out, types.int64, value), generate

        return intrinsic(typer)

    store_big_u16: Any = _store(16, True)
    store_big_u32: Any = _store(32, True)
    store_big_u64: Any = _store(64, True)
    store_u8: Any = _store(8, False)
    store_u32: Any = _store(32, False)
    store_u64: Any = _store(64, False)

    @intrinsic
    def _load_big_u64(_: Any, data: Any, at: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kind, word = signature.args[0], ir.IntType(64)
            pointer = _address(context, builder, kind, args[0], args[1], word)
            return builder.bswap(builder.load(pointer, align=1))

        return types.uint64(data, types.int64), generate

    def _load(bits: int) -> Any:
        def typer(_: Any, data: Any, at: Any) -> Any:
            def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                kind, word = signature.args[0], ir.IntType(bits)
                pointer = _address(context, builder, kind, args[0], args[1], word)
                return builder.zext(builder.load(pointer, align=1), ir.IntType(64))

            return types.uint64(data, types.int64), generate

        return intrinsic(typer)

    @intrinsic
    def _copy(_: Any, out: Any, at: Any, source: Any, start: Any, count: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            out_kind, _, source_kind, _, _ = signature.args
            target = _address(context, builder, out_kind, args[0], args[1], _BYTE)
            origin = _address(context, builder, source_kind, args[2], args[3], _BYTE)
            cgutils.raw_memcpy(builder, target, origin, args[4], 1, align=1)  # type: ignore[no-untyped-call]
            return context.get_dummy_value()

        int64 = types.int64
        return types.void(out, int64, source, int64, int64), generate

    load_u8: Any = _load(8)
    load_u32: Any = _load(32)
    load_u64: Any = _load(64)
    load_big_u64: Any = _load_big_u64
    copy_bytes: Any = _copy
else:

    def _missing(*_: Any) -> Any:
        raise RuntimeError("compiled code was called without numba")

    store_big_u16 = store_big_u32 = store_big_u64 = _missing
    store_u8 = store_u32 = store_u64 = _missing
    load_u8 = load_u32 = load_u64 = load_big_u64 = copy_bytes = _missing
