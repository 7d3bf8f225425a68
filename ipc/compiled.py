"""One decorator for what runs compiled where numba is installed, and as plain Python where not."""

from collections.abc import Callable
from typing import Any, TypeVar

try:
    import numba
except ImportError:  # pragma: no cover - depends on the installation
    numba = None

HAVE_NUMBA = numba is not None

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile ``function`` on its first call, and keep the machine code in numba's cache."""
    if numba is None:
        return function
    result: F = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    return result
