"""Ordered loads and stores of shared u64 words, from Python and from compiled code.

A word is written by one process and read by others, so what matters is order: ``store_release``
shows a word only after everything stored before it, ``load_acquire`` reads it before everything
loaded after it, ``load_after`` after everything loaded before it. An aligned 8-byte access through
``memoryview.cast("Q")`` is one machine access (``struct.pack_into`` is not: it zero-fills first).
x86-64 keeps loads among loads and stores among stores in order by itself; elsewhere an LLVM fence
does it, which takes numba. In compiled code ``fence`` also keeps the compiler from reordering.
"""

import platform
from collections.abc import Callable
from typing import Any, cast

from ipc.compiled import HAVE_NUMBA, compiled

_STRONGLY_ORDERED = platform.machine().lower() in ("x86_64", "amd64")

if HAVE_NUMBA:
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def _fence(_: Any) -> Any:
        """Keep loads and stores on either side of this place where they are; compiled code only."""

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            builder.fence("acq_rel")
            return context.get_dummy_value()

        return types.void(), generate

    fence: Callable[[], None] = cast(Any, _fence)

else:

    def fence() -> None:
        """Do nothing: interpreted code is not reordered."""


if _STRONGLY_ORDERED:

    def load_acquire(words: memoryview, index: int) -> int:
        """Load a word before everything that is loaded after it."""
        return words[index]

    def load_after(words: memoryview, index: int) -> int:
        """Load a word after everything that was loaded before it."""
        return words[index]

    def store_release(words: memoryview, index: int, value: int) -> None:
        """Store a word after everything that was stored before it."""
        words[index] = value

elif HAVE_NUMBA:

    @compiled
    def _barrier() -> None:
        fence()

    def load_acquire(words: memoryview, index: int) -> int:
        """Load a word before everything that is loaded after it."""
        value = words[index]
        _barrier()
        return value

    def load_after(words: memoryview, index: int) -> int:
        """Load a word after everything that was loaded before it."""
        _barrier()
        return words[index]

    def store_release(words: memoryview, index: int, value: int) -> None:
        """Store a word after everything that was stored before it."""
        _barrier()
        words[index] = value

else:
    raise ImportError(f"shared memory on {platform.machine()} needs numba, for its memory fences")
