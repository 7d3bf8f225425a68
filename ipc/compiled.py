"""Decorators for what runs compiled where numba is installed, and as plain Python where not."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

try:
    from numba import njit

    HAVE_NUMBA = True
except ImportError:
    HAVE_NUMBA = False

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile ``function`` on its first call, and keep the machine code in numba's cache."""
    if not HAVE_NUMBA:
        return function
    result: Any = njit(cache=True, nogil=True, error_model="numpy")(function)
    return cast(F, result)


def inlined(function: F) -> F:
    """Compile ``function`` into each compiled function that calls it, at no cost of a call."""
    if not HAVE_NUMBA:
        return function
    result: Any = njit(nogil=True, error_model="numpy", forceinline=True)(function)
    return cast(F, result)
