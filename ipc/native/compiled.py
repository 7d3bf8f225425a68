"""Decorators for what runs compiled where numba is installed, and as plain Python where not.

numba keeps machine code by the file, the bytecode and the closure of a function, not by what the
function calls elsewhere. So each gets a closure over a digest of the files that others' machine
code is made of: after an upgrade nothing runs as it was.
"""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from types import CellType, FunctionType
from typing import Any, TypeVar, cast

from ipc.native.code_cache import kept

try:
    from ipc.native.parts import WholeCompiler, part, stays_plain

    HAVE_NUMBA = True
except ImportError:
    HAVE_NUMBA = False

OPTIONS = {"nogil": True, "error_model": "numpy", "_nrt": False, "no_cfunc_wrapper": True}
"""Without numba's runtime, for what allocates nothing: arrays are passed on uncounted; and without
the wrapper that only C would call."""
WHOLE: dict[str, Any] = {**OPTIONS, "pipeline_class": WholeCompiler} if HAVE_NUMBA else {}
"""For what Python calls."""

_SHARED = (
    "native/by_address", "native/compiled", "native/kernel_atomics", "native/keyed_kernel",
    "native/parts", "native/prefetch", "native/unaligned", "native/views", "native/words",
    "records", "bounds", "codes",
    "schema/declarations", "reasons", "vocabulary", "wire/command_decoder",
    "wire/field_codec", "wire/frames", "wire/messages", "wire/packing", "wire/report_encoder",
)  # fmt: skip
"""The modules of this package whose functions and numbers are compiled into those of others."""

F = TypeVar("F", bound=Callable[..., Any])


def digest_of(paths: Iterable[Path], more: str = "") -> int:
    """Return a number that changes with any of the files, and with what is ``more``."""
    digest = hashlib.blake2b(more.encode(), digest_size=7)
    for path in paths:
        digest.update(path.read_bytes())
    return int.from_bytes(digest.digest(), "little")


SOURCES = digest_of(Path(__file__).parent.parent / f"{name}.py" for name in _SHARED)


def with_closure(function: Callable[..., Any], value: int) -> Callable[..., Any]:
    """Return the function with a closure over a number, which it does not use."""
    assert isinstance(function, FunctionType)
    code = function.__code__.replace(co_freevars=(*function.__code__.co_freevars, "sources"))
    closure = (*(function.__closure__ or ()), CellType(value))
    made = FunctionType(
        code, function.__globals__, function.__name__, function.__defaults__, closure
    )
    made.__doc__, made.__module__ = function.__doc__, function.__module__
    made.__qualname__ = function.__qualname__
    return made


def compiled(function: F) -> F:
    """Compile ``function`` on its first call, and keep the machine code: see ``code_cache``."""
    if not HAVE_NUMBA:
        return function
    return cast(F, kept(with_closure(function, SOURCES), WHOLE))


def compiled_with(*files: str | None) -> Callable[[F], F]:
    """``compiled``, for what has functions of these files, beside its own, compiled into it."""
    value = digest_of(Path(file or "") for file in files) ^ SOURCES

    def compile_it(function: F) -> F:
        return cast(F, kept(with_closure(function, value), WHOLE)) if HAVE_NUMBA else function

    return compile_it


def inlined(function: F) -> F:
    """Compile ``function`` into each compiled function that calls it; nothing else can."""
    if not HAVE_NUMBA:
        return function
    return cast(F, part(function, {"forceinline": True, **OPTIONS}))


def called(function: F) -> F:
    """Compile ``function`` along with each compiled function that calls it; nothing else can.

    Whether it is a call or inlined is LLVM's choice.
    """
    if not HAVE_NUMBA:
        return function
    return cast(F, part(function, OPTIONS))


def called_too(*functions: Callable[..., Any]) -> None:
    """Let compiled code call functions as those that are ``called``; they stay Python's as well."""
    if HAVE_NUMBA:
        for function in functions:
            stays_plain(function, OPTIONS)
