"""Decorators for what runs compiled where numba is installed, and as plain Python where not."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

try:
    import numba

    _njit: Any = numba.njit
    HAVE_NUMBA = True
except ImportError:
    HAVE_NUMBA = False

_OPTIONS = {"nogil": True, "error_model": "numpy", "_nrt": False}
"""Without numba's runtime, for what allocates nothing: arrays are passed on uncounted."""

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile ``function`` on its first call, and keep the machine code in numba's cache."""
    if not HAVE_NUMBA:
        return function
    result: Any = _njit(cache=True, **_OPTIONS)(function)
    return cast(F, result)


def inlined(function: F) -> F:
    """Compile ``function`` into each compiled function that calls it, at no cost of a call."""
    if not HAVE_NUMBA:
        return function
    result: Any = _njit(forceinline=True, **_OPTIONS)(function)
    return cast(F, result)
