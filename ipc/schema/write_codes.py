"""Writes the words of the trade as plain integers, for compiled code and tables."""

import re
from enum import IntEnum, IntFlag

from ipc import vocabulary

_HEAD = '''\
"""Every code of ``ipc.vocabulary`` as a plain integer: numba knows no enum, and a loop has no time
for one.

Written by ipc.schema.generate.
"""

from typing import Final
'''


def text() -> str:
    """Return the module ``ipc.codes``."""
    enums = [
        found
        for found in vars(vocabulary).values()
        if isinstance(found, type)
        and issubclass(found, IntEnum | IntFlag)
        and found not in (IntEnum, IntFlag)
    ]
    parts = [_HEAD]
    for enum in sorted(enums, key=lambda enum: enum.__name__):
        prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enum.__name__).upper()
        codes = enum.__members__.items()
        parts.append("".join(f"{prefix}_{name}: Final = {int(code)}\n" for name, code in codes))
    return "\n".join(parts)
