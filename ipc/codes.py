"""Every code of ``ipc.vocabulary`` as a plain integer: numba knows no enum, and a loop has no time
for one.

``Side.BUY`` is ``SIDE_BUY`` here, ``SelfTradePrevention.NONE`` is ``SELF_TRADE_PREVENTION_NONE``.
"""

import re
from enum import IntEnum, IntFlag

from ipc import vocabulary


def _prefix(enum: type) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", enum.__name__).upper()


globals().update(
    {
        f"{_prefix(enum)}_{name}": int(code)
        for enum in vars(vocabulary).values()
        if isinstance(enum, type) and issubclass(enum, IntEnum | IntFlag)
        for name, code in enum.__members__.items()
    }
)


def __getattr__(name: str) -> int:
    """Fail; mypy, which cannot know the names, learns from this what they are."""
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
